//! `bursar-pod [NAME | /PATH]…`: says of each variable and file a digest of what it is, and again when it becomes another,
//! until it is killed. Without any it says nothing, and keeps the namespaces of a pod.
#![expect(clippy::print_stdout, reason = "what it says is what a test waits for")]
#![expect(clippy::disallowed_methods, reason = "it looks at its own environment, and at files in real time")]

use std::time::Duration;
use std::{env, fs, thread};

use bursar_pod::{ABSENT, digest};

fn main() {
    let mut said: Vec<(String, Option<String>)> = env::args().skip(1).map(|name| (name, None)).collect();
    loop {
        for (name, before) in &mut said {
            let now = look(name);
            if before.as_ref() != Some(&now) {
                println!("{name} {now}");
                *before = Some(now);
            }
        }
        thread::sleep(PAUSE);
    }
}

fn look(name: &str) -> String {
    let value = match name.starts_with('/') {
        true => fs::read(name).ok(),
        false => env::var_os(name).map(|value| value.as_encoded_bytes().to_vec()),
    };
    value.map_or_else(|| ABSENT.to_owned(), |value| digest(&value))
}

const PAUSE: Duration = Duration::from_millis(50);
