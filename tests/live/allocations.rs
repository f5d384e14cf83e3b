//! What one process allocates, by stack: exact where every allocation is a sample, and within the
//! sampling error otherwise; by every function of every allocator.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use holmes_tests::command::recorder_binary;
use holmes_tests::machine;
use holmes_tests::profile_view::ProfileView;
use holmes_tests::program::Program;
use holmes_tests::recorder::Account;
use holmes_tests::transcript::HANG_GUARD;
use holmes_tests::workload::Workload;

/// Every allocation is a sample.
const EVERY: u64 = 1;

/// A sample for so many bytes.
const SOME: u64 = 64 << 10;

/// What the workload says it asked for, by function.
type Asked = BTreeMap<String, i64>;

/// What a recording has brought.
struct Recorded {
    profile: ProfileView,
    account: Account,
    log: String,
}

impl Recorded {
    /// The sum of a value over the stacks with this function.
    fn of(&self, value: &str, function: &str) -> anyhow::Result<i64> {
        self.profile.cumulative(value, function)
    }

    fn expect(&self, value: &str, function: &str, wanted: i64) -> anyhow::Result<()> {
        let found = self.of(value, function)?;
        let top = || self.profile.top(value);
        ensure!(found == wanted, "{value} of {function}: {found} of {wanted}:\n{}", top());
        Ok(())
    }

    fn comments(&self) -> String {
        let raw = self.profile.raw();
        let text = |&index: &i64| raw.string_table.get(usize::try_from(index).ok()?).cloned();
        raw.comment.iter().filter_map(text).collect::<Vec<_>>().join("\n")
    }
}

/// Starts a workload in this environment.
fn start(workload: &Workload, environment: &[(&str, &Path)]) -> anyhow::Result<Program> {
    let mut command = workload.command();
    command.envs(environment.iter().copied());
    let mut program = Program::spawn(command)?;
    program.hear("ready")?;
    Ok(program)
}

/// Records while the program does something.
fn recorded<R>(
    program: &mut Program,
    interval: u64,
    act: impl FnOnce(&mut Program) -> anyhow::Result<R>,
) -> anyhow::Result<(R, Recorded)> {
    recorded_until(program, interval, "64MiB", act, |recorder| recorder.signal(libc::SIGINT))
}

/// Records while the program does something that ends the recording.
fn recorded_to_its_end<R>(
    program: &mut Program,
    act: impl FnOnce(&mut Program) -> anyhow::Result<R>,
) -> anyhow::Result<(R, Recorded)> {
    recorded_until(program, EVERY, "64MiB", act, |_| Ok(()))
}

fn recorded_until<R>(
    program: &mut Program,
    interval: u64,
    ring_bytes: &str,
    act: impl FnOnce(&mut Program) -> anyhow::Result<R>,
    end: impl FnOnce(&Program) -> anyhow::Result<()>,
) -> anyhow::Result<(R, Recorded)> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("out.pb.gz");
    let mut command = Command::new(recorder_binary()?);
    command.args(["record", "--allocations", "-d", "10m", "--ring-bytes", ring_bytes]);
    command.args(["-p", &program.pid().to_string(), "-o"]).arg(&file);
    command.args(["--allocation-interval", &interval.to_string()]).stdin(Stdio::null());
    let recorder = Program::spawn(command)?;
    recorder.hear_error("recording the allocations")?;
    let result = act(program)?;
    end(&recorder)?;
    let finished = recorder.finish(HANG_GUARD)?.expect_code(0)?;
    let lines: Vec<String> = finished.stderr.lines().map(str::to_owned).collect();
    let account = Account::find(&lines)?.expect_balanced()?;
    let profile = ProfileView::read(&file)?;
    Ok((result, Recorded { profile, account, log: finished.stderr }))
}

/// The answer `asked name=number ...`.
fn asked(line: &str) -> anyhow::Result<Asked> {
    let parts = line.split(' ').skip(1);
    parts
        .map(|part| {
            let (name, number) = part.split_once('=').context("name=number")?;
            Ok((name.to_owned(), number.parse()?))
        })
        .collect()
}

