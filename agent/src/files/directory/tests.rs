use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use bursar_core::Secret;
use bursar_core::clock::TestClock;
use tempfile::TempDir;

use super::*;
use crate::files::render::File;

/// A directory of the agent's own user, on whatever there is.
struct Site {
    folder: TempDir,
    directory: Directory,
    clock: TestClock,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("sets/web");
        let owner = Ownership::find(None, None).expect("own");
        Self { folder, directory: Directory { path, ground: Ground::OnDisk, owner }, clock: TestClock::new() }
    }

    fn deliver(&self, files: &[(&str, &str)]) -> Result<(Delivered, Expected), DirectoryError> {
        self.directory.deliver(&rendered(files), &self.clock)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path.join(name)
    }

    fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.path(name)).ok()
    }

    /// Everything in the directory, versions as `version`.
    fn names(&self) -> Vec<String> {
        let name = |entry: std::io::Result<fs::DirEntry>| {
            let name = entry.expect("entry").file_name().into_string().expect("text");
            if name.starts_with("..") && name != DATA { "version".to_owned() } else { name }
        };
        let mut names: Vec<_> = fs::read_dir(&self.directory.path).expect("there").map(name).collect();
        names.sort();
        names
    }

    fn refused(&self) -> String {
        let error = self.deliver(&[("a", "1")]).expect_err("refused").to_string();
        error.replace(&self.folder.path().display().to_string(), "")
    }
}

fn rendered(files: &[(&str, &str)]) -> Rendered {
    let file = |(path, text): &(&str, &str)| {
        ((*path).to_owned(), File { mode: 0o400, contents: Secret::from((*text).to_owned()) })
    };
    files.iter().map(file).collect::<BTreeMap<_, _>>()
}

#[test]
fn files_appear_whole_with_their_mode_and_are_not_written_again_when_nothing_changed() {
    let site = Site::new();
    let (first, expected) = site.deliver(&[("app.env", "A=1"), ("tls/key.pem", "key")]).expect("delivered");
    assert_eq!(first, Delivered::Replaced);
    assert_eq!((site.read("app.env"), site.read("tls/key.pem")), (Some("A=1".into()), Some("key".into())));
    let mode = |name: &str| fs::metadata(site.path(name)).expect("there").mode() & 0o7777;
    assert_eq!((mode("app.env"), mode("tls/key.pem")), (0o400, 0o400));
    assert_eq!((mode(""), mode("..data"), mode("tls")), (0o750, 0o750, 0o750));
    let before = fs::read_link(site.path(DATA)).expect("a link");
    let (again, _) = site.deliver(&[("app.env", "A=1"), ("tls/key.pem", "key")]).expect("delivered");
    assert_eq!((again, site.directory.drift(&expected).expect("looked")), (Delivered::AsTheyWere, None));
    assert_eq!(fs::read_link(site.path(DATA)).expect("a link"), before);
}

#[test]
fn a_new_version_takes_the_place_of_the_old_one_and_what_it_has_not_is_gone() {
    let site = Site::new();
    site.deliver(&[("a", "1"), ("b", "1"), ("c/d", "1")]).expect("delivered");
    site.deliver(&[("a", "2"), ("e", "2")]).expect("delivered");
    assert_eq!(site.names(), ["..data", "a", "e", "version"]);
    assert_eq!((site.read("a"), site.read("b"), site.read("e")), (Some("2".into()), None, Some("2".into())));
}

#[test]
fn whoever_opened_the_version_before_reads_files_that_agree() {
    let site = Site::new();
    site.deliver(&[("a", "1"), ("b", "1")]).expect("delivered");
    let version = fs::canonicalize(site.path(DATA)).expect("there");
    let (a, b) =
        (fs::File::open(version.join("a")).expect("a"), fs::File::open(version.join("b")).expect("b"));
    site.deliver(&[("a", "2"), ("b", "2")]).expect("delivered");
    let text = |file| std::io::read_to_string(file).expect("read");
    assert_eq!((text(a), text(b)), ("1".to_owned(), "1".to_owned()));
}

#[test]
fn what_somebody_did_to_a_file_is_seen_and_undone() {
    type Harm = fn(&Site);
    let harms: [(&str, Harm); 6] = [
        ("a", |site| fs::set_permissions(site.path("a"), fs::Permissions::from_mode(0o444)).expect("mode")),
        ("a", |site| {
            fs::remove_file(site.path("..data/a")).expect("removed");
            fs::write(site.path("..data/a"), "other").expect("written");
        }),
        ("a", |site| fs::remove_file(site.path("a")).expect("removed")),
        ("a", |site| {
            fs::remove_file(site.path("a")).expect("removed");
            symlink("/etc/passwd", site.path("a")).expect("link");
        }),
        (DATA, |site| fs::remove_file(site.path(DATA)).expect("removed")),
        (DATA, |site| fs::set_permissions(site.path(DATA), fs::Permissions::from_mode(0o755)).expect("mode")),
    ];
    for (place, harm) in harms {
        let site = Site::new();
        let (_, expected) = site.deliver(&[("a", "1")]).expect("delivered");
        harm(&site);
        assert_eq!(site.directory.drift(&expected).expect("looked").as_deref(), Some(place));
        site.deliver(&[("a", "1")]).expect("delivered");
        assert_eq!(
            (site.directory.drift(&expected).expect("looked"), site.read("a")),
            (None, Some("1".into()))
        );
        assert_eq!(site.names(), ["..data", "a", "version"]);
    }
}

