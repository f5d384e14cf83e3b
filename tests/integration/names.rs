//! Where names come from beside the file itself: packed symbols, separate debug files, a debuginfod
//! server; and what is left where there is none.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use holmes_tests::named_file::{Answers, NamedFile, compile, patient_symbolizer, tool};
use holmes_user::symbolize::debuginfod::{Debuginfod, Fetch};
use holmes_user::symbolize::{DebugSkipped, NamedBy, Unnamed};

/// A program, the same without its symbols, and its debug file.
struct Split {
    folder: tempfile::TempDir,
    stripped: PathBuf,
    debug: PathBuf,
    /// Inside a function that only the full symbol table and the debug information know.
    address: u64,
}

const FUNCTION: &str = "first_caller";

impl Split {
    fn make() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let program = compile("inlined.c", &folder.path().join("program"))?;
        let (stripped, debug) = (folder.path().join("stripped"), folder.path().join("p.debug"));
        let path = |path: &Path| path.display().to_string();
        tool("objcopy", ["--only-keep-debug", &path(&program), &path(&debug)])?;
        tool("objcopy", ["--strip-all", &path(&program), &path(&stripped)])?;
        let address = address_of(&program, FUNCTION)?;
        Ok(Self { folder, stripped, debug, address })
    }

    fn name(&self, folders: Vec<PathBuf>) -> anyhow::Result<Answers> {
        let file = NamedFile::open(&self.stripped)?;
        file.name(&mut patient_symbolizer()?.debug_dirs(folders), &[self.address])
    }

    /// The stripped program gets a link to its debug file.
    fn link(&self) -> anyhow::Result<()> {
        let link = format!("--add-gnu-debuglink={}", self.debug.display());
        tool("objcopy", [&link, &self.stripped.display().to_string()]).map(drop)
    }
}

fn address_of(program: &Path, function: &str) -> anyhow::Result<u64> {
    let text = tool("nm", [program])?;
    let line = text.lines().find(|line| line.ends_with(&format!(" {function}")));
    let address = line.and_then(|line| line.split(' ').next()).context("no such function")?;
    Ok(u64::from_str_radix(address, 16)?)
}

fn function(answers: &Answers) -> Option<&str> {
    answers.lines.first()?.last().map(|line| &*line.function)
}

fn has_lines(answers: &Answers) -> bool {
    answers.lines.iter().flatten().any(|line| line.line > 0 && line.file.ends_with("inlined.c"))
}

#[test]
fn packed_symbols_name_static_functions() -> anyhow::Result<()> {
    let split = Split::make()?;
    ensure!(function(&split.name(Vec::new())?).is_none(), "a stripped file has no such name");
    // As GDB's manual makes it ("Debugging information in a special section").
    let recipe = "nm -D program --format=posix --defined-only | awk '{print $1}' | sort > dynsyms
        nm program --format=posix --defined-only |
            awk '{ if ($2 == \"T\" || $2 == \"t\" || $2 == \"D\") print $1 }' | sort > funcsyms
        comm -13 dynsyms funcsyms > keep
        objcopy --only-keep-debug program mini
        objcopy -S --remove-section .gdb_index --remove-section .comment --keep-symbols=keep mini mini
        xz -f mini
        objcopy --add-section .gnu_debugdata=mini.xz stripped";
    let script = format!("set -e; cd {}\n{recipe}", split.folder.path().display());
    tool("sh", ["-c", &script])?;
    let answers = split.name(Vec::new())?;
    ensure!(function(&answers) == Some(FUNCTION), "{answers:?}");
    ensure!(answers.stats.named(NamedBy::Elf) == 1, "{answers:?}");
    Ok(())
}

#[test]
fn a_debug_file_is_found_by_build_id() -> anyhow::Result<()> {
    let split = Split::make()?;
    let id = NamedFile::open(&split.stripped)?.build_id().to_owned();
    let root = split.folder.path().join("debug");
    let place = root.join(".build-id").join(&id[..2]).join(format!("{}.debug", &id[2..]));
    fs::create_dir_all(place.parent().context("no parent")?)?;
    fs::copy(&split.debug, &place)?;
    // The first folder has nothing: the next is looked at.
    let answers = split.name(vec![split.folder.path().join("nothing"), root.clone()])?;
    ensure!(function(&answers) == Some(FUNCTION) && has_lines(&answers), "{answers:?}");

    // The file of another build in its place is not used, and that is counted.
    let other = compile("inlined.cc", &split.folder.path().join("other"))?;
    fs::copy(&other, &place)?;
    let answers = split.name(vec![root])?;
    ensure!(function(&answers).is_none(), "{answers:?}");
    ensure!(answers.stats.debug_skipped(DebugSkipped::Mismatched) == 1, "{answers:?}");
    Ok(())
}

