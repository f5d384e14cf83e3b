//! A made-up host in a temporary folder: its cgroup mounts and its `/proc`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::collect::Nanos;
use crate::kernel::cgroupfs::Layout;
use crate::signals::{Signal, SignalFrame, SignalReader, Sources, Target};

pub(super) const MIB: u64 = 1 << 20;

/// A made-up host with 4 CPUs and 1000 MiB of memory, 400 MiB of it used, and 321 tasks.
pub(super) struct Host {
    folder: TempDir,
    pub(super) mountinfo: String,
    pub(super) now: Nanos,
}

impl Host {
    pub(super) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let host = Self { folder, mountinfo: String::new(), now: Nanos::from_secs(50) };
        host.write("proc/loadavg", "0.50 0.40 0.30 2/321 4242\n");
        let kib = |mib: u64| mib * 1024;
        let (total, available) = (kib(1000), kib(600));
        host.write(
            "proc/meminfo",
            &format!(
                "MemTotal: {total} kB\nMemFree: 1 kB\nMemAvailable: {available} kB\nBuffers: 1 kB\n\
                 Cached: 1 kB\nSwapCached: 0 kB\nActive: 1 kB\nInactive: 1 kB\nSwapTotal: 0 kB\n\
                 SwapFree: 0 kB\nDirty: 0 kB\nWriteback: 0 kB\nMapped: 1 kB\nSlab: 1 kB\n\
                 Committed_AS: 1 kB\nVmallocTotal: 1 kB\nVmallocUsed: 1 kB\nVmallocChunk: 0 kB\n"
            ),
        );
        host.cpu_ticks(0, 0);
        host
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), text).unwrap();
    }

    pub(super) fn cpu_ticks(&self, busy: u64, idle: u64) {
        let mut stat = format!("cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\n");
        for cpu in 0..4 {
            stat += &format!("cpu{cpu} 0 0 0 0 0 0 0 0 0 0\n");
        }
        self.write("proc/stat", &(stat + "ctxt 1\nbtime 1\nprocesses 1\n"));
    }

    pub(super) fn mount(mut self, name: &str, kind: &str) -> Self {
        self.cgroup(name, &[]);
        let point = self.path(name);
        self.mountinfo += &format!("1 1 0:1 / {} rw - {kind}\n", point.display());
        self
    }

    pub(super) fn cgroup(&self, path: &str, pids: &[u32]) {
        let lines: String = pids.iter().map(|pid| format!("{pid}\n")).collect();
        self.write(&format!("{path}/cgroup.procs"), &lines);
    }

    /// A process with one thread per entry of `threads` and so many resident pages.
    pub(super) fn process(
        &self,
        pid: u32,
        comm: &[u8],
        ticks: u64,
        threads: u64,
        pages: u64,
        start: u64,
    ) {
        let mut stat = format!("{pid} (").into_bytes();
        stat.extend(comm);
        stat.extend(
            format!(
                ") S 1 1 1 0 -1 0 0 0 0 0 {ticks} 0 0 0 20 0 {threads} 0 {start} 0 0 0 0 0 0 0 0 0 \
                 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
            )
            .bytes(),
        );
        self.write(&format!("proc/{pid}/stat"), "");
        fs::write(self.path(&format!("proc/{pid}/stat")), stat).unwrap();
        self.write(&format!("proc/{pid}/statm"), &format!("9999 {pages} 0 0 0 0 0\n"));
    }

    pub(super) fn sources(&self) -> Sources {
        Sources::at(Layout::from_mountinfo(&self.mountinfo), self.path("proc"))
    }

    pub(super) fn cgroups(&self, paths: &[&str]) -> SignalReader {
        let layout = Layout::from_mountinfo(&self.mountinfo);
        let located: Vec<_> =
            paths.iter().map(|path| layout.locate(Path::new(path)).unwrap()).collect();
        SignalReader::of_cgroups(self.sources(), &located)
    }

    /// Reads five seconds later.
    pub(super) fn read(&mut self, reader: &mut SignalReader) -> Values {
        self.read_sampled(reader, None)
    }

    pub(super) fn read_sampled(
        &mut self,
        reader: &mut SignalReader,
        cpu: Option<Duration>,
    ) -> Values {
        self.now = self.now.plus(Duration::from_secs(5));
        Values(reader.read(self.now, &|_| cpu))
    }
}

pub(super) struct Values(pub(super) SignalFrame);

impl Values {
    /// CPU, memory and threads of a target: its path, `host`, or its pid.
    pub(super) fn of(&self, name: &str) -> [Option<f64>; 3] {
        [Signal::Cpu, Signal::Memory, Signal::Threads].map(|signal| {
            let mut found = self.0.readings.iter().filter(|reading| {
                let target = match &reading.target {
                    Target::Host => "host".to_owned(),
                    Target::Cgroup { path, .. } => path.clone(),
                    Target::Process { pid } => pid.to_string(),
                };
                reading.signal == signal && target == name
            });
            let value = found.next().map(|reading| (reading.value * 1e6).round() / 1e6);
            assert!(found.next().is_none(), "{name} has two values of {signal:?}");
            value
        })
    }
}
