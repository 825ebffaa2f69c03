//! Reading and listing.

use super::{
    ErrorKind, Fault, Operation, SecretPath, Site, Version, ensure, fields, holds, path, read, refused,
};
use crate::backend::VersionState;

pub(super) async fn a_healthy_store_says_so(site: &dyn Site) -> Result<(), Fault> {
    Ok(site.backend().health().await?)
}

pub(super) async fn a_secret_is_read_by_field_and_whole(site: &dyn Site) -> Result<(), Fault> {
    let path = path(site, "whole/db")?;
    site.write(&path, &fields(&[("username", b"ada"), ("password", b"p\"w\\d \n")])?).await?;
    let fetched = read(site, &path).await?;
    ensure(holds(&fetched, "username", b"ada")?, "field `username` is another")?;
    ensure(holds(&fetched, "password", b"p\"w\\d \n")?, "field `password` is another")?;
    let whole = fetched.data.select(None)?;
    ensure(
        whole.ct_eq(br#"{"password":"p\"w\\d \n","username":"ada"}"#),
        "the whole is not the object of its fields in order of their names",
    )?;
    ensure(
        fetched.version.is_some() == site.backend().capabilities().versions,
        "what `capabilities` says of versions is not so",
    )
}

pub(super) async fn what_is_not_there_is_not_found(site: &dyn Site) -> Result<(), Fault> {
    let there = path(site, "missing/there")?;
    site.write(&there, &fields(&[("p", b"v")])?).await?;
    for absent in ["missing/absent", "missing/there/below", "missing"] {
        refused(read(site, &path(site, absent)?).await, &[ErrorKind::NotFound], Operation::Read)?;
    }
    let fetched = read(site, &there).await?;
    ensure(holds(&fetched, "q", b"").is_err(), "a field that is not there was given")
}

pub(super) async fn odd_paths_are_apart(site: &dyn Site) -> Result<(), Fault> {
    let mut paths = Vec::new();
    for (number, name) in ODD.iter().enumerate() {
        let path = path(site, &format!("odd/{name}"))?;
        if !site.takes_name(name) {
            refused(read(site, &path).await, &[ErrorKind::NotFound], Operation::Read)?;
            continue;
        }
        site.write(&path, &fields(&[("p", number.to_string().as_bytes())])?).await?;
        paths.push((number, path));
    }
    for (number, path) in &paths {
        let fetched = read(site, path).await?;
        ensure(holds(&fetched, "p", number.to_string().as_bytes())?, format!("`{path}` is another secret"))?;
    }
    Ok(())
}

pub(super) async fn a_large_value_arrives_whole(site: &dyn Site) -> Result<(), Fault> {
    let length = site.longest().min(MEBIBYTE);
    let path = path(site, "large")?;
    let value: Vec<u8> = (0..length).map(|index| b'a' + (index % 26) as u8).collect();
    site.write(&path, &fields(&[("p", &value)])?).await?;
    ensure(holds(&read(site, &path).await?, "p", &value)?, format!("{length} bytes came back changed"))
}

pub(super) async fn bytes_arrive_as_they_are(site: &dyn Site) -> Result<(), Fault> {
    if !site.takes_bytes() {
        return Ok(());
    }
    let path = path(site, "bytes")?;
    let every: Vec<u8> = (0..=u8::MAX).collect();
    site.write(&path, &fields(&[("p", &every), ("empty", b"")])?).await?;
    let fetched = read(site, &path).await?;
    ensure(holds(&fetched, "p", &every)? && holds(&fetched, "empty", b"")?, "bytes came back changed")?;
    ensure(fetched.data.select(None).is_err(), "bytes that are no text were made part of a JSON object")
}

pub(super) async fn each_version_is_read_by_its_name(site: &dyn Site) -> Result<(), Fault> {
    if !site.backend().capabilities().versions {
        return Ok(());
    }
    let path = path(site, "versions")?;
    let mut names: Vec<Version> = Vec::new();
    for value in VALUES {
        site.write(&path, &fields(&[("p", value)])?).await?;
        let newest = read(site, &path).await?;
        ensure(holds(&newest, "p", value)?, "the newest is not what was written last")?;
        let told = site.backend().newest(&path).await?;
        ensure(told.is_none() || told == newest.version, format!("{told:?} is told to be the newest"))?;
        names.push(newest.version.ok_or("a version without a name")?);
    }
    for (name, value) in names.iter().zip(VALUES) {
        let fetched = site.backend().read(&path, Some(name)).await?;
        ensure(holds(&fetched, "p", value)?, format!("version {name} is another"))?;
        ensure(fetched.version.as_ref() == Some(name), format!("version {name} calls itself otherwise"))?;
    }
    let listed = site.backend().versions(&path).await?;
    let listed: Vec<_> = listed.into_iter().map(|info| (info.version, info.state)).collect();
    let due: Vec<_> = names.iter().rev().map(|name| (name.clone(), VersionState::Kept)).collect();
    ensure(listed == due, format!("versions are listed as {listed:?} and were {due:?}, newest first"))?;
    let absent = Version::number(4_000_000_000);
    refused(site.backend().read(&path, Some(&absent)).await, &[ErrorKind::NotFound], Operation::Read)
}

pub(super) async fn a_folder_is_listed_in_pages(site: &dyn Site) -> Result<(), Fault> {
    if !site.backend().capabilities().list {
        return Ok(());
    }
    for name in ["b", "a", "c", "a/deep", "d/e/f"] {
        site.write(&path(site, &format!("list/{name}"))?, &fields(&[("p", b"v")])?).await?;
    }
    let folder: SecretPath = path(site, "list")?;
    let mut listed: Vec<String> = Vec::new();
    loop {
        let page = site.backend().list(Some(&folder), listed.last().map(String::as_str), 2).await?;
        ensure(page.len() <= 2, "a page is longer than was asked for")?;
        if page.is_empty() {
            break;
        }
        listed.extend(page);
        ensure(listed.len() < 20, "a list does not end")?;
    }
    ensure(listed == ["a", "a/", "b", "c", "d/"], format!("listed as {listed:?}"))
}

/// No two are one, however a store or its URLs encode them.
const ODD: [&str; 12] = [
    "plain",
    "PLAIN",
    "with space",
    "with+plus",
    "per%20cent",
    "question?mark",
    "hash#tag",
    "колея",
    "日本",
    "a.b",
    "a..b",
    "deep/deeper/deepest/still/deeper",
];
const VALUES: [&[u8]; 3] = [b"one", b"two", b"three"];
const MEBIBYTE: usize = 1024 * 1024;
