//! What the kernel's log says of the processes it killed for memory: `/dev/kmsg`.
//!
//! Format: Documentation/ABI/testing/dev-kmsg.
//!
//! Must not: keep more than the last kills, or wait for a message.

mod message;

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

#[cfg(any(test, feature = "fuzzing"))]
pub(super) use self::message::unescaped;
use self::message::{constraint, killed, usage};

/// Where the kernel's log is read.
const KMSG: &str = "/dev/kmsg";

/// The longest record that the kernel hands out (`CONSOLE_EXT_LOG_MAX`).
const MAX_RECORD_BYTES: usize = 8192;

/// Records read at one time: the log of a machine holds some thousands.
const MAX_RECORDS: usize = 16_384;

/// Kills that are remembered until somebody asks for them.
pub(super) const MAX_KILLS: usize = 64;

/// The same pid within this time is the same process, in microseconds: no pid is used again so soon.
const SAME_PROCESS_US: u64 = 5_000_000;

/// What the kernel says of a process that it killed for memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelKill {
    /// The victim, in the initial pid namespace.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// Address space, in bytes.
    pub total_vm_bytes: u64,
    /// Anonymous memory that was resident, in bytes.
    pub anon_bytes: u64,
    /// Pages of files that were resident, in bytes.
    pub file_bytes: u64,
    /// Shared memory that was resident, in bytes.
    pub shmem_bytes: u64,
    /// How much its size was adjusted when the victim was chosen, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// What ran out: `CONSTRAINT_MEMCG` is a cgroup's limit, `CONSTRAINT_NONE` the host's memory.
    pub constraint: Option<String>,
    /// The cgroup whose limit it was.
    pub limited_cgroup: Option<String>,
    /// The victim's cgroup.
    pub cgroup: Option<String>,
    /// What the cgroup whose limit it was used, in bytes.
    pub usage_bytes: Option<u64>,
    /// That limit, in bytes.
    pub limit_bytes: Option<u64>,
}

/// Where memory ran out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// On the host.
    Host,
    /// In the cgroup of this path, which had a limit.
    Cgroup(String),
}

/// What was said of the kill under way: the record of the kill itself comes last.
#[derive(Debug, Default)]
struct Context {
    usage: Option<(u64, u64)>,
    constraint: Option<(u32, String, Option<String>, Option<String>)>,
}

/// The kernel's log from now on.
#[derive(Debug, Default)]
pub struct KernelLog {
    /// `None` where it cannot be read: a container without the device, or without the right.
    file: Option<File>,
    context: Context,
    /// With the log's time, in microseconds.
    kills: VecDeque<(u64, KernelKill)>,
}

impl KernelLog {
    /// Listens from now on.
    pub fn open() -> Self {
        Self::at(Path::new(KMSG))
    }

    fn at(path: &Path) -> Self {
        let open = || {
            let mut file =
                OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
            file.seek(SeekFrom::End(0)).ok()?;
            Some(file)
        };
        Self { file: open(), ..Self::default() }
    }

    /// What was said of the victim with this id, since the recorder began.
    pub fn kill_of(&mut self, pid: u32) -> Option<KernelKill> {
        self.read();
        let at = self.kills.iter().rposition(|(_, kill)| kill.pid == pid)?;
        self.kills.remove(at).map(|(_, kill)| kill)
    }

    /// Where memory ran out for the victim with this id: the kernel says it just before it kills. `None` if it
    /// has not, as after ten kills in five seconds.
    pub fn shortage_of(&mut self, pid: u32) -> Option<Shortage> {
        self.read();
        let limited = match &self.context.constraint {
            Some((victim, _, limited, _)) if *victim == pid => limited,
            _ => {
                let (_, kill) = self.kills.iter().rfind(|(_, kill)| kill.pid == pid)?;
                kill.constraint.as_ref()?;
                &kill.limited_cgroup
            }
        };
        Some(limited.clone().map_or(Shortage::Host, Shortage::Cgroup))
    }

    /// What was said of victims in these cgroups, and nobody has asked for.
    pub fn kills_of(&mut self, is_one: impl Fn(&str) -> bool) -> Vec<KernelKill> {
        self.read();
        let is_one = |kill: &KernelKill| kill.cgroup.as_deref().is_some_and(&is_one);
        let (taken, left): (VecDeque<_>, VecDeque<_>) =
            self.kills.drain(..).partition(|(_, kill)| is_one(kill));
        self.kills = left;
        taken.into_iter().map(|(_, kill)| kill).collect()
    }

