//! What one source (the command line or the configuration file) says, with holes where it says
//! nothing; how one source covers another; and how the holes are filled with defaults.
//!
//! Must not: read text.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use holmes_common::limits::{DEFAULT_FAULT_INTERVAL, DEFAULT_RING_BYTES, DEFAULT_ROWS};
use thiserror::Error;

use crate::kernel::OptionalProbe;
use crate::rules::{MIN_READINGS, Rule};
use crate::settings::{
    DebuginfodSettings, NameSettings, ProbeSettings, RuleChange, RuleEdit, Tunables, Watch,
    WindowSettings,
};
use crate::signals::Signal;

/// Where incidents go by default.
pub(super) const DUMP_DIR: &str = "/var/lib/holmes";

/// Where fetched debug files are kept by default.
const DEBUG_CACHE: &str = "/var/cache/holmes";

/// Where the recorder serves by default: 0x221B, Holmes' address, on this host only.
pub(super) const LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8731);

/// Samples per second and CPU by default: a prime-like odd number, so that it does not run in step
/// with what a program does every 10 ms.
pub(super) const FREQUENCY: u32 = 49;

/// What a window that was not asked for holds beyond the incident: the bucket in progress and the
/// one that is being drained.
const WINDOW_SLACK: Duration = Duration::from_secs(2);

/// The settings of one source.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Layer {
    pub watch: Option<Watch>,
    pub interval: Option<Duration>,
    pub lookback: Option<Duration>,
    pub after: Option<Duration>,
    pub dump_dir: Option<PathBuf>,
    pub retention_bytes: Option<u64>,
    pub retention_age: Option<Duration>,
    /// `Some(None)` is "off".
    pub listen: Option<Option<SocketAddr>>,
    pub frequency: Option<u32>,
    pub window: Option<Duration>,
    pub window_bytes: Option<u64>,
    pub window_stacks: Option<u32>,
    pub ring_bytes: Option<u32>,
    /// Room for unwind tables, in rows.
    pub unwind_rows: Option<u32>,
    pub memory_interval: Option<u64>,
    pub without: Option<Vec<OptionalProbe>>,
    pub cpu_max: Option<f64>,
    pub max_incidents_per_hour: Option<u32>,
    pub debug_dirs: Option<Vec<PathBuf>>,
    pub debuginfod: Option<String>,
    pub debug_cache: Option<PathBuf>,
    /// In the order they were given; later ones win.
    pub rules: Vec<RuleEdit>,
}

/// A full set: what the recorder starts with, or what a reload wants.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Resolved {
    pub probes: ProbeSettings,
    pub window: WindowSettings,
    pub names: NameSettings,
    pub tunables: Tunables,
    pub dump_dir: PathBuf,
    pub listen: Option<SocketAddr>,
}

/// Values that are each allowed, and do not fit together.
#[derive(Debug, Error, PartialEq)]
pub enum ContradictionError {
    /// The window does not hold an incident.
    #[error(
        "lookback ({}) and after ({}) together exceed the window ({}): make the window longer \
         (--window, or `window` in the file), or one of them shorter",
        humantime::format_duration(*lookback),
        humantime::format_duration(*after),
        humantime::format_duration(*window)
    )]
    WindowTooShort {
        /// Time before the trigger.
        lookback: Duration,
        /// Time after it.
        after: Duration,
        /// What the window holds.
        window: Duration,
    },
    /// No value fires the rule.
    #[error(
        "the rule for {signal} can never fire ({why}): change min, diff, abs or max, or write \
         `{signal}=off` (in the file: `{signal} = \"off\"` under [rules])"
    )]
    DeadRule {
        /// Whose rule.
        signal: &'static str,
        /// Why not.
        why: &'static str,
    },
    /// A leak cannot be told from a step.
    #[error(
        "the rule for leak looks at {}, which holds fewer than {MIN_READINGS} readings at an \
         interval of {}: make `for` longer, or the interval shorter",
        humantime::format_duration(*span),
        humantime::format_duration(*interval)
    )]
    LeakTooShort {
        /// What the rule looks at.
        span: Duration,
        /// How often is read.
        interval: Duration,
    },
    /// Nobody can wait for longer than the time there is.
    #[error(
        "the rule for psi can never fire (a stall of {} does not fit into a window of {}): make \
         `stall` shorter or `window` longer, or write `psi=off` (in the file: `psi = \"off\"` under \
         [rules])",
        humantime::format_duration(*stall),
        humantime::format_duration(*window)
    )]
    StallTooLong {
        /// How long tasks must wait.
        stall: Duration,
        /// In which time.
        window: Duration,
    },
}

