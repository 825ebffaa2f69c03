use super::*;

fn head() -> Head {
    Head { boot: "d01d56ba".to_owned(), node: "spiffe://example.org/node/web-1".to_owned(), number: 7 }
}

fn key(byte: u8) -> Secret {
    Secret::new(vec![byte; 32])
}

fn sealed(pieces: &[&[u8]]) -> Vec<u8> {
    let mut sealer = Sealer::new(&key(1), &head()).expect("begun");
    for (at, piece) in pieces.iter().enumerate() {
        sealer.add(Zeroizing::new(piece.to_vec()), at + 1 == pieces.len()).expect("sealed");
    }
    sealer.finish()
}

fn opened(key: &Secret, file: &[u8]) -> Result<Vec<Vec<u8>>, Closed> {
    let mut opener = Opener::new(key, file)?;
    let mut pieces = Vec::new();
    while let Some(piece) = opener.next()? {
        pieces.push(piece.to_vec());
    }
    Ok(pieces)
}

#[test]
fn what_was_sealed_opens_piece_by_piece_and_shows_nothing() {
    let file = sealed(&[b"one", b"", b"a canary"]);
    assert_eq!(opened(&key(1), &file), Ok(vec![b"one".to_vec(), Vec::new(), b"a canary".to_vec()]));
    assert!(!file.windows(6).any(|window| window == b"canary"));
    assert_eq!(Head::read(&file).map(|(head, ..)| head), Some(head()));
}

#[test]
fn the_same_is_never_sealed_alike() {
    assert_ne!(sealed(&[b"one"]), sealed(&[b"one"]));
}

#[test]
fn another_key_opens_nothing() {
    assert_eq!(opened(&key(2), &sealed(&[b"one"])), Err(Closed));
}

#[test]
fn no_byte_can_be_changed_and_none_left_out() {
    let file = sealed(&[b"one", b"two"]);
    for at in 0..file.len() {
        for bit in [1, 2, 128] {
            let mut changed = file.clone();
            changed[at] ^= bit;
            assert_eq!(opened(&key(1), &changed), Err(Closed), "byte {at}");
        }
        assert_eq!(opened(&key(1), &file[..at]), Err(Closed), "cut off after {at}");
    }
    assert_eq!(opened(&key(1), &[&file[..], b"x"].concat()), Err(Closed));
}

#[test]
fn pieces_cannot_change_places_or_come_twice() {
    let file = sealed(&[b"one", b"two", b"end"]);
    let start = Head::read(&file).expect("head").2;
    // Each of these has the same length.
    let length = 5 + 3 + AES_256_GCM.tag_len();
    let piece = |at: usize| &file[start + at * length..start + (at + 1) * length];
    let head = &file[..start];
    for order in [[1, 0, 2], [0, 0, 2], [0, 2, 1]] {
        let file = [head, piece(order[0]), piece(order[1]), piece(order[2])].concat();
        assert_eq!(opened(&key(1), &file), Err(Closed), "{order:?}");
    }
    assert_eq!(opened(&key(1), &[head, piece(0), piece(2)].concat()), Err(Closed));
}

#[test]
fn what_is_no_state_is_none() {
    for file in
        [&b""[..], b"\n\n", b"bursar-agent state 2\n\n", b"bursar-agent state 1\nboot x\n\n", &[0; 9000]]
    {
        assert!(Head::read(file).is_none() && opened(&key(1), file) == Err(Closed));
    }
}
