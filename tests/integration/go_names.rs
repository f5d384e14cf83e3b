//! Names of Go programs: what is read from their files agrees with what their own runtime says of
//! the same addresses.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use holmes_tests::machine;
use holmes_tests::workload::Workload;
use holmes_user::binary::{Bytes, Elf, FrameRule, GoFunction, GoLine, GoTable};
use holmes_user::collect::{Comm, Nanos, Stack};
use holmes_user::process::{Cgroup, Image, Mapping, Object, ObjectKind};
use holmes_user::symbolize::{Name, NamedBy, Symbolizer, Unnamed};
use holmes_user::window::{Cut, CutSample, Owner, ProfileKind};

/// Lets the runtime's linker take the name of a function that only a package of its own may use.
const LINKNAME: &str = "-checklinkname=0";
/// Functions of the standard library that are asked for: every so-maniest.
const STRIDE: u32 = 3;

/// The addresses to ask for: every byte of the program's own functions, some of others.
fn addresses(table: &mut GoTable<'_>) -> anyhow::Result<Vec<(GoFunction, u64)>> {
    let mut addresses = Vec::new();
    for index in 0..table.len() {
        let function = table.function(index)?;
        let own = table.name(&function)?.starts_with("main.");
        let len = function.end - function.entry;
        let step = if own { 1 } else { (len / 5).max(1) };
        if (own || index % STRIDE == 0) && function.has_lines {
            // A return address behind the last byte would be the next function's.
            let offsets = (0..len.saturating_sub(1)).step_by(step as usize);
            addresses.extend(offsets.map(|offset| (function.clone(), function.entry + offset)));
        }
    }
    Ok(addresses)
}

/// What the program's runtime says of some addresses.
fn answers(program: &Path, first: &str, offsets: &[i64]) -> anyhow::Result<Vec<Vec<GoLine>>> {
    let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut input = child.stdin.take().context("no input")?;
    let text: String = offsets.iter().map(|offset| format!("{offset}\n")).collect();
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let mut answers = vec![Vec::new()];
    for line in BufReader::new(child.stdout.take().context("no output")?).lines() {
        let line = line?;
        if line == "." {
            answers.push(Vec::new());
            continue;
        }
        let mut fields = line.split('\t').map(str::to_owned);
        let mut field = || fields.next().context("a field is missing");
        let (mut function, file, line) = (field()?, field()?, field()?.parse()?);
        // The runtime takes the first name of its table for no name.
        if function.is_empty() {
            function = first.to_owned();
        }
        let file = if file == "?" { String::new() } else { file };
        answers.last_mut().context("no answer")?.push(GoLine { function, file, line });
    }
    writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
    ensure!(child.wait()?.success(), "the program failed");
    answers.pop();
    Ok(answers)
}

/// Compares a file with the runtime of the program that it was made of.
fn agrees(file: &Path, program: &Path) -> anyhow::Result<()> {
    let open = File::open(file)?;
    let bytes = Bytes::File(&open);
    let mut table = GoTable::find(bytes, &Elf::read(bytes)?)?.context("no table is found")?;
    let mut main = None;
    for index in 0..table.len() {
        let function = table.function(index)?;
        if table.name(&function)? == "main.main" {
            main = Some(function.entry);
        }
    }
    let main = main.context("main.main is not found")?;
    let asked = addresses(&mut table)?;
    let offsets: Vec<i64> = asked.iter().map(|(_, at)| at.wrapping_sub(main) as i64).collect();
    let first = table.function(0)?;
    let answers = answers(program, &table.name(&first)?, &offsets)?;
    ensure!(answers.len() == asked.len(), "{} of {} answers", answers.len(), asked.len());
    let (mut nested, mut generic) = (0, 0);
    for ((function, at), expected) in asked.iter().zip(&answers) {
        let found = table.function_at(*at)?;
        ensure!(found.as_ref() == Some(function), "{at:#x} is in {found:?}, not in {function:?}");
        let mut lines = table.lines(function, *at)?;
        // The runtime leaves out some wrappers that the compiler wrote.
        lines.retain(|line| !is_wrapper(line));
        let expected: Vec<_> = expected.iter().filter(|line| !is_wrapper(line)).cloned().collect();
        ensure!(lines == expected, "{at:#x}: {lines:#?} is not {expected:#?}");
        nested +=
            usize::from(lines.len() > 3 && lines[lines.len() - 1].function.starts_with("main."));
        generic += usize::from(lines.iter().any(|line| line.function == "main.(*tree[...]).walk"));
    }
    // Otherwise the comparison would say nothing.
    ensure!(asked.len() > 2000 && nested > 0 && generic > 0, "{} {nested} {generic}", asked.len());
    Ok(())
}

