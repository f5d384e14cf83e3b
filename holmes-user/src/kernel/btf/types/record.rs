//! One type as it lies in the bytes: three words, and what its kind has behind them.
//!
//! Must not: follow a reference to another type or to a string.

/// Bytes of the part that every type has.
const HEAD: usize = 12;

/// Bytes of a struct's or union's member: name, type, offset.
pub(super) const MEMBER: usize = 12;
/// Bytes of an enum's member: name, value.
pub(super) const ENUM_MEMBER: usize = 8;
/// Bytes of a 64-bit enum's member: name, lower and upper half of the value.
pub(super) const ENUM64_MEMBER: usize = 12;

/// The kinds of types, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::kernel) enum Kind {
    /// An integer.
    Int = 1,
    /// A pointer.
    Pointer,
    /// An array.
    Array,
    /// A struct.
    Struct,
    /// A union.
    Union,
    /// An enum of up to 32 bits.
    Enum,
    /// A declaration without a definition.
    Forward,
    /// A typedef.
    Typedef,
    /// `volatile`.
    Volatile,
    /// `const`.
    Const,
    /// `restrict`.
    Restrict,
    /// A function.
    Function,
    /// A function's parameters and result.
    Prototype,
    /// A variable.
    Variable,
    /// A section of variables.
    Section,
    /// A floating-point number.
    Float,
    /// A note on a declaration.
    DeclarationTag,
    /// A note on a type.
    TypeTag,
    /// An enum of 64 bits.
    Enum64,
}

impl Kind {
    const ALL: [Self; 19] = [
        Self::Int,
        Self::Pointer,
        Self::Array,
        Self::Struct,
        Self::Union,
        Self::Enum,
        Self::Forward,
        Self::Typedef,
        Self::Volatile,
        Self::Const,
        Self::Restrict,
        Self::Function,
        Self::Prototype,
        Self::Variable,
        Self::Section,
        Self::Float,
        Self::DeclarationTag,
        Self::TypeTag,
        Self::Enum64,
    ];

    fn of(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }

    /// Whether it only qualifies the type it points to, or names it.
    pub(super) fn is_modifier(self) -> bool {
        matches!(
            self,
            Self::Typedef | Self::Volatile | Self::Const | Self::Restrict | Self::TypeTag
        )
    }

    /// Bytes behind the head.
    fn tail(self, members: usize) -> usize {
        match self {
            Self::Int | Self::Variable | Self::DeclarationTag => 4,
            Self::Array => 12,
            Self::Struct | Self::Union => members * MEMBER,
            Self::Enum => members * ENUM_MEMBER,
            Self::Enum64 => members * ENUM64_MEMBER,
            Self::Prototype => members * 8,
            Self::Section => members * 12,
            Self::Pointer
            | Self::Forward
            | Self::Typedef
            | Self::Volatile
            | Self::Const
            | Self::Restrict
            | Self::Function
            | Self::Float
            | Self::TypeTag => 0,
        }
    }
}

/// The head of a type, and where it lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    at: usize,
    /// Offset of its name among the strings.
    pub(super) name: u32,
    info: u32,
    /// Its size, or the type it points to.
    pub(super) size_or_type: u32,
}

impl Record {
    /// Reads the head at this place.
    pub(super) fn read(bytes: &[u8], at: usize) -> Option<Self> {
        let head = bytes.get(at..)?.first_chunk::<HEAD>()?;
        let [name, info, size_or_type] = [0, 4, 8].map(|at| word(head, at));
        Some(Self { at, name: name?, info: info?, size_or_type: size_or_type? })
    }

    /// The number of its kind, known or not.
    pub(super) fn raw_kind(&self) -> u8 {
        (self.info >> 24 & 0x1f) as u8
    }

    /// Its kind; `None` if that is unknown.
    pub(super) fn kind(&self) -> Option<Kind> {
        Kind::of(self.raw_kind())
    }

    /// Where the next type begins; `None` if the kind is unknown.
    pub(super) fn end(&self) -> Option<usize> {
        self.at.checked_add(HEAD)?.checked_add(self.kind()?.tail(self.count()))
    }

    /// Where its members begin, if each has `size` bytes.
    pub(super) fn members(&self, size: usize) -> impl Iterator<Item = usize> + use<> {
        let start = self.at + HEAD;
        (0..self.count()).map(move |member| start + member * size)
    }

    /// A member's offset in bits, and whether it is a bit field, from the member's third word.
    pub(super) fn member_offset(&self, word: u32) -> (u32, bool) {
        // The flag says that the upper byte is the size of a bit field.
        if self.info >> 31 == 1 { (word & 0xff_ffff, word >> 24 != 0) } else { (word, false) }
    }

    fn count(&self) -> usize {
        (self.info & 0xffff) as usize
    }
}

/// The word at this place, in this machine's byte order.
pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk::<4>().map(|word| u32::from_ne_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_stand_at_their_numbers() {
        for (position, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, position + 1);
        }
        assert_eq!((Kind::of(0), Kind::of(20)), (None, None));
    }
}
