//! The names of the addresses of some cuts.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::frame::Place;
pub use crate::capture::RecordedLine as Line;
use crate::capture::{Names, RecordedName};

/// How an address was named: at least one line, innermost inlined function first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Innermost first; the last is the function the address physically lies in.
    pub lines: Vec<Line>,
    /// For kernel addresses: the module, empty for the kernel proper.
    pub module: String,
}

/// The names of addresses. What is absent has no name: it is shown as module + offset.
///
/// Call addresses: frames other than the leaf are return addresses, and are looked up one byte
/// earlier; the keys here are the addresses looked up. See [`super::frames`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SymbolTable {
    /// By object number and offset in the object.
    pub user: BTreeMap<(u32, u64), Arc<Named>>,
    /// By kernel address.
    pub kernel: BTreeMap<u64, Arc<Named>>,
}

impl SymbolTable {
    /// The names of a place.
    pub fn get(&self, place: Place) -> Option<&Arc<Named>> {
        match place {
            Place::Kernel(address) => self.kernel.get(&address),
            Place::Object { object, offset } => self.user.get(&(object, offset)),
            Place::Unmapped(_) => None,
        }
    }

    /// Adds the names of a place; those of an unmapped address are not kept.
    pub fn insert(&mut self, place: Place, named: Arc<Named>) {
        match place {
            Place::Kernel(address) => drop(self.kernel.insert(address, named)),
            Place::Object { object, offset } => drop(self.user.insert((object, offset), named)),
            Place::Unmapped(_) => {}
        }
    }

    /// The table as a recording keeps it: a list, in a fixed order.
    pub fn to_names(&self) -> Names {
        let recorded = |object, address, named: &Named| RecordedName {
            object,
            address,
            module: named.module.clone(),
            lines: named.lines.clone(),
        };
        let user = self.user.iter().map(|(&(object, at), named)| recorded(Some(object), at, named));
        let kernel = self.kernel.iter().map(|(&at, named)| recorded(None, at, named));
        user.chain(kernel).collect()
    }

    /// The table of a recording's names. Entries without a line are left out: they name nothing.
    pub fn from_names(names: Names) -> Self {
        let mut table = Self::default();
        for RecordedName { object, address, module, lines } in names {
            if lines.is_empty() {
                continue;
            }
            let place = match object {
                Some(object) => Place::Object { object, offset: address },
                None => Place::Kernel(address),
            };
            table.insert(place, Arc::new(Named { lines, module }));
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_survives_json() {
        let named = |function: &str, module: &str| {
            let line = Line { function: function.into(), file: "a.c".into(), line: 3 };
            Arc::new(Named { lines: vec![line], module: module.into() })
        };
        let mut table = SymbolTable::default();
        table.insert(Place::Object { object: 2, offset: 0x10 }, named("f", ""));
        table.insert(Place::Object { object: 2, offset: 0x11 }, named("g", ""));
        table.insert(Place::Kernel(u64::MAX - 1), named("k", "ext4"));
        let json = serde_json::to_string(&table.to_names()).unwrap();
        let names: Names = serde_json::from_str(&json).unwrap();
        assert_eq!(SymbolTable::from_names(names), table);
    }

    #[test]
    fn an_entry_without_lines_is_left_out() {
        let names: Names =
            serde_json::from_str(r#"[{"object":1,"address":5,"lines":[]}]"#).unwrap();
        assert_eq!(SymbolTable::from_names(names), SymbolTable::default());
    }
}
