//! The kernel's messages about a kill: those of mm/oom_kill.c and mm/memcontrol.c. They are meant for people
//! and differ between kernels: what is not understood is left out, and nothing else depends on it.
//! Names in them are the target's choice.
//!
//! Must not: put several together.

use super::KernelKill;

/// `memory: usage 65536kB, limit 65536kB, failcnt 12`, in bytes.
pub(super) fn usage(message: &str) -> Option<(u64, u64)> {
    let rest = message.strip_prefix("memory: usage ")?;
    let (usage, rest) = rest.split_once("kB, limit ")?;
    let (limit, _) = rest.split_once("kB")?;
    let bytes = |kib: &str| kib.trim().parse::<u64>().ok()?.checked_mul(1024);
    Some((bytes(usage)?, bytes(limit)?))
}

/// `constraint=CONSTRAINT_MEMCG,...,oom_memcg=/a,task_memcg=/a/b,task=name,pid=7,uid=0`: the pid, and
/// what comes before the name. A path may hold commas; what is known to follow it ends it.
pub(super) fn constraint(words: &str) -> Option<(u32, String, Option<String>, Option<String>)> {
    let between = |from: &str, to: &str| {
        let (_, rest) = words.split_once(from)?;
        rest.split_once(to).map(|(found, _)| unescaped(found))
    };
    let constraint = between("constraint=", ",")?;
    let limited = between(",oom_memcg=", ",task_memcg=");
    let own = between(",task_memcg=", ",task=");
    // The name may hold anything: the last pid counts.
    let pid = words.rsplit_once(",pid=")?.1.split(',').next()?.parse().ok()?;
    Some((pid, constraint, limited, own))
}

/// Text as it was before the log made `\xNN` of every byte that is not plain ASCII.
pub(in super::super) fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, behind)) = rest.split_once("\\x") {
        bytes.extend(plain.as_bytes());
        let code = behind.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match code {
            Some(byte) => bytes.push(byte),
            None => bytes.extend(b"\\x"),
        }
        rest = if code.is_some() { behind.get(2..).unwrap_or_default() } else { behind };
    }
    bytes.extend(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `Memory cgroup out of memory: Killed process 7 (name) total-vm:8kB, anon-rss:4kB, ...`.
pub(super) fn killed(message: &str) -> Option<KernelKill> {
    let (before, rest) = message.split_once("Killed process ")?;
    // Other lines may quote a name that looks like this.
    if !before.to_ascii_lowercase().contains("out of memory") {
        return None;
    }
    let (pid, rest) = rest.split_once(" (")?;
    let (comm, rest) = rest.rsplit_once(") total-vm:")?;
    let kib = |key: &str| -> Option<u64> {
        let rest = if key.is_empty() { rest } else { rest.split_once(key)?.1 };
        rest.split_once("kB")?.0.parse::<u64>().ok()?.checked_mul(1024)
    };
    let adjusted = rest.split_once("oom_score_adj:").and_then(|(_, value)| {
        value.split(|letter: char| letter != '-' && !letter.is_ascii_digit()).next()?.parse().ok()
    });
    Some(KernelKill {
        pid: pid.parse().ok()?,
        comm: unescaped(comm),
        total_vm_bytes: kib("")?,
        anon_bytes: kib("anon-rss:").unwrap_or_default(),
        file_bytes: kib("file-rss:").unwrap_or_default(),
        shmem_bytes: kib("shmem-rss:").unwrap_or_default(),
        oom_score_adj: adjusted,
        ..KernelKill::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_they_were_before_the_log_escaped_them() {
        assert_eq!(unescaped(r"caf\xc3\xa9 \x5cx41 \xzz \x4"), r"café \x41 \xzz \x4");
        assert_eq!(unescaped(r"\xff"), "\u{fffd}");
    }
}