impl Layer {
    /// This source over another: what this one leaves open, the one below fills.
    pub(super) fn over(self, below: Self) -> Self {
        let mut rules = below.rules;
        rules.extend(self.rules);
        Self {
            watch: self.watch.or(below.watch),
            interval: self.interval.or(below.interval),
            lookback: self.lookback.or(below.lookback),
            after: self.after.or(below.after),
            dump_dir: self.dump_dir.or(below.dump_dir),
            retention_bytes: self.retention_bytes.or(below.retention_bytes),
            retention_age: self.retention_age.or(below.retention_age),
            listen: self.listen.or(below.listen),
            frequency: self.frequency.or(below.frequency),
            window: self.window.or(below.window),
            window_bytes: self.window_bytes.or(below.window_bytes),
            window_stacks: self.window_stacks.or(below.window_stacks),
            ring_bytes: self.ring_bytes.or(below.ring_bytes),
            unwind_rows: self.unwind_rows.or(below.unwind_rows),
            memory_interval: self.memory_interval.or(below.memory_interval),
            without: self.without.or(below.without),
            cpu_max: self.cpu_max.or(below.cpu_max),
            max_incidents_per_hour: self.max_incidents_per_hour.or(below.max_incidents_per_hour),
            debug_dirs: self.debug_dirs.or(below.debug_dirs),
            debuginfod: self.debuginfod.or(below.debuginfod),
            debug_cache: self.debug_cache.or(below.debug_cache),
            rules,
        }
    }

    /// Fills what is open with the defaults.
    ///
    /// # Errors
    /// The values do not fit together.
    pub(super) fn resolve(self, probe_log: bool) -> Result<Resolved, ContradictionError> {
        let mut tunables = Tunables::default();
        set(&mut tunables.interval, self.interval);
        set(&mut tunables.lookback, self.lookback);
        set(&mut tunables.after, self.after);
        set(&mut tunables.retention.max_bytes, self.retention_bytes);
        set(&mut tunables.retention.max_age, self.retention_age);
        set(&mut tunables.rules.cpu_max, self.cpu_max);
        set(&mut tunables.rules.max_incidents_per_hour, self.max_incidents_per_hour);
        for edit in &self.rules {
            edit.apply(&mut tunables.rules);
        }
        fit_leak(&mut tunables, &self.rules)?;
        check_rules(&tunables)?;

        let mut window = WindowSettings::default();
        let incident = tunables.lookback + tunables.after;
        window.span = self.window.unwrap_or(window.span.max(incident + WINDOW_SLACK));
        // On a 32-bit machine more than it can address is as good as all it can.
        set(
            &mut window.max_bytes,
            self.window_bytes.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
        );
        set(&mut window.max_stacks, self.window_stacks.map(|stacks| stacks as usize));
        check_window(&tunables, window.span)?;

        let mut names = NameSettings::default();
        set(&mut names.debug_dirs, self.debug_dirs);
        let cache = self.debug_cache.unwrap_or_else(|| PathBuf::from(DEBUG_CACHE));
        names.debuginfod = self.debuginfod.map(|url| DebuginfodSettings { url, cache });

        Ok(Resolved {
            probes: ProbeSettings {
                watch: self.watch.unwrap_or(Watch::Host),
                frequency: self.frequency.unwrap_or(FREQUENCY),
                ring_bytes: self.ring_bytes.unwrap_or(DEFAULT_RING_BYTES),
                unwind_rows: self.unwind_rows.unwrap_or(DEFAULT_ROWS),
                without: self.without.unwrap_or_default(),
                fault_interval: self.memory_interval.unwrap_or(DEFAULT_FAULT_INTERVAL),
                copy_stacks: false,
                allocation_interval: None,
                probe_log,
            },
            window,
            names,
            tunables,
            dump_dir: self.dump_dir.unwrap_or_else(|| PathBuf::from(DUMP_DIR)),
            listen: self.listen.unwrap_or(Some(LISTEN)),
        })
    }
}

/// Checks that a window of `span` holds an incident.
pub(super) fn check_window(tunables: &Tunables, span: Duration) -> Result<(), ContradictionError> {
    if tunables.lookback + tunables.after > span {
        return Err(ContradictionError::WindowTooShort {
            lookback: tunables.lookback,
            after: tunables.after,
            window: span,
        });
    }
    Ok(())
}

/// A rule that is silent for ever looks like a quiet host; better to say so now.
fn check_rules(tunables: &Tunables) -> Result<(), ContradictionError> {
    for signal in Signal::ALL {
        if let Some(why) = tunables.rules.get(signal).and_then(dead) {
            return Err(ContradictionError::DeadRule { signal: signal.name(), why });
        }
    }
    if let Some(psi) = tunables.rules.psi.filter(|psi| psi.stall > psi.window) {
        return Err(ContradictionError::StallTooLong { stall: psi.stall, window: psi.window });
    }
    Ok(())
}

