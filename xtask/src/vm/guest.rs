//! One guest: its first root, its start, what it says, its end.
//!
//! Must not: leave a process behind, or let the guest write to the host's files.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::hypervisor::Hypervisor;
use super::initramfs::Archive;
use super::kernels::Kernel;
use super::outcome::Outcome;
use crate::command;

/// The guest's memory. The tests, which touch a GiB, and the layer of files they write fit into it.
const MEMORY: &str = "4G";

/// The host's two CPUs, as the tests know them: some need one that is idle.
const CPUS: &str = "2";

/// The server of files makes its socket at once.
const SERVER_STARTS: Duration = Duration::from_secs(20);

/// How long an ended emulator's server may take to notice.
const SERVER_ENDS: Duration = Duration::from_secs(10);

/// A guest that says nothing for so long hangs: no live test takes half of it, and one that waits in
/// vain gives up sooner.
const SILENCE: Duration = Duration::from_secs(6 * 60);

/// How often a socket, or an end, is looked for.
const POLL: Duration = Duration::from_millis(50);

/// The last lines of the kernel's own messages that are shown when a guest fails.
const MESSAGES_SHOWN: usize = 25;

/// What the guest is to run.
#[derive(Debug)]
pub struct Job {
    /// A program of the host, with its arguments.
    pub command: Vec<String>,
    /// The folder it is run in.
    pub folder: PathBuf,
    /// Its environment.
    pub environment: Vec<(String, String)>,
}

/// A child that is ended on drop.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let deadline = Instant::now() + SERVER_ENDS;
        while let Ok(None) = self.0.try_wait() {
            if Instant::now() > deadline {
                command::signal("KILL", self.0.id(), false);
            }
            std::thread::sleep(POLL);
        }
    }
}

/// Boots a kernel, runs the job, and passes on every line as it comes.
///
/// # Errors
/// When the guest cannot be started or is still running after `limit`. How the job ended is in the
/// outcome.
pub fn run(
    hypervisor: &Hypervisor,
    kernel: &Kernel,
    job: &Job,
    folder: &Path,
    limit: Duration,
    mut show: impl FnMut(&str),
) -> Result<Outcome> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let (root, socket) = (folder.join("initramfs"), folder.join("files.socket"));
    let messages = folder.join("kernel.log");
    for stale in [&socket, &messages] {
        if stale.exists() {
            std::fs::remove_file(stale)
                .with_context(|| format!("cannot remove {}", stale.display()))?;
        }
    }
    std::fs::write(&root, initramfs(hypervisor, kernel, job)?)
        .with_context(|| format!("cannot write {}", root.display()))?;

    let server_log = folder.join("files.log");
    let log = std::fs::File::create(&server_log)
        .with_context(|| format!("cannot write {}", server_log.display()))?;
    let _server = Ended(start(hypervisor.file_server(&socket).stdout(Stdio::null()).stderr(log))?);
    wait_for_socket(&socket).with_context(|| {
        format!("the server of files does not start, see {}", server_log.display())
    })?;

    let mut emulator = hypervisor.emulator();
    emulator.args(machine(kernel, &root, &socket, &messages)).stdout(Stdio::piped());
    let mut emulator = Ended(start(&mut emulator)?);
    let outcome = listen(&mut emulator.0, limit, &mut show);
    if !outcome.as_ref().is_ok_and(Outcome::ended) {
        show_messages(&messages, &mut show);
    }
    outcome
}

fn start(command: &mut Command) -> Result<Child> {
    command
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start `{}`", command::shown(command)))
}

fn wait_for_socket(socket: &Path) -> Result<()> {
    let deadline = Instant::now() + SERVER_STARTS;
    while !std::fs::metadata(socket).is_ok_and(|meta| meta.file_type().is_socket()) {
        if Instant::now() > deadline {
            bail!("there is no {} after {SERVER_STARTS:?}", socket.display());
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

/// Reads the tests' serial line to its end.
fn listen(emulator: &mut Child, limit: Duration, show: &mut impl FnMut(&str)) -> Result<Outcome> {
    let stdout = emulator.stdout.take().context("the emulator has no output")?;
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stdout);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if sender.send(text).is_err() {
                return;
            }
            line.clear();
        }
    });
    let (deadline, mut outcome) = (Instant::now() + limit, Outcome::default());
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match lines.recv_timeout(left.min(SILENCE)) {
            Ok(line) => {
                outcome.line(&line);
                show(&line);
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(outcome),
            Err(RecvTimeoutError::Timeout) => {
                command::signal("TERM", emulator.id(), false);
                let why = if left > SILENCE { "it hangs" } else { "it takes too long" };
                show(&format!("the guest is stopped: {why}"));
                return Ok(outcome);
            }
        }
    }
}