#[test]
fn nothing_is_left_of_a_set_that_is_cleared_and_other_files_stay() {
    let site = Site::new();
    assert!(!site.directory.clear().expect("nothing to do"));
    assert!(!site.folder.path().join("sets").exists(), "a directory was made to remove nothing from it");
    site.deliver(&[("a", "1"), ("b/c", "1")]).expect("delivered");
    fs::write(site.path("of-somebody-else"), "").expect("written");
    assert!(site.directory.clear().expect("cleared"));
    assert_eq!(site.names(), ["of-somebody-else"]);
    assert!(!site.directory.clear().expect("cleared"), "there was nothing left");
}

#[test]
fn a_link_on_the_way_is_refused_and_nothing_is_written_behind_it() {
    let site = Site::new();
    let elsewhere = site.folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).expect("made");
    symlink(&elsewhere, site.folder.path().join("sets")).expect("link");
    assert!(site.refused().starts_with("`/sets` is a symbolic link"), "{}", site.refused());
    fs::remove_file(site.folder.path().join("sets")).expect("removed");
    fs::create_dir(site.folder.path().join("sets")).expect("made");
    symlink(&elsewhere, &site.directory.path).expect("link");
    assert!(site.refused().starts_with("`/sets/web` is a symbolic link"), "{}", site.refused());
    assert_eq!(fs::read_dir(&elsewhere).expect("there").count(), 0);
}

#[test]
fn a_directory_in_which_others_may_write_is_refused() {
    let site = Site::new();
    fs::create_dir_all(site.path("")).expect("made");
    for (name, mode) in [("sets/web", 0o770), ("sets/web", 0o1777), ("sets", 0o757)] {
        let place = site.folder.path().join(name);
        fs::set_permissions(&place, fs::Permissions::from_mode(mode)).expect("mode");
        assert!(site.refused().starts_with(&format!("others may write in `/{name}`")), "{}", site.refused());
        fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).expect("mode");
    }
    site.deliver(&[("a", "1")]).expect("now it is good");
}

#[test]
fn what_is_no_directory_or_in_the_way_of_a_name_is_named_and_stays() {
    let site = Site::new();
    fs::write(site.folder.path().join("sets"), "").expect("written");
    assert_eq!(site.refused(), "`/sets` is no directory");
    fs::remove_file(site.folder.path().join("sets")).expect("removed");
    fs::create_dir_all(site.path("a")).expect("made");
    assert!(site.refused().starts_with("`/sets/web/a` is there already"), "{}", site.refused());
    assert_eq!(site.names(), ["a"]);
    fs::remove_dir(site.path("a")).expect("removed");
    fs::write(site.path("a"), "of before").expect("written");
    site.deliver(&[("a", "1")]).expect("a file yields to the link");
    assert_eq!(site.read("a").as_deref(), Some("1"));
}

#[test]
fn what_is_not_in_memory_is_refused_unless_told_otherwise() {
    let owner = Ownership::find(None, None).expect("own");
    let directory = Directory { path: "/proc/sys".into(), ground: Ground::InMemory, owner };
    let error = directory.deliver(&rendered(&[("a", "1")]), &TestClock::new()).expect_err("no memory");
    assert!(error.to_string().starts_with("`/proc/sys` is on a disk"), "{error}");
}

#[test]
fn accounts_are_found_by_name_and_number() {
    use crate::config::Account;
    let root = Account::Name("root".to_owned());
    let found = Ownership::find(Some(&root), None).expect("root");
    assert_eq!((found.user.as_raw(), found.group.as_raw()), (0, 0));
    let number = Ownership::find(Some(&Account::Number(61_002)), Some(&root)).expect("a number");
    assert_eq!((number.user.as_raw(), number.group.as_raw()), (61_002, 0));
    let error = Ownership::find(Some(&Account::Number(61_002)), None).expect_err("no group");
    assert_eq!(error.to_string(), "the group of user 61002 is not known here; give `group`");
    let error = Ownership::find(Some(&Account::Name("no-such".to_owned())), None).expect_err("nobody");
    assert!(error.to_string().starts_with("`/etc/passwd` has no `no-such`"), "{error}");
}
