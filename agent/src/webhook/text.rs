//! Pieces of what authors of pods are told.

/// A text of somebody else's, short and without what a terminal would obey.
pub(super) fn excerpt(text: &str) -> String {
    let start: String = text.chars().take(LONGEST).collect();
    let more = if start.len() < text.len() { "…" } else { "" };
    format!("{}{more}", start.escape_default())
}

/// `a`, `b` or `c`.
pub(super) fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    match (names.pop(), names.is_empty()) {
        (None, _) => "none".to_owned(),
        (Some(last), true) => last,
        (Some(last), false) => format!("{} or {last}", names.join(", ")),
    }
}

const LONGEST: usize = 63;
