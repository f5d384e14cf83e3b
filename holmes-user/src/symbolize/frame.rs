//! Where the frames of a stack are: the one place that says which address of a frame is looked up.
//!
//! Must not: name anything.

use std::sync::Arc;

use crate::process::Object;
use crate::window::CutSample;

/// A place in code, independent of where a process has it mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// A kernel address.
    Kernel(u64),
    /// An offset in a mapped object.
    Object {
        /// [`Object::number`].
        object: u32,
        /// In bytes from the object's first.
        offset: u64,
    },
    /// An address outside everything the process was known to have mapped.
    Unmapped(u64),
}

/// One frame of a stack.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Where it is. For a return address this is one byte earlier, inside the call.
    pub place: Place,
    /// The object of [`Place::Object`].
    pub object: Option<&'a Arc<Object>>,
}

/// The frames of a sample, leaf first: the kernel's, then the process's.
///
/// The first frame of either part is where the CPU was, or entered the kernel. All others are
/// return addresses, which point behind the call: at its end, or at the next function. So they are
/// looked up one byte earlier.
pub fn frames(sample: &CutSample) -> impl Iterator<Item = Frame<'_>> {
    let image = sample.owner.image.as_deref();
    let kernel = looked_up(&sample.stack.kernel)
        .map(|address| Frame { place: Place::Kernel(address), object: None });
    let user = looked_up(&sample.stack.user).map(move |address| {
        match image.and_then(|image| image.locate(address)) {
            Some((object, offset)) => Frame {
                place: Place::Object { object: object.number, offset },
                object: Some(object),
            },
            None => Frame { place: Place::Unmapped(address), object: None },
        }
    });
    kernel.chain(user)
}

fn looked_up(addresses: &[u64]) -> impl Iterator<Item = u64> + '_ {
    addresses
        .iter()
        .enumerate()
        .map(|(depth, &address)| address.saturating_sub(u64::from(depth > 0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::{Comm, Stack};
    use crate::process::{Cgroup, Image, Mapping, ObjectKind};
    use crate::window::{Detail, Owner, pair};

    #[test]
    fn leaves_are_exact_and_callers_one_byte_earlier() {
        let object = Arc::new(Object {
            number: 7,
            kind: ObjectKind::File,
            path: "/a".into(),
            build_id: String::new(),
            file: None,
        });
        let image = Image {
            number: 1,
            tgid: 1,
            start_time: 0,
            exe: "/a".into(),
            mappings: vec![Mapping { start: 0x1000, end: 0x2000, offset: 0x400, object }],
        };
        let owner = Owner {
            tgid: 1,
            comm: Comm::from("a".to_owned()),
            cgroup: Arc::new(Cgroup { id: Default::default(), path: "/".into(), container: None }),
            image: Some(Arc::new(image)),
            recorder: false,
        };
        let sample = CutSample {
            owner: Arc::new(owner),
            // The last one returns to the mapping's end: the call itself is still inside.
            stack: Arc::new(Stack {
                user: [0x1010, 0x1020, 0x2000, 0x9000].into(),
                kernel: [0xffff_0010, 0xffff_0020].into(),
            }),
            detail: Detail::None,
            labels: Vec::new(),
            values: pair([1, 1]),
        };
        let places: Vec<Place> = frames(&sample).map(|frame| frame.place).collect();
        assert_eq!(
            places,
            [
                Place::Kernel(0xffff_0010),
                Place::Kernel(0xffff_001f),
                Place::Object { object: 7, offset: 0x410 },
                Place::Object { object: 7, offset: 0x41f },
                Place::Object { object: 7, offset: 0x13ff },
                Place::Unmapped(0x8fff),
            ]
        );
    }
}