    /// What is remembered, for tests.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn taken(self) -> Vec<KernelKill> {
        self.kills.into_iter().map(|(_, kill)| kill).collect()
    }

    fn read(&mut self) {
        let Some(mut file) = self.file.take() else { return };
        let mut record = [0; MAX_RECORD_BYTES];
        for _ in 0..MAX_RECORDS {
            match file.read(&mut record) {
                Ok(0) => break,
                Ok(length) => {
                    let record = record.get(..length).unwrap_or_default();
                    self.take(&String::from_utf8_lossy(record));
                }
                // The kernel has overwritten what came next: it goes on behind that.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Nothing more for now, or never again.
                Err(_) => break,
            }
        }
        self.file = Some(file);
    }

    /// Takes one record in: `priority,sequence,time,flags;message`, then lines of details.
    pub(super) fn take(&mut self, record: &str) {
        let Some((head, message)) = record.split_once(';') else { return };
        // Only the kernel's own words count: the facility is in the upper bits of the priority.
        let mut head = head.split(',');
        let priority = head.next().and_then(|it| it.parse::<u32>().ok());
        if priority.is_none_or(|priority| priority >> 3 != 0) {
            return;
        }
        let time = head.nth(1).and_then(|it| it.parse::<u64>().ok()).unwrap_or_default();
        let message = message.lines().next().unwrap_or_default();
        if let Some(usage) = usage(message) {
            self.context.usage = Some(usage);
        } else if let Some(words) = message.strip_prefix("oom-kill:") {
            self.context.constraint = constraint(words);
        } else if let Some(mut kill) = killed(message) {
            let context = std::mem::take(&mut self.context);
            // Of a group (memory.oom.group) the kernel says it of the first victim alone, and then
            // once more that it kills that one, with the others.
            let again = |(then, known): &(u64, KernelKill)| {
                known.pid == kill.pid && time.saturating_sub(*then) <= SAME_PROCESS_US
            };
            if self.kills.iter().any(again) {
                return;
            }
            if let Some((_, constraint, limited, own)) =
                context.constraint.filter(|(pid, ..)| *pid == kill.pid)
            {
                kill.constraint = Some(constraint);
                // Otherwise it was said when nobody could be killed.
                let usage = context.usage.filter(|_| limited.is_some());
                (kill.usage_bytes, kill.limit_bytes) = usage.unzip();
                (kill.limited_cgroup, kill.cgroup) = (limited, own);
            }
            if self.kills.len() >= MAX_KILLS {
                self.kills.pop_front();
            }
            self.kills.push_back((time, kill));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(records: &[&str]) -> KernelLog {
        let mut log = KernelLog::default();
        records.iter().for_each(|record| log.take(record));
        log
    }

    const USAGE: &str = "6,1,100,-;memory: usage 65536kB, limit 65536kB, failcnt 31";
    const CHOICE: &str = "6,2,101,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,\
        mems_allowed=0,oom_memcg=/a,task_memcg=/a/b,c,task=hog,pid=9,pid=7,uid=0";
    const KILL: &str = "3,3,102,-;Memory cgroup out of memory: Killed process 7 (hog) (x)) \
        total-vm:80000kB, anon-rss:65000kB, file-rss:512kB, shmem-rss:0kB, UID:0 pgtables:180kB \
        oom_score_adj:-5\n SUBSYSTEM=x";

    #[test]
    fn where_memory_ran_out_is_known_before_the_kill_is_told() {
        let mut log = log(&[USAGE, CHOICE]);
        assert_eq!(log.shortage_of(7), Some(Shortage::Cgroup("/a".to_owned())));
        assert_eq!(log.shortage_of(8), None);
        log.take(KILL);
        assert_eq!(log.shortage_of(7), Some(Shortage::Cgroup("/a".to_owned())));
        log.take(
            "6,4,103,-;oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,\
             mems_allowed=0,global_oom,task_memcg=/a/b,task=hog,pid=9,uid=0",
        );
        assert_eq!(log.shortage_of(9), Some(Shortage::Host));
    }

    #[test]
    fn kills_are_asked_for_by_cgroup() {
        let mut log = log(&[USAGE, CHOICE, KILL]);
        assert_eq!(log.kills_of(|path| path == "/a"), []);
        let pids = |kills: Vec<KernelKill>| kills.iter().map(|kill| kill.pid).collect::<Vec<_>>();
        assert_eq!(pids(log.kills_of(|path| path.starts_with("/a/"))), [7]);
        assert_eq!(log.kill_of(7), None);
    }

    #[test]
    fn a_kill_is_put_together() {
        let kill = log(&[USAGE, CHOICE, KILL]).kill_of(7).unwrap();
        let expect = KernelKill {
            pid: 7,
            comm: "hog) (x)".to_owned(),
            total_vm_bytes: 80_000 << 10,
            anon_bytes: 65_000 << 10,
            file_bytes: 512 << 10,
            shmem_bytes: 0,
            oom_score_adj: Some(-5),
            constraint: Some("CONSTRAINT_MEMCG".to_owned()),
            limited_cgroup: Some("/a".to_owned()),
            cgroup: Some("/a/b,c".to_owned()),
            usage_bytes: Some(65_536 << 10),
            limit_bytes: Some(65_536 << 10),
        };
        assert_eq!(kill, expect);
    }

    #[test]
    fn another_victims_context_is_not_this_ones() {
        let other = KILL.replace("process 7", "process 8");
        let kill = log(&[USAGE, CHOICE, &other]).kill_of(8).unwrap();
        assert_eq!(
            (kill.anon_bytes, kill.constraint, kill.limit_bytes),
            (65_000 << 10, None, None)
        );
    }

    #[test]
    fn what_programs_write_to_the_log_is_not_believed() {
        let forged = KILL.replacen("3,", "11,", 1);
        assert_eq!(log(&[&forged]).kill_of(7), None);
        for record in ["", ";", "6,1,1,-;", "x;oom-kill:", "6,1,1,-;Killed process 7 (a) total-vm:"]
        {
            assert_eq!(log(&[record]).kill_of(7), None);
        }
    }

    /// The first victim of a group is killed twice, so to speak; the others' context is not told.
    #[test]
    fn a_group_is_told_as_the_kernel_tells_it() {
        let again = KILL.replace("102", "402").replace("65000kB", "1200kB");
        let other = KILL.replace("process 7 (hog)", "process 8 (small)");
        let group = "6,4,103,-;Tasks in /a are going to be killed due to memory.oom.group set";
        let mut log = log(&[USAGE, CHOICE, KILL, group, &again, &other]);
        let first = log.kill_of(7).unwrap();
        assert_eq!((first.anon_bytes, first.limit_bytes), (65_000 << 10, Some(65_536 << 10)));
        let other = log.kill_of(8).unwrap();
        assert_eq!((other.comm.as_str(), other.limit_bytes), ("small) (x)", None));
        assert_eq!(log.kill_of(7), None);
        // The number has a new owner.
        log.take(KILL);
        log.take(&KILL.replace("102", "6000000").replace("hog", "next"));
        assert_eq!(log.kill_of(7).unwrap().comm, "next) (x)");
    }

    /// The host's memory, that of a cpuset's nodes, and a victim that was chosen because it asked.
    #[test]
    fn kills_without_a_cgroups_limit_are_understood() {
        for (constraint, cpuset, before) in [
            ("NONE", "cpuset=/,mems_allowed=0", "Out of memory"),
            ("CPUSET", "cpuset=/a,b,mems_allowed=0-1", "Out of memory"),
            ("NONE", "cpuset=/,mems_allowed=0", "Out of memory (oom_kill_allocating_task)"),
        ] {
            let choice = format!(
                "6,1,5,-;oom-kill:constraint=CONSTRAINT_{constraint},nodemask=(null),{cpuset},\
                 global_oom,task_memcg=/user.slice,task=stress,pid=77,uid=1000"
            );
            let kill = format!(
                "3,2,6,-;{before}: Killed process 77 (stress) total-vm:9kB, anon-rss:5kB, \
                 file-rss:4kB, shmem-rss:3kB, UID:1000 pgtables:2kB oom_score_adj:300"
            );
            // A cgroup's words, from when nobody in it could be killed.
            let kill = log(&[USAGE, &choice, &kill]).kill_of(77).unwrap();
            assert_eq!(kill.constraint, Some(format!("CONSTRAINT_{constraint}")));
            assert_eq!((kill.limited_cgroup, kill.limit_bytes), (None, None));
            assert_eq!(kill.cgroup.as_deref(), Some("/user.slice"));
            assert_eq!((kill.shmem_bytes, kill.oom_score_adj), (3 << 10, Some(300)));
        }
    }

    /// After ten kills in five seconds the kernel says of a kill only that.
    #[test]
    fn a_terse_kernel_is_understood() {
        let kill = log(&[KILL]).kill_of(7).unwrap();
        assert_eq!((kill.anon_bytes, kill.limit_bytes, kill.cgroup), (65_000 << 10, None, None));
    }

    proptest::proptest! {
        #[test]
        fn no_words_are_too_much(
            words in proptest::collection::vec(
                proptest::prop_oneof![
                    ".*",
                    "[0-9]{1,3},[0-9]{1,20},[0-9]{1,21},-;(memory: usage |oom-kill:)?.*",
                    "3,1,1,-;Out of memory: Killed process -?[0-9]{0,12} \\(.*\\) total-vm:[0-9]{0,22}kB.*",
                    "6,1,1,-;memory: usage [0-9]{0,22}kB, limit [0-9]{0,22}kB, failcnt 1",
                ],
                0..20,
            ),
        ) {
            super::super::fuzzing::kernel_log(words.join("\n").as_bytes());
        }
    }

    #[test]
    fn kills_are_bounded_and_handed_out_once() {
        let mut log = log(&[]);
        for pid in 0..200 {
            log.take(&KILL.replace("process 7", &format!("process {pid}")));
        }
        assert_eq!(log.kills.len(), MAX_KILLS);
        assert!(
            log.kill_of(199).is_some() && log.kill_of(199).is_none() && log.kill_of(0).is_none()
        );
    }
}
