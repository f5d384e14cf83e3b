//! The finished form of a table, and how it is put together.
//!
//! Must not: know where the rules come from.

use holmes_common::unwind::{PAGE_BITS, Page, Row};

use super::{Limits, NoTable};

/// Code that no frame covers: walk by frame pointer.
pub(super) const GAP: Row = Row { pc_low: 0, cfa_kind: 0, bp_kind: 0, cfa_offset: 0, bp_offset: 0 };

/// A table as `holmes_common::unwind` describes it, not yet in its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The number of the first page: an address as linked, shifted by `PAGE_BITS`.
    pub base_page: u32,
    /// The pages, one after the other; `first_row` counts from this table's first row.
    pub pages: Vec<Page>,
    /// The rows.
    pub rows: Vec<Row>,
}

impl Table {
    /// The row that holds at an address as linked; `None` outside, and in a page without code. This
    /// is how the probes look it up.
    pub fn find(&self, address: u64) -> Option<Row> {
        let page = (address >> PAGE_BITS).checked_sub(self.base_page.into())?;
        let page = self.pages.get(usize::try_from(page).ok()?)?;
        let first = page.first_row as usize;
        let rows = self.rows.get(first..first.checked_add(page.rows as usize)?)?;
        let low = address as u16;
        rows.get(rows.partition_point(|row| row.pc_low <= low).checked_sub(1)?).copied()
    }
}

/// Puts a table together from rules in the order of their addresses.
pub(super) struct Builder {
    limits: Limits,
    table: Table,
    /// The rule that holds from the last address on.
    rule: Row,
}

impl Builder {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, table: Table::default(), rule: GAP }
    }

    /// From `address` on, below 2^47 and not before the last one, this rule holds.
    pub(super) fn push(&mut self, address: u64, rule: Row) -> Result<(), NoTable> {
        let rule = Row { pc_low: 0, ..rule };
        let (page, low) = ((address >> PAGE_BITS) as u32, address as u16);
        if self.table.pages.is_empty() {
            self.table.base_page = page;
        }
        if rule == GAP && low == 0 && self.end_page() <= page {
            // The pages before are filled; whether this one is needed is told by what comes.
            if self.end_page() < page {
                self.reach(page - 1)?;
            }
            self.rule = GAP;
            return Ok(());
        }
        self.reach(page)?;
        let rows = self.rows_of_page();
        match rows.last() {
            Some(last) if last.pc_low == low => {
                self.table.rows.pop();
                self.count(-1);
            }
            None if low > 0 && rule != GAP => self.row(0, GAP)?,
            _ => {}
        }
        self.rule = rule;
        let same = match self.rows_of_page().last() {
            Some(last) => Row { pc_low: 0, ..*last } == rule,
            None => rule == GAP,
        };
        if same { Ok(()) } else { self.row(low, rule) }
    }

    /// The finished table, whose last function ends before `end`.
    pub(super) fn finish(mut self, end: u64) -> Result<Table, NoTable> {
        self.push(end, GAP)?;
        self.table.rows.shrink_to_fit();
        self.table.pages.shrink_to_fit();
        Ok(self.table)
    }

    /// Begins the pages up to this one; in each the last rule goes on.
    fn reach(&mut self, page: u32) -> Result<(), NoTable> {
        while self.end_page() <= page {
            self.begin_page()?;
        }
        Ok(())
    }

    /// The page behind the last.
    fn end_page(&self) -> u32 {
        self.table.base_page.saturating_add(self.table.pages.len() as u32)
    }

    fn begin_page(&mut self) -> Result<(), NoTable> {
        if self.table.pages.len() >= self.limits.pages as usize {
            return Err(NoTable::TooLarge("too many pages"));
        }
        let first_row = self.table.rows.len() as u32;
        self.table.pages.push(Page { first_row, rows: 0 });
        if self.rule == GAP { Ok(()) } else { self.row(0, self.rule) }
    }

    fn rows_of_page(&self) -> &[Row] {
        let first = self.table.pages.last().map_or(0, |page| page.first_row as usize);
        self.table.rows.get(first..).unwrap_or_default()
    }

    fn row(&mut self, pc_low: u16, rule: Row) -> Result<(), NoTable> {
        if self.table.rows.len() >= self.limits.rows as usize {
            return Err(NoTable::TooLarge("too many rows"));
        }
        self.table.rows.push(Row { pc_low, ..rule });
        self.count(1);
        Ok(())
    }

    fn count(&mut self, rows: i32) {
        if let Some(page) = self.table.pages.last_mut() {
            page.rows = page.rows.saturating_add_signed(rows);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(cfa_offset: u16) -> Row {
        Row { cfa_kind: 1, cfa_offset, ..Row::default() }
    }

    fn built(rules: &[(u64, Row)], end: u64) -> Table {
        let mut builder = Builder::new(Limits { rows: 100, pages: 10 });
        for &(address, rule) in rules {
            builder.push(address, rule).unwrap();
        }
        builder.finish(end).unwrap()
    }

    #[test]
    fn neighbours_that_say_the_same_are_one_row() {
        let table = built(&[(0x10, rule(8)), (0x20, rule(8)), (0x30, rule(16))], 0x40);
        let lows: Vec<u16> = table.rows.iter().map(|row| row.pc_low).collect();
        assert_eq!(lows, [0, 0x10, 0x30, 0x40]);
        assert_eq!(table.find(0xf).unwrap().cfa_kind, 0);
        assert_eq!(table.find(0x2f).unwrap().cfa_offset, 8);
        assert_eq!(table.find(0x40).unwrap().cfa_kind, 0);
        assert_eq!(table.find(0x1_0000), None);
    }

    #[test]
    fn the_later_rule_at_one_address_holds() {
        let table = built(&[(0x10, rule(8)), (0x20, rule(16)), (0x20, rule(8))], 0x40);
        assert_eq!(table.find(0x20).unwrap().cfa_offset, 8);
        assert_eq!(table.rows.len(), 3, "and is one with its neighbour");
    }

    #[test]
    fn a_rule_goes_on_into_the_next_pages() {
        let table = built(&[(0x5_fff0, rule(8))], 0x8_0000);
        assert_eq!((table.base_page, table.pages.len()), (5, 3));
        assert_eq!(table.find(0x7_ffff).unwrap().cfa_offset, 8);
        let firsts: Vec<u16> =
            table.pages.iter().map(|page| table.rows[page.first_row as usize].pc_low).collect();
        assert_eq!(firsts, [0, 0, 0]);
    }

    #[test]
    fn pages_without_code_have_no_rows() {
        let table = built(&[(0x10, rule(8)), (0x20, GAP), (0x3_0000, rule(16))], 0x4_0000);
        let rows: Vec<u32> = table.pages.iter().map(|page| page.rows).collect();
        assert_eq!(rows, [3, 0, 0, 1]);
        assert_eq!(table.find(0x1_0000), None);
        assert_eq!(table.find(0x3_0000).unwrap().cfa_offset, 16);
    }

    #[test]
    fn what_is_too_large_is_no_table() {
        let mut builder = Builder::new(Limits { rows: 2, pages: 2 });
        builder.push(0, rule(8)).unwrap();
        builder.push(1, rule(16)).unwrap();
        assert!(matches!(builder.push(2, rule(8)), Err(NoTable::TooLarge(_))));
        let mut builder = Builder::new(Limits { rows: 100, pages: 2 });
        builder.push(0, rule(8)).unwrap();
        assert!(matches!(builder.finish(1 << 40), Err(NoTable::TooLarge(_))));
    }
}
