//! The recorder as a child process: started with short times, listened to, asked, stopped.
//!
//! Must not: judge what it does.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;

use crate::cgroup::TestCgroup;
use crate::command::recorder_binary;
use crate::confine::Confinement;
use crate::http::{self, Response};
use crate::incident::IncidentFolder;
use crate::metrics::Metrics;
use crate::program::Program;
use crate::transcript::{HANG_GUARD, eventually};

/// Intervals a rule watches before it may fire.
pub const WARM_UP: u32 = 10;

/// The interval the tests use. Short, so that the warm-up takes two seconds.
pub const INTERVAL: Duration = Duration::from_millis(200);

/// How a recorder is to be started.
#[derive(Clone, Debug)]
pub struct Setup {
    arguments: Vec<OsString>,
    confinement: Confinement,
    dump_dir: Option<PathBuf>,
}

impl Default for Setup {
    fn default() -> Self {
        let fixed = ["--listen", "127.0.0.1:0", "--interval", "200ms"];
        let times = ["--lookback", "5s", "--after", "1s"];
        let arguments = fixed.iter().chain(&times).map(OsString::from).collect();
        Self { arguments, confinement: Confinement::default(), dump_dir: None }
    }
}

impl Setup {
    /// The rule that is given is the only one that is on: no test waits for the spike of another
    /// signal.
    pub fn only_rule(rule: &str) -> Self {
        let mut setup = Self::default();
        for signal in ["cpu", "memory", "threads", "goroutines", "leak", "psi"] {
            if !rule.starts_with(signal) {
                setup = setup.args(["--rule".to_owned(), format!("{signal}=off")]);
            }
        }
        if rule.is_empty() { setup } else { setup.args(["--rule", rule]) }
    }

    /// No rule is on: incidents are cut by hand.
    pub fn no_rules() -> Self {
        Self::only_rule("")
    }

    /// Watches this cgroup.
    pub fn cgroup(self, cgroup: &TestCgroup) -> Self {
        self.args([OsString::from("--cgroup"), cgroup.path().into()])
    }

    /// Adds arguments. clap takes the last of an option that is given twice only where the
    /// command says so: do not repeat those above.
    pub fn args<S: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Replaces the value of an option given before.
    pub fn replace(mut self, option: &str, value: &str) -> Self {
        let at = self.arguments.iter().position(|argument| argument == option);
        match at.and_then(|at| self.arguments.get_mut(at + 1)) {
            Some(old) => *old = value.into(),
            None => self.arguments.extend([option.into(), value.into()]),
        }
        self
    }

    /// Writes incidents here instead of to a folder of the recorder's own.
    pub fn dump_dir(mut self, folder: &Path) -> Self {
        self.dump_dir = Some(folder.to_owned());
        self
    }

    /// Starts it with fewer rights or other mounts.
    pub fn confined(mut self, confinement: Confinement) -> Self {
        self.confinement = confinement;
        self
    }

    /// Starts the recorder without waiting for anything.
    ///
    /// # Errors
    /// The binary is missing or cannot be started.
    pub fn spawn(self) -> anyhow::Result<Recorder> {
        let own_folder = tempfile::tempdir().context("making a dump folder")?;
        let dump_dir = self.dump_dir.unwrap_or_else(|| own_folder.path().to_owned());
        let mut command = Command::new(recorder_binary()?);
        command.args(&self.arguments).arg("--dump-dir").arg(&dump_dir).stdin(Stdio::null());
        self.confinement.apply(&mut command)?;
        let program = Program::spawn(command)?;
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        Ok(Recorder { program, dump_dir, address, _own_folder: own_folder })
    }

    /// Starts the recorder and waits until it says that it samples and serves.
    ///
    /// # Errors
    /// It does not; the error shows what it printed.
    pub fn start(self) -> anyhow::Result<Recorder> {
        let mut recorder = self.spawn()?;
        let line = recorder.wait_for_line("recording")?;
        recorder.address = address_in(&line)
            .with_context(|| format!("no address of 127.0.0.1 in the line {line:?}"))?;
        Ok(recorder)
    }
}

