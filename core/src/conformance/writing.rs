//! Writing through the broker, where the store may be written.

use jiff::Timestamp;

use super::{ErrorKind, Fault, Operation, Site, Version, ensure, fields, holds, path, read, refused};
use crate::backend::{LabelChange, PutTerms};

pub(super) async fn what_is_written_is_read(site: &dyn Site) -> Result<(), Fault> {
    let Some(writing) = site.backend().writing() else {
        return ensure(!site.backend().capabilities().writing, "`capabilities` says that it can be written");
    };
    let path = path(site, "written")?;
    let version = writing.put(&path, fields(&[("p", b"v")])?, PutTerms::default()).await?;
    let fetched = read(site, &path).await?;
    ensure(holds(&fetched, "p", b"v")?, "another value is there than was written")?;
    ensure(fetched.version == Some(version), "the version that was written is not the newest")
}

pub(super) async fn a_write_upon_another_version_is_refused(site: &dyn Site) -> Result<(), Fault> {
    let Some(writing) = site.backend().writing() else { return Ok(()) };
    let path = path(site, "contended")?;
    let put = async |value: &[u8], expected: u64| {
        writing.put(&path, fields(&[("p", value)])?, PutTerms::over(expected)).await.map_err(Fault::from)
    };
    put(b"one", 0).await?;
    let late = writing.put(&path, fields(&[("p", b"late")])?, PutTerms::over(0)).await;
    refused(late, &[ErrorKind::Conflict], Operation::Put)?;
    let ahead = writing.put(&path, fields(&[("p", b"ahead")])?, PutTerms::over(2)).await;
    refused(ahead, &[ErrorKind::Conflict], Operation::Put)?;
    put(b"two", 1).await?;
    ensure(holds(&read(site, &path).await?, "p", b"two")?, "a refused write was kept")
}

pub(super) async fn a_deletion_can_be_taken_back(site: &dyn Site) -> Result<(), Fault> {
    let Some(writing) = site.backend().writing() else { return Ok(()) };
    let path = path(site, "deleted")?;
    writing.put(&path, fields(&[("p", b"one")])?, PutTerms::default()).await?;
    let second: Version = writing.put(&path, fields(&[("p", b"two")])?, PutTerms::default()).await?;
    writing.delete(&path, &[]).await?;
    refused(read(site, &path).await, &[ErrorKind::NotFound], Operation::Read)?;
    writing.undelete(&path, &[second]).await?;
    ensure(holds(&read(site, &path).await?, "p", b"two")?, "another version came back")
}

pub(super) async fn what_is_destroyed_stays_so(site: &dyn Site) -> Result<(), Fault> {
    let Some(writing) = site.backend().writing() else { return Ok(()) };
    let path = path(site, "destroyed")?;
    let first = writing.put(&path, fields(&[("p", b"one")])?, PutTerms::default()).await?;
    writing.put(&path, fields(&[("p", b"two")])?, PutTerms::default()).await?;
    writing.destroy(&path, std::slice::from_ref(&first)).await?;
    let read_first = site.backend().read(&path, Some(&first)).await.map(drop);
    refused(read_first, &[ErrorKind::NotFound], Operation::Read)?;
    let undeleted = writing.undelete(&path, std::slice::from_ref(&first)).await;
    refused(undeleted, &[ErrorKind::NotFound], Operation::Undelete)?;
    ensure(holds(&read(site, &path).await?, "p", b"two")?, "another version went with it")?;
    writing.destroy(&path, &[]).await?;
    refused(read(site, &path).await, &[ErrorKind::NotFound], Operation::Read)?;
    let again = writing.put(&path, fields(&[("p", b"three")])?, PutTerms::over(0)).await?;
    ensure(again != first, "the number of a destroyed version was given out again")
}

pub(super) async fn what_has_expired_is_not_read(site: &dyn Site) -> Result<(), Fault> {
    let Some(writing) = site.backend().writing() else { return Ok(()) };
    let path = path(site, "expiring")?;
    let until = |text: &str| -> Result<PutTerms, Fault> {
        Ok(PutTerms { expected: None, expires_at: Some(text.parse::<Timestamp>()?) })
    };
    let later = until("2999-12-31T23:59:59.123456Z")?;
    writing.put(&path, fields(&[("p", b"later")])?, later).await?;
    let fetched = read(site, &path).await?;
    ensure(holds(&fetched, "p", b"later")?, "another value is there than was written")?;
    ensure(fetched.expires_at == later.expires_at, "it expires at another time than was asked")?;
    writing.put(&path, fields(&[("p", b"over")])?, until("2001-01-01T00:00:00Z")?).await?;
    refused(read(site, &path).await, &[ErrorKind::NotFound], Operation::Read)?;
    let newest = site.backend().newest(&path).await.map(drop);
    refused(newest, &[ErrorKind::NotFound], Operation::Newest)
}

pub(super) async fn labels_change_and_stay_beside_the_value(site: &dyn Site) -> Result<(), Fault> {
    let Some(writing) = site.backend().writing() else { return Ok(()) };
    let path = path(site, "labelled")?;
    let change = |set: &[(&str, &str)], remove: &[&str]| LabelChange {
        set: set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        remove: remove.iter().map(|name| (*name).to_owned()).collect(),
    };
    let early = writing.label(&path, change(&[("owner", "payments")], &[])).await.map(drop);
    refused(early, &[ErrorKind::NotFound], Operation::Label)?;
    writing.put(&path, fields(&[("p", b"one")])?, PutTerms::default()).await?;
    writing.label(&path, change(&[("owner", "payments"), ("tier", "ü 1")], &[])).await?;
    let labels = writing.label(&path, change(&[("tier", "2")], &["owner", "absent"])).await?;
    ensure(labels == change(&[("tier", "2")], &[]).set, "the labels are others than were set")?;
    writing.put(&path, fields(&[("p", b"two")])?, PutTerms::default()).await?;
    ensure(site.backend().labels(&path).await? == labels, "the labels changed with the value")
}

pub(super) async fn a_value_beyond_the_limit_is_refused_and_harms_nothing(
    site: &dyn Site,
) -> Result<(), Fault> {
    let path = path(site, "beyond")?;
    site.write(&path, &fields(&[("p", b"before")])?).await?;
    let beyond = vec![b'x'; site.beyond()];
    let data = fields(&[("p", &beyond)])?;
    let taken = match site.backend().writing() {
        Some(writing) => writing.put(&path, data, PutTerms::default()).await.is_ok(),
        None => site.write(&path, &data).await.is_ok(),
    };
    ensure(!taken, format!("{} bytes were taken", beyond.len()))?;
    ensure(holds(&read(site, &path).await?, "p", b"before")?, "what was there before is not there any more")
}
