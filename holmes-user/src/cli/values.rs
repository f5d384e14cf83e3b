//! The text of single values: durations, bytes, numbers, addresses, and what each may be. One
//! bound for each quantity, shared by the command line and the configuration file.
//!
//! Must not: know the name of the flag or key. Whoever asks puts that in front of the message.

mod rates;

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bytesize::ByteSize;
use holmes_common::limits::MIN_RING_BYTES;
use holmes_common::unwind::Row;

use self::rates::Rates;
use super::suggest;
use crate::kernel::OptionalProbe;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Faster than 100 ms, the files of a few hundred cgroups cost more to read than they tell.
pub(super) const INTERVAL: Durations = Durations::new(Duration::from_millis(100), HOUR);

/// `lookback` and `after`. An hour of stacks outgrows any sensible window.
pub(super) const INCIDENT_PART: Durations = Durations::new(Duration::ZERO, HOUR);

/// How far the window may reach back: two hours hold the longest `lookback` and `after`.
pub(super) const WINDOW: Durations =
    Durations::new(Duration::from_secs(1), Duration::from_secs(2 * 3600));

/// A cooldown; 0 is none.
pub(super) const COOLDOWN: Durations =
    Durations::new(Duration::ZERO, Duration::from_secs(7 * 24 * 3600));

/// How long incidents are kept; ten years stands for "for ever".
pub(super) const RETENTION_AGE: Durations =
    Durations::new(Duration::from_secs(1), Duration::from_secs(3650 * 24 * 3600));

/// How long `goroutines` waits for its second look.
pub(super) const TWICE: Durations = Durations::new(Duration::from_millis(1), DAY);

/// How long `record` runs. Its samples are held in memory, so a day is generous.
pub(super) const RECORD_DURATION: Durations = Durations::new(Duration::from_millis(100), DAY);

/// How much incidents may take on disk.
pub(super) const RETENTION_BYTES: Bytes = Bytes { min: 1, max: 1 << 50 };

/// Below 1 MiB the window does not hold one busy second; above 64 GiB it is a typing error.
pub(super) const WINDOW_BYTES: Bytes = Bytes { min: 1 << 20, max: 64 << 30 };

/// Between two samples of touched memory. Below 64 KiB a program that only touches memory pays more
/// than the promised 5 %; above 1 GiB there is nothing to see.
pub(super) const MEMORY_INTERVAL: Bytes = Bytes { min: 64 << 10, max: 1 << 30 };

/// The name of a probe that can be left out.
pub(super) fn probe(text: &str) -> Result<OptionalProbe, String> {
    let known = OptionalProbe::ALL.into_iter().find(|probe| probe.name() == text);
    known.ok_or_else(|| {
        let names = OptionalProbe::ALL.map(OptionalProbe::name);
        format!("`{text}` is no probe that can be left out; allowed: {}", names.join(", "))
    })
}

/// The kernel takes at most 2 GiB, of which every page is mapped twice.
/// From a table for libc alone to one for a host full of compilers and browsers.
pub(super) const UNWIND_BYTES: Bytes = Bytes { min: 1 << 20, max: 1 << 30 };
/// From a page, the kernel's minimum, on.
pub(super) const RING_BYTES: Bytes = Bytes { min: MIN_RING_BYTES as u64, max: 1 << 30 };

/// Bytes allocated for each sample. At 1 every allocation is one; at more than a gigabyte hardly any.
pub(super) const ALLOCATION_INTERVAL: Bytes = Bytes { min: 1, max: 1 << 30 };

/// Samples per second and CPU. Above 1000 a sampler disturbs what it measures.
pub(super) const FREQUENCY: Integers = Integers { min: 1, max: 1000 };

/// Distinct stacks: 16 million of them are some tens of GiB.
pub(super) const WINDOW_STACKS: Integers = Integers { min: 1, max: 1 << 24 };

/// A process id: `PID_MAX_LIMIT` of 64-bit kernels.
pub(super) const PID: Integers = Integers { min: 1, max: 1 << 22 };

/// Incidents in an hour. 0 would be a recorder that records nothing: switch the rules off instead.
pub(super) const INCIDENTS_PER_HOUR: Integers = Integers { min: 1, max: 3600 };

/// `min`, `diff`, `abs` and `max` of a rule: percents above 100 are possible (bursts), and threads
/// are counted, so only absurd numbers are refused.
pub(super) const RULE_NUMBER: Floats = Floats { min: 0.0, max: 1e9 };

/// How long memory must have grown: a second is for tests, a week for what leaks by the day.
pub(super) const LEAK_FOR: Durations =
    Durations::new(Duration::from_secs(1), Duration::from_secs(7 * 24 * 3600));

/// In how long a limit must be reached; 0 is off.
pub(super) const LEAK_WITHIN: Durations =
    Durations::new(Duration::ZERO, Duration::from_secs(30 * 24 * 3600));