/// A leak is seen in a number of readings. A span that was asked for must hold them; the one that
/// was not grows with the interval, as the window does with the look-back.
fn fit_leak(tunables: &mut Tunables, edits: &[RuleEdit]) -> Result<(), ContradictionError> {
    let (interval, readings) = (tunables.interval, tunables.interval * MIN_READINGS);
    let Some(leak) = tunables.rules.leak.as_mut().filter(|leak| leak.span < readings) else {
        return Ok(());
    };
    let asked = |edit: &RuleEdit| matches!(edit.change, RuleChange::SetLeak { span: Some(_), .. });
    if edits.iter().any(asked) {
        return Err(ContradictionError::LeakTooShort { span: leak.span, interval });
    }
    leak.span = readings;
    Ok(())
}

/// Why a rule can never fire.
fn dead(rule: &Rule) -> Option<&'static str> {
    if rule.diff == 0.0 && rule.abs == 0.0 {
        return Some("diff and abs are both 0, which is off");
    }
    let below_max = |threshold: f64| rule.max == 0.0 || threshold < rule.max;
    let by_diff = rule.diff > 0.0 && below_max(rule.min);
    let by_abs = rule.abs > 0.0 && below_max(rule.abs);
    (!by_diff && !by_abs).then_some("nothing at or above max fires, and only such values would")
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

#[cfg(test)]
mod tests {
    use super::super::rule_text;
    use super::*;

    #[test]
    fn the_upper_layer_wins_and_the_lower_fills() {
        let secs = Duration::from_secs;
        let upper = Layer { interval: Some(secs(1)), ..Layer::default() };
        let lower = Layer { interval: Some(secs(2)), lookback: Some(secs(30)), ..Layer::default() };
        let both = upper.over(lower).resolve(false).unwrap().tunables;
        assert_eq!((both.interval, both.lookback), (secs(1), secs(30)));
        assert_eq!(both.after, Tunables::default().after);
    }

    #[test]
    fn rules_of_both_layers_add_up() {
        let rules = |text: &str| vec![rule_text::parse(text).unwrap()];
        let upper = Layer { rules: rules("cpu=min:30"), ..Layer::default() };
        let lower = Layer { rules: rules("cpu=min:20,abs:70"), ..Layer::default() };
        let rule = upper.over(lower).resolve(false).unwrap().tunables.rules.cpu.unwrap();
        assert_eq!((rule.min, rule.abs, rule.diff), (30.0, 70.0, 25.0));
    }

    #[test]
    fn the_window_grows_with_the_look_back_unless_it_was_given() {
        let lookback = Some(Duration::from_secs(300));
        let grown = Layer { lookback, ..Layer::default() }.resolve(false).unwrap();
        assert_eq!(grown.window.span, Duration::from_secs(312));
        let window = Some(Duration::from_secs(120));
        let error = Layer { lookback, window, ..Layer::default() }.resolve(false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "lookback (5m) and after (10s) together exceed the window (2m): make the window \
             longer (--window, or `window` in the file), or one of them shorter"
        );
    }

    #[test]
    fn a_rule_that_can_never_fire_is_refused() {
        for (text, fires) in [
            ("cpu=diff:0,abs:0", false),
            ("cpu=diff:0", true),
            ("cpu=abs:0", true),
            ("cpu=max:50", true),
            ("cpu=max:50,diff:0", false),
            ("cpu=max:10", false),
            ("cpu=max:10,abs:9", true),
        ] {
            let layer = Layer { rules: vec![rule_text::parse(text).unwrap()], ..Layer::default() };
            assert_eq!(layer.resolve(false).is_ok(), fires, "{text}");
        }
    }

    #[test]
    fn the_span_of_a_leak_holds_readings_enough() {
        let with = |interval: u64, rules: &str| {
            let rules = rules.split_whitespace().map(|text| rule_text::parse(text).unwrap());
            let interval = Some(Duration::from_secs(interval));
            let layer = Layer { interval, rules: rules.collect(), ..Layer::default() };
            layer.resolve(false).map(|resolved| resolved.tunables.rules.leak.map(|leak| leak.span))
        };
        let secs = Duration::from_secs;
        assert_eq!(with(5, ""), Ok(Some(secs(600))));
        assert_eq!(with(300, ""), Ok(Some(secs(3000))));
        assert_eq!(with(300, "leak=off"), Ok(None));
        assert_eq!(with(5, "leak=for:50s"), Ok(Some(secs(50))));
        assert_eq!(
            with(5, "leak=for:49s").unwrap_err().to_string(),
            "the rule for leak looks at 49s, which holds fewer than 10 readings at an interval of \
             5s: make `for` longer, or the interval shorter"
        );
    }

    #[test]
    fn a_stall_fits_into_its_window() {
        for (text, fits) in
            [("psi=stall:2s", true), ("psi=stall:3s", false), ("psi=stall:3s,window:4s", true)]
        {
            let layer = Layer { rules: vec![rule_text::parse(text).unwrap()], ..Layer::default() };
            assert_eq!(layer.resolve(false).is_ok(), fits, "{text}");
        }
    }
}