#[test]
fn a_debug_file_is_found_by_its_link() -> anyhow::Result<()> {
    let split = Split::make()?;
    split.link()?;
    let root = split.folder.path().join("debug");
    // `/usr/lib/debug/usr/bin/p.debug` for `/usr/bin/p`.
    let below = split.folder.path().strip_prefix("/")?;
    for place in [root.join("p.debug"), root.join(below).join("p.debug")] {
        fs::create_dir_all(place.parent().context("no parent")?)?;
        fs::copy(&split.debug, &place)?;
        let answers = split.name(vec![root.clone()])?;
        ensure!(function(&answers) == Some(FUNCTION) && has_lines(&answers), "{answers:?}");
        fs::remove_file(&place)?;
        ensure!(function(&split.name(vec![root.clone()])?).is_none(), "nothing is kept");
    }
    Ok(())
}

#[test]
fn a_debug_file_without_build_id_needs_the_right_checksum() -> anyhow::Result<()> {
    let split = Split::make()?;
    for file in [&split.debug, &split.stripped] {
        let path = file.display().to_string();
        tool("objcopy", ["--remove-section", ".note.gnu.build-id", &path])?;
    }
    split.link()?;
    let folders = vec![split.folder.path().to_owned()];
    let answers = split.name(folders.clone())?;
    ensure!(function(&answers) == Some(FUNCTION) && has_lines(&answers), "{answers:?}");
    fs::File::options().append(true).open(&split.debug)?.write_all(b"x")?;
    let answers = split.name(folders)?;
    ensure!(function(&answers).is_none(), "{answers:?}");
    ensure!(answers.stats.debug_skipped(DebugSkipped::Mismatched) == 1, "{answers:?}");
    Ok(())
}

#[test]
fn a_debuginfod_server_names_the_next_incident() -> anyhow::Result<()> {
    let split = Split::make()?;
    let body = fs::read(&split.debug)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    std::thread::spawn(move || -> std::io::Result<()> {
        for connection in listener.incoming() {
            let mut connection = connection?;
            let mut request = [0; 4096];
            let _ = connection.read(&mut request)?;
            write!(connection, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len())?;
            connection.write_all(&body)?;
        }
        Ok(())
    });
    let cache = split.folder.path().join("cache");
    let server = Debuginfod::start(&url, &cache, 1 << 30)?;
    let file = NamedFile::open(&split.stripped)?;
    let mut symbolizer = patient_symbolizer()?.debuginfod(Some(server.clone()));
    let first = file.name(&mut symbolizer, &[split.address])?;
    ensure!(function(&first).is_none(), "the first incident does not wait: {first:?}");
    let stored = || server.counts()[Fetch::Stored as usize].1 == 1;
    for _ in 0..6000 {
        if stored() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    ensure!(stored(), "{:?}", server.counts());
    let second = file.name(&mut symbolizer, &[split.address])?;
    ensure!(function(&second) == Some(FUNCTION) && has_lines(&second), "{second:?}");
    Ok(())
}

#[test]
fn what_has_no_name_can_be_named_later() -> anyhow::Result<()> {
    use holmes_user::profile;
    use holmes_user::symbolize::SymbolTable;

    let split = Split::make()?;
    let file = NamedFile::open(&split.stripped)?;
    let answers = file.name(&mut patient_symbolizer()?, &[split.address])?;
    ensure!(answers.stats.none() == 1, "{answers:?}");
    ensure!(answers.stats.unnamed(Unnamed::NoSymbol) == 1, "{answers:?}");
    // Position-independent, its first segment at 0: here address and offset are the same number.
    let cut = file.cut(&[split.address]);
    let about = profile::About { sample_period_ns: 1, ..Default::default() };
    let made = profile::encode(&cut, &SymbolTable::default(), &about);
    let text = |index: i64| made.string_table[index as usize].as_str();
    let mapping = made.mapping.first().context("no mapping")?;
    ensure!(text(mapping.build_id) == file.build_id(), "{mapping:?}");
    ensure!(text(mapping.filename) == split.stripped.display().to_string(), "{mapping:?}");
    let location = made.location.first().context("no location")?;
    ensure!(location.mapping_id == mapping.id, "{location:?}");
    let offset = location.address - mapping.memory_start + mapping.file_offset;
    ensure!(offset == split.address, "{offset:#x} for {:#x}", split.address);
    Ok(())
}
