//! Files that somebody else writes, such as cert-manager by way of kubelet.

use std::path::Path;
use std::time::Duration;

use bursar_core::tasks::Tasks;
use bursar_core::{Explained, Secret};

use super::{Served, Unusable};
use crate::source;

/// Serves what is in the files, and what is in them later, until the process stops. What cannot be served leaves in force
/// what was there.
pub(in crate::webhook) async fn watch(cert: &Path, key: &Path, served: &Served, tasks: &Tasks) {
    let mut ticks = tasks.ticks(EVERY);
    let mut last: Option<(Vec<u8>, Secret)> = None;
    let mut was_bad = false;
    while ticks.next().await {
        // Small files of a volume in memory.
        let read = read(cert, key);
        if let (Ok((chain, key)), Some((known, known_key))) = (&read, &last)
            && chain == known
            && known_key.ct_eq(key.expose())
        {
            continue;
        }
        let loaded = read.and_then(|(chain, key)| {
            served.replace(&chain, &key)?;
            Ok((chain, key))
        });
        match loaded {
            Ok(loaded) => {
                tracing::info!("the certificate was read");
                (last, was_bad) = (Some(loaded), false);
            }
            Err(error) => {
                let error = Explained(&error);
                if !std::mem::replace(&mut was_bad, true) {
                    tracing::error!(
                        %error,
                        "the certificate cannot be used; the one before stays, if there was one"
                    );
                }
            }
        }
    }
}

fn read(cert: &Path, key: &Path) -> Result<(Vec<u8>, Secret), Unusable> {
    // Of a projected volume, with the mode that the pod asks for.
    Ok((source::public(cert)?, source::projected(key)?))
}

const EVERY: Duration = Duration::from_secs(5);
