//! What a profile says about itself, beside its samples.

use std::time::Duration;

use holmes_common::limits::WAIT_SHARE;

use crate::capture::{Incident, Losses, Reason};
use crate::rules::FiredRule;
use crate::window::{Cut, HeapNote, ProfileKind, Timeline};

/// Losses above this share of the samples taken make a profile's shares doubtful, in percent.
const DOUBTFUL_PERCENT: f64 = 1.0;

/// What a Go program's own heap profile is, in its comments.
const GO_HEAP: &str = "alloc_* is since the program began, inuse_* what of that was not freed, both as of \
                       the collections before; scaled up from the samples as Go's own tools do";

/// When and of what a profile was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Wall-clock time of the cut's first moment, in nanoseconds since 1970 UTC.
    pub start_unix_ns: u64,
    /// Nanoseconds of CPU time that one sample stands for.
    pub sample_period_ns: u64,
    /// Bytes of memory that one sample stands for, on average: of touched memory, or of allocated.
    pub memory_interval: u64,
    /// Free text for whoever opens the file, one line each.
    pub comments: Vec<String>,
}

impl About {
    /// Of one profile of an incident.
    pub fn incident(incident: &Incident, cut: &Cut) -> Self {
        let until_trigger = incident.trigger.since(cut.from);
        let start_unix_ns = incident.trigger_unix_ns.saturating_sub(nanos(until_trigger));
        let rule = match (incident.signal, incident.rule, incident.reason) {
            (Some(signal), Some(FiredRule::Value(rule)), _) => format!(
                "rule: {} min {}, diff {}, abs {}, max {}; value {:.2}",
                signal.name(),
                rule.min,
                rule.diff,
                rule.abs,
                rule.max,
                incident.value
            ),
            (_, _, Reason::Leak(growth)) => format!("rule: leak; {growth}"),
            (_, _, Reason::Warned(warning)) => format!("rule: psi; {warning}"),
            _ => match incident.victims.first() {
                Some(victim) => {
                    format!("rule: none, the kernel killed pid {} for memory", victim.pid)
                }
                None => "rule: none, triggered by hand".to_owned(),
            },
        };
        let mut comments = vec![
            format!("holmes-ebpf {}", env!("CARGO_PKG_VERSION")),
            format!("target: {}", incident.target),
            rule,
        ];
        let sample_period_ns = incident.sample_period_ns;
        if cut.kind == ProfileKind::GoHeap {
            // Nothing of it went through the window. Of several the coarsest counts.
            comments.extend(incident.go_heaps.iter().map(|heap| heap.text.clone()));
            comments.push(GO_HEAP.to_owned());
            let memory_interval = incident.go_heaps.iter().map(|it| it.rate).max().unwrap_or(0);
            return Self { start_unix_ns, sample_period_ns, memory_interval, comments };
        }
        let onset = incident.onset.since(incident.start).as_secs_f64();
        comments.push(format!(
            "window: {:.3} s, onset after {onset:.3} s of the incident",
            cut.to.since(cut.from).as_secs_f64()
        ));
        comments.extend(loss_comments(&incident.losses, cut.kind));
        if cut.kind == ProfileKind::Memory {
            comments.extend(memory_comments(incident, cut));
        }
        if cut.kind == ProfileKind::Blocked {
            comments.extend(wait_comments(cut, &incident.losses));
        }
        let memory_interval = incident.memory_interval;
        Self { start_unix_ns, sample_period_ns, memory_interval, comments }
    }

    /// Of a recording that nothing triggered. `target` says in words what was recorded.
    pub fn recording(
        start_unix_ns: u64,
        sample_period_ns: u64,
        target: &str,
        losses: &Losses,
        cut: &Cut,
    ) -> Self {
        let mut comments =
            vec![format!("holmes-ebpf {}", env!("CARGO_PKG_VERSION")), format!("target: {target}")];
        comments.extend(loss_comments(losses, cut.kind));
        if cut.kind == ProfileKind::Blocked {
            comments.extend(wait_comments(cut, losses));
        }
        Self { start_unix_ns, sample_period_ns, memory_interval: 0, comments }
    }

    /// The same of a timeline: what it says of its spans.
    #[must_use]
    pub fn of_timeline(mut self, timeline: &Timeline) -> Self {
        let since = timeline.whole_from.since(timeline.from);
        if !since.is_zero() {
            self.comments.push(format!(
                "timeline: whole from {:.3} s on; of what was over before, something had to make room",
                since.as_secs_f64()
            ));
        }
        self.comments.push(format!(
            "timeline: waits one by one, with what ran between them; of a thread that waits often on a CPU \
             that switches a thousand times in a second one wait of {WAIT_SHARE} is drawn, and says for how \
             many it stands; the rest of its time is unknown"
        ));
        self
    }

    /// Of a recording of allocations, of which one was taken for each `interval` bytes. `notes` say
    /// what was seen and what is missing.
    pub fn allocations(
        start_unix_ns: u64,
        interval: u64,
        target: &str,
        notes: impl IntoIterator<Item = String>,
    ) -> Self {
        let mut comments =
            vec![format!("holmes-ebpf {}", env!("CARGO_PKG_VERSION")), format!("target: {target}")];
        comments.push(format!(
            "one sample for each {interval} bytes; in use is what was allocated while this was \
             recorded, and not given back by its end"
        ));
        comments.extend(notes);
        Self { start_unix_ns, sample_period_ns: 0, memory_interval: interval, comments }
    }

