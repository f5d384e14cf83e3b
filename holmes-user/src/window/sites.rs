//! Sites: whose, and with which stack. The ledgers refer to them beyond the life of a bucket.
//!
//! Must not: hold or release interned values; the ring does, for every site that is new here, and for
//! every one that is no longer used.

use std::mem::size_of;

use rustc_hash::FxHashMap;

use super::cut::Owner;
use super::intern::{Interned, shared_bytes, table_bytes};
use super::owner::image_bytes;
use crate::collect::Stack;

/// Where something was made, and by whom.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Site {
    pub(super) owner: Interned<Owner>,
    pub(super) stack: Interned<Stack>,
}

impl Site {
    /// Bytes that it keeps alive.
    pub(super) fn bytes(&self) -> usize {
        shared_bytes(self.owner.value())
            + self.owner.value().image.as_ref().map_or(0, |image| image_bytes(image))
            + shared_bytes(self.stack.value())
            + size_of::<(Site, u32)>() * 2
    }
}

/// Sites that nothing refers to any more: the ring releases what they hold.
pub(super) type Unused = Vec<Site>;

/// Owner of one ledger's sites, each with how much refers to it.
#[derive(Debug, Default)]
pub(super) struct Sites {
    users: FxHashMap<Site, u32>,
    kept_bytes: usize,
}

impl Sites {
    /// Bytes of the owners and stacks that are kept alive, whoever else does so too.
    pub(super) fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    /// Bytes that one more user of this site adds to those.
    pub(super) fn added_bytes(&self, site: &Site) -> usize {
        if self.users.contains_key(site) { 0 } else { site.bytes() }
    }

    /// Bytes of the table.
    pub(super) fn bytes(&self) -> usize {
        table_bytes::<(Site, u32)>(self.users.capacity())
    }

    /// One more user; says whether it is the first, so that the ring holds the site.
    pub(super) fn add(&mut self, site: &Site) -> bool {
        if let Some(users) = self.users.get_mut(site) {
            *users += 1;
            return false;
        }
        self.kept_bytes += site.bytes();
        self.users.insert(site.clone(), 1);
        true
    }

    /// One user less; the last one leaves the site in `unused`.
    pub(super) fn remove(&mut self, site: Site, unused: &mut Unused) {
        let Some(users) = self.users.get_mut(&site) else { return };
        *users -= 1;
        if *users == 0 {
            self.users.remove(&site);
            self.kept_bytes -= site.bytes();
            unused.push(site);
        }
    }

    /// Gives memory back after many sites have gone.
    pub(super) fn shrink(&mut self) {
        if self.users.len() * 4 < self.users.capacity() {
            self.users.shrink_to(self.users.len() * 2);
        }
    }
}
