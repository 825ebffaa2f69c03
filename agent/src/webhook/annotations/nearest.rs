//! The name that somebody may have meant.

/// The one of `known` that takes the fewest changes of a letter to become. There is one, since `known` is not empty.
pub(super) fn among<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> &'a str {
    // A family is as near as what stands before its `*`, and whatever that is put before.
    let distance = |known: &str| match known.strip_suffix(".*") {
        Some(family) => changes(name.split('.').next().unwrap_or(name), family),
        None => changes(name, known),
    };
    known.min_by_key(|known| distance(known)).unwrap_or_default()
}

/// Letters to be put in, taken out or replaced (Levenshtein's distance), of the beginnings of both.
fn changes(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().take(LONGEST).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.chars().take(LONGEST).enumerate() {
        let mut next = Vec::with_capacity(row.len());
        let mut left = line + 1;
        next.push(left);
        for ((above, diagonal), there) in row.iter().skip(1).zip(&row).zip(&other) {
            left = (left + 1).min(above + 1).min(diagonal + usize::from(letter != *there));
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

/// No name that there is comes near it, and the work is bounded.
const LONGEST: usize = 64;
