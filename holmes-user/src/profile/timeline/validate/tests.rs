//! Each rule is found broken where it is.

use prost::Message;

use super::*;
use crate::profile::About;
use crate::profile::timeline::chrome::ChromeEvent;
use crate::profile::timeline::proto::{Trace, TrackEvent, event_type};
use crate::profile::timeline::testing::made_timeline;
use crate::profile::timeline::{TimelineFormat, write};

fn written(format: TimelineFormat) -> Vec<u8> {
    let made = made_timeline();
    write(&made.timeline, &made.symbols, &About::default(), format, false).bytes
}

/// The rules that a trace breaks after a change of it.
fn broken_trace(change: impl FnOnce(&mut Trace)) -> Vec<Rule> {
    let mut trace = Trace::decode(&written(TimelineFormat::Perfetto)[..]).unwrap();
    change(&mut trace);
    let found = perfetto(&trace.encode_to_vec()).err().unwrap_or_default();
    found.into_iter().map(|violation| violation.rule).collect()
}

/// The first event of this type.
fn first(trace: &mut Trace, kind: u32) -> &mut TrackEvent {
    let events = trace.packet.iter_mut().filter_map(|packet| packet.track_event.as_mut());
    events.into_iter().find(|event| event.r#type == Some(kind)).unwrap()
}

fn at(trace: &Trace, kind: u32) -> usize {
    let is = |event: &TrackEvent| event.r#type == Some(kind);
    trace.packet.iter().position(|it| it.track_event.as_ref().is_some_and(is)).unwrap()
}

const BEGIN: u32 = event_type::SLICE_BEGIN;
const END: u32 = event_type::SLICE_END;

#[test]
fn what_is_wrong_in_a_perfetto_trace_is_found() {
    assert_eq!(broken_trace(|_| {}), []);
    let find = |rule, change: fn(&mut Trace)| {
        let broken = broken_trace(change);
        assert!(broken.contains(&rule), "{rule:?} is not in {broken:?}");
    };
    find(Rule::Clock, |trace| trace.packet[0].clock_snapshot = None);
    find(Rule::Clock, |trace| trace.packet[3].timestamp = None);
    find(Rule::Sequence, |trace| trace.packet[0].sequence_flags = None);
    find(Rule::Sequence, |trace| trace.packet[2].trusted_packet_sequence_id = Some(2));
    find(Rule::Interned, |trace| first(trace, BEGIN).name_iid = Some(77));
    find(Rule::Interned, |trace| first(trace, BEGIN).callstack_iid = Some(77));
    find(Rule::Interned, |trace| first(trace, BEGIN).debug_annotations[0].name_iid = None);
    find(Rule::InternedTwice, |trace| {
        let data = trace.packet.iter().find_map(|packet| packet.interned_data.clone());
        trace.packet.last_mut().unwrap().interned_data = data;
    });
    find(Rule::TrackId, |trace| {
        let track = trace.packet.iter().find(|packet| packet.track_descriptor.is_some());
        trace.packet.push(track.unwrap().clone());
    });
    find(Rule::Track, |trace| first(trace, BEGIN).track_uuid = Some(77));
    find(Rule::Event, |trace| first(trace, END).r#type = Some(77));
    find(Rule::Balance, |trace| drop(trace.packet.remove(at(trace, BEGIN))));
    find(Rule::Balance, |trace| drop(trace.packet.remove(at(trace, END))));
    find(Rule::Order, |trace| {
        let end = at(trace, END);
        trace.packet[end].timestamp = Some(u64::MAX);
    });
    find(Rule::Named, |trace| {
        let mut tracks = trace.packet.iter_mut().filter_map(|it| it.track_descriptor.as_mut());
        tracks.find_map(|track| track.thread.as_mut()).unwrap().tid = None;
    });
    assert_eq!(perfetto(b"no trace").unwrap_err()[0].rule, Rule::Readable);
    assert_eq!(perfetto(&[0x0a, 5, 0]).unwrap_err()[0].rule, Rule::Readable);
}

#[test]
fn what_is_wrong_in_chromes_format_is_found() {
    let broken = |change: &dyn Fn(&mut Vec<ChromeEvent>)| {
        let mut file: ChromeTrace =
            serde_json::from_slice(&written(TimelineFormat::Chrome)).unwrap();
        change(&mut file.trace_events);
        let found = chrome(&serde_json::to_vec(&file).unwrap()).err().unwrap_or_default();
        found.into_iter().map(|violation| violation.rule).collect::<Vec<_>>()
    };
    assert_eq!(broken(&|_| {}), []);
    assert_eq!(broken(&|events| drop(events.remove(0)))[0], Rule::Track);
    assert_eq!(broken(&|events| drop(events.remove(1)))[0], Rule::Track);
    assert_eq!(broken(&|events| events.push(events[0].clone())), [Rule::TrackId]);
    assert_eq!(broken(&|events| events[0].args.clear()), [Rule::Named]);
    assert_eq!(broken(&|events| events.push(events[2].clone())), [Rule::Order]);
    assert_eq!(broken(&|events| events[2].dur = Some(0.0)), [Rule::Balance]);
    assert_eq!(broken(&|events| events[2].dur = Some(1.501)), [Rule::Order]);
    assert_eq!(broken(&|events| events[2].ts = None), [Rule::Clock]);
    assert_eq!(broken(&|events| events[2].ph = "Q".to_owned()), [Rule::Event]);
    assert_eq!(broken(&|events| events[5].s = None), [Rule::Event]);
    assert_eq!(chrome(b"{}").unwrap_err()[0].rule, Rule::Readable);
}
