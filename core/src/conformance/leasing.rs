//! Credentials that the store creates.

use crate::LeaseId;
use crate::backend::Removal;

use super::{
    Clock, Duration, ErrorKind, Fault, Issued, Leasing, Operation, SecretPath, Site, SystemClock, Timestamp,
    ensure, refused,
};

/// The power and the path, of a store that creates credentials.
fn power(site: &dyn Site) -> Result<Option<(&dyn Leasing, SecretPath)>, Fault> {
    let said = site.backend().capabilities().leasing;
    match (site.backend().leasing(), site.leased()) {
        (Some(leasing), Some(path)) => {
            let path = SecretPath::from_store(&path)?;
            ensure(leasing.is_leased(&path), format!("`{path}` is said to be static"))?;
            Ok(Some((leasing, path)))
        }
        _ => ensure(!said, "`capabilities` says that it creates credentials").map(|()| None),
    }
}

async fn issue(leasing: &dyn Leasing, path: &SecretPath) -> Result<Issued, Fault> {
    let random = std::array::from_fn(|_| fastrand::u8(..));
    Ok(leasing.issue(path, LeaseId::new(SystemClock.now(), random), ASKED).await?)
}

pub(super) async fn a_credential_opens_until_it_is_revoked(site: &dyn Site) -> Result<(), Fault> {
    let Some((leasing, path)) = power(site)? else { return Ok(()) };
    let (one, other) = (issue(leasing, &path).await?, issue(leasing, &path).await?);
    ensure(!one.ttl.is_zero(), "a credential that ends at once")?;
    ensure(one.handle != other.handle, "two credentials have one name")?;
    ensure(site.opens(&one.data).await?, "a credential that opens nothing")?;
    for _ in 0..2 {
        match leasing.revoke(&one.handle).await? {
            Removal::Gone => ensure(!site.opens(&one.data).await?, "a credential outlived its revocation")?,
            Removal::EndsAt(end) => ensure(end > SystemClock.now(), "what has ended is said to end later")?,
        }
    }
    ensure(site.opens(&other.data).await?, "revoking one credential took another")?;
    Ok(leasing.revoke(&other.handle).await.map(drop)?)
}

pub(super) async fn a_credential_is_renewed_while_it_is_there(site: &dyn Site) -> Result<(), Fault> {
    let Some((leasing, path)) = power(site)? else { return Ok(()) };
    let issued = issue(leasing, &path).await?;
    if issued.renewable {
        let granted = leasing.renew(&issued.handle, ASKED).await?;
        ensure(
            !granted.is_zero() && granted <= ASKED,
            format!("{granted:?} was granted where {ASKED:?} was asked"),
        )?;
        ensure(site.opens(&issued.data).await?, "a renewal took the credential")?;
    }
    leasing.revoke(&issued.handle).await?;
    let gone = if issued.renewable { ErrorKind::NotFound } else { ErrorKind::Misconfigured };
    refused(leasing.renew(&issued.handle, ASKED).await, &[gone], Operation::Renew)
}

pub(super) async fn credentials_are_found_by_when_they_were_made(site: &dyn Site) -> Result<(), Fault> {
    let Some((leasing, path)) = power(site)? else { return Ok(()) };
    if !site.tells_credentials() {
        return Ok(());
    }
    let begun = SystemClock.now();
    let (kept, revoked) = (issue(leasing, &path).await?, issue(leasing, &path).await?);
    leasing.revoke(&revoked.handle).await?;
    let found = leasing.find_orphans(&path, begun..Timestamp::MAX).await?;
    ensure(found.contains(&kept.handle), "a credential that is there was not found")?;
    ensure(!found.contains(&revoked.handle), "a credential that was revoked was found")?;
    let later = leasing.find_orphans(&path, SystemClock.now()..Timestamp::MAX).await?;
    ensure(!later.contains(&kept.handle), "a credential was found at a time when it was not made")?;
    Ok(leasing.revoke(&kept.handle).await.map(drop)?)
}

const ASKED: Duration = Duration::from_secs(120);
