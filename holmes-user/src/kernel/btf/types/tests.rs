//! Answers about made-up types, and about bytes that are none.

use proptest::prelude::*;

use super::*;

/// Builds BTF, in this machine's byte order.
struct Blob {
    types: Vec<u8>,
    strings: Vec<u8>,
}

impl Blob {
    fn new() -> Self {
        Self { types: Vec::new(), strings: vec![0] }
    }

    fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend(name.bytes().chain([0]));
        at
    }

    fn words(&mut self, words: &[u32]) {
        self.types.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
    }

    /// A type without members.
    fn plain(mut self, kind: u32, name: &str, to: u32) -> Self {
        let name = self.name(name);
        self.words(&[name, kind << 24, to]);
        self
    }

    /// A type of members, each a name and two words.
    fn with(mut self, info: u32, name: &str, members: &[(&str, u32, u32)]) -> Self {
        let name = self.name(name);
        self.words(&[name, info | members.len() as u32, 8]);
        for (name, second, third) in members {
            let name = self.name(name);
            self.words(&[name, *second, *third]);
        }
        self
    }

    fn structure(self, name: &str, members: &[(&str, u32, u32)]) -> Self {
        self.with(4 << 24, name, members)
    }

    fn union(self, members: &[(&str, u32, u32)]) -> Self {
        self.with(5 << 24, "", members)
    }

    fn bytes(&self) -> Vec<u8> {
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        let mut bytes = MAGIC.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        bytes.extend([24, 0, types, types, strings].iter().flat_map(|word| word.to_ne_bytes()));
        bytes.extend(&self.types);
        bytes.extend(&self.strings);
        bytes
    }

    fn parse(&self, wanted: &[&str]) -> Types {
        Types::parse(self.bytes(), wanted).unwrap()
    }
}

const BIT_FIELDS: u32 = 1 << 31;

#[test]
fn a_member_is_found_in_nameless_structs_inside() {
    let types = Blob::new()
        .structure("outer", &[("first", 9, 0), ("", 2, 64), ("named", 4, 256), ("last", 9, 320)])
        .plain(10, "", 3)
        .union(&[("small", 9, 0), ("", 4, 32)])
        .structure("", &[("x", 9, 0), ("deep", 9, 64)])
        .parse(&["outer"]);
    let offset = |name| types.member_offset("outer", name);
    assert_eq!(offset("first"), Some(0));
    assert_eq!(offset("small"), Some(8), "in a const union");
    assert_eq!(offset("deep"), Some(8 + 4 + 8), "two levels down");
    assert_eq!(offset("last"), Some(40), "behind them");
    assert_eq!(offset("de"), None, "a beginning of a name is another name");
    assert_eq!(offset(""), None, "nameless members are not asked for");
    assert_eq!(types.member_offset("unknown", "first"), None);
}

#[test]
fn a_bit_field_has_no_offset_in_bytes() {
    let types = Blob::new()
        .with(
            BIT_FIELDS | 4 << 24,
            "flags",
            &[("whole", 9, 32), ("bit", 9, 1 << 24 | 64), ("after", 9, 96)],
        )
        .structure("old", &[("odd", 9, 33), ("even", 9, 40)])
        .parse(&["flags", "old"]);
    let offsets = ["whole", "bit", "after"].map(|name| types.member_offset("flags", name));
    assert_eq!(offsets, [Some(4), None, Some(12)]);
    assert_eq!(["odd", "even"].map(|name| types.member_offset("old", name)), [None, Some(5)]);
}

#[test]
fn enums_have_values_and_names_have_kinds() {
    let mut blob = Blob::new();
    let [one, two, name] = ["ONE", "TWO", "narrow"].map(|name| blob.name(name));
    blob.words(&[name, 6 << 24 | 2, 4, one, 1, two, 2]);
    let types = blob
        .with(19 << 24, "wide", &[("BIG", 5, 1)])
        .plain(8, "handler", 1)
        .plain(12, "function", 1)
        .parse(&["narrow", "wide", "handler", "function"]);
    assert_eq!(types.enum_value("narrow", "TWO"), Some(2));
    assert_eq!(types.enum_value("narrow", "THREE"), None);
    assert_eq!(types.enum_value("wide", "BIG"), Some((1 << 32) + 5));
    assert!(types.has(Kind::Typedef, "handler") && types.has(Kind::Function, "function"));
    assert!(!types.has(Kind::Typedef, "function"), "of another kind");
    assert!(!types.has(Kind::Typedef, "unknown"));
}