/// How fast memory must grow. Slower than a KiB a day it is no leak; faster than a TiB a second is
/// no memory.
pub(super) const LEAK_RATE: Rates = Rates { min: 1 << 10, max: 1 << 40 };

/// What the kernel takes for the window of a pressure trigger (`WINDOW_MIN_US`, `WINDOW_MAX_US` of
/// kernel/sched/psi.c).
pub(super) const PSI_WINDOW: Durations =
    Durations::new(Duration::from_millis(500), Duration::from_secs(10));

/// How long tasks must have waited in a window: a millisecond is hardly any, the longest window is
/// always.
pub(super) const PSI_STALL: Durations =
    Durations::new(Duration::from_millis(1), Duration::from_secs(10));

/// Percent of the host's CPUs; 0 is off.
pub(super) const CPU_MAX: Floats = Floats { min: 0.0, max: 100.0 };

/// Bounds of a duration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Durations {
    min: Duration,
    max: Duration,
}

impl Durations {
    const fn new(min: Duration, max: Duration) -> Self {
        Self { min, max }
    }

    /// Reads `5s`, `1m 30s`, `500ms`.
    pub(super) fn parse(&self, text: &str) -> Result<Duration, String> {
        let text = text.trim();
        let bare = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // `0` needs no unit; any other number without one is as likely meant in ms as in s.
        if bare && text.bytes().any(|byte| byte != b'0') {
            return Err(format!("has no unit: write {text}s or {text}ms; allowed: {self}"));
        }
        let value = humantime::parse_duration(text).map_err(|_| {
            format!(
                "is no duration: write a number and a unit, as 500ms, 5s or 1m; allowed: {self}"
            )
        })?;
        if value < self.min || value > self.max {
            return Err(format!("is out of range; allowed: {self}"));
        }
        Ok(value)
    }
}

impl fmt::Display for Durations {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let max = humantime::format_duration(self.max);
        write!(out, "{} to {max}", humantime::format_duration(self.min))
    }
}

/// Bounds of a number of bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bytes {
    min: u64,
    max: u64,
}

impl Bytes {
    /// Reads `4096`, `64MiB`, `2GiB`, `1.5GB`.
    pub(super) fn parse(&self, text: &str) -> Result<u64, String> {
        let value: ByteSize = text.trim().parse().map_err(|_| {
            format!("is no size: write bytes or a unit, as 65536, 64MiB or 2GiB; allowed: {self}")
        })?;
        self.check(value.as_u64())
    }

    /// Checks a number of bytes.
    pub(super) fn check(&self, value: u64) -> Result<u64, String> {
        if value < self.min || value > self.max {
            return Err(format!("is out of range; allowed: {self}"));
        }
        Ok(value)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |bytes| ByteSize::b(bytes).display().iec();
        write!(out, "{} to {}", show(self.min), show(self.max))
    }
}

/// A ring buffer's size: the kernel wants a power of two, so it is rounded up to one.
pub(super) fn ring_bytes(value: u64) -> Result<u32, String> {
    let rounded = RING_BYTES.check(value)?.next_power_of_two();
    u32::try_from(rounded).map_err(|_| format!("is out of range; allowed: {RING_BYTES}"))
}

/// The room for unwind tables, in rows.
pub(super) fn unwind_rows(bytes: u64) -> Result<u32, String> {
    let rows = UNWIND_BYTES.check(bytes)? / size_of::<Row>() as u64;
    u32::try_from(rows).map_err(|_| format!("is out of range; allowed: {UNWIND_BYTES}"))
}

/// Bounds of a whole number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Integers {
    min: u32,
    max: u32,
}

impl Integers {
    /// Reads a decimal number.
    pub(super) fn parse(&self, text: &str) -> Result<u32, String> {
        let value = text
            .trim()
            .parse::<i64>()
            .map_err(|_| format!("is no whole number; allowed: {self}"))?;
        self.check(value)
    }

    /// Checks a number.
    pub(super) fn check(&self, value: i64) -> Result<u32, String> {
        u32::try_from(value)
            .ok()
            .filter(|value| (self.min..=self.max).contains(value))
            .ok_or_else(|| format!("is out of range; allowed: {self}"))
    }
}

impl fmt::Display for Integers {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "a whole number from {} to {}", self.min, self.max)
    }
}

/// Bounds of a number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Floats {
    min: f64,
    max: f64,
}

impl Floats {
    /// Reads `80`, `12.5` or `80%`.
    pub(super) fn parse(&self, text: &str) -> Result<f64, String> {
        let text = text.trim();
        let value = text
            .strip_suffix('%')
            .unwrap_or(text)
            .parse::<f64>()
            .map_err(|_| format!("is no number; allowed: {self}"))?;
        self.check(value)
    }

    /// Checks a number. What is not a number, or infinite, is out of any range.
    pub(super) fn check(&self, value: f64) -> Result<f64, String> {
        if !(self.min..=self.max).contains(&value) {
            return Err(format!("is out of range; allowed: {self}"));
        }
        // `-0` is in the range, and would show its sign in logs.
        Ok(value + 0.0)
    }
}