    /// Of the heap profile that a Go program keeps of itself.
    pub fn go_heap(start_unix_ns: u64, target: &str, heap: &HeapNote) -> Self {
        let comments = vec![
            format!("holmes-ebpf {}", env!("CARGO_PKG_VERSION")),
            format!("target: {target}"),
            heap.text.clone(),
            GO_HEAP.to_owned(),
        ];
        Self { start_unix_ns, sample_period_ns: 0, memory_interval: heap.rate, comments }
    }

    /// Of the goroutines of a process. `notes` say how far they can be trusted.
    pub fn goroutines(
        start_unix_ns: u64,
        target: &str,
        notes: impl IntoIterator<Item = String>,
    ) -> Self {
        let mut comments =
            vec![format!("holmes-ebpf {}", env!("CARGO_PKG_VERSION")), format!("target: {target}")];
        comments.extend(notes);
        Self { start_unix_ns, sample_period_ns: 0, memory_interval: 0, comments }
    }
}

/// What of waits was lost: their beginnings, or how long they took.
fn lost_waits(losses: &Losses) -> u64 {
    let of_waits = |name: &str| name.starts_with("waits_") || name.starts_with("wait_");
    losses.notes.iter().filter(|(name, _)| of_waits(name)).map(|(_, count)| count).sum()
}

/// How far a profile of waits can be trusted.
fn wait_comments(cut: &Cut, losses: &Losses) -> [String; 3] {
    let [waits, delay, ..] = cut.totals();
    let lost = lost_waits(losses);
    [
        format!(
            "waits: {waits} began in the window; {delay} ns were waited in it, whenever that began"
        ),
        format!(
            "waits: exact, but of threads that wait often on a CPU that switches a thousand times in a \
             second one of {WAIT_SHARE} stands for all: n of those are within sqrt(n x {WAIT_SHARE}) of the \
             truth, two times out of three"
        ),
        trust(lost, lost.saturating_add(waits.unsigned_abs()), "records of waits"),
    ]
}

/// How far a memory profile can be trusted.
fn memory_comments(incident: &Incident, cut: &Cut) -> Vec<String> {
    let interval = incident.memory_interval.max(1);
    let [_, touched, _, in_use] = cut.totals();
    let mut comments = vec![
        format!(
            "memory: page faults, one sample for {interval} bytes on average: a stack's bytes are \
             within {interval} x sqrt(bytes / {interval}) of the truth, two times out of three"
        ),
        format!("memory: {touched} bytes touched in the window, {in_use} in use at its end"),
    ];
    if let Some(report) = &incident.memory {
        comments.push(format!(
            "memory: {} bytes were resident in {} processes; what they touched before the recorder \
             began, and pages of files that came with a neighbour's fault, are in no stack",
            report.resident_bytes, report.processes
        ));
    }
    comments
}

fn nanos(duration: Duration) -> u64 {
    duration.as_nanos().try_into().unwrap_or(u64::MAX)
}

/// Whether a profile can be trusted of which so much was lost.
fn trust(lost: u64, taken: u64, what: &str) -> String {
    let percent = 100.0 * lost as f64 / taken.max(1) as f64;
    if percent > DOUBTFUL_PERCENT {
        format!("shares are doubtful: {percent:.1} % of the {what} were lost")
    } else {
        "shares can be trusted".to_owned()
    }
}

fn loss_comments(losses: &Losses, kind: ProfileKind) -> Vec<String> {
    let lost = losses.lost_in_all();
    let counts = format!("CPU samples: {}", losses.account());
    let mut comments = vec![counts];
    if kind != ProfileKind::Blocked {
        comments.push(trust(lost, losses.taken, "samples"));
    }
    let noted = losses.notes.iter().filter(|&(_, &count)| count > 0);
    comments.extend(noted.map(|(what, count)| format!("{what}: {count}")));
    comments
}

#[cfg(test)]
mod tests {
    use super::super::testing::made;
    use super::*;

    fn losses(taken: u64, lost: u64) -> Losses {
        Losses {
            taken,
            reported: taken - lost,
            lost: [("ring_full".to_owned(), lost), ("stack_map".to_owned(), 0)].into(),
            notes: [("stacks cut".to_owned(), 2)].into(),
        }
    }

    #[test]
    fn losses_are_told_and_judged() {
        let cut = made().cut;
        let about = About::recording(5, 1, "host", &losses(100, 12), &cut);
        assert_eq!(
            about.comments[1..],
            [
                "target: host",
                "CPU samples: 100 taken = 88 reported + 12 lost (ring_full 12)",
                "shares are doubtful: 12.0 % of the samples were lost",
                "stacks cut: 2",
            ]
        );
        let about = About::recording(5, 1, "host", &losses(100, 1), &cut);
        assert!(about.comments.contains(&"shares can be trusted".to_owned()));
    }

    #[test]
    fn a_profile_of_waits_is_judged_by_what_was_lost_of_waits() {
        let mut cut = made().cut;
        cut.kind = ProfileKind::Blocked;
        let told = |losses: &Losses| About::recording(5, 1, "host", losses, &cut).comments;
        let is_doubtful = |told: Vec<String>| told.iter().any(|it| it.starts_with("shares are"));
        // CPU samples say nothing of it.
        assert!(!is_doubtful(told(&losses(100, 50))));
        let mut some = losses(100, 0);
        some.notes.insert("wait_ends_lost".to_owned(), 5);
        assert!(is_doubtful(told(&some)), "{:?}", told(&some));
    }
}
