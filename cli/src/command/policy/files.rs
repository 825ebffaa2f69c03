//! A set of policies as files.

use std::fs;
use std::path::{Path, PathBuf};

use bursar_proto::limits;
use bursar_proto::v1::PolicyFile;

use crate::error::Error;
use crate::input;

/// The files that `paths` name, in order of names. Of a directory those are `registrations.toml` and `grants.toml` at its
/// top and every `*.cedar` at or under it, by their names inside it; what is hidden, and other files, are no policies.
///
/// # Errors
/// [`Error::Unreadable`]; [`Error::Usage`] when two have one name, or when there is none, as an empty set would deny
/// everything to everybody.
pub(super) fn read(paths: &[PathBuf]) -> Result<Vec<PolicyFile>, Error> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            collect(path, "", &mut files)?;
            continue;
        }
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| Error::Usage(format!("`{}` is no file", path.display())))?.to_owned();
        files.push(PolicyFile { name, text: input::document(path, limits::POLICY_SET)? });
    }
    if files.is_empty() {
        return Err(Error::Usage(
            "there is no `.cedar` file, no `grants.toml` and no `registrations.toml`".to_owned(),
        ));
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    let names = files.iter().zip(files.iter().skip(1));
    if let Some((one, _)) = names.into_iter().find(|(one, other)| one.name == other.name) {
        return Err(Error::Usage(format!("two files have the name `{}`", one.name)));
    }
    Ok(files)
}

/// Writes a set of policies into `directory`, which must not have any of its files yet.
///
/// # Errors
/// [`Error::Unwritable`].
pub(super) fn write(directory: &Path, files: &[PolicyFile]) -> Result<(), Error> {
    for file in files {
        let path = directory.join(inside(&file.name)?);
        let unwritable = |source| Error::Unwritable { path: path.clone(), source };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(unwritable)?;
        }
        let mut created = fs::File::create_new(&path).map_err(unwritable)?;
        std::io::Write::write_all(&mut created, file.text.as_bytes()).map_err(unwritable)?;
    }
    Ok(())
}

/// A name that stays inside the directory, whatever the broker says.
fn inside(name: &str) -> Result<&Path, Error> {
    let good = |segment: &str| !matches!(segment, "" | "." | "..");
    if name.split('/').all(good) {
        return Ok(Path::new(name));
    }
    Err(Error::Usage(format!("the broker has a policy file named `{name}`, which is no file name")))
}

fn collect(directory: &Path, prefix: &str, files: &mut Vec<PolicyFile>) -> Result<(), Error> {
    let unreadable = |source| Error::Unreadable { path: directory.to_owned(), source };
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let name = format!("{prefix}{name}");
        if is_hidden(&path) {
            continue;
        }
        if path.is_dir() {
            collect(&path, &format!("{name}/"), files)?;
        } else if TABLES.contains(&name.as_str()) || name.ends_with(".cedar") {
            let text = input::document(&path, limits::POLICY_SET)?;
            files.push(PolicyFile { name, text });
        }
    }
    Ok(())
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

const TABLES: [&str; 2] = ["grants.toml", "registrations.toml"];

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(files: &[&str]) -> tempfile::TempDir {
        let place = tempfile::tempdir().expect("directory");
        for file in files {
            let path = place.path().join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("folder");
            fs::write(path, "text").expect("file");
        }
        place
    }

    #[test]
    fn policies_are_found_in_folders_and_other_files_left_out() {
        let place = directory(&[
            "b.cedar",
            "a/x.cedar",
            "registrations.toml",
            "README.md",
            ".git/hidden.cedar",
            "a/registrations.toml",
        ]);
        let read = read(&[place.path().to_owned()]).expect("files");
        let names: Vec<_> = read.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["a/x.cedar", "b.cedar", "registrations.toml"]);
    }

    #[test]
    fn files_may_be_named_one_by_one_but_not_twice() {
        let place = directory(&["a/x.cedar", "b/x.cedar", "registrations.toml"]);
        let path = |name: &str| place.path().join(name);
        let files = read(&[path("registrations.toml"), path("a/x.cedar")]).expect("files");
        let names: Vec<_> = files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["registrations.toml", "x.cedar"]);
        assert!(matches!(read(&[path("a/x.cedar"), path("b/x.cedar")]), Err(Error::Usage(_))));
    }

    #[test]
    fn an_empty_set_is_refused() {
        assert!(matches!(read(&[directory(&["README.md"]).path().to_owned()]), Err(Error::Usage(_))));
    }

    #[test]
    fn what_is_written_reads_back() {
        let place = directory(&[]);
        let files = vec![PolicyFile { name: "a/x.cedar".to_owned(), text: "permit".to_owned() }];
        write(place.path(), &files).expect("written");
        assert_eq!(read(&[place.path().to_owned()]).expect("files"), files);
        assert!(matches!(write(place.path(), &files), Err(Error::Unwritable { .. })));
    }

    #[test]
    fn a_name_that_leaves_the_directory_is_refused() {
        let place = directory(&[]);
        for name in ["../x.cedar", "/etc/x.cedar", "a/../../x.cedar", ""] {
            let files = [PolicyFile { name: name.to_owned(), text: String::new() }];
            assert!(write(place.path(), &files).is_err(), "{name}");
        }
    }
}
