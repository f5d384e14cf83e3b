//! The cases of Holmes' README: a Go service under load, each of its faults caught by its own rule, each
//! incident with the function that is to blame.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, ensure};
use holmes_tests::cgroup::TestCgroup;
use holmes_tests::http;
use holmes_tests::incident::IncidentFolder;
use holmes_tests::machine;
use holmes_tests::program::Program;
use holmes_tests::recorder::{Recorder, Setup, WARM_UP};
use holmes_tests::workload::Workload;

use crate::spike::cpu_rule;

/// What the service's cgroup may have: the slice is half of it.
const LIMIT: u64 = 2 << 30;

/// The service in a cgroup of its own, and the recorder that watches that.
struct Service {
    recorder: Recorder,
    program: Program,
    cgroup: TestCgroup,
    address: SocketAddr,
    /// Requests that are not answered.
    open: Vec<TcpStream>,
}

impl Service {
    /// Starts it, and answers a few requests until the rules know what is usual.
    fn start(rule: &str) -> anyhow::Result<Self> {
        let cgroup = TestCgroup::of_memory()?;
        cgroup.limit_memory(LIMIT)?;
        let mut program = Program::begin(&Workload::go_cases()?, Some(&cgroup))?;
        let port = program.hear("ready ")?.trim_start_matches("ready ").parse()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let recorder = Setup::only_rule(rule).cgroup(&cgroup).start()?;
        let signal = rule.split('=').next().unwrap_or_default();
        http::request(address, "GET", "/", &[])?;
        // A busy machine is late with its readings: a spike among the first ten would be what is usual.
        recorder.wait_for_metrics("the rule knows what is usual", |metrics| {
            // Of a rule that is off all decisions are so.
            let quiet = [("decision", "quiet"), ("signal", signal)];
            let quiet = metrics.sum("holmes_rule_decisions_total", &quiet);
            quiet.filter(|decisions| *decisions > f64::from(WARM_UP)).map(drop)
        })?;
        Ok(Self { recorder, program, cgroup, address, open: Vec::new() })
    }

    /// Asks for a path so many times at once, and does not wait for answers.
    fn ask(&mut self, path: &str, times: usize) -> anyhow::Result<()> {
        for _ in 0..times {
            let mut stream = TcpStream::connect(self.address).context("connecting")?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").context("asking")?;
            self.open.push(stream);
        }
        Ok(())
    }

    /// The incident that comes of it.
    fn incident(&self) -> anyhow::Result<IncidentFolder> {
        let incident = self.recorder.wait_incident(1)?;
        incident.validate()?;
        Ok(incident)
    }

    /// Ends the service before its cgroup is removed.
    fn stop(self) -> anyhow::Result<()> {
        let Self { recorder, program, cgroup, .. } = self;
        drop(program);
        recorder.stop()?.account.expect_balanced()?;
        drop(cgroup);
        Ok(())
    }
}

/// "RSS peak caused by make a 1GB slice".
#[test]
fn a_slice_of_a_gib() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut service = Service::start("memory=min:20,diff:25,abs:0,max:0,cooldown:1m")?;
    service.ask("/make1gb", 1)?;
    let profile = service.incident()?.profile("memory")?;
    let in_use = profile.cumulative("inuse_space", "main.makeOneGB")?;
    ensure!(in_use > 500 << 20, "{in_use} bytes in use\n{}", profile.top("inuse_space"));
    service.stop()
}

/// "large memory allocation caused by business logic".
#[test]
fn large_allocations() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut service = Service::start("memory=min:10,diff:25,abs:0,max:0,cooldown:1m")?;
    service.ask("/alloc", 20)?;
    let profile = service.incident()?.profile("memory")?;
    let share = profile.percent("alloc_space", "main.allocate")?;
    ensure!(share > 50.0, "{share} % of what was touched\n{}", profile.top("alloc_space"));
    service.stop()
}

