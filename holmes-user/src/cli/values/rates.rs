//! Speeds: a size in a time.
//!
//! Must not: know the name of the flag or key, like all values.

use std::fmt;

use bytesize::ByteSize;

use super::{DAY, HOUR};

/// Bounds of a speed: bytes in a day at least, in a second at most.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Rates {
    pub(super) min: u64,
    pub(super) max: u64,
}

impl Rates {
    /// Reads `1MiB/m`, `64KiB/s`, `2GiB/d`, as bytes per second.
    pub(in crate::cli) fn parse(&self, text: &str) -> Result<f64, String> {
        let wrong = || {
            format!(
                "is no speed: write a size and s, m, h or d, as 1MiB/m or 64KiB/s; allowed: {self}"
            )
        };
        let (size, per) = text.split_once('/').ok_or_else(wrong)?;
        let seconds = match per.trim() {
            "s" => 1.0,
            "m" => 60.0,
            "h" => HOUR.as_secs_f64(),
            "d" => DAY.as_secs_f64(),
            _ => return Err(wrong()),
        };
        let size: ByteSize = size.trim().parse().map_err(|_| wrong())?;
        let rate = size.as_u64() as f64 / seconds;
        if rate < self.min as f64 / DAY.as_secs_f64() || rate > self.max as f64 {
            return Err(format!("is out of range; allowed: {self}"));
        }
        Ok(rate)
    }
}

impl fmt::Display for Rates {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |bytes| ByteSize::b(bytes).display().iec();
        write!(out, "{}/d to {}/s", show(self.min), show(self.max))
    }
}

#[cfg(test)]
mod tests {
    use super::super::LEAK_RATE;

    #[test]
    fn speeds_are_a_size_in_a_time() {
        assert_eq!(LEAK_RATE.parse("1MiB/m"), Ok((1 << 20) as f64 / 60.0));
        assert_eq!(LEAK_RATE.parse(" 64 KiB / s "), Ok(65_536.0));
        assert_eq!(LEAK_RATE.parse("24KiB/d").map(|rate| rate * 86_400.0), Ok(24_576.0));
        let message = "is out of range; allowed: 1.0 KiB/d to 1.0 TiB/s";
        for text in ["0/s", "1/d", "2TiB/s"] {
            assert_eq!(LEAK_RATE.parse(text), Err(message.to_owned()), "{text}");
        }
        for text in ["", "1MiB", "1MiB/", "1MiB/w", "/s", "lots/s", "-1KiB/s", "NaN/s", "1MiB/m/s"]
        {
            let message = LEAK_RATE.parse(text).unwrap_err();
            assert!(message.starts_with("is no speed: write a size and"), "{text}: {message}");
        }
    }
}
