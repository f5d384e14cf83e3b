//! The places of some cuts that need names, object by object.
//!
//! Must not: name anything.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::frame::{Place, frames};
use crate::process::{Image, Object};
use crate::window::Cut;

/// The places of some cuts, each once.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) kernel: BTreeSet<u64>,
    pub(super) unmapped: BTreeSet<u64>,
    pub(super) objects: FxHashMap<u32, WantedObject>,
}

#[derive(Debug)]
pub(super) struct WantedObject {
    pub(super) object: Arc<Object>,
    /// An image that maps it: of memory without a file, there is no other process.
    pub(super) image: Option<Arc<Image>>,
    /// Samples with a frame in it.
    pub(super) weight: u64,
    pub(super) offsets: BTreeSet<u64>,
}

impl Wanted {
    pub(super) fn of(cuts: &[&Cut]) -> Self {
        let mut wanted = Self::default();
        for sample in cuts.iter().flat_map(|cut| &cut.samples) {
            for frame in frames(sample) {
                match (frame.place, frame.object) {
                    (Place::Object { object, offset }, Some(mapped)) => {
                        let entry = wanted.objects.entry(object).or_insert_with(|| WantedObject {
                            object: mapped.clone(),
                            image: sample.owner.image.clone(),
                            weight: 0,
                            offsets: BTreeSet::new(),
                        });
                        entry.weight += sample.values[0].unsigned_abs();
                        entry.offsets.insert(offset);
                    }
                    (Place::Kernel(address), _) => {
                        wanted.kernel.insert(address);
                    }
                    (Place::Unmapped(address), _)
                    | (Place::Object { offset: address, .. }, None) => {
                        wanted.unmapped.insert(address);
                    }
                }
            }
        }
        wanted
    }

    /// The objects, those of most samples first: if the time runs out, it was spent well.
    pub(super) fn by_weight(&mut self) -> Vec<WantedObject> {
        let objects = std::mem::take(&mut self.objects);
        let mut objects: Vec<WantedObject> = objects.into_values().collect();
        objects.sort_by_key(|object| (std::cmp::Reverse(object.weight), object.object.number));
        objects
    }
}
