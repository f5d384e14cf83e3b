//! Files in the root of a made-up process, and of this one.

use std::ffi::CString;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;

struct Process(TempDir);

impl Process {
    /// With number 7 in a pid namespace of its own, run by us.
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        fs::create_dir_all(folder.path().join("root/tmp")).unwrap();
        // SAFETY: it has no arguments and cannot fail.
        let user = unsafe { libc::geteuid() };
        let status = format!("Name:\tnode\nUid:\t1\t{user}\t1\t1\nNSpid:\t4711\t7\n");
        fs::write(folder.path().join("status"), status).unwrap();
        Self(folder)
    }

    fn tmp(&self, name: &str) -> PathBuf {
        self.0.path().join("root/tmp").join(name)
    }

    fn content(&self) -> Option<String> {
        let mut text = String::new();
        open(self.0.path(), 4711).ok()?.read_to_string(&mut text).unwrap();
        Some(text)
    }
}

#[test]
fn it_is_called_by_the_number_that_the_process_knows() {
    let process = Process::new();
    fs::write(process.tmp("perf-4711.map"), "another's").unwrap();
    assert_eq!(process.content(), None);
    fs::write(process.tmp("perf-7.map"), "its own").unwrap();
    assert_eq!(process.content().as_deref(), Some("its own"));
}

#[test]
fn links_do_not_lead_out_of_the_root() {
    let process = Process::new();
    fs::write(process.0.path().join("secret"), "secret").unwrap();
    for target in ["../../secret", "../../../../../../etc/hostname", "/proc/self/status"] {
        symlink(target, process.tmp("perf-7.map")).unwrap();
        assert_eq!(process.content(), None, "{target}");
        fs::remove_file(process.tmp("perf-7.map")).unwrap();
    }
    // A folder may be a link, inside the root.
    fs::create_dir(process.0.path().join("root/private")).unwrap();
    fs::write(process.0.path().join("root/private/perf-7.map"), "inside").unwrap();
    fs::remove_dir(process.tmp("")).unwrap();
    symlink("/private", process.0.path().join("root/tmp")).unwrap();
    assert_eq!(process.content().as_deref(), Some("inside"));
    fs::remove_file(process.0.path().join("root/tmp")).unwrap();
    let outside = process.0.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("perf-7.map"), "outside").unwrap();
    symlink("../outside", process.0.path().join("root/tmp")).unwrap();
    assert_eq!(process.content(), None);
}

#[test]
fn what_is_no_file_of_the_process_is_not_opened() {
    let process = Process::new();
    let path = process.tmp("perf-7.map");
    let name = CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: the path is NUL-terminated and outlives the call.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    // Opening it would wait for a writer.
    assert_eq!(process.content(), None);
    fs::remove_file(&path).unwrap();
    // A second name for a file that the process may not read.
    fs::write(process.tmp("other"), "other").unwrap();
    fs::hard_link(process.tmp("other"), &path).unwrap();
    assert_eq!(process.content(), None);
    fs::remove_file(process.tmp("other")).unwrap();
    assert_eq!(process.content().as_deref(), Some("other"));
    // Another user's, where we may make such a file.
    if std::os::unix::fs::chown(&path, Some(12345), None).is_ok() {
        assert_eq!(process.content(), None);
    }
}

#[test]
fn another_process_with_the_number_is_not_asked() {
    let mut image = Image {
        number: 1,
        tgid: std::process::id(),
        start_time: super::super::table::start_time(Path::new("/proc/self")).unwrap(),
        exe: String::new(),
        mappings: Vec::new(),
    };
    let file = tempfile::Builder::new()
        .prefix(&format!("perf-{}", image.tgid))
        .suffix(".map")
        .rand_bytes(0)
        .tempfile_in("/tmp")
        .unwrap();
    fs::write(file.path(), "1000 10 f\n").unwrap();
    assert!(perf_map(&image).is_some());
    image.start_time += 1;
    assert!(perf_map(&image).is_none());
}
