//! Both formats, of the same timelines.

use std::io::Read;

use proptest::prelude::*;
use prost::Message;

use super::chrome::ChromeTrace;
use super::proto::{Trace, event_type};
use super::testing::{MadeTimeline, made_timeline, timeline_strategy};
use super::*;

fn about() -> About {
    About {
        start_unix_ns: 1_795_229_820_000_000_000,
        comments: vec!["target: host".to_owned()],
        ..About::default()
    }
}

fn written(made: &MadeTimeline, format: TimelineFormat) -> Vec<u8> {
    let written = write(&made.timeline, &made.symbols, &about(), format, false);
    assert_eq!(written.violations, []);
    written.bytes
}

#[test]
fn a_line_in_chromes_format() {
    let text = String::from_utf8(written(&made_timeline(), TimelineFormat::Chrome)).unwrap();
    let expected = r#"{"displayTimeUnit":"ns","otherData":{"comments":["target: host"],"start_monotonic_ns":"5000000000","start_unix_ns":"1795229820000000000"},"traceEvents":[
{"ph":"M","name":"process_name","pid":10,"tid":1,"args":{"name":"app"}},
{"ph":"M","name":"thread_name","pid":10,"tid":1,"args":{"name":"app"}},
{"ph":"X","name":"futex in spin","cat":"wait","pid":10,"tid":1,"ts":0.0,"dur":1.5,"args":{"cause":"futex","function":"spin","holder":9,"lock":"0x7000","stack":"spin; [u8: 4]::run; main","stands_for":128}},
{"ph":"X","name":"running","cat":"run","pid":10,"tid":1,"ts":1.5,"dur":1000.001,"args":{"cpu":1}},
{"ph":"X","name":"unknown","cat":"unknown","pid":10,"tid":1,"ts":1001.501,"dur":0.007,"args":{"why":"it waits so often that waits were left out"}},
{"ph":"i","name":"spin","cat":"sample","pid":10,"tid":1,"ts":1.5,"s":"t","args":{"cpu":1,"function":"spin","stack":"spin; [u8: 4]::run; main"}}
]}
"#;
    assert_eq!(text, expected);
}

#[test]
fn a_line_in_perfettos_format() {
    let trace = Trace::decode(&written(&made_timeline(), TimelineFormat::Perfetto)[..]).unwrap();
    let tracks: Vec<_> = trace.packet.iter().filter_map(|it| it.track_descriptor.clone()).collect();
    let [_, process, thread] = &tracks[..] else { panic!("{tracks:?}") };
    assert_eq!(process.process.as_ref().and_then(|it| it.pid), Some(10));
    assert_eq!(thread.parent_uuid, process.uuid);
    assert_eq!(thread.thread.as_ref().and_then(|it| it.tid), Some(1));
    let events =
        trace.packet.iter().filter_map(|it| Some((it.timestamp?, it.track_event.as_ref()?)));
    let of_thread: Vec<_> = events.filter(|(_, it)| it.track_uuid == thread.uuid).collect();
    let times: Vec<u64> = of_thread.iter().map(|(time, _)| time - 5_000_000_000).collect();
    assert_eq!(times, [0, 1_500, 1_500, 1_001_501, 1_001_501, 1_001_508]);
    let types = [event_type::SLICE_BEGIN, event_type::SLICE_END].map(Some);
    assert!(of_thread.iter().zip(types.iter().cycle()).all(|((_, it), kind)| it.r#type == *kind));
    let data: Vec<_> = trace.packet.iter().filter_map(|it| it.interned_data.as_ref()).collect();
    let stack = data.iter().flat_map(|it| &it.callstacks).next().unwrap();
    let frames: Vec<_> = data.iter().flat_map(|it| &it.frames).collect();
    let names: Vec<_> = data.iter().flat_map(|it| &it.function_names).collect();
    let name = |id: u64| {
        let frame = frames.iter().find(|frame| frame.iid == Some(id)).unwrap();
        let name = names.iter().find(|name| name.iid == frame.function_name_id).unwrap();
        String::from_utf8(name.str.clone().unwrap()).unwrap()
    };
    let root_first: Vec<String> = stack.frame_ids.iter().map(|id| name(*id)).collect();
    assert_eq!(root_first, ["main", "[u8: 4]::run", "spin"]);
    assert_eq!(trace.packet.iter().filter(|it| it.perf_sample.is_some()).count(), 1);
}

#[test]
fn packed_and_plain_are_the_same_and_no_time_is_stored() {
    let made = made_timeline();
    for format in [TimelineFormat::Perfetto, TimelineFormat::Chrome] {
        let packed = write(&made.timeline, &made.symbols, &about(), format, true).bytes;
        assert_eq!(packed[4..8], [0; 4], "gzip's time");
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut plain).unwrap();
        assert_eq!(plain, written(&made, format));
    }
}

proptest! {
    #[test]
    fn every_timeline_is_valid_in_both_formats_and_whole(made in timeline_strategy()) {
        let chrome = written(&made, TimelineFormat::Chrome);
        prop_assert_eq!(validate::chrome(&chrome), Ok(()));
        let perfetto = written(&made, TimelineFormat::Perfetto);
        prop_assert_eq!(validate::perfetto(&perfetto), Ok(()));
        let lines = &made.timeline.threads;
        let spans = lines.iter().flat_map(|line| &line.spans);
        let nanos: u64 = spans.clone().map(|span| span.to.0 - span.from.0).sum();
        let file: ChromeTrace = serde_json::from_slice(&chrome).unwrap();
        let shown = file.trace_events.iter().filter_map(|event| event.dur);
        prop_assert_eq!(shown.map(|dur| (dur * 1e3).round() as u64).sum::<u64>(), nanos);
        let trace = Trace::decode(&perfetto[..]).unwrap();
        let of_type = |kind| {
            let events = trace.packet.iter().filter_map(|packet| packet.track_event.as_ref());
            events.filter(move |event| event.r#type == Some(kind)).count()
        };
        prop_assert_eq!(of_type(event_type::SLICE_BEGIN), spans.count());
        let samples: usize = lines.iter().map(|line| line.samples.len()).sum();
        prop_assert_eq!(trace.packet.iter().filter(|it| it.perf_sample.is_some()).count(), samples);
    }
}
