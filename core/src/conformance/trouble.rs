//! What befalls stores.

use super::{
    Duration, ErrorKind, Fault, Instant, Operation, Site, Trouble, ensure, fields, path, read, refused,
};
use crate::retry::Transient;

pub(super) async fn each_trouble_is_told_by_its_kind_and_passes(site: &dyn Site) -> Result<(), Fault> {
    let path = path(site, "trouble")?;
    site.write(&path, &fields(&[("p", b"v")])?).await?;
    for trouble in site.troubles() {
        site.befall(*trouble).await?;
        let met = read(site, &path).await;
        let health = site.backend().health().await;
        site.mend(*trouble).await?;
        let (read_kinds, health_kinds) = kinds(*trouble);
        refused(met, read_kinds, Operation::Read).map_err(|fault| format!("{trouble:?}: {fault}"))?;
        if let Some(kinds) = health_kinds {
            refused(health, kinds, Operation::Health).map_err(|fault| format!("{trouble:?}: {fault}"))?;
        }
        serves_again(site, &path).await.map_err(|fault| format!("after {trouble:?}: {fault}"))?;
    }
    Ok(())
}

/// What a read meets, and what health says where that follows.
fn kinds(trouble: Trouble) -> (&'static [ErrorKind], Option<&'static [ErrorKind]>) {
    use ErrorKind as K;
    match trouble {
        Trouble::Down => (&[K::Unavailable], Some(&[K::Unavailable])),
        Trouble::Hung => (&[K::Timeout], Some(&[K::Timeout])),
        Trouble::Sealed => (&[K::Sealed], Some(&[K::Sealed])),
        // Of a right that is missing and of a limit on some paths the store's health knows nothing.
        Trouble::Denied => (&[K::Denied], None),
        Trouble::Throttled => (&[K::Throttled], None),
    }
}

pub(super) async fn a_restart_under_load_is_survived(site: &dyn Site) -> Result<(), Fault> {
    if !site.troubles().contains(&Trouble::Down) {
        return Ok(());
    }
    let path = path(site, "restart")?;
    site.write(&path, &fields(&[("p", b"v")])?).await?;
    let restart = async {
        site.befall(Trouble::Down).await?;
        site.mend(Trouble::Down).await?;
        Ok::<_, Fault>(())
    };
    let mut restart = std::pin::pin!(restart);
    loop {
        tokio::select! {
            done = &mut restart => break done?,
            met = read(site, &path) => if let Err(error) = met {
                ensure(error.is_transient(), format!("a restart was told as {error:?}"))?;
                // As whoever reads would: not at once again.
                tokio::time::sleep(PAUSE).await;
            },
        }
    }
    serves_again(site, &path).await
}

async fn serves_again(site: &dyn Site, path: &crate::SecretPath) -> Result<(), Fault> {
    let begun = Instant::now();
    loop {
        match read(site, path).await {
            Ok(_) => break,
            Err(error) if begun.elapsed() > RECOVERY => return Err(error.into()),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
    Ok(site.backend().health().await?)
}

/// A store that serves again is noticed within this.
const RECOVERY: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);
