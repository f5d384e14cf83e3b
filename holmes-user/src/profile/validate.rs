//! Whether a pprof profile is what every reader accepts: `go tool pprof`, Pyroscope, Parca and
//! Perfetto insist on different things; this is all of them together, and the truth of what a
//! profile says about itself.
//!
//! Sources: `CheckValid` of github.com/google/pprof, the comments of its `profile.proto`, and the
//! ingest checks of Parca (ids are index + 1) and Pyroscope (no `-` in a sample type).
//!
//! Time and memory are linear in the profile, and violations are cut at [`MAX_VIOLATIONS`]: a
//! profile may come from anywhere.

use std::fmt;

use rustc_hash::FxHashSet;

use super::proto::{Label, Location, Mapping, Profile, Sample};

/// Violations listed; the rest is the same again, as a rule.
pub const MAX_VIOLATIONS: usize = 64;

/// A rule of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// The first string is empty.
    FirstStringEmpty,
    /// No string is there twice.
    StringTwice,
    /// Every string index is inside the table.
    StringIndex,
    /// There is a sample type, and each has a name and a unit.
    SampleType,
    /// No sample type is there twice.
    SampleTypeTwice,
    /// No `-` in a sample type: Pyroscope takes it for a separator.
    SampleTypeDash,
    /// The first sample type is a count.
    CountFirst,
    /// The default sample type is empty or one of the sample types.
    DefaultSampleType,
    /// The period has a type, and is positive.
    Period,
    /// Time and duration are not negative.
    Time,
    /// Ids are index + 1.
    Id,
    /// An id refers to something that is there.
    Reference,
    /// A sample has one value for each type.
    ValueCount,
    /// A sample has a location.
    EmptyStack,
    /// No stack is there twice with the same labels.
    SampleTwice,
    /// A label has a name.
    LabelKey,
    /// A label is a string or a number, not both; only a number has a unit.
    LabelKind,
    /// No label is there twice in a sample.
    LabelTwice,
    /// Labels that begin with `pprof::` are reserved.
    LabelReserved,
    /// A mapping has an extent.
    MappingExtent,
    /// Mappings do not overlap.
    MappingOverlap,
    /// A build id is hexadecimal.
    BuildId,
    /// `has_functions` and the like are true.
    MappingClaim,
    /// An address is inside its mapping.
    AddressInMapping,
    /// No location is there twice.
    LocationTwice,
    /// A function has a name.
    FunctionName,
    /// No function is there twice.
    FunctionTwice,
    /// Line numbers are not negative.
    LineNumber,
}

/// A rule broken somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which rule.
    pub rule: Rule,
    /// Where: the kind of thing, and its index.
    pub at: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?} at {}", self.rule, self.at)
    }
}

/// Checks every rule.
///
/// # Errors
/// The violations, at most [`MAX_VIOLATIONS`], in the order of the profile's parts.
pub fn check(profile: &Profile) -> Result<(), Vec<Violation>> {
    let mut checker = Checker { profile, violations: Vec::new() };
    checker.strings();
    checker.header();
    checker.mappings();
    checker.functions();
    checker.locations();
    checker.claims();
    checker.samples();
    if checker.violations.is_empty() { Ok(()) } else { Err(checker.violations) }
}

struct Checker<'a> {
    profile: &'a Profile,
    violations: Vec<Violation>,
}

impl<'a> Checker<'a> {
    fn require(&mut self, holds: bool, rule: Rule, what: &str, index: usize) {
        if !holds && self.violations.len() < MAX_VIOLATIONS {
            self.violations.push(Violation { rule, at: format!("{what} {index}") });
        }
    }

