//! The capabilities of this process: which are needed, which are missing, and how to get them.
//!
//! Must not: look at the user id. A root without capabilities is nobody, and the other way round.

use caps::{CapSet, Capability, CapsHashSet};
use thiserror::Error;

use super::release::Release;

/// `CAP_BPF` and `CAP_PERFMON` were split from `CAP_SYS_ADMIN` here.
const SPLIT: Release = Release::new(5, 8);

/// `CAP_CHECKPOINT_RESTORE` was split from `CAP_SYS_ADMIN` here.
const CHECKPOINT_RESTORE: Release = Release::new(5, 9);

/// From here on the memory of maps counts towards the memory cgroup and no longer towards
/// `RLIMIT_MEMLOCK`, so that nobody needs `CAP_SYS_RESOURCE` to raise that.
pub(super) const MEMLOCK_FREE: Release = Release::new(5, 11);

/// A capability that the recorder makes use of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Which.
    pub capability: Capability,
    /// What it switches on.
    pub enables: &'static str,
    /// Whether nothing is sampled without it.
    pub essential: bool,
}

impl Need {
    /// `CAP_BPF`.
    pub fn name(&self) -> String {
        self.capability.to_string()
    }

    /// `BPF`: the name in Docker's and Kubernetes' lists.
    fn short_name(&self) -> String {
        self.name().trim_start_matches("CAP_").to_owned()
    }
}

/// What a kernel of this release wants.
pub fn needs(release: Release) -> Vec<Need> {
    let need = |capability, enables, essential| Need { capability, enables, essential };
    let mut needs = Vec::new();
    if release < SPLIT {
        needs.push(need(Capability::CAP_SYS_ADMIN, "loading the probes, sampling", true));
    } else {
        needs.push(need(Capability::CAP_BPF, "loading the probes", true));
        needs.push(need(Capability::CAP_PERFMON, "sampling, reading stacks", true));
    }
    needs.push(need(
        Capability::CAP_SYS_PTRACE,
        "other users' mappings: names of their functions",
        false,
    ));
    let restore = if release < CHECKPOINT_RESTORE {
        Capability::CAP_SYS_ADMIN
    } else {
        Capability::CAP_CHECKPOINT_RESTORE
    };
    if needs.iter().all(|need| need.capability != restore) {
        needs.push(need(restore, "executables that were deleted or are in containers", false));
    }
    needs.push(need(Capability::CAP_DAC_READ_SEARCH, "other users' executables", false));
    needs.push(need(Capability::CAP_SYSLOG, "names of kernel functions", false));
    if release < MEMLOCK_FREE {
        needs.push(need(Capability::CAP_SYS_RESOURCE, "locking the maps' memory", true));
    }
    needs
}

/// Capabilities that are in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held(CapsHashSet);