fn is_wrapper(line: &GoLine) -> bool {
    line.file == "<autogenerated>"
        || ["deferwrap", "gowrap"].iter().any(|wrap| line.function.contains(wrap))
}

/// A copy of a program without section headers, as some packers leave it.
fn without_sections(program: &Path) -> anyhow::Result<PathBuf> {
    let mut bytes = std::fs::read(program)?;
    // e_shoff; e_shnum and e_shstrndx.
    bytes[40..48].fill(0);
    bytes[60..64].fill(0);
    let copy = program.with_extension("without-sections");
    std::fs::write(&copy, bytes)?;
    Ok(copy)
}

#[test]
fn of_a_plain_program() -> anyhow::Result<()> {
    let program = Workload::go_names("names-plain", &["-ldflags", LINKNAME], false)?;
    agrees(&program, &program)
}

#[test]
fn of_a_stripped_program() -> anyhow::Result<()> {
    let ldflags = format!("-s -w {LINKNAME}");
    let program = Workload::go_names("names-stripped", &["-ldflags", &ldflags], false)?;
    agrees(&program, &program)?;
    agrees(&without_sections(&program)?, &program)
}

#[test]
fn of_a_stripped_program_that_loads_anywhere() -> anyhow::Result<()> {
    let arguments = ["-buildmode=pie", "-ldflags", &format!("-s -w {LINKNAME}")];
    let program = Workload::go_names("names-pie", &arguments, false)?;
    agrees(&program, &program)
}

#[test]
fn of_a_program_with_c_code() -> anyhow::Result<()> {
    let ldflags = format!("-s -w {LINKNAME}");
    let program = Workload::go_names("names-cgo", &["-ldflags", &ldflags], true)?;
    agrees(&program, &program)?;
    let arguments = ["-buildmode=pie", "-ldflags", &ldflags];
    let program = Workload::go_names("names-cgo-pie", &arguments, true)?;
    agrees(&program, &program)
}

/// Go 1.27 describes its programs in another way, and has names with type arguments twice.
#[test]
fn of_programs_of_go_1_27() -> anyhow::Result<()> {
    let ldflags = format!("-s -w {LINKNAME}");
    for arguments in [&["-ldflags", LINKNAME][..], &["-buildmode=pie", "-ldflags", &ldflags]] {
        let program = match Workload::go_names_of("go1.27.4", arguments) {
            Ok(program) => program,
            Err(error) => return machine::not_run(&format!("Go 1.27 cannot be had: {error:#}")),
        };
        agrees(&program, &program).with_context(|| format!("built with {arguments:?}"))?;
        let file = File::open(&program)?;
        let bytes = Bytes::File(&file);
        let mut table = GoTable::find(bytes, &Elf::read(bytes)?)?.context("no table is found")?;
        let mut names = Vec::new();
        for index in 0..table.len() {
            let function = table.function(index)?;
            names.push(table.name(&function)?);
        }
        ensure!(
            names.iter().any(|name| name == "main.(*box[...]).as[...]"),
            "it has no such method"
        );
    }
    Ok(())
}

/// Names addresses of a program as an incident's are: mapped where it was linked.
fn named(program: &Path, addresses: &[u64]) -> anyhow::Result<(Vec<String>, u64, u64)> {
    let file = File::open(program)?;
    let elf = Elf::read(Bytes::File(&file))?;
    let text = elf.segments.iter().find(|segment| segment.executable).context("no code")?;
    let (start, end) = (text.address, text.address + text.size);
    let path = program.display().to_string();
    let object = Arc::new(Object {
        number: 3,
        kind: ObjectKind::File,
        path: path.clone(),
        build_id: String::new(),
        file: Some(file),
    });
    let mapping = Mapping { start, end, offset: text.offset, object };
    let image = Image { number: 1, tgid: 1, start_time: 1, exe: path, mappings: vec![mapping] };
    let owner = Arc::new(Owner {
        tgid: 1,
        comm: Comm::from("names".to_owned()),
        cgroup: Arc::new(Cgroup { id: Default::default(), path: "/".into(), container: None }),
        image: Some(Arc::new(image)),
        recorder: false,
    });
    let samples = addresses.iter().map(|&address| CutSample {
        owner: Arc::clone(&owner),
        stack: Arc::new(Stack { user: [address].into(), kernel: [].into() }),
        detail: Default::default(),
        labels: Vec::new(),
        values: holmes_user::window::pair([1, 1]),
    });
    let samples = samples.collect();
    let cut = Cut { kind: ProfileKind::Cpu, from: Nanos(0), to: Nanos(1), samples };
    let (table, stats) = Symbolizer::with_budget(Duration::from_secs(300)).name(&[&cut]);
    let names = table.user.values().map(|named| {
        let lines: Vec<&str> = named.lines.iter().map(|line| &*line.function).collect();
        lines.join("<")
    });
    Ok((names.collect(), stats.named(NamedBy::Gopclntab), stats.unnamed(Unnamed::NoSymbol)))
}

