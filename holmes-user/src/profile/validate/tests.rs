//! Each thing that must hold of a profile, broken once.

use super::super::About;
use super::super::proto::{Label, Line, Location, Mapping, Profile, Sample, ValueType};
use super::super::testing::made;
use super::*;

fn sound() -> Profile {
    let made = made();
    let comments = vec!["c".to_owned()];
    let about = About { start_unix_ns: 1, sample_period_ns: 10, memory_interval: 1, comments };
    let profile = super::super::encode(&made.cut, &made.symbols, &about);
    assert_eq!(check(&profile), Ok(()));
    profile
}

fn add(profile: &mut Profile, text: &str) -> i64 {
    profile.string_table.push(text.to_owned());
    profile.string_table.len() as i64 - 1
}

/// Breaks a sound profile in one way.
type Break = fn(&mut Profile);

#[test]
fn every_rule_is_noticed_when_broken() {
    let cases: Vec<(Rule, Break)> = vec![
        (Rule::FirstStringEmpty, |p| p.string_table[0] = "x".to_owned()),
        (Rule::FirstStringEmpty, |p| p.string_table.clear()),
        (Rule::StringTwice, |p| p.string_table.push(String::new())),
        (Rule::StringIndex, |p| p.function[0].name = 1 << 40),
        (Rule::StringIndex, |p| p.comment.push(-1)),
        (Rule::StringIndex, |p| p.mapping[0].filename = i64::MAX),
        (Rule::StringIndex, |p| p.doc_url = i64::MIN),
        (Rule::SampleType, |p| p.sample_type.clear()),
        (Rule::SampleType, |p| p.sample_type[1].unit = 0),
        (Rule::SampleTypeTwice, |p| p.sample_type[1] = p.sample_type[0]),
        (Rule::SampleTypeDash, |p| p.sample_type[1].r#type = add(p, "cpu-time")),
        (Rule::CountFirst, |p| p.sample_type.swap(0, 1)),
        (Rule::DefaultSampleType, |p| p.default_sample_type = add(p, "other")),
        (Rule::Period, |p| p.period_type = None),
        (Rule::Period, |p| p.period_type = Some(ValueType::default())),
        (Rule::Period, |p| p.period = 0),
        (Rule::Time, |p| p.duration_nanos = -1),
        (Rule::Time, |p| p.time_nanos = -1),
        (Rule::Id, |p| p.mapping[0].id = 9),
        (Rule::Id, |p| p.function[1].id = 0),
        (Rule::Id, |p| p.location.swap(0, 1)),
        (Rule::Reference, |p| p.location[0].mapping_id = 99),
        (Rule::Reference, |p| p.location[0].line[0].function_id = 0),
        (Rule::Reference, |p| p.sample[0].location_id[0] = u64::MAX),
        (Rule::ValueCount, |p| p.sample[0].value.push(1)),
        (Rule::EmptyStack, |p| p.sample[0].location_id.clear()),
        (Rule::SampleTwice, |p| p.sample.push(p.sample[0].clone())),
        (Rule::LabelKey, |p| p.sample[0].label[0].key = 0),
        (Rule::LabelKind, |p| p.sample[0].label[0].str = 1),
        (Rule::LabelTwice, |p| p.sample[0].label.extend_from_within(..1)),
        (Rule::LabelReserved, |p| p.sample[0].label[0].key = add(p, "pprof::x")),
        (Rule::MappingExtent, |p| p.mapping[0].memory_limit = p.mapping[0].memory_start),
        (Rule::MappingOverlap, |p| {
            let id = p.mapping.len() as u64 + 1;
            p.mapping.push(Mapping { id, ..p.mapping[0] });
        }),
        (Rule::BuildId, |p| p.mapping[0].build_id = add(p, "xyz")),
        (Rule::MappingClaim, |p| p.location[0].line.clear()),
        (Rule::MappingClaim, |p| p.location[0].line[0].line = 0),
        (Rule::MappingClaim, |p| {
            p.mapping.iter_mut().for_each(|mapping| mapping.has_inline_frames = true);
        }),
        (Rule::MappingClaim, |p| {
            p.mapping.iter_mut().for_each(|mapping| mapping.has_filenames = true);
        }),
        (Rule::AddressInMapping, |p| p.location[0].address = 0),
        (Rule::LocationTwice, |p| {
            let id = p.location.len() as u64 + 1;
            p.location.push(Location { id, ..p.location[0].clone() });
        }),
        (Rule::FunctionName, |p| p.function[0].name = 0),
        (Rule::FunctionTwice, |p| {
            let id = p.function.len() as u64 + 1;
            p.function.push(super::super::proto::Function { id, ..p.function[0] });
        }),
        (Rule::LineNumber, |p| p.location[0].line[0].line = -1),
        (Rule::LineNumber, |p| p.function[0].start_line = -1),
    ];
    for (index, (rule, break_it)) in cases.into_iter().enumerate() {
        let mut profile = sound();
        break_it(&mut profile);
        let violations = check(&profile).unwrap_err();
        let found = violations.iter().any(|violation| violation.rule == rule);
        assert!(found, "case {index}: {rule:?} not in {violations:?}");
    }
}

#[test]
fn a_hostile_profile_is_checked_in_bounded_memory() {
    let label = Label { key: -1, ..Default::default() };
    let sample = Sample { location_id: vec![7; 100], value: vec![], label: vec![label; 100] };
    let line = Line { function_id: 5, line: -1, column: -1 };
    let location = Location { line: vec![line; 100], mapping_id: 3, ..Default::default() };
    let profile = Profile {
        sample: vec![sample; 1000],
        location: vec![location; 1000],
        ..Default::default()
    };
    assert_eq!(check(&profile).unwrap_err().len(), MAX_VIOLATIONS);
}

#[test]
fn an_empty_profile_with_its_types_is_sound() {
    let mut made = made();
    made.cut.samples.clear();
    let about = About { sample_period_ns: 1, ..Default::default() };
    let profile = super::super::encode(&made.cut, &made.symbols, &about);
    assert_eq!(check(&profile), Ok(()));
}
