//! Names under which systemd asks for credentials, which anybody may bind.

use bursar_agent::systemd::named;

use crate::Target;

pub(super) const TARGET: Target = Target { name: "systemd-names", seeds, run, rounds: 50_000 };

fn run(input: &[u8]) {
    let Some((unit, id)) = named(input) else { return };
    let is_name = |text: &str| {
        (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
    };
    assert!(is_name(&unit) && is_name(&id), "`{unit}`, `{id}`");
    // Nothing of it is left out, and nothing made up.
    let end = format!("/unit/{unit}/{id}").into_bytes();
    assert!(input.ends_with(&end) && input.len() <= end.len() + 16, "`{unit}`, `{id}`");
}

fn seeds() -> Vec<Vec<u8>> {
    [
        &b"adf9d86b6eda275e/unit/web@1.service/db-password"[..],
        b"adf9/unit/unit/unit",
        b"adf9/unit//x",
        b"adf9/unit/web.service/a/b",
        b"adf9/unit/web.service/\xff",
        b"xyz/unit/web.service/x",
        b"adf9/user/web.service/x",
    ]
    .map(<[u8]>::to_vec)
    .to_vec()
}
