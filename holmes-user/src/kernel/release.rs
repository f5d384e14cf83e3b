//! The kernel's release number.
//!
//! Must not: decide that a feature is there. Distributions carry features back, so what can be
//! tried is tried; the number only explains, and decides where trying is impossible.

use std::fmt;

/// `major.minor.patch` of a kernel; the distribution's suffix is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    /// 6 in 6.1.55.
    pub major: u32,
    /// 1 in 6.1.55.
    pub minor: u32,
    /// 55 in 6.1.55; 0 where there is none.
    pub patch: u32,
}

impl Release {
    /// Release `major.minor.0`.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor, patch: 0 }
    }

    /// Reads `uname -r`, as in `/proc/sys/kernel/osrelease`: `6.1.0-18-cloud-amd64`, `6.18-rc1`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.trim().splitn(3, '.').map(|part| {
            let digits = part.bytes().take_while(u8::is_ascii_digit).count();
            part.get(..digits).and_then(|digits| digits.parse().ok())
        });
        Some(Self {
            major: numbers.next()??,
            minor: numbers.next()??,
            patch: numbers.next().flatten().unwrap_or(0),
        })
    }
}

impl fmt::Display for Release {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_and_compared_by_number() {
        let release = |major, minor, patch| Some(Release { major, minor, patch });
        for (text, expected) in [
            ("6.18.44-fc-v595\n", release(6, 18, 44)),
            ("5.10.0-28-cloud-amd64", release(5, 10, 0)),
            ("6.19-rc1", release(6, 19, 0)),
            ("6", None),
            ("linux", None),
            ("", None),
            ("99999999999.1.1", None),
        ] {
            assert_eq!(Release::parse(text), expected, "{text}");
        }
        assert!(Release::parse("5.10.1") > Release::parse("5.9.99"));
    }
}