/// The address in a line like `recording ... http://127.0.0.1:8731/metrics`.
fn address_in(line: &str) -> Option<SocketAddr> {
    let tail = &line[line.find("127.0.0.1:")?..];
    let end = tail.find(|letter: char| !letter.is_ascii_digit() && !".:".contains(letter));
    tail[..end.unwrap_or(tail.len())].trim_end_matches(['.', ':']).parse().ok()
}

/// A running recorder, killed when dropped.
pub struct Recorder {
    program: Program,
    dump_dir: PathBuf,
    address: SocketAddr,
    _own_folder: tempfile::TempDir,
}

/// What a recorder that was stopped left.
#[derive(Debug)]
pub struct Stopped {
    /// How it ended.
    pub status: ExitStatus,
    /// All lines of its log.
    pub lines: Vec<String>,
    /// The line of the samples' account.
    pub account: Account,
}

impl Recorder {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its incidents go.
    pub fn dump_dir(&self) -> &Path {
        &self.dump_dir
    }

    /// The lines of its log so far.
    pub fn log(&self) -> Vec<String> {
        self.program.stderr.lines()
    }

    /// Waits for a line of its log, from the first on.
    ///
    /// # Errors
    /// It does not come; the error shows the log.
    pub fn wait_for_line(&self, pattern: &str) -> anyhow::Result<String> {
        Ok(self.program.stderr.wait_for(pattern, 0, HANG_GUARD)?.1)
    }

    /// Waits for a line of its log behind the first `from`.
    ///
    /// # Errors
    /// It does not come; the error shows the log.
    pub fn wait_for_line_after(&self, from: usize, pattern: &str) -> anyhow::Result<String> {
        Ok(self.program.stderr.wait_for(pattern, from, HANG_GUARD)?.1)
    }

    /// Waits until the rules have seen enough of the quiet time.
    pub fn wait_for_warm_up(&self) {
        // Half as many intervals more, because the first reading has no CPU value and a busy
        // machine may be late with one.
        std::thread::sleep(INTERVAL * (WARM_UP + WARM_UP / 2));
    }

    /// Waits for the `number`th incident (from 1) and opens its folder.
    ///
    /// # Errors
    /// It is not written, or its folder is broken.
    pub fn wait_incident(&self, number: usize) -> anyhow::Result<IncidentFolder> {
        const MARK: &str = "incident written: ";
        let mut from = 0;
        let mut line = String::new();
        for _ in 0..number {
            let (at, found) = self.program.stderr.wait_for(MARK, from, HANG_GUARD)?;
            (from, line) = (at + 1, found);
        }
        let path = line.split_once(MARK).map_or("", |(_, path)| path).trim();
        // What follows the path, if anything, is in parentheses or behind a comma.
        let path = path.split([',', '(']).next().unwrap_or(path).trim().trim_matches('"');
        IncidentFolder::open(Path::new(path)).with_context(|| format!("the log line {line:?}"))
    }

    /// Asks for an incident now, by HTTP.
    ///
    /// # Errors
    /// The answer is not 202.
    pub fn trigger(&self) -> anyhow::Result<()> {
        let response = self.post("/trigger")?;
        anyhow::ensure!(response.status == 202, "POST /trigger: {response:?}");
        Ok(())
    }

    /// # Errors
    /// There is no answer.
    pub fn get(&self, path: &str) -> anyhow::Result<Response> {
        http::request(self.address, "GET", path, &[])
    }

    /// # Errors
    /// There is no answer.
    pub fn post(&self, path: &str) -> anyhow::Result<Response> {
        http::request(self.address, "POST", path, &[])
    }