    /// The string of an index; empty, and a violation, where there is none.
    fn string(&mut self, id: i64, what: &str, index: usize) -> &'a str {
        let found = usize::try_from(id).ok().and_then(|id| self.profile.string_table.get(id));
        self.require(found.is_some(), Rule::StringIndex, what, index);
        found.map_or("", String::as_str)
    }

    fn strings(&mut self) {
        let table = &self.profile.string_table;
        let first = table.first().is_some_and(String::is_empty);
        self.require(first, Rule::FirstStringEmpty, "string", 0);
        let mut seen = FxHashSet::default();
        for (index, text) in table.iter().enumerate() {
            self.require(seen.insert(text.as_str()), Rule::StringTwice, "string", index);
        }
    }

    fn header(&mut self) {
        let profile = self.profile;
        let mut names = FxHashSet::default();
        self.require(!profile.sample_type.is_empty(), Rule::SampleType, "sample type", 0);
        for (index, types) in profile.sample_type.iter().enumerate() {
            let name = self.string(types.r#type, "sample type", index);
            let unit = self.string(types.unit, "sample type", index);
            let whole = !name.is_empty() && !unit.is_empty();
            self.require(whole, Rule::SampleType, "sample type", index);
            self.require(names.insert(name), Rule::SampleTypeTwice, "sample type", index);
            self.require(!name.contains('-'), Rule::SampleTypeDash, "sample type", index);
            let count = index > 0 || unit == "count";
            self.require(count, Rule::CountFirst, "sample type", index);
        }
        let default = self.string(profile.default_sample_type, "default sample type", 0);
        let known = default.is_empty() || names.contains(default);
        self.require(known, Rule::DefaultSampleType, "default sample type", 0);
        let period = profile.period_type.unwrap_or_default();
        let name = self.string(period.r#type, "period type", 0);
        let unit = self.string(period.unit, "period type", 0);
        let whole = !name.is_empty() && !unit.is_empty() && profile.period > 0;
        self.require(whole, Rule::Period, "period type", 0);
        let time = profile.time_nanos >= 0 && profile.duration_nanos >= 0;
        self.require(time, Rule::Time, "profile", 0);
        for (index, &comment) in profile.comment.iter().enumerate() {
            self.string(comment, "comment", index);
        }
        for id in [profile.drop_frames, profile.keep_frames, profile.doc_url] {
            self.string(id, "profile", 0);
        }
    }

    fn mappings(&mut self) {
        let mut extents = Vec::new();
        for (index, mapping) in self.profile.mapping.iter().enumerate() {
            self.require(mapping.id == index as u64 + 1, Rule::Id, "mapping", index);
            self.string(mapping.filename, "mapping", index);
            let build_id = self.string(mapping.build_id, "mapping", index);
            let hexadecimal = build_id.bytes().all(|byte| byte.is_ascii_hexdigit());
            self.require(hexadecimal, Rule::BuildId, "mapping", index);
            let extent = mapping.memory_start < mapping.memory_limit;
            self.require(extent, Rule::MappingExtent, "mapping", index);
            extents.push((mapping.memory_start, mapping.memory_limit, index));
        }
        extents.sort_unstable();
        for pair in extents.windows(2) {
            self.require(pair[0].1 <= pair[1].0, Rule::MappingOverlap, "mapping", pair[1].2);
        }
    }

    fn functions(&mut self) {
        let mut seen = FxHashSet::default();
        for (index, function) in self.profile.function.iter().enumerate() {
            self.require(function.id == index as u64 + 1, Rule::Id, "function", index);
            let name = self.string(function.name, "function", index);
            self.require(!name.is_empty(), Rule::FunctionName, "function", index);
            self.string(function.system_name, "function", index);
            self.string(function.filename, "function", index);
            self.require(function.start_line >= 0, Rule::LineNumber, "function", index);
            let key = (function.name, function.system_name, function.filename, function.start_line);
            self.require(seen.insert(key), Rule::FunctionTwice, "function", index);
        }
    }

    fn locations(&mut self) {
        let profile = self.profile;
        let mut seen = FxHashSet::default();
        for (index, location) in profile.location.iter().enumerate() {
            self.require(location.id == index as u64 + 1, Rule::Id, "location", index);
            if location.mapping_id != 0 {
                let mapping = entry(&profile.mapping, location.mapping_id);
                self.require(mapping.is_some(), Rule::Reference, "location", index);
                let inside = mapping.is_none_or(|mapping| {
                    (mapping.memory_start..mapping.memory_limit).contains(&location.address)
                });
                self.require(inside, Rule::AddressInMapping, "location", index);
            }
            for line in &location.line {
                let function = entry(&profile.function, line.function_id);
                self.require(function.is_some(), Rule::Reference, "location", index);
                let positive = line.line >= 0 && line.column >= 0;
                self.require(positive, Rule::LineNumber, "location", index);
            }
            let key = (location.mapping_id, location.address, &location.line[..]);
            self.require(seen.insert(key), Rule::LocationTwice, "location", index);
        }
    }

    /// What mappings say of their locations.
    fn claims(&mut self) {
        let profile = self.profile;
        let mut inlined: FxHashSet<u64> = FxHashSet::default();
        for (index, location) in profile.location.iter().enumerate() {
            if let Some(mapping) = entry(&profile.mapping, location.mapping_id) {
                let kept = claims_hold(profile, mapping, location);
                self.require(kept, Rule::MappingClaim, "location", index);
            }
            if location.line.len() > 1 {
                inlined.insert(location.mapping_id);
            }
        }
        for (index, mapping) in profile.mapping.iter().enumerate() {
            let kept = !mapping.has_inline_frames || inlined.contains(&mapping.id);
            self.require(kept, Rule::MappingClaim, "mapping", index);
        }
    }

    fn samples(&mut self) {
        let profile = self.profile;
        let mut seen = FxHashSet::default();
        for (index, sample) in profile.sample.iter().enumerate() {
            let values = sample.value.len() == profile.sample_type.len();
            self.require(values, Rule::ValueCount, "sample", index);
            self.require(!sample.location_id.is_empty(), Rule::EmptyStack, "sample", index);
            let mut ids = sample.location_id.iter();
            let known = ids.all(|&id| entry(&profile.location, id).is_some());
            self.require(known, Rule::Reference, "sample", index);
            self.labels(sample, index);
            let key = (&sample.location_id[..], &sample.label[..]);
            self.require(seen.insert(key), Rule::SampleTwice, "sample", index);
        }
    }

    fn labels(&mut self, sample: &Sample, index: usize) {
        let mut seen = FxHashSet::default();
        for &Label { key, str, num, num_unit } in &sample.label {
            let name = self.string(key, "sample", index);
            self.string(str, "sample", index);
            self.string(num_unit, "sample", index);
            self.require(!name.is_empty(), Rule::LabelKey, "sample", index);
            self.require(!name.starts_with("pprof::"), Rule::LabelReserved, "sample", index);
            let one = str == 0 || (num == 0 && num_unit == 0);
            self.require(one, Rule::LabelKind, "sample", index);
            self.require(seen.insert(key), Rule::LabelTwice, "sample", index);
        }
    }
}

/// The entry of a table whose ids are index + 1.
fn entry<T>(table: &[T], id: u64) -> Option<&T> {
    table.get(usize::try_from(id.checked_sub(1)?).ok()?)
}

fn claims_hold(profile: &Profile, mapping: &Mapping, location: &Location) -> bool {
    let lines = &location.line;
    let named = !lines.is_empty();
    let files = || {
        lines.iter().all(|line| {
            entry(&profile.function, line.function_id)
                .is_some_and(|function| function.filename != 0)
        })
    };
    let numbers = || lines.iter().all(|line| line.line > 0);
    (!mapping.has_functions || named)
        && (!mapping.has_filenames || (named && files()))
        && (!mapping.has_line_numbers || (named && numbers()))
        && (!mapping.has_inline_frames || named)
}

#[cfg(test)]
mod tests;
