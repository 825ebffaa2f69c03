//! Writing through the broker, where the store may be written.

use super::{ErrorKind, Fault, Operation, Site, Version, ensure, fields, holds, path, read, refused};

pub(super) async fn what_is_written_is_read(site: &dyn Site) -> Result<(), Fault> {
    let Some(writing) = site.backend().writing() else {
        return ensure(!site.backend().capabilities().writing, "`capabilities` says that it can be written");
    };
    let path = path(site, "written")?;
    let version = writing.put(&path, fields(&[("p", b"v")])?, None).await?;
    let fetched = read(site, &path).await?;
    ensure(holds(&fetched, "p", b"v")?, "another value is there than was written")?;
    ensure(fetched.version == Some(version), "the version that was written is not the newest")
}

pub(super) async fn a_write_upon_another_version_is_refused(site: &dyn Site) -> Result<(), Fault> {
    let Some(writing) = site.backend().writing() else { return Ok(()) };
    let path = path(site, "contended")?;
    let put = async |value: &[u8], expected| {
        writing.put(&path, fields(&[("p", value)])?, expected).await.map_err(Fault::from)
    };
    put(b"one", Some(0)).await?;
    let late = writing.put(&path, fields(&[("p", b"late")])?, Some(0)).await;
    refused(late, &[ErrorKind::Conflict], Operation::Put)?;
    let ahead = writing.put(&path, fields(&[("p", b"ahead")])?, Some(2)).await;
    refused(ahead, &[ErrorKind::Conflict], Operation::Put)?;
    put(b"two", Some(1)).await?;
    ensure(holds(&read(site, &path).await?, "p", b"two")?, "a refused write was kept")
}

pub(super) async fn a_deletion_can_be_taken_back(site: &dyn Site) -> Result<(), Fault> {
    let Some(writing) = site.backend().writing() else { return Ok(()) };
    let path = path(site, "deleted")?;
    writing.put(&path, fields(&[("p", b"one")])?, None).await?;
    let second: Version = writing.put(&path, fields(&[("p", b"two")])?, None).await?;
    writing.delete(&path, &[]).await?;
    refused(read(site, &path).await, &[ErrorKind::NotFound], Operation::Read)?;
    writing.undelete(&path, &[second]).await?;
    ensure(holds(&read(site, &path).await?, "p", b"two")?, "another version came back")
}

pub(super) async fn a_value_beyond_the_limit_is_refused_and_harms_nothing(
    site: &dyn Site,
) -> Result<(), Fault> {
    let path = path(site, "beyond")?;
    site.write(&path, &fields(&[("p", b"before")])?).await?;
    let beyond = vec![b'x'; site.beyond()];
    let data = fields(&[("p", &beyond)])?;
    let taken = match site.backend().writing() {
        Some(writing) => writing.put(&path, data, None).await.is_ok(),
        None => site.write(&path, &data).await.is_ok(),
    };
    ensure(!taken, format!("{} bytes were taken", beyond.len()))?;
    ensure(holds(&read(site, &path).await?, "p", b"before")?, "what was there before is not there any more")
}