    /// Reads `/metrics`.
    ///
    /// # Errors
    /// It is not served, or not in the text format.
    pub fn metrics(&self) -> anyhow::Result<Metrics> {
        let response = self.get("/metrics")?;
        anyhow::ensure!(response.status == 200, "GET /metrics: {response:?}");
        Metrics::parse(&response.body)
    }

    /// Reads `/metrics` until `look` finds what it looks for.
    ///
    /// # Errors
    /// It does not in time; the error names `what`.
    pub fn wait_for_metrics<T>(
        &self,
        what: &str,
        mut look: impl FnMut(&Metrics) -> Option<T>,
    ) -> anyhow::Result<T> {
        eventually(what, || look(&self.metrics().ok()?))
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&self, signal: libc::c_int) -> anyhow::Result<()> {
        self.program.signal(signal)
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// It does not.
    pub fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        let status = self.program.wait(HANG_GUARD)?;
        self.program.stderr.wait_for_end(HANG_GUARD)?;
        Ok(status)
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn is_running(&mut self) -> anyhow::Result<bool> {
        Ok(self.program.ended()?.is_none())
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    ///
    /// # Errors
    /// It does not, ends with a failure, or leaves no account of its samples.
    pub fn stop(mut self) -> anyhow::Result<Stopped> {
        self.signal(libc::SIGTERM)?;
        let status = self.wait()?;
        let lines = self.log();
        anyhow::ensure!(status.success(), "the recorder ended with {status:?}");
        let account = Account::find(&lines)?;
        Ok(Stopped { status, lines, account })
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // The harness shows this with a test that failed, and only then.
        eprintln!("the recorder printed:\n{}{}", self.program.stdout, self.program.stderr);
    }
}

/// The line `samples: N taken = N reported + N lost (cause N, ...)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// Samples the probes began to take.
    pub taken: u64,
    /// Samples that are in the window or the output.
    pub reported: u64,
    /// Samples lost, all causes together.
    pub lost: u64,
}

impl Account {
    /// Finds it among the lines of a log.
    ///
    /// # Errors
    /// There is none, or it has another form.
    pub fn find(lines: &[String]) -> anyhow::Result<Self> {
        let line = lines.iter().rev().find_map(|line| Some(&line[line.find("samples: ")?..]));
        let line = line.with_context(|| format!("no account of the samples in {lines:#?}"))?;
        Self::parse(line).with_context(|| format!("the account {line:?} has another form"))
    }

    fn parse(line: &str) -> Option<Self> {
        let rest = line.strip_prefix("samples: ")?;
        let (taken, rest) = rest.split_once(" taken = ")?;
        let (reported, rest) = rest.split_once(" reported + ")?;
        let (lost, _causes) = rest.split_once(" lost")?;
        let number = |text: &str| text.trim().parse().ok();
        Some(Self { taken: number(taken)?, reported: number(reported)?, lost: number(lost)? })
    }

    /// # Errors
    /// Taken is not reported + lost.
    pub fn expect_balanced(self) -> anyhow::Result<Self> {
        anyhow::ensure!(self.taken == self.reported + self.lost, "out of balance: {self:?}");
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_the_log_line() {
        let found = |line| address_in(line).map(|address| address.port());
        assert_eq!(found("recording; http://127.0.0.1:4711/metrics, ..."), Some(4711));
        assert_eq!(found("recording, listening on 127.0.0.1:8731."), Some(8731));
        assert_eq!(found("recording without a listener"), None);
    }

    #[test]
    fn the_account_is_read_and_must_balance() -> anyhow::Result<()> {
        let line = "INFO samples: 12 taken = 9 reported + 3 lost (ring_full 3)".to_owned();
        let account = Account::find(&[line])?.expect_balanced()?;
        assert_eq!(account, Account { taken: 12, reported: 9, lost: 3 });
        assert!(Account { taken: 1, ..account }.expect_balanced().is_err());
        assert!(Account::find(&["samples: some".to_owned()]).is_err());
        Ok(())
    }
}
