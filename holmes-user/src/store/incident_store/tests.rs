//! The store on a real file system: a temporary folder, and a small tmpfs where the tests may mount.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::time::Duration;

use super::super::document::tests::document;
use super::*;

const AMPLE: Retention =
    Retention { max_bytes: 1 << 40, max_age: Duration::from_secs(365 * 24 * 3600) };

/// 2026-11-03 03:15:00 UTC.
const TRIGGER: u64 = 1_793_675_700_000_000_000;

/// An incident of the host at this second, with one profile of this size.
fn files(second: u64, bytes: usize) -> IncidentFiles {
    IncidentFiles {
        trigger_unix_ns: TRIGGER + second * 1_000_000_000,
        kind: "cpu",
        target: Target::Host,
        document: document(),
        profiles: vec![("cpu.pb.gz".to_owned(), vec![7; bytes])],
    }
}

fn entries(folder: &Path) -> BTreeSet<String> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn name_of(written: &Written) -> String {
    written.folder.file_name().unwrap().to_str().unwrap().to_owned()
}

/// Sets a folder's age, as if the incident had been written then.
fn make_older(folder: &Path, age: Duration) {
    File::open(folder).unwrap().set_modified(SystemTime::now() - age).unwrap();
}

#[test]
fn an_incident_is_one_folder_with_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let store = IncidentStore::open(dir.path().join("new/dump"), AMPLE).unwrap();
    let written = store.write(&files(0, 100)).unwrap();

    assert_eq!(name_of(&written), "20261103T031500.000Z-cpu-host");
    assert_eq!(entries(store.dump_dir()), BTreeSet::from([name_of(&written)]));
    assert_eq!(
        entries(&written.folder),
        BTreeSet::from(["cpu.pb.gz".to_owned(), DOCUMENT_FILE.to_owned()])
    );
    assert_eq!(fs::read(written.folder.join("cpu.pb.gz")).unwrap(), [7; 100]);
    let json = fs::read(written.folder.join(DOCUMENT_FILE)).unwrap();
    assert_eq!(serde_json::from_slice::<IncidentDocument>(&json).unwrap(), document());
    assert_eq!(written.bytes, 100 + json.len() as u64);
    assert_eq!((store.counts().written, store.counts().bytes), (1, written.bytes));
    for path in [store.dump_dir(), &written.folder, &written.folder.join(DOCUMENT_FILE)] {
        let mode = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o007, 0, "{} is open to others", path.display());
    }
}

#[test]
fn a_taken_name_gets_a_number() {
    let dir = tempfile::tempdir().unwrap();
    let store = IncidentStore::open(dir.path(), AMPLE).unwrap();
    fs::write(dir.path().join("20261103T031500.000Z-cpu-host-2"), "a file in the way").unwrap();
    symlink("nowhere", dir.path().join("20261103T031500.000Z-cpu-host-3")).unwrap();
    let names: Vec<_> = (0..3).map(|_| name_of(&store.write(&files(0, 1)).unwrap())).collect();
    let stem = "20261103T031500.000Z-cpu-host";
    assert_eq!(names, [stem.to_owned(), format!("{stem}-4"), format!("{stem}-5")]);
}

#[test]
fn a_profile_cannot_leave_its_folder() {
    let dir = tempfile::tempdir().unwrap();
    let store = IncidentStore::open(dir.path(), AMPLE).unwrap();
    for name in ["../x", "/x", "a/b", ".hidden", "", "incident.json", "a\nb", &"x".repeat(65)] {
        let mut bad = files(0, 1);
        bad.profiles[0].0 = name.to_owned();
        assert!(matches!(store.write(&bad), Err(StoreError::FileName { .. })), "{name:?}");
    }
    let mut twice = files(0, 1);
    twice.profiles.push(twice.profiles[0].clone());
    assert!(store.write(&twice).is_err());
    assert!(entries(dir.path()).is_empty());
    assert_eq!(store.counts().failed, 9);
}

#[test]
fn retention_retires_the_oldest_after_each_write() {
    let dir = tempfile::tempdir().unwrap();
    let store = IncidentStore::open(dir.path(), AMPLE).unwrap();
    let written: Vec<_> = (0..4)
        .map(|number| {
            let written = store.write(&files(number, 1000)).unwrap();
            make_older(&written.folder, Duration::from_secs(100 - number));
            written
        })
        .collect();
    let max_bytes = 3 * written[0].bytes;
    store.set_retention(Retention { max_bytes, ..AMPLE });
    let newest = store.write(&files(9, 1000)).unwrap();
    let expect = [&written[2], &written[3], &newest].map(name_of);
    assert_eq!(entries(dir.path()), BTreeSet::from(expect));
    assert_eq!(store.counts().retired_by_bytes, 2);
    assert_eq!((store.counts().incidents, store.counts().bytes), (3, max_bytes));

    // The next start, with an age: the two older ones go, the youngest stays.
    drop(store);
    let store =
        IncidentStore::open(dir.path(), Retention { max_age: Duration::from_secs(50), ..AMPLE })
            .unwrap();
    assert_eq!(entries(dir.path()), BTreeSet::from([name_of(&newest)]));
    assert_eq!(store.counts().retired_by_age, 2);
}

#[test]
fn the_incident_just_written_stays_even_over_budget() {
    let dir = tempfile::tempdir().unwrap();
    let nothing = Retention { max_bytes: 0, max_age: Duration::ZERO };
    let store = IncidentStore::open(dir.path(), nothing).unwrap();
    for second in 0..3 {
        let written = store.write(&files(second, 1000)).unwrap();
        assert_eq!(entries(dir.path()), BTreeSet::from([name_of(&written)]));
    }
}

