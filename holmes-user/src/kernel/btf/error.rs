//! Why type information is not understood.

/// What is wrong with a blob of BTF.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::kernel) enum BtfError {
    /// Not even a header.
    #[error("no BTF: it does not begin with BTF's mark")]
    NoMagic,
    /// Written on a machine of the other byte order.
    #[error("BTF of the other byte order")]
    ByteOrder,
    /// A format of the future.
    #[error("BTF version {0}, only version 1 is known")]
    Version(u8),
    /// The header points outside the bytes.
    #[error("BTF is cut short: its sections lie beyond its end")]
    Sections,
    /// A type goes on beyond the end of its section.
    #[error("BTF type {id} is cut short")]
    Short {
        /// The type's number.
        id: u32,
    },
    /// A type of a kind this reader has never heard of, whose length is unknown therefore.
    #[error("BTF type {id} is of kind {kind}, which is unknown")]
    Kind {
        /// The type's number.
        id: u32,
        /// Its kind.
        kind: u8,
    },
}