fn show_messages(file: &Path, show: &mut impl FnMut(&str)) {
    let Ok(bytes) = std::fs::read(file) else { return };
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    show(&format!("the last of the kernel's messages ({}):", file.display()));
    for line in lines.iter().skip(lines.len().saturating_sub(MESSAGES_SHOWN)) {
        show(line);
    }
}

fn initramfs(hypervisor: &Hypervisor, kernel: &Kernel, job: &Job) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["bin", "modules"] {
        archive.folder(folder);
    }
    archive.file("bin/busybox", &hypervisor.busybox()?);
    for module in &kernel.modules {
        let name = module.file_name().and_then(|name| name.to_str());
        let name = name.with_context(|| format!("{} has no name", module.display()))?;
        let bytes =
            std::fs::read(module).with_context(|| format!("cannot read {}", module.display()))?;
        archive.file(&format!("modules/{name}"), &bytes);
    }
    archive.file("init", include_bytes!("init.sh"));
    archive.file("tests.sh", include_bytes!("tests.sh"));
    archive.file("job.sh", script(job).as_bytes());
    Ok(archive.finish())
}

/// The job as shell: its environment, and a function that runs it.
fn script(job: &Job) -> String {
    let exports =
        job.environment.iter().map(|(name, value)| format!("export {name}={}\n", quoted(value)));
    let words: Vec<String> = job.command.iter().map(|word| quoted(word)).collect();
    let folder = quoted(&job.folder.display().to_string());
    let run = format!("run_tests() {{\n    cd {folder} && {}\n}}\n", words.join(" "));
    exports.chain([run]).collect()
}

/// A word as a shell reads it back.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn machine(kernel: &Kernel, root: &Path, socket: &Path, messages: &Path) -> Vec<String> {
    let mut arguments: Vec<String> = Vec::new();
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(|&word| word.to_owned()));
    add(&["-M", "q35", "-smp", CPUS, "-m", MEMORY]);
    add(if can_virtualise() {
        &["-accel", "kvm", "-cpu", "host"]
    } else {
        &["-accel", "tcg,thread=multi", "-cpu", "max"]
    });
    add(&["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    // The first line is for the kernel's messages, the second for the tests.
    add(&["-serial", &format!("file:{}", messages.display()), "-serial", "stdio"]);
    add(&["-kernel", &kernel.image.display().to_string()]);
    add(&["-initrd", &root.display().to_string()]);
    // After a panic, end at once: the missing mark is what tells. The emulated time stamp counter is
    // the host's, and right: trusted, the time is read without a system call, as on any machine.
    add(&["-append", "console=ttyS0 panic=-1 tsc=reliable"]);
    // The server of files reads and writes the guest's memory.
    let memory = format!("memory-backend-memfd,id=memory,size={MEMORY},share=on");
    add(&["-object", &memory, "-numa", "node,memdev=memory"]);
    let files = format!("socket,id=files,path={}", socket.display());
    add(&["-chardev", &files, "-device", "vhost-user-fs-pci,chardev=files,tag=hostroot"]);
    arguments
}

/// Whether this CPU can run guests itself. That `/dev/kvm` opens says nothing: inside a virtual
/// machine it may be there without the CPU's help, and guests hang.
fn can_virtualise() -> bool {
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let has = |name: &str| {
        flags
            .lines()
            .filter(|line| line.starts_with("flags"))
            .any(|line| line.split_whitespace().any(|flag| flag == name))
    };
    (has("vmx") || has("svm")) && Path::new("/dev/kvm").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_the_job_as_it_was_meant() {
        let job = Job {
            command: ["echo", "it's", "a $HOME; `b`", ""].map(str::to_owned).to_vec(),
            folder: "/".into(),
            environment: vec![("NAME".to_owned(), "one two'three".to_owned())],
        };
        let text = format!("{}run_tests && pwd && echo \"$NAME\"", script(&job));
        let said = command::output(&mut command::of("sh", &["-c", &text])).unwrap();
        assert_eq!(said, "it's a $HOME; `b` \n/\none two'three\n");
    }
}
