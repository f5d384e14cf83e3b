//! Findings about made-up hosts.

use std::fs;
use std::os::unix::fs::symlink;

use caps::Capability;
use tempfile::TempDir;

use super::*;

/// A host made of files. Starts as one on which everything works.
struct Host {
    folder: TempDir,
    answers: Answers,
    held: Held,
}

const HYBRID: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
this line is no mount
34 31 0:35 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

impl Host {
    fn good() -> Self {
        let host = Self {
            folder: tempfile::tempdir().unwrap(),
            answers: Answers::YES,
            held: Held::of(
                super::super::capabilities::needs(Release::new(6, 1))
                    .into_iter()
                    .map(|need| need.capability),
            ),
        };
        host.write("proc/sys/kernel/osrelease", "6.12.3-cloud-amd64\n")
            .write("proc/sys/kernel/kptr_restrict", "1\n")
            .write("proc/sys/kernel/perf_event_max_stack", "127\n")
            .write("proc/sys/net/core/bpf_jit_enable", "1\n")
            .write("proc/pressure/memory", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n")
            .write("proc/kallsyms", "ffffffff81000000 T _text\n")
            .write("proc/2/comm", "kthreadd\n")
            .write("dev/kmsg", "")
            .write("proc/self/mountinfo", HYBRID)
            .write(
                "proc/self/limits",
                "Max open files            1048576              1048576 files\n",
            )
            .link("proc/1/ns/pid", "pid:[4026531836]")
            .link("proc/self/ns/user", "user:[4026531837]");
        host
    }

    fn write(&self, path: &str, text: &str) -> &Self {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn link(&self, path: &str, target: &str) -> &Self {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&path);
        symlink(target, path).unwrap();
        self
    }

    fn roots(&self) -> Roots {
        let below = |name| self.folder.path().join(name);
        Roots { proc: below("proc"), sys: below("sys"), boot: below("boot"), dev: below("dev") }
    }

    fn findings(&self) -> Vec<Finding> {
        inspect(&self.roots(), &self.held, &self.answers, &self.folder.path().join("dump"))
    }

    fn find(&self, name: &str) -> Finding {
        let found = self.findings().into_iter().find(|finding| finding.name == name);
        found.unwrap_or_else(|| panic!("no finding `{name}`"))
    }

    /// State, detail and fix in one line.
    fn tell(&self, name: &str) -> String {
        let finding = self.find(name);
        format!("{:?}: {} | {}", finding.state, finding.detail, finding.fix.unwrap_or_default())
    }
}

#[test]
fn on_a_good_host_only_the_missing_type_information_is_told() {
    let bad: Vec<_> =
        Host::good().findings().into_iter().filter(|one| one.state != State::Ok).collect();
    assert_eq!(bad.len(), 1, "{bad:?}");
    assert_eq!(bad[0].name, "BTF");
    assert!(!bad[0].is_fatal());
}

#[test]
fn a_host_without_any_file_has_findings_and_no_panic() {
    let empty = tempfile::tempdir().unwrap();
    let nowhere = empty.path().join("nowhere");
    let [proc, sys, boot, dev] = [(); 4].map(|()| nowhere.clone());
    let roots = Roots { proc, sys, boot, dev };
    let findings = inspect(&roots, &Held::of([]), &Answers::YES, &nowhere);
    assert!(findings.len() > 15);
    let without_fix: Vec<_> = findings
        .iter()
        .filter(|one| one.state == State::Missing && one.fix.is_none())
        .filter(|one| !one.name.starts_with("CAP_"))
        .collect();
    assert!(without_fix.is_empty(), "{without_fix:?}");
}

#[test]
fn pressure_that_the_kernel_does_not_keep_is_told() {
    let host = Host::good();
    assert_eq!(host.find("memory pressure").state, State::Ok);
    assert!(host.find("memory pressure").detail.contains("cgroup v1 knows none"));
    fs::remove_file(host.folder.path().join("proc/pressure/memory")).unwrap();
    assert_eq!(host.find("memory pressure").state, State::Degraded);
    assert!(host.tell("memory pressure").contains("psi=1"));
}

#[test]
fn missing_capabilities_share_one_piece_of_advice() {
    let mut host = Host::good();
    host.held = Held::of([Capability::CAP_BPF, Capability::CAP_SYS_PTRACE]);
    assert!(host.find("CAP_PERFMON").is_fatal());
    assert!(!host.find("CAP_SYSLOG").is_fatal());
    assert!(
        host.tell("CAP_PERFMON")
            .contains("add: [PERFMON, CHECKPOINT_RESTORE, DAC_READ_SEARCH, SYSLOG]")
    );
    assert_eq!(host.find("CAP_SYSLOG").fix, None);
    assert_eq!(host.find("CAP_BPF").state, State::Ok);
}

#[test]
fn a_refused_bpf_call_is_explained() {
    let mut host = Host::good();
    host.answers.bpf_map = Err(libc::EPERM);
    host.write("proc/sys/kernel/unprivileged_bpf_disabled", "2\n");
    assert!(host.tell("bpf system call").contains("unprivileged_bpf_disabled is 2"));
    assert!(host.find("bpf system call").is_fatal());
    host.write("proc/self/status", "Name:\tx\nSeccomp:\t2\n");
    assert!(host.tell("bpf system call").contains("seccomp=unconfined"));
    host.answers.bpf_map = Err(libc::ENOSYS);
    assert!(host.tell("bpf system call").contains("CONFIG_BPF_SYSCALL=y"));
}

#[test]
fn an_old_kernel_is_named() {
    let mut host = Host::good();
    host.write("proc/sys/kernel/osrelease", "5.4.0-150-generic\n");
    host.answers.ring_buffer = Err(libc::EINVAL);
    assert!(host.tell("kernel").starts_with("Degraded: 5.4.0 is older than 5.10.0"));
    assert!(host.find("BPF ring buffer").is_fatal());
    assert!(host.tell("bpf_task_pt_regs").contains("end of the kernel stack"));
    host.write("proc/self/limits", "Max locked memory         65536                65536 bytes\n");
    assert!(host.tell("locked memory").contains("ulimit -l unlimited"));
    host.held = Held::of([Capability::CAP_SYS_RESOURCE]);
    assert_eq!(host.find("locked memory").state, State::Ok);
}

#[test]
fn the_usercopy_trap_is_known_by_release_and_configuration() {
    let host = Host::good();
    assert!(host.findings().iter().all(|one| one.name != "hardened usercopy"));
    let release = "6.0.12-1-amd64";
    host.write("proc/sys/kernel/osrelease", release);
    assert_eq!(host.find("hardened usercopy").state, State::Degraded);
    host.write(&format!("boot/config-{release}"), "CONFIG_X=y\nCONFIG_HARDENED_USERCOPY=y\n");
    assert_eq!(host.find("hardened usercopy").state, State::Missing);
    host.write(&format!("boot/config-{release}"), "# CONFIG_HARDENED_USERCOPY is not set\n");
    assert_eq!(host.find("hardened usercopy").state, State::Ok);
    for (release, expected) in
        [(Release::new(5, 18), Some(false)), (Release::new(6, 1), Some(false))]
    {
        assert_eq!(usercopy_deadlock(&host.roots(), release), expected, "{release}");
    }
}

#[test]
fn sampling_tells_what_forbids_it() {
    let mut host = Host::good();
    host.answers.cpu_clock = Err(libc::EACCES);
    host.write("proc/sys/kernel/perf_event_paranoid", "4\n");
    assert!(host.tell("cpu-clock events").contains("perf_event_paranoid is 4"));
    assert!(host.find("cpu-clock events").is_fatal());
    host.answers.cycles = Err(libc::ENOENT);
    assert!(host.tell("hardware cycles").starts_with("Degraded: no counter"));
    assert!(!host.find("hardware cycles").is_fatal());
    host.write("proc/sys/kernel/perf_event_max_stack", "32\n");
    assert!(host.tell("stack depth").contains("sudo sysctl kernel.perf_event_max_stack=127"));
}

#[test]
fn namespaces_and_hidden_processes_are_told_with_the_field_that_fixes_them() {
    let mut host = Host::good();
    host.link("proc/1/ns/pid", "pid:[4026532281]");
    assert!(host.tell("pid namespace").contains("hostPID: true"));
    fs::remove_file(host.folder.path().join("proc/1/ns/pid")).unwrap();
    assert_eq!(host.find("pid namespace").state, State::Ok, "kthreadd is there");
    host.write("proc/2/comm", "bash\n");
    assert_eq!(host.find("pid namespace").state, State::Degraded);

    host.link("proc/self/ns/user", "user:[4026532280]");
    assert!(host.tell("user namespace").contains("hostUsers: true"));

    host.write("proc/self/mountinfo", "22 27 0:21 / /proc rw - proc proc rw,hidepid=2\n");
    assert_eq!(host.find("hidepid").state, State::Ok, "CAP_SYS_PTRACE sees through it");
    host.held = Held::of([]);
    assert!(host.tell("hidepid").contains("remount,hidepid=0"));

    host.write("proc/kallsyms", "0000000000000000 T _text\n");
    assert!(host.tell("kernel symbols").ends_with("kernel.kptr_restrict is 1) | get CAP_SYSLOG"));
    host.write("proc/sys/kernel/kptr_restrict", "2\n");
    assert!(host.tell("kernel symbols").contains("sudo sysctl kernel.kptr_restrict=1"));
}

#[test]
fn lockdown_and_the_interpreter_are_told() {
    let host = Host::good();
    host.write("sys/kernel/security/lockdown", "none integrity [confidentiality]\n");
    assert!(host.find("kernel lockdown").is_fatal());
    host.write("sys/kernel/security/lockdown", "none [integrity] confidentiality\n");
    assert_eq!(host.find("kernel lockdown").state, State::Ok);
    host.write("proc/sys/net/core/bpf_jit_enable", "0\n");
    assert!(host.tell("BPF JIT").contains("sudo sysctl net.core.bpf_jit_enable=1"));
    host.write("sys/kernel/btf/vmlinux", "this is no BTF");
    assert!(host.tell("BTF").contains("is not understood"));
}

#[test]
fn cgroup_layouts_are_summed_up() {
    let host = Host::good();
    let v1 = "34 31 0:35 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
    let v2 = "41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    for (mounts, state, detail) in [
        (HYBRID, State::Ok, "hybrid: v2 at /sys/fs/cgroup/unified, v1 for memory"),
        (v1, State::Ok, "v1 for memory"),
        (v2, State::Ok, "v2 at /sys/fs/cgroup"),
        ("", State::Degraded, "none mounted; only the host is watched"),
    ] {
        host.write("proc/self/mountinfo", mounts);
        let finding = host.find("cgroups");
        assert_eq!((finding.state, finding.detail.as_str()), (state, detail));
    }
}

#[test]
fn the_dump_folder_and_open_files_are_looked_at() {
    let host = Host::good();
    assert!(host.tell("dump folder").ends_with("dump will be made | "));
    host.write("dump", "a file");
    assert!(host.tell("dump folder").contains("is no folder"));
    host.write("proc/self/limits", "Max open files            256                  4096 files\n");
    assert!(host.tell("open files").contains("ulimit -n 65536"));
}

#[test]
fn the_kernels_log_is_opened() {
    let host = Host::good();
    assert_eq!(host.find("kernel log").state, State::Ok);
    fs::remove_file(host.folder.path().join("dev/kmsg")).unwrap();
    assert_eq!(host.find("kernel log").state, State::Degraded);
    assert!(host.tell("kernel log").contains("--device /dev/kmsg"));
}

#[test]
fn the_running_kernel_answers() {
    // Whatever it answers here, asking must work for anybody, and leave no descriptor open.
    let count = || fs::read_dir("/proc/self/fd").map(Iterator::count).unwrap_or_default();
    let before = count();
    for _ in 0..64 {
        let _ = Answers::ask();
    }
    assert!(count() < before + 64, "descriptors leak");
    assert!(Roots::default().release().is_some());
}
