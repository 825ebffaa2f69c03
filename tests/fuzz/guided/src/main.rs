//! libFuzzer over one target, the one that `BURSAR_FUZZ_TARGET` names. Its seeds are added to `BURSAR_FUZZ_CORPUS`.

#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use bursar_fuzz::{TARGETS, Target};

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let wanted = std::env::var("BURSAR_FUZZ_TARGET").unwrap_or_default();
    let target = TARGETS.iter().find(|target| target.name == wanted);
    *target.unwrap_or_else(|| panic!("`BURSAR_FUZZ_TARGET` names no target: `{wanted}`"))
});

libfuzzer_sys::fuzz_target!(
    init: {
        if let Some(corpus) = std::env::var_os("BURSAR_FUZZ_CORPUS").map(PathBuf::from) {
            for (number, seed) in (TARGET.seeds)().iter().enumerate() {
                std::fs::write(corpus.join(format!("seed-{number}")), seed).expect("a folder for the corpus");
            }
        }
    },
    |input: &[u8]| (TARGET.run)(input)
);