impl fmt::Display for Floats {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "a number from {} to {}", self.min, self.max)
    }
}

/// Reads where to serve: an address with a port, or `off`.
pub(super) fn listen(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "off" {
        return Ok(None);
    }
    let allowed = "allowed: an IP address and a port, as 127.0.0.1:8731 or [::1]:8731, or off";
    text.parse().map(Some).map_err(|_| {
        let close = suggest::nearest(text, &["off"]).map(suggest::did_you_mean).unwrap_or_default();
        format!("is no address; {allowed}{close}")
    })
}

/// The URL of a debuginfod server.
pub(super) fn debuginfod(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let written = |letter: char| letter.is_ascii_graphic() && !"\"<>".contains(letter);
    match host {
        Some(host) if !host.trim_matches('/').is_empty() && host.chars().all(written) => {
            Ok(text.to_owned())
        }
        _ => Err("is no server; allowed: a URL, as https://debuginfod.debian.net".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_stay_in_their_range() {
        assert_eq!(INTERVAL.parse("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(INTERVAL.parse("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(COOLDOWN.parse("0"), Ok(Duration::ZERO));
        for (text, message) in [
            ("5", "has no unit: write 5s or 5ms; allowed: 100ms to 1h"),
            ("99ms", "is out of range; allowed: 100ms to 1h"),
            ("2h", "is out of range; allowed: 100ms to 1h"),
            ("0", "is out of range; allowed: 100ms to 1h"),
        ] {
            assert_eq!(INTERVAL.parse(text), Err(message.to_owned()), "{text}");
        }
        for text in ["", "fast", "-5s", "NaNs", "5 parsecs", "99999999999999999999s"] {
            let message = INTERVAL.parse(text).unwrap_err();
            assert!(message.starts_with("is no duration: write"), "{text}: {message}");
        }
    }

    #[test]
    fn bytes_take_units() {
        assert_eq!(WINDOW_BYTES.parse("64MiB"), Ok(64 << 20));
        assert_eq!(WINDOW_BYTES.parse("1048576"), Ok(1 << 20));
        assert_eq!(
            WINDOW_BYTES.parse("1MB"),
            Err("is out of range; allowed: 1.0 MiB to 64.0 GiB".to_owned())
        );
        for text in ["", "-1", "lots", "NaN", "1 parsec"] {
            assert!(WINDOW_BYTES.parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ring_sizes_are_rounded_up_to_a_power_of_two() {
        assert_eq!(ring_bytes(4096), Ok(4096));
        assert_eq!(ring_bytes(5000), Ok(8192));
        assert_eq!(ring_bytes(1 << 30), Ok(1 << 30));
        assert_eq!(unwind_rows(2 << 20), Ok(1 << 18));
        assert!(unwind_rows(1 << 10).is_err());
        assert!(ring_bytes(4095).is_err());
        assert!(ring_bytes((1 << 30) + 1).is_err());
    }

    #[test]
    fn numbers_that_are_none_are_refused() {
        assert_eq!(RULE_NUMBER.parse("12.5"), Ok(12.5));
        assert_eq!(CPU_MAX.parse("80%"), Ok(80.0));
        for text in ["NaN", "inf", "-1", "1e300", "", "ten", "100.1"] {
            assert!(CPU_MAX.parse(text).is_err(), "{text}");
        }
        assert_eq!(FREQUENCY.parse("49"), Ok(49));
        for text in ["0", "1001", "-1", "4.9", "9999999999", "99999999999999999999"] {
            assert!(FREQUENCY.parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn listen_is_an_address_or_off() {
        assert_eq!(listen("off"), Ok(None));
        assert_eq!(listen("[::1]:0"), Ok(Some("[::1]:0".parse().unwrap())));
        assert!(listen("localhost").unwrap_err().contains("127.0.0.1:8731"));
        assert!(listen("of").unwrap_err().ends_with("did you mean `off`?"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_a_value(text in "\\PC{0,20}|[-+0-9.eEinfNa]{0,12}(ms|s|GiB|kb|%)?") {
            // Whatever is accepted is in range; the rest has a message.
            if let Ok(value) = INTERVAL.parse(&text) {
                proptest::prop_assert!(value >= INTERVAL.min && value <= INTERVAL.max);
            }
            if let Ok(value) = WINDOW_BYTES.parse(&text) {
                proptest::prop_assert!((WINDOW_BYTES.min..=WINDOW_BYTES.max).contains(&value));
            }
            if let Ok(value) = RULE_NUMBER.parse(&text) {
                proptest::prop_assert!((0.0..=1e9).contains(&value));
            }
            if let Ok(value) = FREQUENCY.parse(&text) {
                proptest::prop_assert!((1..=1000).contains(&value));
            }
            // Any answer will do, as long as there is one.
            let _ = listen(&text);
        }
    }
}
