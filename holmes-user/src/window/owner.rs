//! The interned owners, and the images that they keep alive.
//!
//! Must not: know stacks or time.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::mem::size_of;
use std::sync::Arc;

use holmes_common::record::flag;
use rustc_hash::FxHashMap;

use super::cut::Owner;
use super::intern::{Interned, Interner, Measured, table_bytes};
use crate::collect::{Comm, Observation};
use crate::process::{Cgroup, Image, Mapping};

impl Owner {
    /// Whose an observation is.
    pub(super) fn of(
        observation: &Observation,
        cgroup: Arc<Cgroup>,
        image: Option<Arc<Image>>,
    ) -> Self {
        let recorder = observation.flags & flag::RECORDER != 0;
        Self { tgid: observation.tgid, comm: observation.comm, cgroup, image, recorder }
    }

    /// An image is known by its number: it is unique within a run.
    fn image_number(&self) -> Option<u32> {
        self.image.as_ref().map(|image| image.number)
    }

    /// Everything but the cgroup, which costs more to compare.
    fn key(&self) -> (u32, Comm, Option<u32>, bool) {
        (self.tgid, self.comm, self.image_number(), self.recorder)
    }
}

impl PartialEq for Owner {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
            && (Arc::ptr_eq(&self.cgroup, &other.cgroup) || self.cgroup == other.cgroup)
    }
}

impl Eq for Owner {}

impl Hash for Owner {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
        self.cgroup.id.hash(state);
    }
}

impl PartialOrd for Owner {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The order of a cut's samples: nothing in it depends on a hash or an address.
impl Ord for Owner {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key()).then_with(|| {
            let (left, right) = (&self.cgroup, &other.cgroup);
            if Arc::ptr_eq(left, right) {
                return Ordering::Equal;
            }
            (left.id, &left.path, &left.container).cmp(&(right.id, &right.path, &right.container))
        })
    }
}

impl Measured for Owner {
    /// Owners share their cgroup; each is charged for it all the same, which errs on the safe side.
    fn heap_bytes(&self) -> usize {
        let container = self.cgroup.container.as_ref().map_or(0, |container| {
            container.id.len() + container.pod_uid.as_ref().map_or(0, String::len)
        });
        size_of::<Cgroup>() + self.cgroup.path.len() + container
    }
}

/// Bytes of an image that the window keeps alive. The objects behind its mappings belong to the
/// process stage, which shares them between images and bounds them.
pub(super) fn image_bytes(image: &Image) -> usize {
    size_of::<Image>() + image.exe.len() + image.mappings.len() * size_of::<Mapping>()
}

/// Owner of the interned owners.
#[derive(Debug, Default)]
pub(super) struct Owners {
    owners: Interner<Owner>,
    /// By image number: how many owners have it, and its bytes.
    images: FxHashMap<u32, (u32, usize)>,
    image_bytes: usize,
}

impl Owners {
    pub(super) fn len(&self) -> usize {
        self.owners.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.owners.bytes()
            + self.image_bytes
            + table_bytes::<(u32, (u32, usize))>(self.images.capacity())
    }

    /// The interned owner equal to this one, interned now if it is new.
    pub(super) fn intern(&mut self, owner: Owner) -> Interned<Owner> {
        if let Some(known) = self.owners.find(&owner) {
            return known;
        }
        if let Some(image) = &owner.image {
            let (owners, bytes) =
                self.images.entry(image.number).or_insert((0, image_bytes(image)));
            if *owners == 0 {
                self.image_bytes += *bytes;
            }
            *owners += 1;
        }
        self.owners.insert(Arc::new(owner))
    }

    pub(super) fn hold(&mut self, owner: &Interned<Owner>) {
        self.owners.hold(owner);
    }

    pub(super) fn release(&mut self, owner: &Interned<Owner>) {
        if !self.owners.release(owner) {
            return;
        }
        let Some(number) = owner.value().image_number() else { return };
        if let Some((owners, bytes)) = self.images.get_mut(&number) {
            *owners -= 1;
            if *owners == 0 {
                self.image_bytes -= *bytes;
                self.images.remove(&number);
            }
        }
    }

    pub(super) fn shrink(&mut self) {
        self.owners.shrink();
        if self.images.len() * 4 < self.images.capacity() {
            self.images.shrink_to(self.images.len() * 2);
        }
    }
}