fn ask(what: &'static str) -> impl FnOnce(&mut Program) -> anyhow::Result<Asked> {
    move |program| asked(&program.ask(what, "asked ")?)
}

#[test]
fn every_allocation_counts_to_the_byte() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut program = start(&Workload::c("allocations")?, &[])?;
    let (asked, recorded) = recorded(&mut program, EVERY, ask("halves"))?;
    recorded.expect("alloc_space", "keep_all", asked["all"])?;
    recorded.expect("inuse_space", "keep_all", asked["all"])?;
    recorded.expect("alloc_space", "keep_half", asked["half"])?;
    recorded.expect("inuse_space", "keep_half", asked["live"])?;
    let (objects, in_use) =
        (recorded.of("alloc_objects", "keep_half")?, recorded.of("inuse_objects", "keep_half")?);
    ensure!(objects / 2 - in_use <= 1 && in_use <= objects / 2 + 1, "{in_use} of {objects}");
    ensure!(recorded.account.lost == 0, "{}", recorded.log);
    let comments = recorded.comments();
    ensure!(comments.contains("calls that allocate: "), "{comments}");
    ensure!(comments.contains("one sample for each 1 bytes"), "{comments}");
    ensure!(comments.contains("libc"), "the allocator is not among {comments}");
    let raw = recorded.profile.raw();
    ensure!(raw.period == 1 && raw.sample_type.len() == 4, "{raw:?}");
    Ok(())
}

#[test]
fn what_a_small_ring_loses_is_counted() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut program = start(&Workload::c("allocations")?, &[])?;
    let interrupt = |recorder: &Program| recorder.signal(libc::SIGINT);
    let (_, recorded) = recorded_until(&mut program, EVERY, "4KiB", ask("halves"), interrupt)?;
    ensure!(recorded.account.lost > 0, "nothing was lost: {}", recorded.log);
    ensure!(recorded.log.contains("--ring-bytes"), "no advice: {}", recorded.log);
    // What was lost on its way is neither: in use is not more than was made.
    let (made, in_use) =
        (recorded.of("alloc_space", "halves")?, recorded.of("inuse_space", "halves")?);
    ensure!(in_use <= made, "{in_use} of {made}");
    // Ends that were lost make what is in use doubtful, and that is said.
    let comments = recorded.comments();
    let doubtful = comments.contains("what is in use is doubtful");
    ensure!(doubtful == comments.contains("ends of allocations lost"), "{comments}");
    Ok(())
}

#[test]
fn samples_stand_for_the_rest_within_their_error() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut program = start(&Workload::c("allocations")?, &[])?;
    let (asked, recorded) = recorded(&mut program, SOME, ask("halves"))?;
    // A function that allocates alone for a while is wrong by the intervals at its ends.
    let ends = 2 * i64::try_from(SOME)?;
    for (function, name) in [("keep_all", "all"), ("keep_half", "half")] {
        let found = recorded.of("alloc_space", function)?;
        ensure!((found - asked[name]).abs() <= ends, "{function}: {found} of {}", asked[name]);
    }
    // Which of two objects in turn holds the chosen byte is a coin's toss: of 1,024 the deviation is
    // 16, so that six of them are a fifth of the half.
    let (found, wanted) = (recorded.of("inuse_space", "keep_half")?, asked["live"]);
    ensure!((found - wanted).abs() <= wanted / 5, "in use: {found} of {wanted}");
    // Sizes are spread evenly up to 8 KiB. Few of the small ones are seen, each for many.
    let objects = recorded.of("alloc_objects", "keep_all")?;
    let wanted = asked["all"] / 4104;
    ensure!((objects - wanted).abs() <= wanted / 2, "{objects} objects of {wanted}");
    Ok(())
}

/// Each of the allocator's functions is one call and the bytes asked for, whatever it calls itself.
fn every_kind(workload: &Workload, environment: &[(&str, &Path)]) -> anyhow::Result<Recorded> {
    let mut program = start(workload, environment)?;
    let (asked, recorded) = recorded(&mut program, EVERY, ask("kinds"))?;
    for (function, &bytes) in &asked {
        recorded.expect("alloc_space", function, bytes)?;
        // The last size is what remains of one that grows.
        let in_use = if function == "by_growing" { 1 << 20 } else { bytes };
        recorded.expect("inuse_space", function, in_use)?;
    }
    ensure!(asked.len() == 8 && recorded.account.lost == 0, "{asked:?}: {}", recorded.log);
    Ok(recorded)
}

