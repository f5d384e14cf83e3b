//! What clocks and late ticks do to incidents.

use super::*;

#[test]
fn the_wall_clock_follows_what_it_was_last_set_to() {
    let mut recorder = FlightRecorder::new(start());
    let at = |second| Nanos::from_secs(START_S + second);
    recorder.accept(Input::Clock { monotonic: at(5), unix_ns: 50_000_000_000 });
    recorder.accept(Input::Trigger { time: at(7), target: None });
    recorder.accept(Input::Trigger { time: at(4), target: None });
    let unix: Vec<_> =
        recorder.finish(at(8)).iter().map(|incident| incident.trigger_unix_ns).collect();
    assert_eq!(unix, [52_000_000_000, 49_000_000_000]);
}

#[test]
fn a_late_tick_does_not_cost_the_incident_its_beginning() {
    let inputs = cpu_spike().into_iter().filter(|input| match input {
        Input::Tick(now) => now.second() < START_S + 70,
        Input::Signals(frame) => frame.time.second() < START_S + 70,
        _ => true,
    });
    let mut recorder = FlightRecorder::new(start());
    assert_eq!(run(&mut recorder, inputs.collect()).len(), 0);
    let incidents = recorder.tick(Nanos::from_secs(START_S + 1_000));
    assert_eq!(count(&incidents[0], "cpu", 0x1001), 40 * 2);
    let kinds: Vec<_> = incidents[0].cuts.iter().map(|cut| cut.cut.kind).collect();
    assert_eq!(kinds, [ProfileKind::Cpu; 2]);
}
