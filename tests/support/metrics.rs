//! A `/metrics` page, read.
//!
//! Must not: know which metrics there should be.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::Context;

/// One line.
#[derive(Clone, Debug, PartialEq)]
struct Series {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

/// All lines of one page.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    series: Vec<Series>,
}

impl Metrics {
    /// Reads the text format.
    ///
    /// # Errors
    /// A line is not of that format.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let series = lines
            .map(|line| parse_line(line).with_context(|| format!("the metrics line {line:?}")))
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { series })
    }

    /// The values of the series of this name that carry all these labels.
    fn values<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = f64> + 'a {
        let carries = |series: &Series, (key, value): &(&str, &str)| {
            series.labels.iter().any(|(own_key, own)| own_key == key && own == value)
        };
        self.series
            .iter()
            .filter(move |series| {
                series.name == name && labels.iter().all(|label| carries(series, label))
            })
            .map(|series| series.value)
    }

    /// The sum over the series of this name that carry all these labels; `None` where there is
    /// none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.values(name, labels).fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
    }

    /// As [`Metrics::sum`].
    ///
    /// # Errors
    /// There is no such series.
    pub fn need(&self, name: &str, labels: &[(&str, &str)]) -> anyhow::Result<f64> {
        self.sum(name, labels).with_context(|| format!("/metrics has no {name} with {labels:?}"))
    }
}

fn parse_line(line: &str) -> anyhow::Result<Series> {
    let (name, rest) = match line.find(['{', ' ']) {
        Some(end) => line.split_at(end),
        None => anyhow::bail!("no value"),
    };
    let mut labels = Vec::new();
    let mut rest = rest;
    if let Some(mut inner) = rest.strip_prefix('{') {
        while let Some(after) = inner.strip_prefix(',').or(Some(inner)) {
            if let Some(after) = after.strip_prefix('}') {
                rest = after;
                break;
            }
            let (key, after) = after.split_once("=\"").context("a label without a value")?;
            let (value, after) = quoted(after)?;
            labels.push((key.to_owned(), value));
            inner = after;
        }
    }
    let value = rest.split_whitespace().next().context("no value")?.parse()?;
    Ok(Series { name: name.to_owned(), labels, value })
}

/// A label's value up to its closing quote, and what follows that.
fn quoted(text: &str) -> anyhow::Result<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match letters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped)) => value.push(escaped),
                None => break,
            },
            _ => value.push(letter),
        }
    }
    anyhow::bail!("a label's value does not end")
}

/// What `promtool check metrics` objects to; empty where it is content.
///
/// # Errors
/// It is not installed, or does not run.
pub fn promtool_objections(page: &str) -> anyhow::Result<String> {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("running promtool (Debian: `apt-get install prometheus`)")?;
    let mut stdin = child.stdin.take().context("promtool has no standard input")?;
    stdin.write_all(page.as_bytes()).context("writing to promtool")?;
    drop(stdin);
    let output = child.wait_with_output().context("waiting for promtool")?;
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    if !output.status.success() && said.trim().is_empty() {
        said = format!("{:?}", output.status);
    }
    Ok(said.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_over_the_labels_left_open() -> anyhow::Result<()> {
        let page = "# HELP a b\na_total{cause=\"x\",cgroup=\"/a \\\"q\\\"\"} 2\n\
                    a_total{cause=\"y\"} 3 1700000000\nb 1e3\n";
        let metrics = Metrics::parse(page)?;
        assert_eq!(metrics.sum("a_total", &[]), Some(5.0));
        assert_eq!(metrics.sum("a_total", &[("cgroup", "/a \"q\"")]), Some(2.0));
        assert_eq!(metrics.sum("a_total", &[("cause", "z")]), None);
        assert_eq!(metrics.need("b", &[])?, 1000.0);
        assert!(Metrics::parse("a{b=\"c} 1").is_err());
        Ok(())
    }
}
