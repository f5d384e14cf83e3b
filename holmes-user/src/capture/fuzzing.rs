//! Doors for `tests/fuzz`: the reader of recordings on bytes that anybody may have written.
//!
//! Each panics where what came out breaks a promise.
//!
//! Must not: be part of what is released: it needs the feature `fuzzing`, or a test.

use super::recording::{Reader, Writer, read_names};
use super::{Input, Start};

/// A recording: what is read can be written, and is the same when it is read again.
pub fn recording(data: &[u8]) {
    // Either answer is right.
    let _ = read_names(data);
    let Some((start, inputs)) = read(data) else { return };
    let mut file = Vec::new();
    let Ok(mut writer) = Writer::new(&mut file, &start) else { return };
    for input in &inputs {
        assert!(writer.write(input).is_ok(), "memory takes everything");
    }
    if writer.left_out() > 0 {
        return;
    }
    let again = read(&file);
    assert_eq!(again.as_ref().map(|(start, _)| start), Some(&start));
    let again = again.map(|(_, inputs)| shown(&inputs)).unwrap_or_default();
    assert_eq!(again, shown(&inputs));
}

fn read(data: &[u8]) -> Option<(Start, Vec<Input>)> {
    let mut reader = Reader::new(data).ok()?;
    let inputs = reader.by_ref().map_while(Result::ok).collect();
    Some((reader.start().clone(), inputs))
}

/// Names are written in other portions than they were read in, and none as nothing.
fn shown(inputs: &[Input]) -> Vec<String> {
    let others = inputs.iter().filter(|input| !matches!(input, Input::Names(_)));
    others.map(|input| format!("{input:?}")).collect()
}