#[test]
fn types_behind_every_kind_and_many_strides_are_reached() {
    let mut blob = Blob::new();
    // Each kind once, with the words it has behind its head when it has one member.
    let tails = [1, 0, 3, 3, 3, 2, 0, 0, 0, 0, 0, 0, 2, 1, 3, 0, 1, 0, 3];
    for (kind, words) in (1_u32..).zip(tails) {
        blob.words(&[0, kind << 24 | 1, 0]);
        blob.words(&vec![0; words]);
    }
    for _ in 0..3 * STRIDE {
        blob = blob.plain(2, "", 0);
    }
    let inner = (tails.len() + 3 * STRIDE + 1) as u32;
    let types =
        blob.structure("", &[("x", 1, 16)]).structure("far", &[("", inner, 16)]).parse(&["far"]);
    assert_eq!(types.member_offset("far", "x"), Some(4));
}

#[test]
fn cycles_end() {
    // Each of the nameless structs holds itself and the other many times over.
    let members = vec![("", 2, 0); 5000];
    let types = Blob::new()
        .structure("round", &members)
        .structure("", &[members.clone(), vec![("", 3, 0); 5000]].concat())
        .plain(10, "", 3)
        .parse(&["round"]);
    assert_eq!(types.member_offset("round", "x"), None);
}

#[test]
fn what_is_not_understood_is_named() {
    let parse = |bytes: Vec<u8>| Types::parse(bytes, &["x"]).unwrap_err();
    assert_eq!(parse(Vec::new()), BtfError::NoMagic);
    assert_eq!(parse(b"this is no BTF".to_vec()), BtfError::NoMagic);
    assert_eq!(parse(MAGIC.swap_bytes().to_ne_bytes().to_vec()), BtfError::ByteOrder);

    let good = Blob::new().structure("x", &[("y", 0, 0)]);
    let mut bytes = good.bytes();
    bytes[2] = 2;
    assert_eq!(parse(bytes), BtfError::Version(2));
    let mut bytes = good.bytes();
    bytes.pop();
    assert_eq!(parse(bytes), BtfError::Sections);
    let mut cut = Blob::new().plain(2, "", 0).structure("x", &[("y", 0, 0)]);
    cut.types.pop();
    assert_eq!(parse(cut.bytes()), BtfError::Short { id: 2 });
    let unknown = Blob::new().plain(2, "", 0).plain(20, "x", 0);
    assert_eq!(parse(unknown.bytes()), BtfError::Kind { id: 2, kind: 20 });
}

/// Asks everything there is to ask.
fn ask(bytes: Vec<u8>) {
    if let Ok(types) = Types::parse(bytes, &["a", ""]) {
        for name in ["a", ""] {
            let _ = types.member_offset("a", name);
            let _ = types.enum_value("a", name);
            let _ = types.has(Kind::Function, name);
        }
    }
}

proptest! {
    #[test]
    fn no_words_panic(
        words in proptest::collection::vec(
            prop_oneof![0..9_u32, (0..21_u32, 0..4_u32).prop_map(|(kind, n)| kind << 24 | n), any::<u32>()],
            0..120,
        ),
    ) {
        let mut blob = Blob::new();
        blob.name("a");
        blob.words(&words);
        ask(blob.bytes());
    }

    #[test]
    fn no_damage_panics(damage in proptest::collection::vec((0..200_usize, any::<u8>()), 1..8)) {
        let mut bytes = Blob::new()
            .structure("a", &[("", 2, 0), ("b", 3, 64)])
            .union(&[("", 1, 0)])
            .with(19 << 24, "a", &[("a", 1, 1)])
            .bytes();
        for (at, byte) in damage {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        ask(bytes);
    }
}
