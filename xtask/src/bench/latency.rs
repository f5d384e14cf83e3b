//! How soon the recorder samples after its start, and how soon an incident is on disk after its
//! window has ended.
//!
//! Must not: trust the recorder's own clock readings where the kernel's can be had: the time of a
//! sample is the probe's, the time of a folder the file system's.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::Value;

use super::crowd::Crowd;
use super::language::Language;
use super::listener::Listener;
use super::recorder::{Recorder, Watched};
use super::session::Session;
use super::table::{Budget, Row, Table, Unit};
use crate::cgroup::Cgroup;

const PART: &str = "latency";

const HZ: u32 = 49;

/// Budgets in seconds.
const FIRST_SAMPLE: f64 = 0.5;
const INCIDENT: f64 = 3.0;

/// Processes in the incident's cgroup, beside one of each language.
const CROWD: u32 = 50;

/// Measures, and adds its rows.
///
/// # Errors
/// When the recorder or a workload fails.
pub fn run(session: &Session, table: &mut Table) -> Result<()> {
    first_sample(session, table)?;
    incident(session, table)
}

fn first_sample(session: &Session, table: &mut Table) -> Result<()> {
    let busy = Language::C.start(session)?;
    let recording = session.file("first-sample.recording");
    let mut delays = Vec::new();
    for _ in 0..session.scale(10, 3) {
        let more: [OsString; 2] = ["--record-input".into(), recording.clone().into()];
        let begun = unix_seconds_now()?;
        let recorder = Recorder::start(session, Watched::Processes(&[busy.pid()]), HZ, &more)?;
        session.pause(Duration::from_secs(1))?;
        // It writes the last of the recording when it ends.
        drop(recorder);
        let file = std::fs::File::open(&recording)
            .with_context(|| format!("cannot read {}", recording.display()))?;
        let lines = BufReader::new(file).lines().map_while(Result::ok);
        let first = first_sample_unix(lines).context("the recording has no sample")?;
        delays.push(first - begun);
    }
    let row = Row::of("first sample after start", Unit::Seconds, &delays);
    table.add(PART, row.budget(Budget::AtMost(FIRST_SAMPLE)).note("of a busy process"));
    Ok(())
}

/// The time of a recording's first CPU sample, in Unix seconds: by the pair of clock readings in
/// its line `start`.
fn first_sample_unix(lines: impl Iterator<Item = String>) -> Option<f64> {
    let mut offset = None;
    for line in lines {
        let Ok(line) = serde_json::from_str::<Value>(&line) else { continue };
        if let Some(start) = line.get("start") {
            let (time, unix) = (start["time"].as_u64()?, start["unix_ns"].as_u64()?);
            offset = Some(unix.checked_sub(time)?);
        }
        let record = &line["observation"]["record"];
        if record["what"] == "cpu_sample" {
            let unix_ns = record["time"].as_u64()?.checked_add(offset?)?;
            return Some(unix_ns as f64 / 1e9);
        }
    }
    None
}

fn incident(session: &Session, table: &mut Table) -> Result<()> {
    // Dropped in reverse: the processes before their cgroup.
    let cgroup = Cgroup::create("bench")?;
    let mut languages: Vec<Listener> = Vec::new();
    for language in Language::ALL.into_iter().filter(|language| language.is_here()) {
        let program = language.start(session)?;
        cgroup.admit(program.pid())?;
        languages.push(program);
    }
    let crowd = Crowd::start(session, CROWD)?;
    for pid in crowd.pids() {
        cgroup.admit(*pid)?;
    }
    let lookback = Duration::from_secs(session.scale(60, 10));
    let more: Vec<OsString> = vec![
        "--lookback".into(),
        format!("{}s", lookback.as_secs()).into(),
        "--after".into(),
        "1s".into(),
    ];
    session.empty_folder("incidents")?;
    let mut recorder = Recorder::start(session, Watched::Cgroup(&cgroup), HZ, &more)?;
    session.pause(lookback)?;
    let mut delays = Vec::new();
    for _ in 0..session.scale(5, 2) {
        delays.push(written_after(Path::new(&recorder.incident(session)?))?);
    }
    // The first one has everything to look up, the others find some of it known.
    let first = delays.iter().take(1).copied().collect::<Vec<_>>();
    let note =
        format!("{} s of {} processes in {} languages", lookback.as_secs(), CROWD, languages.len());
    let row = Row::of("first incident on disk after its window's end", Unit::Seconds, &first);
    table.add(PART, row.budget(Budget::AtMost(INCIDENT)).note(note));
    let row = Row::of("incidents after it", Unit::Seconds, &delays[1..]);
    table.add(PART, row.budget(Budget::AtMost(INCIDENT)));
    Ok(())
}

