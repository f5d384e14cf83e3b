//! Shows an incident's folder: its files, what its document says, and its top functions.
//!
//! Must not: know more of the format than `incident.json` shows. A missing field is shown as `-`.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::command;

/// Functions shown.
const TOP: usize = 8;

/// Prints all there is to see.
///
/// # Errors
/// When the folder or its document cannot be read.
pub fn show(folder: &Path) -> Result<()> {
    let file = folder.join("incident.json");
    let text = std::fs::read_to_string(&file)
        .with_context(|| format!("cannot read {}", file.display()))?;
    let document: Value =
        serde_json::from_str(&text).with_context(|| format!("in {}", file.display()))?;
    println!("{}", listing(folder)?);
    println!("{}", summary(&document));
    println!("  what changed at the onset, by function\n{}", movers(&document));
    let (base, profile) = (folder.join("cpu.base.pb.gz"), folder.join("cpu.pb.gz"));
    if command::find("go").is_some() {
        let mut pprof = command::of("go", &["tool", "pprof", "-top"]);
        pprof.arg(format!("-nodecount={TOP}")).arg("-base").arg(&base).arg(&profile);
        println!("$ go tool pprof -top -nodecount={TOP} -base cpu.base.pb.gz cpu.pb.gz");
        println!("{}", command::output(&mut pprof)?);
    }
    println!("The incident stays in {}", folder.display());
    Ok(())
}

fn listing(folder: &Path) -> Result<String> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let mut files = Vec::new();
    for entry in
        std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?
    {
        let entry = entry.with_context(|| format!("cannot list {}", folder.display()))?;
        files.push((entry.file_name().to_string_lossy().into_owned(), entry.metadata()?.len()));
    }
    files.sort();
    let mut text = format!("{name}/\n");
    for (file, bytes) in files {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {file:<20} {bytes:>8} bytes");
    }
    Ok(text)
}

fn summary(document: &Value) -> String {
    let at = |pointer: &str| document.pointer(pointer).map_or_else(|| "-".into(), shown);
    let previous: Vec<String> =
        document["previous"].as_array().into_iter().flatten().map(shown).collect();
    let reason = match (at("/reason/kind").as_str(), at("/reason/average")) {
        ("diff", average) => format!("more than the rule's {} % above {average}", at("/rule/diff")),
        ("abs", _) => format!("above the rule's {}", at("/rule/abs")),
        (kind, _) => kind.to_owned(),
    };
    let samples = format!(
        "{} taken, {} reported, lost {}",
        at("/samples/taken"),
        at("/samples/reported"),
        document["samples"]["lost"]
            .as_object()
            .map_or(0, |lost| { lost.values().filter_map(Value::as_u64).sum::<u64>() }),
    );
    let target = match at("/target/path").as_str() {
        "-" => at("/target/kind"),
        path => path.to_owned(),
    };
    let rows = [
        ("target", target),
        ("signal", format!("{} at {} {}", at("/signal"), at("/value"), at("/unit"))),
        ("before", previous.join(", ")),
        ("reason", reason),
        ("window", format!("{} s", at("/window/duration_seconds"))),
        ("  start", at("/window/start")),
        ("  onset", at("/window/onset")),
        ("  trigger", at("/window/trigger")),
        ("  end", at("/window/end")),
        ("samples", samples),
    ];
    rows.iter().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "  {name:<10} {value}");
        text
    })
}

/// The functions that changed most, as the document has them: CPU time in percent of one CPU.
fn movers(document: &Value) -> String {
    let mut text = String::from(
        "  own CPU time       with what it calls\n    before    since    before    since\n",
    );
    for mover in document["movers"].as_array().into_iter().flatten().take(TOP) {
        for key in ["self_before", "self_during", "total_before", "total_during"] {
            // Nanoseconds of CPU time in a second.
            let nanoseconds = mover[format!("{key}_per_second")].as_f64().unwrap_or(0.0);
            let _ = write!(text, "  {:>5.1} %", nanoseconds / 1e7);
        }
        let _ = writeln!(text, "   {}", shown(&mover["function"]));
    }
    text
}

/// A value as people write it.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        Value::Number(number) if number.is_f64() => {
            format!("{:.1}", number.as_f64().unwrap_or(f64::NAN))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Value {
        serde_json::json!({
            "target": {"kind": "cgroup", "path": "/holmes-demo-1"},
            "signal": "cpu", "unit": "percent", "value": 50.25, "previous": [2.0, 2.5],
            "rule": {"diff": 100.0}, "reason": {"kind": "diff", "average": 2.25},
            "window": {"start": "a", "onset": "b", "trigger": "c", "end": "d",
                       "duration_seconds": 15.0},
            "samples": {"taken": 10, "reported": 8, "lost": {"ring_full": 1, "window_full": 1}},
            "movers": [{
                "function": "spin", "self_before_per_second": 0.0,
                "self_during_per_second": 9.5e8, "total_before_per_second": 1e6,
                "total_during_per_second": 1e9,
            }],
        })
    }

    #[test]
    fn the_summary_says_what_the_document_says() {
        let text = summary(&document());
        for part in [
            "target     /holmes-demo-1",
            "signal     cpu at 50.2 percent",
            "before     2.0, 2.5",
            "more than the rule's 100.0 % above 2.2",
            "10 taken, 8 reported, lost 2",
        ] {
            assert!(text.contains(part), "no `{part}` in\n{text}");
        }
        assert!(movers(&document()).contains("0.0 %   95.0 %    0.1 %  100.0 %   spin"));
    }

    #[test]
    fn missing_fields_are_shown_as_missing() {
        let text = summary(&serde_json::json!({}));
        assert!(text.contains("signal     - at - -"), "{text}");
        assert_eq!(movers(&serde_json::json!({})).lines().count(), 2);
    }

    #[test]
    fn the_listing_names_every_file_with_its_size() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cpu.pb.gz"), [0; 42]).unwrap();
        let text = listing(folder.path()).unwrap();
        assert!(text.contains("cpu.pb.gz") && text.contains("42 bytes"), "{text}");
    }
}
