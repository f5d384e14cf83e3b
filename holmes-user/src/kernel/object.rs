//! The compiled probes, embedded.

/// The ELF object is parsed in place and wants its headers aligned.
#[repr(C, align(8))]
struct Aligned<Bytes: ?Sized>(Bytes);

static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(env!("HOLMES_PROBES_PATH")));

/// The object file `holmes-probes`.
pub(super) fn bytes() -> &'static [u8] {
    &OBJECT.0
}