#[test]
fn every_function_of_glibc() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    every_kind(&Workload::bare_c("allocations")?, &[]).map(drop)
}

#[test]
fn every_function_of_musl_in_a_static_program() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    if machine::installed("musl-gcc").is_none() {
        return Ok(());
    }
    let options = ["-static", "-fno-omit-frame-pointer"];
    every_kind(&Workload::compiled("allocations", "musl", "musl-gcc", &options)?, &[]).map(drop)
}

/// With an allocator that stands in for libc's, from Debian's package.
fn preloaded(library: &str) -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let folder = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let path = PathBuf::from(folder).join(library);
    if !path.is_file() {
        return machine::not_run(&format!("{} is not installed", path.display()));
    }
    let recorded = every_kind(&Workload::c("allocations")?, &[("LD_PRELOAD", &path)])?;
    // All three have a `new` of their own.
    ensure!(recorded.log.contains("operator new"), "{}", recorded.log);
    Ok(())
}

#[test]
fn every_function_of_jemalloc() -> anyhow::Result<()> {
    preloaded("libjemalloc.so.2")
}

#[test]
fn every_function_of_mimalloc() -> anyhow::Result<()> {
    preloaded("libmimalloc.so.2.0")
}

#[test]
fn every_function_of_tcmalloc() -> anyhow::Result<()> {
    preloaded("libtcmalloc_minimal.so.4")
}

#[test]
fn an_allocator_in_the_program_that_calls_itself() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut program = start(&Workload::bare_c("allocator")?, &[])?;
    let (_, recorded) = recorded(&mut program, EVERY, |program| {
        program.ask("nested 8", "done")?;
        program.ask("leave", "done")
    })?;
    recorded.expect("alloc_space", "nested_in_calloc", 8 << 20)?;
    recorded.expect("inuse_space", "nested_in_calloc", 8 << 20)?;
    recorded.expect("alloc_space", "nested_in_realloc", 8 << 20)?;
    recorded.expect("inuse_space", "nested_in_realloc", 4096)?;
    // A call that was left without a return is lost, and hides none that follow.
    recorded.expect("alloc_space", "allocate_further_up", 8 << 20)?;
    ensure!(recorded.account.lost == 1, "{:?}", recorded.account);
    ensure!(recorded.log.contains("unfinished 1"), "{}", recorded.log);
    Ok(())
}

#[test]
fn what_fails_is_no_allocation_and_what_it_left_is_in_use() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut program = start(&Workload::c("allocations")?, &[])?;
    let (asked, recorded) = recorded(&mut program, EVERY, ask("failing"))?;
    ensure!(asked["failed"] == 5, "{asked:?}");
    recorded.expect("alloc_objects", "failing", 1)?;
    recorded.expect("inuse_space", "failing", 4 << 20)
}

#[test]
fn threads_that_live_shortly_and_what_is_given_back() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut program = start(&Workload::c("allocations")?, &[])?;
    let (_, kept) = recorded(&mut program, SOME, |program| program.ask("threads", "asked "))?;
    // 64 of them with eight intervals each, and a part of one: at most that much is wrong on average.
    let (found, wanted) = (kept.of("inuse_space", "allocate_in_thread")?, 32 << 20);
    ensure!((found - wanted).abs() <= wanted / 20, "{found} of {wanted}");
    // What was allocated before is not this recording's, nor is it when it is given back.
    let (_, dropped) = recorded(&mut program, EVERY, |program| {
        program.ask("drop", "asked ")?;
        program.ask("halves", "asked ")?;
        program.ask("drop", "asked ")
    })?;
    ensure!(dropped.of("alloc_space", "halves")? > 90 << 20, "{}", dropped.log);
    dropped.expect("inuse_space", "halves", 0)
}

