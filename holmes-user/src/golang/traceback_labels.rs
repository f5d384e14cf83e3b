//! Labels in a program's own tracebacks: whether it prints them, and how.
//!
//! Since Go 1.27 the first line of each goroutine has them, unless `GODEBUG` or an older `go` line in the
//! program's go.mod says otherwise: that is in a variable of the runtime, which the program may change.
//!
//! Format: `goroutineheader` of `runtime/traceback.go`, `printquoted` of `runtime/print.go`.
//!
//! Must not: take another variable than one of writable data.

use std::fmt::Write;

use super::error::GoError;
use super::labels::LabelSet;
use super::locate::{check_processor, code_of, is_data, loads};
use super::memory::{Memory, Piece};
use super::process::GoProcess;
use super::program::GoProgram;
use crate::binary::{Bytes, u32_at, variables};

/// The first version that prints them like this.
const SINCE: u32 = 27;

/// The variable that holds all settings, and where this one is in it (`tracebacklabels`): 0 or 1, of four
/// bytes.
const SETTINGS: &str = "runtime.debug";
const SETTING_AT: u64 = 132;
/// The function that reads it, last of all variables of four bytes.
const READER: &str = "runtime.goroutineheader";

impl GoProgram {
    /// Finds the setting, by the name of the settings or by the code, as linked; `None` if neither tells.
    fn labels_setting(&self) -> Result<Option<u64>, GoError> {
        check_processor(&self.elf)?;
        let bytes = Bytes::File(&self.file);
        // Where a version that is not known has it in the settings is not known.
        let settings = if self.version.own.is_none() { &[SETTINGS][..] } else { &[] };
        let named = variables(bytes, settings)?.first().map(|&(_, at)| at + SETTING_AT);
        let found = match named {
            Some(setting) => Some(setting),
            None => {
                let code = code_of(bytes, &self.elf, &mut self.table()?, READER)?;
                code.and_then(|(code, entry)| last_of_four_bytes(&code, entry))
            }
        };
        Ok(found.filter(|&setting| is_data(&self.elf, setting, 4)))
    }
}

impl GoProcess {
    /// Whether its own tracebacks have labels: where nothing tells, what its version does by itself.
    pub(super) fn shows_labels(&self, memory: &impl Memory) -> bool {
        self.program.version.minor >= SINCE && self.labels_set(memory).unwrap_or(true)
    }

    fn labels_set(&self, memory: &impl Memory) -> Option<bool> {
        let setting = self.program.labels_setting().ok()??;
        let mut bytes = Vec::new();
        let piece = Piece { address: setting.wrapping_add(self.bias), len: 4 };
        let are_there = memory.read(&[piece], &mut bytes).ok()?;
        (are_there == [true]).then(|| u32_at(&bytes, 0) == 1)
    }
}

fn last_of_four_bytes(code: &[u8], address: u64) -> Option<u64> {
    loads(code, address).filter(|load| load.size == 4).last().map(|load| load.address)
}

/// The labels as they stand behind a goroutine's state; nothing if there are none.
pub(super) fn behind_state(labels: &LabelSet) -> String {
    let pairs = labels.pairs().map(|(name, value)| format!("{}: {}", shown(name), shown(value)));
    let pairs: Vec<String> = pairs.collect();
    if pairs.is_empty() { String::new() } else { format!(" {{{}}}", pairs.join(", ")) }
}

/// A name or a value, in quotes unless it is plain.
fn shown(text: &[u8]) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"./_".contains(byte);
    if text.iter().all(is_plain) {
        return String::from_utf8_lossy(text).into_owned();
    }
    let mut quoted = "\"".to_owned();
    for chunk in text.utf8_chunks() {
        for letter in chunk.valid().chars() {
            // Writing to a string does not fail.
            let _ = match letter {
                '\n' => write!(quoted, "\\n"),
                '\r' => write!(quoted, "\\r"),
                '\t' => write!(quoted, "\\t"),
                '"' | '\\' => write!(quoted, "\\{letter}"),
                ' '..='~' => write!(quoted, "{letter}"),
                '\0'..'\x7f' => write!(quoted, "\\x{:02x}", u32::from(letter)),
                '\x7f'..='\u{ffff}' => write!(quoted, "\\u{:04x}", u32::from(letter)),
                _ => write!(quoted, "\\U{:08x}", u32::from(letter)),
            };
        }
        for byte in chunk.invalid() {
            let _ = write!(quoted, "\\x{byte:02x}");
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_as_tracebacks_have_them() {
        for (text, expected) in [
            (&b"/a/b_c.0"[..], "/a/b_c.0"),
            (b"", ""),
            (b"a b", r#""a b""#),
            (b"\"\\\n\r\t\x01\x7f", r#""\"\\\n\r\t\x01\u007f""#),
            ("\u{e9}\u{fffd}\u{1f600}".as_bytes(), r#""\u00e9\ufffd\U0001f600""#),
            (b"\xff\xe2\x82", r#""\xff\xe2\x82""#),
        ] {
            assert_eq!(shown(text), expected);
        }
        assert_eq!(behind_state(&LabelSet::default()), "");
    }

    /// As Go 1.27 compiles it: the level of tracebacks, the labels of the goroutine, and the setting.
    #[test]
    fn the_last_load_of_the_runtime() {
        const CODE: [u8; 26] = [
            0x8b, 0x0d, 0x78, 0x05, 0x19, 0x00, 0x48, 0x83, 0xb8, 0x60, 0x01, 0x00, 0x00, 0x00,
            0x74, 0x0e, 0x8b, 0x0d, 0x02, 0xbb, 0x1b, 0x00, 0x83, 0xf9, 0x01, 0x90,
        ];
        assert_eq!(last_of_four_bytes(&CODE, 0x46_d2ec), Some(0x62_8e04));
        assert_eq!(last_of_four_bytes(&CODE[..4], 0x46_d2ec), None);
    }
}