/// "CPU": a loop that never ends.
#[test]
fn a_busy_loop() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut service = Service::start(&cpu_rule())?;
    service.ask("/busy", 1)?;
    let profile = service.incident()?.profile("cpu")?;
    let share = profile.percent("samples", "main.busy")?;
    ensure!(share > 50.0, "{share} % of the samples\n{}", profile.top("samples"));
    service.stop()
}

/// "large thread allocation caused by cgo block".
#[test]
fn threads_blocked_in_c() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut service = Service::start("threads=min:50,diff:25,abs:0,max:0,cooldown:1m")?;
    service.ask("/cgo", 100)?;
    let incident = service.incident()?;
    let blocked = incident.profile("blocked")?;
    // Go's frames are below C's: the walk comes through both.
    let waits = blocked.labelled("blockings", "block_in_c", ("wait", "sleep"))?;
    ensure!(waits >= 50, "{waits} threads in C\n{}", blocked.top("delay"));
    let created = incident.profile("threads")?.total("created")?;
    ensure!(created >= 50, "{created} threads created");
    service.stop()
}

/// A rule of goroutines that fires when so many more are there than usual.
const GOROUTINES: &str = "goroutines=min:40,diff:50,abs:0,max:0,cooldown:1m";

/// "goroutine explosion caused by deadlock": two requests hold a lock each and wait for the other's, and all
/// that come after them wait for one of the two.
#[test]
fn a_deadlock() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut service = Service::start(GOROUTINES)?;
    service.ask("/lockorder1", 1)?;
    service.ask("/lockorder2", 1)?;
    std::thread::sleep(Duration::from_secs(1));
    service.ask("/req", 100)?;
    let profile = service.incident()?.profile("goroutines")?;
    let waiting = profile.cumulative("goroutine", "main.request")?;
    ensure!(waiting >= 30, "{waiting} requests wait\n{}", profile.top("goroutine"));
    for guilty in ["main.lockOrder1", "main.lockOrder2"] {
        let chain =
            profile.chain("goroutine", &[guilty, "main.lockInOrder", "sync.(*Mutex).Lock"])?;
        ensure!(chain == 1, "{chain} in {guilty}\n{}", profile.top("goroutine"));
    }
    // The one waits for what the other has, and the requests for one of the two.
    let locks = |function| profile.by_label("goroutine", function, "lock");
    let (one, other) = (locks("main.lockOrder1")?, locks("main.lockOrder2")?);
    ensure!(one.len() == 1 && other.len() == 1 && one != other, "{one:?} {other:?}");
    let of_requests = locks("main.request")?;
    ensure!(of_requests.len() == 1 && other.keys().eq(of_requests.keys()), "{of_requests:?}");
    // Some may be on their way to it.
    ensure!(of_requests.values().all(|&count| count >= 30), "{of_requests:?} of {waiting}");
    service.stop()
}

/// "goroutine explosion caused by channel block".
#[test]
fn a_channel_that_nobody_receives_from() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut service = Service::start(GOROUTINES)?;
    service.ask("/chanblock", 100)?;
    let profile = service.incident()?.profile("goroutines")?;
    let key = ("wait_reason", "chan send");
    let waiting = profile.labelled("goroutine", "main.channelBlock", key)?;
    ensure!(waiting >= 30, "{waiting} wait\n{}", profile.top("goroutine"));
    service.stop()
}

/// "process slowly leaks goroutines": one for each request, which is answered.
#[test]
fn goroutines_that_leak() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let service = Service::start(GOROUTINES)?;
    for _ in 0..100 {
        http::request(service.address, "GET", "/leak", &[])?;
    }
    let profile = service.incident()?.profile("goroutines")?;
    let left = profile.labelled("goroutine", "main.consume", ("wait_reason", "chan receive"))?;
    ensure!(left >= 30, "{left} are left behind\n{}", profile.top("goroutine"));
    service.stop()
}
