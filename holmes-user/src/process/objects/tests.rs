//! Objects of files in a temporary folder, found as a made-up process shows them.

use std::ffi::CString;
use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

struct Process {
    folder: TempDir,
}

impl Process {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        fs::create_dir_all(folder.path().join("root/lib")).unwrap();
        fs::create_dir(folder.path().join("map_files")).unwrap();
        Self { folder }
    }

    /// A file in the process's root.
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("root/lib").join(name)
    }

    fn write(&self, name: &str) -> FileId {
        fs::write(self.path(name), name).unwrap();
        id(&self.path(name))
    }

    fn fifo(&self, name: &str) -> FileId {
        let path = CString::new(self.path(name).as_os_str().as_bytes()).unwrap();
        // SAFETY: the path is NUL-terminated and outlives the call.
        assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
        id(&self.path(name))
    }

    /// As `map_files` shows it, at 0x1000.
    fn map(&self, target: &Path) {
        symlink(target, self.folder.path().join("map_files/1000-2000")).unwrap();
    }

    fn object(&self, objects: &mut Objects, id: FileId, path: &str) -> Arc<Object> {
        let (start, end, process) = (0x1000, 0x2000, self.folder.path());
        objects.file(id, &MappedAt { process, start, end, path: OsStr::new(path) })
    }
}

fn id(path: &Path) -> FileId {
    FileId { device: (8, 1), inode: fs::symlink_metadata(path).unwrap().ino() }
}

fn content(object: &Object) -> Option<String> {
    let mut text = String::new();
    object.file.as_ref()?.read_to_string(&mut text).unwrap();
    Some(text)
}

#[test]
fn a_file_is_opened_once_and_shared() {
    let (process, mut objects) = (Process::new(), Objects::new());
    let one = process.write("libone.so");
    let first = process.object(&mut objects, one, "/lib/libone.so");
    let second = process.object(&mut objects, one, "/elsewhere");
    assert!(Arc::ptr_eq(&first, &second));
    assert_eq!(
        (first.path.as_str(), content(&first).as_deref()),
        ("/lib/libone.so", Some("libone.so"))
    );
    assert_eq!(objects.unreadable, 0);
}

#[test]
fn a_deleted_file_is_found_by_its_mapping_only() {
    let (process, mut objects) = (Process::new(), Objects::new());
    let old = process.write("old.so");
    fs::rename(process.path("old.so"), process.folder.path().join("kept")).unwrap();
    process.write("old.so");
    // Without the mapping: what is at the path now is another file.
    let object = process.object(&mut objects, old, "/lib/old.so (deleted)");
    assert_eq!(content(&object), None);
    drop(object);
    process.map(&process.folder.path().join("kept"));
    let object = process.object(&mut objects, old, "/lib/old.so (deleted)");
    assert_eq!(content(&object).as_deref(), Some("old.so"));
}

#[test]
fn a_file_that_came_back_is_found_by_its_path() {
    let (process, mut objects) = (Process::new(), Objects::new());
    let one = process.write("one.so");
    let object = process.object(&mut objects, one, "/lib/one.so (deleted)");
    assert_eq!(content(&object).as_deref(), Some("one.so"));
}

#[test]
fn what_is_no_regular_file_is_not_opened() {
    let (process, mut objects) = (Process::new(), Objects::new());
    // Opening a FIFO without a writer would wait for one.
    let fifo = process.fifo("fifo");
    assert!(process.object(&mut objects, fifo, "/lib/fifo").file.is_none());
    let device = FileId { device: (0, 5), inode: fs::metadata("/dev/null").unwrap().ino() };
    process.map(Path::new("/dev/null"));
    assert!(process.object(&mut objects, device, "/dev/null").file.is_none());
    let folder = id(&process.path(""));
    assert!(process.object(&mut objects, folder, "/lib").file.is_none());
    assert_eq!(objects.unreadable, 3);
}

#[test]
fn a_link_in_place_of_the_file_leads_nowhere() {
    let (process, mut objects) = (Process::new(), Objects::new());
    let mapped = process.write("mapped.so");
    fs::rename(process.path("mapped.so"), process.path("away")).unwrap();
    fs::write(process.folder.path().join("secret"), "secret").unwrap();
    symlink(process.folder.path().join("secret"), process.path("mapped.so")).unwrap();
    assert!(process.object(&mut objects, mapped, "/lib/mapped.so").file.is_none());
}

#[test]
fn what_could_not_be_opened_once_can_be_later() {
    let (ending, living, mut objects) = (Process::new(), Process::new(), Objects::new());
    let libc = living.write("libc.so");
    let nameless = ending.object(&mut objects, libc, "/lib/libc.so");
    assert!(nameless.file.is_none());
    let object = living.object(&mut objects, libc, "/lib/libc.so");
    assert_eq!(content(&object).as_deref(), Some("libc.so"));
    assert_ne!(object.number, nameless.number);
    assert!(Arc::ptr_eq(&object, &ending.object(&mut objects, libc, "/lib/libc.so")));
}

#[test]
fn open_files_are_bounded_and_make_room_when_they_go() {
    let (process, mut objects) = (Process::new(), Objects::new());
    let mut held: Vec<_> = (0..=MAX_OPEN)
        .map(|n| {
            let name = format!("{n}.so");
            let id = process.write(&name);
            (id, name.clone(), process.object(&mut objects, id, &format!("/lib/{name}")))
        })
        .collect();
    let (id, name, last) = held.pop().unwrap();
    assert!(held.iter().all(|(_, _, object)| object.file.is_some()));
    assert!(last.file.is_none());
    assert_eq!(objects.unreadable, 0, "it can be read, there are only too many");
    held.pop();
    let again = process.object(&mut objects, id, &format!("/lib/{name}"));
    assert_eq!(content(&again), Some(name));
}

#[test]
fn a_path_is_cut_between_characters() {
    let mut path = "ä".repeat(MAX_PATH_BYTES);
    path.insert(0, 'a');
    truncate(&mut path);
    assert_eq!(path.len(), MAX_PATH_BYTES - 1);
}
