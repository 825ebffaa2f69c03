//! How the state is sealed: a head that anybody may read, and pieces, each encrypted by itself.
//!
//! The key of each file is derived from the agent's own by a salt of the file's (HKDF-SHA256), so that counting numbers do
//! as nonces: the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár, by which pieces can neither be left out
//! nor reordered, and the end is known to be the end. The head is authenticated with each piece: a file of another boot,
//! another node or another number does not open, whatever its head says.
//!
//! In pieces, since one buffer for all would have to hold every value at once.

use bursar_core::Secret;
use data_encoding::HEXLOWER;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

/// What is known of a file before it is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    /// The beginning of the kernel's boot id.
    pub(super) boot: String,
    /// `spiffe://TRUST_DOMAIN/node/NAME`
    pub(super) node: String,
    /// Grows by one with each file.
    pub(super) number: u64,
}

/// A file that is being sealed.
pub(super) struct Sealer {
    cipher: Cipher,
    file: Vec<u8>,
}

/// A file that is being opened.
pub(super) struct Opener<'file> {
    cipher: Cipher,
    rest: &'file [u8],
    is_over: bool,
}

struct Cipher {
    key: LessSafeKey,
    head: Vec<u8>,
    piece: u32,
}

/// The file does not open: another key, or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Closed;

impl Sealer {
    /// Begins a file.
    pub(super) fn new(key: &Secret, head: &Head) -> Result<Self, Closed> {
        let mut salt = [0; SALT];
        SystemRandom::new().fill(&mut salt).map_err(|_| Closed)?;
        let head = head.written(&salt);
        Ok(Self { cipher: Cipher::new(key, &salt, head.clone())?, file: head })
    }

    /// Adds a piece.
    pub(super) fn add(&mut self, mut plain: Zeroizing<Vec<u8>>, is_last: bool) -> Result<(), Closed> {
        let nonce = self.cipher.nonce(is_last)?;
        let aad = Aad::from(&self.cipher.head);
        let tag = self.cipher.key.seal_in_place_separate_tag(nonce, aad, &mut plain).map_err(|_| Closed)?;
        let length = u32::try_from(plain.len() + tag.as_ref().len()).map_err(|_| Closed)?;
        self.file.push(u8::from(is_last));
        self.file.extend_from_slice(&length.to_be_bytes());
        self.file.extend_from_slice(&plain);
        self.file.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// How long the file is so far, in bytes.
    pub(super) fn len(&self) -> usize {
        self.file.len()
    }

    /// The file.
    pub(super) fn finish(self) -> Vec<u8> {
        self.file
    }
}

impl<'file> Opener<'file> {
    /// Begins with what follows the head of `file`.
    pub(super) fn new(key: &Secret, file: &'file [u8]) -> Result<Self, Closed> {
        let (_, salt, length) = Head::read(file).ok_or(Closed)?;
        let (head, rest) = file.split_at_checked(length).ok_or(Closed)?;
        Ok(Self { cipher: Cipher::new(key, &salt, head.to_vec())?, rest, is_over: false })
    }

    /// The next piece; nothing after the last.
    pub(super) fn next(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, Closed> {
        if self.is_over {
            return if self.rest.is_empty() { Ok(None) } else { Err(Closed) };
        }
        let (mark, rest) = self.rest.split_first().ok_or(Closed)?;
        let (length, rest) = rest.split_first_chunk().ok_or(Closed)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| Closed)?;
        let (piece, rest) = rest.split_at_checked(length).ok_or(Closed)?;
        let is_last = match mark {
            0 => false,
            1 => true,
            _ => return Err(Closed),
        };
        let nonce = self.cipher.nonce(is_last)?;
        let mut piece = Zeroizing::new(piece.to_vec());
        let opened = self.cipher.key.open_in_place(nonce, Aad::from(&self.cipher.head), &mut piece);
        let length = opened.map_err(|_| Closed)?.len();
        piece.truncate(length);
        (self.rest, self.is_over) = (rest, is_last);
        Ok(Some(piece))
    }
}

impl Cipher {
    fn new(key: &Secret, salt: &[u8; SALT], head: Vec<u8>) -> Result<Self, Closed> {
        let root = Salt::new(HKDF_SHA256, salt).extract(key.expose());
        let derived = root.expand(&[PURPOSE], Length).map_err(|_| Closed)?;
        let key = Secret::try_filled(Length.len(), |out| derived.fill(out)).map_err(|_| Closed)?;
        let key = UnboundKey::new(&AES_256_GCM, key.expose()).map_err(|_| Closed)?;
        Ok(Self { key: LessSafeKey::new(key), head, piece: 0 })
    }

    /// Each number once, and of the last piece another.
    fn nonce(&mut self, is_last: bool) -> Result<Nonce, Closed> {
        let mut nonce = [0; NONCE_LEN];
        let [.., a, b, c, d, last] = &mut nonce;
        [*a, *b, *c, *d] = self.piece.to_be_bytes();
        *last = u8::from(is_last);
        self.piece = self.piece.checked_add(1).ok_or(Closed)?;
        Ok(Nonce::assume_unique_for_key(nonce))
    }
}

impl Head {
    fn written(&self, salt: &[u8; SALT]) -> Vec<u8> {
        let Self { boot, node, number } = self;
        let salt = HEXLOWER.encode(salt);
        format!("{FORM}\nboot {boot}\nnode {node}\nnumber {number}\nsalt {salt}\n\n").into_bytes()
    }

    /// The head of a file, its salt, and how long the head is. Nothing, when it is no such file.
    pub(super) fn read(file: &[u8]) -> Option<(Self, [u8; SALT], usize)> {
        let start = file.get(..file.len().min(LONGEST_HEAD))?;
        let length = start.windows(2).position(|pair| pair == b"\n\n")? + 2;
        let mut lines = str::from_utf8(start.get(..length)?).ok()?.lines();
        if lines.next()? != FORM {
            return None;
        }
        let mut field = |name| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let (boot, node) = (field("boot")?.to_owned(), field("node")?.to_owned());
        let number = field("number")?.parse().ok()?;
        let salt = HEXLOWER.decode(field("salt")?.as_bytes()).ok()?.try_into().ok()?;
        Some((Self { boot, node, number }, salt, length))
    }
}

struct Length;

impl KeyType for Length {
    fn len(&self) -> usize {
        32
    }
}

const FORM: &str = "bursar-agent state 1";
const PURPOSE: &[u8] = b"bursar agent state v1";
const SALT: usize = 32;
/// A SPIFFE ID has at most 2,048 bytes.
const LONGEST_HEAD: usize = 4096;

#[cfg(test)]
mod tests;
