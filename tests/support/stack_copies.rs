//! The file that `record --stack-copies` writes: what the probes had of each sampled stack, and what
//! they made of it.
//!
//! Must not: unwind. Two unwinders are compared on what this reads.

use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::Context;
use serde_json::Value;

/// A sampled stack.
#[derive(Clone, Debug)]
pub struct StackCopy {
    /// The process.
    pub pid: u32,
    /// How the probes' walk ended: a name of `holmes_common::unwind::WalkEnd`.
    pub end: String,
    /// The address it could not get beyond.
    pub stopped_at: u64,
    /// Bits of `holmes_common::record::flag`.
    pub flags: u32,
    /// What it found, leaf first: the leaf's address as it was, return addresses, and one more than
    /// the address of a frame that a signal interrupted.
    pub frames: Vec<u64>,
    /// Instruction pointer of the leaf in user mode.
    pub ip: u64,
    /// Its stack pointer.
    pub sp: u64,
    /// Its frame pointer register.
    pub bp: u64,
    /// The bytes of its stack, from `sp` on.
    pub memory: Vec<u8>,
}

impl StackCopy {
    /// The word at this address, if the copy has it.
    pub fn word(&self, address: u64) -> Option<u64> {
        let at = usize::try_from(address.checked_sub(self.sp)?).ok()?;
        let bytes = self.memory.get(at..at.checked_add(size_of::<u64>())?)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }

    fn parse(line: &str) -> anyhow::Result<Self> {
        let value: Value = serde_json::from_str(line).context("no JSON")?;
        let number = |key: &str| value[key].as_u64().with_context(|| format!("no number {key}"));
        let frames = value["frames"].as_array().context("no frames")?;
        Ok(Self {
            pid: u32::try_from(number("pid")?).context("a pid out of range")?,
            end: value["end"].as_str().context("no end")?.to_owned(),
            stopped_at: number("stopped_at")?,
            flags: u32::try_from(number("flags")?).context("flags out of range")?,
            frames: frames.iter().filter_map(Value::as_u64).collect(),
            ip: number("ip")?,
            sp: number("sp")?,
            bp: number("bp")?,
            memory: bytes(value["memory"].as_str().context("no memory")?)?,
        })
    }
}

/// Bytes from two hexadecimal digits each.
fn bytes(text: &str) -> anyhow::Result<Vec<u8>> {
    let digit = |letter: u8| char::from(letter).to_digit(16).and_then(|it| u8::try_from(it).ok());
    let pairs = text.as_bytes().chunks_exact(2);
    anyhow::ensure!(pairs.remainder().is_empty(), "half a byte of memory");
    pairs
        .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
        .collect::<Option<Vec<u8>>>()
        .context("memory that is not hexadecimal")
}

/// Reads the file, in the order of the samples.
///
/// # Errors
/// It cannot be read, or a line has another form.
pub fn read(path: &Path) -> anyhow::Result<Vec<StackCopy>> {
    let file = std::fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let lines = BufReader::new(file).lines().enumerate();
    lines
        .map(|(number, line)| {
            StackCopy::parse(&line?)
                .with_context(|| format!("line {} of {}", number + 1, path.display()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_and_its_memory_begins_at_the_stack_pointer() -> anyhow::Result<()> {
        let copy = StackCopy::parse(
            r#"{"pid":7,"end":"outermost","stopped_at":0,"flags":0,"frames":[1,2],
                "ip":1,"sp":4096,"bp":9,"memory":"00010203040506070800000000000000"}"#,
        )?;
        assert_eq!((copy.pid, copy.frames.len(), copy.end.as_str()), (7, 2, "outermost"));
        assert_eq!(copy.word(4096), Some(0x0706_0504_0302_0100));
        assert_eq!(copy.word(4104), Some(8));
        // Neither what is below nor what is half outside.
        assert_eq!((copy.word(4088), copy.word(4105)), (None, None));
        assert!(StackCopy::parse("{}").is_err());
        Ok(())
    }
}