/// The kernel does not tell the capabilities.
#[derive(Debug, Error)]
#[error(
    "cannot read this process's capabilities: run the recorder outside the sandbox that forbids capget(2)"
)]
pub struct CapabilityError(#[from] caps::errors::CapsError);

impl Held {
    /// The effective capabilities of the calling thread.
    ///
    /// # Errors
    /// A sandbox forbids to ask.
    pub fn read() -> Result<Self, CapabilityError> {
        Ok(Self(caps::read(None, CapSet::Effective)?))
    }

    /// These and no others.
    pub fn of(capabilities: impl IntoIterator<Item = Capability>) -> Self {
        Self(capabilities.into_iter().collect())
    }

    /// Whether a capability, or the old one it was split from, is in effect.
    pub fn has(&self, capability: Capability) -> bool {
        // The kernel itself lets the old one stand for these three, and for no other here:
        // bpf_capable(), perfmon_capable(), checkpoint_restore_ns_capable().
        let split = matches!(
            capability,
            Capability::CAP_BPF | Capability::CAP_PERFMON | Capability::CAP_CHECKPOINT_RESTORE
        );
        self.0.contains(&capability) || (split && self.0.contains(&Capability::CAP_SYS_ADMIN))
    }

    /// What is needed on this kernel and not in effect.
    pub fn missing(&self, release: Release) -> Vec<Need> {
        needs(release).into_iter().filter(|need| !self.has(need.capability)).collect()
    }
}

/// Capabilities without which nothing is sampled are missing.
#[derive(Debug, Error, PartialEq)]
#[error("missing {}\n{advice}", names.join(" and "))]
pub struct MissingError {
    /// Their names.
    pub names: Vec<String>,
    /// How to get them.
    pub advice: String,
}

/// Checks that what is essential is there. The advice covers everything that is missing, so that
/// one change is enough.
///
/// # Errors
/// What is missing, and how to get it.
pub fn require(held: &Held, release: Release) -> Result<(), MissingError> {
    let missing = held.missing(release);
    let names: Vec<_> = missing.iter().filter(|need| need.essential).map(Need::name).collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(MissingError { names, advice: advice(&missing) })
}

/// How to get capabilities: on a host, under Docker, under Kubernetes. Three lines.
pub fn advice(missing: &[Need]) -> String {
    let short: Vec<_> = missing.iter().map(Need::short_name).collect();
    let lower: Vec<_> = missing.iter().map(|need| need.name().to_lowercase()).collect();
    let docker: Vec<_> = short.iter().map(|name| format!("--cap-add {name}")).collect();
    format!(
        "run it with sudo; or give them to the file: sudo setcap {}+ep \
         \"$(command -v holmes-ebpf)\"\nDocker: docker run {} ...\nKubernetes: \
         securityContext: {{ capabilities: {{ add: [{}] }} }}",
        lower.join(","),
        docker.join(" "),
        short.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: Release = Release::new(6, 1);

    fn names(needs: &[Need]) -> Vec<String> {
        needs.iter().map(Need::name).collect()
    }

    #[test]
    fn the_needs_follow_the_kernel() {
        assert_eq!(
            names(&needs(NEW)),
            [
                "CAP_BPF",
                "CAP_PERFMON",
                "CAP_SYS_PTRACE",
                "CAP_CHECKPOINT_RESTORE",
                "CAP_DAC_READ_SEARCH",
                "CAP_SYSLOG"
            ]
        );
        assert!(names(&needs(Release::new(5, 10))).contains(&"CAP_SYS_RESOURCE".to_owned()));
        assert_eq!(names(&needs(Release::new(5, 4)))[0], "CAP_SYS_ADMIN");
        assert!(!names(&needs(Release::new(5, 4))).contains(&"CAP_BPF".to_owned()));
    }

    #[test]
    fn sys_admin_stands_for_what_was_split_from_it_and_nothing_else() {
        let held = Held::of([Capability::CAP_SYS_ADMIN]);
        assert_eq!(require(&held, NEW), Ok(()));
        assert_eq!(
            names(&held.missing(NEW)),
            ["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH", "CAP_SYSLOG"]
        );
    }

    #[test]
    fn the_message_names_the_capability_the_sudo_line_and_the_kubernetes_field() {
        let everything_else = needs(NEW).into_iter().map(|need| need.capability);
        let held = Held::of(everything_else.filter(|one| *one != Capability::CAP_PERFMON));
        let error = require(&held, NEW).unwrap_err();
        assert_eq!(
            error.to_string(),
            "missing CAP_PERFMON\n\
             run it with sudo; or give them to the file: sudo setcap cap_perfmon+ep \
             \"$(command -v holmes-ebpf)\"\n\
             Docker: docker run --cap-add PERFMON ...\n\
             Kubernetes: securityContext: { capabilities: { add: [PERFMON] } }"
        );
    }

    #[test]
    fn what_is_not_essential_does_not_stop_the_recorder() {
        let held = Held::of([Capability::CAP_BPF, Capability::CAP_PERFMON]);
        assert_eq!(require(&held, NEW), Ok(()));
        assert!(!held.missing(NEW).is_empty());
    }
}
