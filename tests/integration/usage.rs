//! A wrong command line or configuration file is exit code 2 and a message that says what is
//! allowed. Nothing of the machine is touched, so nothing of it is needed.

use std::fs;

use anyhow::ensure;
use holmes_tests::command;

/// Runs with these arguments: a usage error that says all of `words`.
fn refused(arguments: &[&str], words: &[&str]) -> anyhow::Result<()> {
    let finished = command::run(arguments)?.expect_code(2)?;
    ensure!(finished.stdout.is_empty(), "it printed {}", finished.text());
    finished.expect_said(words)
}

/// Runs with a configuration file of this text: refused, with the file's name and `words`. As
/// much of the machine as is looked at before the file may refuse first, with code 1.
fn file_refused(text: &str, words: &[&str]) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("holmes.toml");
    fs::write(&file, text)?;
    let path = file.display().to_string();
    let finished = command::run(["--config", &path])?;
    ensure!(matches!(finished.code(), 1 | 2), "{:?} for {text:?}", finished.status);
    ensure!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    finished.expect_said(words)
}

#[test]
fn rules_with_bad_numbers() -> anyhow::Result<()> {
    refused(&["--rule", "cpu=min:ten"], &["min", "ten"])?;
    refused(&["--rule", "cpu=min:-1"], &["min", "-1"])?;
    refused(&["--rule", "cpu=min:NaN"], &["min"])?;
    refused(&["--rule", "cpu=cooldown:1"], &["cooldown"])?;
    refused(&["--rule", "cpu=mni:10"], &["mni", "min"])?;
    refused(&["--rule", "cpv=min:10"], &["cpv", "cpu"])?;
    refused(&["--rule", "cpu"], &["cpu"])
}

#[test]
fn options_out_of_range() -> anyhow::Result<()> {
    refused(&["--interval", "1ms"], &["interval", "100ms"])?;
    refused(&["--interval", "5"], &["interval"])?;
    refused(&["-F", "0"], &["1"])?;
    refused(&["-F", "100000"], &["1000"])?;
    refused(&["--listen", "everywhere"], &["listen"])?;
    refused(&["--ring-bytes", "1"], &["ring-bytes", "KiB"])?;
    refused(&["--pid", "me"], &["pid", "me"])?;
    refused(&["--no-such-option"], &["--no-such-option"])
}

#[test]
fn targets_that_exclude_each_other() -> anyhow::Result<()> {
    refused(&["--all", "--cgroup", "/app"], &["--all", "--cgroup"])?;
    refused(&["--cgroup", "/app", "--pid", "1"], &["--cgroup", "--pid"])
}

#[test]
fn an_output_whose_format_is_unknown() -> anyhow::Result<()> {
    refused(&["record", "-a", "-o", "out.svg"], &["pb.gz", "folded"])?;
    refused(&["record", "-a", "-o", "out.pb.gz", "--format", "svg"], &["pprof", "folded"])
}

#[test]
fn a_file_with_an_unknown_key_names_key_and_line() -> anyhow::Result<()> {
    file_refused(
        "interval = \"5s\"\nlokback = \"60s\"\n",
        &["lokback", "holmes.toml:2:", "lookback"],
    )?;
    file_refused("[rules.cpu]\nmin = 1\nbas = 3\n", &["bas", "holmes.toml:3:", "abs"])?;
    file_refused("[rules.cpv]\nmin = 1\n", &["cpv", "cpu"])
}

#[test]
fn a_file_with_a_bad_value_names_key_and_line() -> anyhow::Result<()> {
    file_refused("[rules.cpu]\nmin = -1\n", &["min", "holmes.toml:2:"])?;
    file_refused("interval = \"5 parsecs\"\n", &["interval", "holmes.toml:1:"])?;
    file_refused("[rules.cpu]\nmin = \"a lot\"\n", &["min", "holmes.toml:2:"])?;
    file_refused("this is no toml\n", &["holmes.toml:1:"])
}

#[test]
fn a_file_that_is_not_there() -> anyhow::Result<()> {
    let finished = command::run(["--config", "/nonexistent/holmes.toml"])?;
    ensure!(matches!(finished.code(), 1 | 2), "{:?}", finished.status);
    finished.expect_said(&["/nonexistent/holmes.toml"])
}