/// Seconds from the end of an incident's window to its folder having its name. Renaming sets the
/// folder's change time, and nothing does later.
fn written_after(folder: &Path) -> Result<f64> {
    let meta = std::fs::metadata(folder)
        .with_context(|| format!("cannot look at {}", folder.display()))?;
    let named = meta.ctime() as f64 + meta.ctime_nsec() as f64 / 1e9;
    let file = folder.join("incident.json");
    let text = std::fs::read_to_string(&file)
        .with_context(|| format!("cannot read {}", file.display()))?;
    let document: Value =
        serde_json::from_str(&text).with_context(|| format!("in {}", file.display()))?;
    let end = document.pointer("/window/end").and_then(Value::as_str);
    let end = end.and_then(unix_seconds).context("incident.json has no window/end")?;
    Ok(named - end)
}

fn unix_seconds_now() -> Result<f64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    Ok(since.as_secs_f64())
}

/// Unix seconds of a time like `2026-11-21T04:48:44.998Z`.
fn unix_seconds(text: &str) -> Option<f64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let number = |text: &str| text.parse::<i64>().ok();
    let [year, month, day] = three(date, '-')?;
    let [hour, minute, second] = three(time, ':')?;
    let (year, month, day) = (number(year)?, number(month)?, number(day)?);
    // Days since 1970-01-01 in the Gregorian calendar, counted in years that begin in March, so
    // that the leap day is the last.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day
            - 719_469;
    let seconds = days * 86_400 + number(hour)? * 3600 + number(minute)? * 60;
    Some(seconds as f64 + second.parse::<f64>().ok()?)
}

fn three(text: &str, between: char) -> Option<[&str; 3]> {
    let mut parts = text.split(between);
    let three = [parts.next()?, parts.next()?, parts.next()?];
    parts.next().is_none().then_some(three)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_unix_seconds() {
        assert_eq!(unix_seconds("1970-01-01T00:00:00.000Z"), Some(0.0));
        assert_eq!(unix_seconds("2000-02-29T12:00:00Z"), Some(951_825_600.0));
        assert_eq!(unix_seconds("2026-11-21T04:48:44.500Z"), Some(1_795_236_524.5));
        assert_eq!(unix_seconds("2026-11-21 04:48:44"), None);
    }

    #[test]
    fn the_first_sample_is_found_behind_other_observations() {
        let lines = [
            r#"{"holmes_recording":1}"#,
            r#"{"start":{"time":5000000000,"unix_ns":1000005000000000}}"#,
            r#"{"observation":{"record":{"time":5100000000,"what":"exec"}}}"#,
            r#"{"observation":{"record":{"time":5250000000,"what":"cpu_sample"}}}"#,
            r#"{"observation":{"record":{"time":5900000000,"what":"cpu_sample"}}}"#,
        ];
        let first = first_sample_unix(lines.iter().map(ToString::to_string)).unwrap();
        assert!((first - 1_000_005.25).abs() < 1e-6, "{first}");
        assert_eq!(first_sample_unix(lines[..3].iter().map(ToString::to_string)), None);
    }
}
