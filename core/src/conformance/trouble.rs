//! What befalls stores.

use super::{
    BackendError, Clock, Duration, ErrorKind, Fault, Instant, Operation, SecretPath, Site, SystemClock,
    Trouble, ensure, fields, path, read, refused,
};
use crate::LeaseId;
use crate::retry::Transient;

pub(super) async fn each_trouble_is_told_by_its_kind_and_passes(site: &dyn Site) -> Result<(), Fault> {
    let path = something(site, "trouble").await?;
    for trouble in site.troubles() {
        site.befall(*trouble).await?;
        let met = ask(site, &path).await;
        let health = site.backend().health().await;
        site.mend(*trouble).await?;
        let (read_kinds, health_kinds) = kinds(*trouble);
        refused(met, read_kinds, asked(site)).map_err(|fault| format!("{trouble:?}: {fault}"))?;
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
    let path = something(site, "restart").await?;
    let restart = async {
        site.befall(Trouble::Down).await?;
        site.mend(Trouble::Down).await?;
        Ok::<_, Fault>(())
    };
    let mut restart = std::pin::pin!(restart);
    loop {
        tokio::select! {
            done = &mut restart => break done?,
            met = ask(site, &path) => if let Err(error) = met {
                ensure(error.is_transient(), format!("a restart was told as {error:?}"))?;
                // As whoever reads would: not at once again.
                tokio::time::sleep(PAUSE).await;
            },
        }
    }
    serves_again(site, &path).await
}

/// Something to ask the store for: a secret that is there, or what creates a credential.
async fn something(site: &dyn Site, name: &str) -> Result<SecretPath, Fault> {
    if !site.keeps_secrets() {
        return Ok(SecretPath::from_store(
            &site.leased().ok_or("a store that keeps nothing and creates nothing")?,
        )?);
    }
    let path = path(site, name)?;
    site.write(&path, &fields(&[("p", b"v")])?).await?;
    Ok(path)
}

/// Asks the store for it.
async fn ask(site: &dyn Site, path: &SecretPath) -> Result<(), BackendError> {
    let Some(leasing) = site.backend().leasing().filter(|_| !site.keeps_secrets()) else {
        return read(site, path).await.map(drop);
    };
    let lease = LeaseId::new(SystemClock.now(), std::array::from_fn(|_| fastrand::u8(..)));
    let issued = leasing.issue(path, lease, Duration::from_secs(120)).await?;
    leasing.revoke(&issued.handle).await.map(drop)
}

fn asked(site: &dyn Site) -> Operation {
    if site.keeps_secrets() { Operation::Read } else { Operation::Issue }
}

async fn serves_again(site: &dyn Site, path: &SecretPath) -> Result<(), Fault> {
    let begun = Instant::now();
    loop {
        match ask(site, path).await {
            Ok(()) => break,
            Err(error) if begun.elapsed() > RECOVERY => return Err(error.into()),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
    Ok(site.backend().health().await?)
}

/// A store that serves again is noticed within this.
const RECOVERY: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);
