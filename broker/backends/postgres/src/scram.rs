//! Passwords, and what the server is told of them.
//!
//! The server gets a SCRAM-SHA-256 verifier (RFC 5802, RFC 7677) in the form in which it keeps one itself, and stores
//! it as it is. So no log of statements has the password. The server does as many iterations all the same, to see that
//! it is not the verifier of an empty password: how many there are is what making a role costs it most.
//! The client library's own function for this keeps copies of the password that are not wiped.

use std::num::NonZeroU32;

use bursar_core::Secret;
use data_encoding::{BASE64, BASE64URL_NOPAD};
use ring::error::Unspecified;
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac, pbkdf2};
use zeroize::Zeroizing;

/// What proves a password without being it. Kept from logs all the same: whoever has it can check guesses.
pub(crate) struct Verifier(String);

impl Verifier {
    /// The form that `PASSWORD` takes.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A new password of 32 characters that need no escaping anywhere, 192 bits.
///
/// # Errors
/// The system gives no randomness.
pub(crate) fn password(random: &SystemRandom) -> Result<Secret, Unspecified> {
    let mut bytes = Zeroizing::new([0; ENTROPY]);
    random.fill(bytes.as_mut())?;
    Secret::try_filled(BASE64URL_NOPAD.encode_len(ENTROPY), |text| {
        BASE64URL_NOPAD.encode_mut(bytes.as_ref(), text);
        Ok(())
    })
}

/// Whether two passwords are one, in a time that does not depend on where they differ.
pub(crate) fn are_one(one: &Secret, other: &Secret) -> bool {
    one.ct_eq(other.expose())
}

/// The verifier of a password, with a salt of its own. 4,096 iterations take about a millisecond of processor time.
///
/// # Errors
/// The system gives no randomness.
pub(crate) fn verifier(
    password: &Secret,
    iterations: NonZeroU32,
    random: &SystemRandom,
) -> Result<Verifier, Unspecified> {
    let mut salt = [0; SALT];
    random.fill(&mut salt)?;
    Ok(verifier_with(password, iterations, &salt))
}

/// PostgreSQL normalises a password by SASLprep (RFC 4013) first, which changes nothing in printable ASCII; what else an
/// administrator's own password is made of never comes here.
fn verifier_with(password: &Secret, iterations: NonZeroU32, salt: &[u8]) -> Verifier {
    let mut salted = Zeroizing::new([0; digest::SHA256_OUTPUT_LEN]);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password.expose(), salted.as_mut());
    let key = hmac::Key::new(hmac::HMAC_SHA256, salted.as_ref());
    let stored = digest::digest(&digest::SHA256, hmac::sign(&key, b"Client Key").as_ref());
    let server = hmac::sign(&key, b"Server Key");
    let [salt, stored, server] = [salt, stored.as_ref(), server.as_ref()].map(|bytes| BASE64.encode(bytes));
    Verifier(format!("SCRAM-SHA-256${iterations}:{salt}${stored}:{server}"))
}

const ENTROPY: usize = 24;
const SALT: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677, section 3: user `user`, password `pencil`. The exchange shows the proof and the server's signature, from
    /// which the two keys are checked here.
    #[test]
    fn the_verifier_fits_the_exchange_of_the_specification() {
        let salt = BASE64.decode(b"W22ZaJ0SNY7soEsUEjb6gQ==").expect("salt");
        let verifier =
            verifier_with(&Secret::from("pencil".to_owned()), NonZeroU32::MIN.saturating_add(4095), &salt);
        let rest =
            verifier.as_str().strip_prefix("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$").expect("form");
        let (stored, server) = rest.split_once(':').expect("two keys");
        let stored = BASE64.decode(stored.as_bytes()).expect("stored key");
        let server = BASE64.decode(server.as_bytes()).expect("server key");
        let message = "n=user,r=rOprNGfwEbeRWgbNEkqO,\
             r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
             c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let signed = |key: &[u8]| {
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message.as_bytes()).as_ref().to_vec()
        };
        assert_eq!(BASE64.encode(&signed(&server)), "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        let proof = BASE64.decode(b"dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=").expect("proof");
        let client: Vec<u8> = signed(&stored).iter().zip(proof).map(|(mask, proof)| mask ^ proof).collect();
        assert_eq!(digest::digest(&digest::SHA256, &client).as_ref(), stored);
    }

    #[test]
    fn passwords_differ_and_are_long() {
        let random = SystemRandom::new();
        let (one, other) = (password(&random).expect("one"), password(&random).expect("other"));
        assert!(one.len() == 32 && !one.ct_eq(other.expose()));
    }
}