#[test]
fn new_in_cpp() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut program = start(&Workload::cpp("allocations")?, &[])?;
    let (_, recorded) = recorded(&mut program, EVERY, |program| program.ask("make 8", "done"))?;
    recorded.expect("alloc_space", "make_node", 8 << 20)?;
    recorded.expect("inuse_space", "make_node", 4 << 20)?;
    recorded.expect("alloc_objects", "make_node", 4096)?;
    let calls = ["main", "keep_with_new", "make_node"];
    let chain = recorded.profile.chain("alloc_space", &calls)?;
    ensure!(chain == 8 << 20, "{chain} through {calls:?}");
    ensure!(!recorded.log.contains("operator new"), "{}", recorded.log);
    Ok(())
}

#[test]
fn python_through_malloc() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let Some(python) = machine::installed("python3") else { return Ok(()) };
    let workload = Workload::script(python, &["-u"], "allocations.py");
    let mut program = start(&workload, &[("PYTHONMALLOC", Path::new("malloc"))])?;
    let (_, recorded) = recorded(&mut program, SOME, |program| {
        program.ask("waste 32", "done")?;
        program.ask("keep 32", "done")
    })?;
    let (made, in_use) =
        (recorded.profile.total("alloc_space")?, recorded.profile.total("inuse_space")?);
    ensure!((made - (64 << 20)).abs() < 4 << 20, "{made} made");
    ensure!((in_use - (32 << 20)).abs() < 2 << 20, "{in_use} in use");
    let loops = recorded.of("alloc_space", "_PyEval")?;
    ensure!(loops > made / 2, "{loops} of {made} from the interpreter's loop");
    Ok(())
}

#[test]
fn a_process_that_ends_or_becomes_another() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let workload = Workload::c("allocations")?;
    let mut command = workload.command();
    command.arg("short");
    let mut program = Program::spawn(command)?;
    program.hear("ready")?;
    let (line, ended) = recorded_to_its_end(&mut program, |program| {
        let line = program.ask("go", "asked ")?;
        program.wait(HANG_GUARD)?;
        Ok(line)
    })?;
    let all = asked(&line)?["all"];
    ended.expect("inuse_space", "keep_all", all)?;
    ensure!(ended.comments().contains("the process ended meanwhile"), "{}", ended.comments());

    let mut program = start(&workload, &[])?;
    let (asked, executed) = recorded_to_its_end(&mut program, |program| {
        let asked = ask("halves")(program)?;
        program.ask("exec", "ready")?;
        Ok(asked)
    })?;
    executed.expect("inuse_space", "keep_all", asked["all"])?;
    ensure!(executed.comments().contains("executed another program"), "{}", executed.comments());
    Ok(())
}

#[test]
fn folded_shows_what_is_in_use() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut program = start(&Workload::c("allocations")?, &[])?;
    let mut command = Command::new(recorder_binary()?);
    command.args(["record", "--allocations", "-d", "10m", "--format", "folded", "-o", "-"]);
    command.args(["--allocation-interval", "1", "--ring-bytes", "64MiB"]);
    command.args(["-p", &program.pid().to_string()]).stdin(Stdio::null());
    let recorder = Program::spawn(command)?;
    recorder.hear_error("recording the allocations")?;
    let asked = ask("halves")(&mut program)?;
    recorder.signal(libc::SIGINT)?;
    let text = recorder.finish(HANG_GUARD)?.expect_code(0)?.text();
    let line = text.lines().find(|line| line.contains("keep_half"));
    let bytes = line.and_then(|line| line.rsplit_once(' ')).map(|(_, bytes)| bytes);
    ensure!(bytes == Some(asked["live"].to_string().as_str()), "{asked:?}:\n{text}");
    Ok(())
}

#[test]
fn a_program_without_malloc_is_refused_with_what_to_do() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let program = start(&Workload::go_spin()?, &[])?;
    let folder = tempfile::tempdir()?;
    let pid = program.pid().to_string();
    let finished = holmes_tests::command::run([
        "record".as_ref(),
        "--allocations".as_ref(),
        "-p".as_ref(),
        pid.as_ref(),
        "-o".as_ref(),
        folder.path().join("out.pb.gz").as_os_str(),
    ])?;
    finished.expect_code(1)?.expect_said(&["no allocator found", "/debug/pprof/heap"])
}
