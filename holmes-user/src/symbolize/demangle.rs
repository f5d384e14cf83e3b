//! Mangled names become readable ones, within a bound: a mangled name of a few hundred bytes can
//! unfold into gigabytes.

use std::fmt::{self, Write as _};

/// A name is cut here, in bytes. Template-heavy C++ reaches a few thousand.
pub(super) const MAX_NAME_BYTES: usize = 4096;

/// Longer mangled names are shown as they are (and cut): demanglers may take time out of
/// proportion to the length.
const MAX_MANGLED_BYTES: usize = 8192;

/// What stands at the end of a name that was cut.
const ELLIPSIS: &str = "...";

/// The readable form of a Rust or C++ symbol; other names come back as they are. At most
/// [`MAX_NAME_BYTES`] long.
pub(super) fn demangle(name: &str) -> String {
    if name.starts_with('_') && name.len() <= MAX_MANGLED_BYTES {
        if let Ok(symbol) = rustc_demangle::try_demangle(name) {
            let mut out = Bounded::default();
            // An error is the bound being reached: what fits is kept.
            let _ = write!(out, "{symbol:#}");
            return out.finish();
        }
        if let Ok(symbol) = cpp_demangle::Symbol::new(name.as_bytes()) {
            let mut out = Bounded::default();
            let written = symbol.structured_demangle(&mut out, &Default::default());
            // An error below the bound is a symbol that cannot be written down.
            if written.is_ok() || out.full {
                return out.finish();
            }
        }
        if let Some(path) = cpp_path(name) {
            return path;
        }
    }
    let mut out = Bounded::default();
    // As above: what fits is kept.
    let _ = out.write_str(name);
    out.finish()
}

/// The path of a C++ function without its parameters and template arguments, where they are more
/// than the demangler knows: `std::swap` of `_ZSt4swapI...`.
///
/// Format: Itanium C++ ABI, `<encoding>`: `St` is `std`, `N` begins a path, and each name stands
/// behind its length.
fn cpp_path(name: &str) -> Option<String> {
    let mut rest = name.strip_prefix("_Z")?;
    let nested = rest.strip_prefix('N');
    // Qualifiers of member functions.
    rest = nested.map_or(rest, |path| path.trim_start_matches(['r', 'V', 'K']));
    let mut path = String::new();
    if let Some(behind) = rest.strip_prefix("St") {
        path.push_str("std");
        rest = behind;
    }
    let begins = path.len();
    loop {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let Ok(length) = rest[..digits].parse::<usize>() else { break };
        let Some(part) = rest[digits..].get(..length) else { break };
        if !path.is_empty() {
            path.push_str("::");
        }
        path.push_str(part);
        rest = &rest[digits + length..];
        if nested.is_none() {
            break;
        }
    }
    // A path that goes on behind template arguments cannot be told from one that ends there: it
    // stays mangled.
    let whole = nested.is_none() || rest.starts_with('E');
    (path.len() > begins && whole && path.len() <= MAX_NAME_BYTES).then_some(path)
}

/// A string that refuses to grow over the bound.
#[derive(Default)]
struct Bounded {
    text: String,
    full: bool,
}

impl Bounded {
    fn finish(mut self) -> String {
        if self.full {
            self.text.push_str(ELLIPSIS);
        }
        self.text
    }
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        if self.full {
            return Err(fmt::Error);
        }
        let room = MAX_NAME_BYTES - ELLIPSIS.len() - self.text.len();
        if part.len() <= room {
            self.text.push_str(part);
            return Ok(());
        }
        self.full = true;
        let fits = (0..=room).rev().find(|&end| part.is_char_boundary(end)).unwrap_or(0);
        self.text.push_str(&part[..fits]);
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_and_cpp_are_demangled_and_others_left_alone() {
        let cases = [
            ("_ZN4core9panicking9panic_fmt17h5f1a6fd39197ad62E", "core::panicking::panic_fmt"),
            ("_RNvCs5EzU7Qr1Ab_4demo4spin", "demo::spin"),
            ("_ZN5space3fooEibc", "space::foo(int, bool, char)"),
            ("_start", "_start"),
            (
                "_ZSt4swapImENSt9enable_ifIXsrSt6__and_IJSt6__not_ISt15__is_tuple_likeIT_EESt21is_\
                 move_constructibleIS4_ESt18is_move_assignableIS4_EEE5valueEvE4typeERS4_SE_",
                "std::swap",
            ),
            (
                "_ZSt14__relocate_a_1ImmENSt9enable_ifIXsrSt24__is_bitwise_relocatableIT_vE5valueEP\
                 S2_E4typeES4_S4_S4_RSaIT0_E",
                "std::__relocate_a_1",
            ),
            ("main.(*T).run", "main.(*T).run"),
            ("_Zbroken", "_Zbroken"),
            ("", ""),
        ];
        for (mangled, readable) in cases {
            assert_eq!(demangle(mangled), readable);
        }
    }

    #[test]
    fn a_name_that_unfolds_without_end_is_cut() {
        // Each S_ stands for all before it: the length doubles with every pair.
        let mut bomb = String::from("_Z1fI1aE");
        for step in 0..60 {
            let back = if step == 0 { "_".to_owned() } else { format!("{}_", base36(step - 1)) };
            bomb.push_str(&format!("1gIS{back}S{back}E"));
        }
        assert!(demangle(&bomb).len() <= MAX_NAME_BYTES);
        let nested = format!("_Z1f{}", "P".repeat(4000));
        assert!(demangle(&nested).len() <= MAX_NAME_BYTES);
        assert!(demangle(&"ä".repeat(MAX_NAME_BYTES)).len() <= MAX_NAME_BYTES);
        assert!(demangle(&format!("_Z{}", "x".repeat(MAX_MANGLED_BYTES))).ends_with(ELLIPSIS));
    }

    fn base36(mut number: u32) -> String {
        let mut digits = Vec::new();
        loop {
            digits.push(char::from_digit(number % 36, 36).unwrap().to_ascii_uppercase());
            number /= 36;
            if number == 0 {
                break digits.iter().rev().collect();
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_name_stays_within_the_bound(name in "_[ZR][0-9A-Za-z_]{0,300}") {
            proptest::prop_assert!(demangle(&name).len() <= MAX_NAME_BYTES);
        }
    }
}
