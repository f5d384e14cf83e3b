//! The rules of Go's own code, which has no frame descriptions: from the table that every Go program
//! carries.
//!
//! Must not: read that table itself; `binary/gopclntab` does.

use holmes_common::unwind::{BpKind, CFA_UNIT, CfaKind, Row};

use super::frames::{Entry, Kind};
use super::{Known, NoTable};
use crate::binary::{FrameRow, FrameRule, GoTable};

/// Where Go's functions keep the caller's frame pointer, seen from the CFA.
const SAVED_FRAME_POINTER: i16 = -16;

/// Adds an entry for each stretch of Go code with one rule, where no frame says something better.
/// `entries` must be, and stays, in order.
pub(super) fn add(known: &Known<'_>, entries: &mut Vec<Entry>) -> Result<(), NoTable> {
    // A table that makes no sense leaves the program to its frame pointers, which Go keeps.
    let Ok(Some(mut table)) = GoTable::find(known.bytes, known.elf) else {
        return Ok(());
    };
    let mut rules: Vec<FrameRow> = Vec::new();
    let room = known.limits.rows as usize;
    let Ok(_) = table.frame_rows(room, |row| rules.push(row)) else {
        return Ok(());
    };
    let frames = entries.len();
    let is_covered = |entries: &[Entry], address: u64| {
        let after = entries.partition_point(|entry| entry.begin <= address);
        after.checked_sub(1).and_then(|at| entries.get(at)).is_some_and(|one| address < one.end)
    };
    let mut added = Vec::new();
    for pair in rules.windows(2) {
        let [this, next] = pair else { continue };
        let Some(row) = row(this.rule) else { continue };
        let Some(part) = known.layout.code(this.address) else { continue };
        if is_covered(&entries[..frames], this.address) {
            continue;
        }
        // A handler's return address is the trampoline's first byte, and looked up one before it.
        let early = |rule| u64::from(rule == FrameRule::Signal);
        let begin = this.address - early(this.rule).min(this.address);
        let end = (next.address - early(next.rule).min(next.address)).min(part.end());
        if begin < end {
            added.push(Entry { begin, end, kind: Kind::Rule(row) });
        }
    }
    entries.extend(added);
    entries.sort_by_key(Entry::order);
    Ok(())
}

/// The row of a rule; `None` for what is no Go code.
fn row(rule: FrameRule) -> Option<Row> {
    let of = |kind: CfaKind| Row { cfa_kind: kind as u8, ..Row::default() };
    Some(match rule {
        FrameRule::StackPointer { cfa, saves_frame_pointer } => {
            let words = u64::from(cfa) / CFA_UNIT;
            match u16::try_from(words) {
                Ok(cfa_offset) if words * CFA_UNIT == u64::from(cfa) => {
                    let (bp_kind, bp_offset) = if saves_frame_pointer {
                        (BpKind::AtCfa, SAVED_FRAME_POINTER)
                    } else {
                        (BpKind::Same, 0)
                    };
                    let cfa_kind = CfaKind::StackPointer as u8;
                    Row { pc_low: 0, cfa_kind, bp_kind: bp_kind as u8, cfa_offset, bp_offset }
                }
                _ => of(CfaKind::FramePointerElsewhere),
            }
        }
        FrameRule::FramePointer => of(CfaKind::FramePointerElsewhere),
        FrameRule::Stop => of(CfaKind::Stop),
        FrameRule::Signal => of(CfaKind::Signal),
        FrameRule::Outside => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_become_rows() {
        let rule = |cfa, saves_frame_pointer| FrameRule::StackPointer { cfa, saves_frame_pointer };
        let leaf = row(rule(8, false)).unwrap();
        assert_eq!((leaf.cfa_kind, leaf.cfa_offset, leaf.bp_kind), (1, 1, BpKind::Same as u8));
        let frame = row(rule(0x58, true)).unwrap();
        assert_eq!((frame.cfa_offset, frame.bp_kind, frame.bp_offset), (11, 1, -16));
        // Too large for a row, or no multiple of a word: there is the frame pointer still.
        for cfa in [8 << 16, 12] {
            let far = row(rule(cfa, true)).unwrap();
            assert_eq!(far.cfa_kind, CfaKind::FramePointerElsewhere as u8);
        }
        assert_eq!(row(FrameRule::Outside), None);
        assert_eq!(row(FrameRule::Stop).unwrap().cfa_kind, CfaKind::Stop as u8);
    }
}