#[test]
fn an_incident_shows_calls_inlined_into_a_stripped_program() -> anyhow::Result<()> {
    let ldflags = format!("-s -w {LINKNAME}");
    let program = Workload::go_names("names-incident", &["-ldflags", &ldflags], false)?;
    let file = File::open(&program)?;
    let bytes = Bytes::File(&file);
    let mut table = GoTable::find(bytes, &Elf::read(bytes)?)?.context("no table is found")?;
    let mut addresses = Vec::new();
    for index in 0..table.len() {
        let function = table.function(index)?;
        if table.name(&function)?.starts_with("main.work") {
            addresses.extend(function.entry..function.end);
        }
    }
    let (names, by_go, without) = named(&program, &addresses)?;
    ensure!((by_go, without) == (addresses.len() as u64, 0), "{by_go} and {without}: {names:#?}");
    let nested = "main.(*counter).hit<main.third<main.second<main.first<main.work.func1<main.work";
    let nested =
        names.iter().any(|name| nested.starts_with(name) && name.matches('<').count() >= 4);
    ensure!(nested, "three calls inlined into each other are not among {names:#?}");
    Ok(())
}

#[test]
fn c_code_in_a_go_program_is_named_by_its_symbols() -> anyhow::Result<()> {
    let program = Workload::go_names("names-c-symbols", &["-ldflags", LINKNAME], true)?;
    let nm = Command::new("nm").arg(&program).output().context("running nm: binutils?")?;
    let nm = String::from_utf8(nm.stdout)?;
    let address = |name: &str| {
        let line = nm.lines().find(|line| line.ends_with(&format!(" {name}")));
        let address = line.and_then(|line| line.split(' ').next()).with_context(|| name.to_owned());
        anyhow::Ok(u64::from_str_radix(address?, 16)?)
    };
    let (names, by_go, _) = named(&program, &[address("x_cgo_init")?, address("main.main")?])?;
    ensure!(by_go == 1, "{by_go} named by Go's table: {names:?}");
    ensure!(names.iter().any(|name| name == "x_cgo_init"), "{names:?}");
    ensure!(names.iter().any(|name| name == "main.main"), "{names:?}");
    Ok(())
}

/// Rules of functions that must have another one than the stack pointer's, or must not.
#[test]
fn special_functions_have_rules_of_their_own() -> anyhow::Result<()> {
    let program = Workload::go_names("names-plain", &["-ldflags", LINKNAME], false)?;
    let file = File::open(&program)?;
    let bytes = Bytes::File(&file);
    let mut table = GoTable::find(bytes, &Elf::read(bytes)?)?.context("no table is found")?;
    let mut rows = Vec::new();
    let counts = table.frame_rows(1 << 20, |row| rows.push(row))?;
    ensure!(counts.malformed == 0 && counts.left_out == 0 && counts.rows == rows.len());
    ensure!(rows.windows(2).all(|pair| pair[0].address < pair[1].address), "rows out of order");
    let mut seen = 0;
    for index in 0..table.len() {
        let function = table.function(index)?;
        let name = table.name(&function)?;
        let rules = |rule: &dyn Fn(FrameRule) -> bool| {
            let first = rows.partition_point(|row| row.address <= function.entry).max(1) - 1;
            rows[first..]
                .iter()
                .take_while(|row| row.address < function.end)
                .all(|row| rule(row.rule))
        };
        let is_sound = match name.as_str() {
            "runtime.goexit" | "runtime.mstart" | "runtime.mcall" | "runtime.rt0_go" => {
                rules(&|rule| rule == FrameRule::Stop)
            }
            "runtime.sigreturn__sigaction" => rules(&|rule| rule == FrameRule::Signal),
            // At their first instruction they have no frame yet.
            "runtime.systemstack" | "runtime.nanotime1" | "runtime.asmcgocall" => {
                let none = FrameRule::StackPointer { cfa: 8, saves_frame_pointer: false };
                rules(&|rule| rule == FrameRule::FramePointer || rule == none)
                    && !rules(&|rule| rule == none)
            }
            "runtime.sigtramp" | "main.work" | "main.main" => {
                rules(&|rule| matches!(rule, FrameRule::StackPointer { .. }))
            }
            _ => continue,
        };
        ensure!(is_sound, "the rules of {name} are wrong");
        seen += 1;
    }
    ensure!(seen >= 11, "{seen} of the functions were found");
    Ok(())
}