#[test]
fn what_is_not_an_incident_is_never_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join(DOCUMENT_FILE), "{}").unwrap();
    let stem = "20200101T000000.000Z-cpu";
    // A link to a folder, a folder with a link, with a folder, without a document, with another
    // name; a file; temporary names of others.
    symlink(outside.path(), dir.path().join(format!("{stem}-link"))).unwrap();
    symlink(outside.path(), dir.path().join(format!(".tmp-{stem}-link"))).unwrap();
    for (name, inner) in [("holdslink", "link"), ("holdsdir", "dir"), ("empty", "")] {
        let path = dir.path().join(format!("{stem}-{name}"));
        fs::create_dir(&path).unwrap();
        match inner {
            "link" => symlink(outside.path(), path.join(inner)).unwrap(),
            "dir" => fs::create_dir(path.join(inner)).unwrap(),
            _ => continue,
        }
        fs::write(path.join(DOCUMENT_FILE), "{}").unwrap();
    }
    for name in ["precious", ".tmp-precious"] {
        fs::create_dir(dir.path().join(name)).unwrap();
        fs::write(dir.path().join(name).join(DOCUMENT_FILE), "{}").unwrap();
    }
    fs::write(dir.path().join(format!("{stem}-file")), "{}").unwrap();
    let before = entries(dir.path());

    let nothing = Retention { max_bytes: 0, max_age: Duration::ZERO };
    let store = IncidentStore::open(dir.path(), nothing).unwrap();
    let written = store.write(&files(0, 1)).unwrap();
    let mut after = entries(dir.path());
    assert!(after.remove(&name_of(&written)));
    assert_eq!(after, before);
    assert!(outside.path().join(DOCUMENT_FILE).exists());
}

#[test]
fn leftovers_of_a_crash_go_at_the_next_start_but_not_those_being_written() {
    let dir = tempfile::tempdir().unwrap();
    let crashed = dir.path().join(".tmp-20200101T000000.000Z-cpu-host");
    fs::create_dir(&crashed).unwrap();
    fs::write(crashed.join("cpu.pb.gz"), "half").unwrap();
    let mut being_written = Staging::create(dir.path(), "20200101T000001.000Z-cpu-host").unwrap();
    being_written.add(DOCUMENT_FILE, b"{}").unwrap();

    let store = IncidentStore::open(dir.path(), AMPLE).unwrap();
    assert_eq!(store.counts().leftovers_removed, 1);
    assert!(!crashed.exists());
    being_written.publish("20200101T000001.000Z-cpu-host").unwrap();
    assert_eq!(entries(dir.path()), BTreeSet::from(["20200101T000001.000Z-cpu-host".to_owned()]));
}

#[test]
fn opening_says_what_is_wrong_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = IncidentStore::open(&path, AMPLE).unwrap_err();
        assert!(matches!(error, StoreError::NotAFolder { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("--dump-dir") && text.contains("file"), "{text}");
    }
    // Root may write anywhere but on /proc.
    let error = IncidentStore::open("/proc/holmes", AMPLE).unwrap_err();
    assert!(error.to_string().contains("/proc/holmes"), "{error}");
}

/// A tmpfs of this many bytes, unmounted when dropped, also by a failing test.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` where the tests may not mount.
    fn mount(bytes: usize) -> Option<Self> {
        let disk = Self(tempfile::tempdir().unwrap());
        let size = format!("size={bytes},mode=700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "holmes-store-test"])
            .arg(disk.path())
            .status();
        mounted.is_ok_and(|status| status.success()).then_some(disk)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn remount(&self, option: &str) {
        let status = Command::new("mount")
            .args(["-o", &format!("remount,{option}")])
            .arg(self.path())
            .status()
            .unwrap();
        assert!(status.success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Fails where nothing was mounted.
        let _ =
            Command::new("umount").arg(self.path()).stderr(std::process::Stdio::null()).status();
    }
}

#[test]
fn a_full_disk_costs_the_oldest_incident_and_never_the_recorder() {
    let Some(disk) = SmallDisk::mount(256 << 10) else {
        eprintln!("skipped: mounting a tmpfs needs root");
        return;
    };
    let store = IncidentStore::open(disk.path(), AMPLE).unwrap();
    let first = store.write(&files(0, 100 << 10)).unwrap();
    make_older(&first.folder, Duration::from_secs(10));
    let second = store.write(&files(1, 100 << 10)).unwrap();
    let third = store.write(&files(2, 100 << 10)).unwrap();
    assert_eq!(entries(disk.path()), BTreeSet::from([name_of(&second), name_of(&third)]));
    assert_eq!(store.counts().retired_by_full_disk, 1);

    // More than the disk holds: nothing older goes for it, and nothing half-written is left.
    let error = store.write(&files(3, 1 << 20)).unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    assert!(error.to_string().contains("disk is full"), "{error}");
    assert_eq!(entries(disk.path()), BTreeSet::from([name_of(&second), name_of(&third)]));

    let after = store.write(&files(4, 1000)).unwrap();
    assert!(entries(disk.path()).contains(&name_of(&after)));
    assert_eq!((store.counts().written, store.counts().failed), (4, 1));

    // Filled by somebody else, with nothing to retire.
    for written in [&second, &third, &after] {
        fs::remove_dir_all(&written.folder).unwrap();
    }
    let _ = fs::write(disk.path().join("foreign"), vec![0; 1 << 20]);
    let error = IncidentStore::open(disk.path(), AMPLE).unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    assert_eq!(entries(disk.path()), BTreeSet::from(["foreign".to_owned()]));

    disk.remount("ro");
    let error = IncidentStore::open(disk.path(), AMPLE).unwrap_err();
    assert!(matches!(error, StoreError::ReadOnly { .. }), "{error:?}");
}
