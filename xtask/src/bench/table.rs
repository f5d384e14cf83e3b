//! The measured figures beside their budgets, as text and as JSON.
//!
//! Must not: measure.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::figure::Figure;

/// What a figure is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds, shown as they are.
    Nanoseconds,
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// Parts of a hundred.
    Percent,
    /// 2^20 bytes.
    Mebibytes,
    /// How many times as much.
    Times,
    /// A number of things.
    Count,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Nanoseconds => "ns",
            Self::Seconds => "s",
            Self::Milliseconds => "ms",
            Self::Percent => "%",
            Self::Mebibytes => "MiB",
            Self::Times => "times",
            Self::Count => "",
        }
    }

    fn decimals(self) -> usize {
        match self {
            Self::Nanoseconds => 0,
            Self::Mebibytes | Self::Count => 1,
            Self::Seconds | Self::Milliseconds | Self::Percent | Self::Times => 2,
        }
    }
}

/// What a figure must not pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// It is shown for what it is.
    None,
    /// It must not be above.
    AtMost(f64),
    /// It must not be below.
    AtLeast(f64),
}

impl Budget {
    /// Whether a figure's median holds it; `None` where there is no budget.
    fn holds(self, figure: &Figure) -> Option<bool> {
        match self {
            Self::None => None,
            Self::AtMost(most) => Some(figure.median <= most),
            Self::AtLeast(least) => Some(figure.median >= least),
        }
    }

    /// Whether some runs held it and others did not.
    fn is_within(self, figure: &Figure) -> bool {
        match self {
            Self::None => false,
            Self::AtMost(most) => figure.low <= most && figure.high > most,
            Self::AtLeast(least) => figure.low < least && figure.high >= least,
        }
    }
}

/// One line.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// The budget, in the row's unit.
    pub budget: Budget,
    /// The unit of figure and budget.
    pub unit: Unit,
    /// The figure, or why there is none.
    pub figure: Result<Figure, String>,
    /// What a reader of the figure should know beside it.
    pub note: String,
}

impl Row {
    /// A figure of several values; where none of them is a number, the row says so.
    pub fn of(what: impl Into<String>, unit: Unit, values: &[f64]) -> Self {
        let figure = Figure::of(values).ok_or_else(|| "no value".to_owned());
        Self { what: what.into(), budget: Budget::None, unit, figure, note: String::new() }
    }

    /// A figure that could not be had. Of an explanation of several lines the last counts: what a
    /// program says last is why it ended.
    pub fn absent(what: impl Into<String>, unit: Unit, why: impl Into<String>) -> Self {
        let why = why.into();
        let last = why.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let figure = Err(last.trim().to_owned());
        Self { what: what.into(), budget: Budget::None, unit, figure, note: String::new() }
    }

    /// The same with a budget.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// The same with a note.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    fn number(&self, value: f64) -> String {
        format!("{value:.*}", self.unit.decimals())
    }

    fn with_unit(&self, value: f64) -> String {
        format!("{} {}", self.number(value), self.unit.name()).trim_end().to_owned()
    }

    fn cells(&self) -> [String; 6] {
        let budget = match self.budget {
            Budget::None => "-".to_owned(),
            Budget::AtMost(most) => format!("<= {}", self.with_unit(most)),
            Budget::AtLeast(least) => format!(">= {}", self.with_unit(least)),
        };
        let (figure, spread, count, verdict) = match &self.figure {
            Err(_) => ("-".to_owned(), String::new(), String::new(), "not measured"),
            Ok(figure) => (
                self.with_unit(figure.median),
                match figure.count {
                    1 => String::new(),
                    _ => format!("{} .. {}", self.number(figure.low), self.number(figure.high)),
                },
                figure.count.to_string(),
                match (self.budget.holds(figure), self.budget.is_within(figure)) {
                    (None, _) => "",
                    (Some(true), false) => "holds",
                    (Some(false), false) => "BROKEN",
                    // The machine was too restless to tell, or the budget is very near.
                    (Some(true), true) => "holds mostly",
                    (Some(false), true) => "BROKEN mostly",
                },
            ),
        };
        [self.what.clone(), budget, figure, spread, count, verdict.to_owned()]
    }

    /// What stands behind the cells.
    fn remark(&self) -> &str {
        self.figure.as_ref().err().unwrap_or(&self.note)
    }

    fn json(&self, part: &str) -> Value {
        let (bound, kind) = match self.budget {
            Budget::None => (Value::Null, Value::Null),
            Budget::AtMost(most) => (json!(most), json!("at most")),
            Budget::AtLeast(least) => (json!(least), json!("at least")),
        };
        let mut row = json!({
            "part": part, "what": self.what, "unit": self.unit.name(),
            "budget": bound, "budget_is": kind, "note": self.note,
        });
        match &self.figure {
            Ok(figure) => {
                row["median"] = json!(figure.median);
                row["low"] = json!(figure.low);
                row["high"] = json!(figure.high);
                row["count"] = json!(figure.count);
                row["holds"] = json!(self.budget.holds(figure));
            }
            Err(why) => row["not_measured"] = json!(why),
        }
        row
    }
}

const HEAD: [&str; 6] = ["what", "budget", "measured", "spread", "runs", ""];

/// All lines, in the parts they were measured in.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<(&'static str, Row)>,
}

impl Table {
    /// Adds a line of this part, and shows it at once: the whole table takes minutes.
    pub fn add(&mut self, part: &'static str, row: Row) {
        let [what, _, figure, spread, _, verdict] = row.cells();
        println!("  {what}: {figure} ({spread}) {verdict} {}", row.remark());
        self.rows.push((part, row));
    }

    /// Lines whose budget is not held.
    pub fn broken(&self) -> usize {
        let holds = |row: &Row| row.figure.as_ref().ok().and_then(|f| row.budget.holds(f));
        self.rows.iter().filter(|(_, row)| holds(row) == Some(false)).count()
    }

    /// For people.
    pub fn text(&self) -> String {
        let cells: Vec<[String; 6]> = self.rows.iter().map(|(_, row)| row.cells()).collect();
        let width = |column: usize| {
            let widths = cells.iter().map(|row| row[column].chars().count());
            widths.chain([HEAD[column].len()]).max().unwrap_or(0)
        };
        let widths: [usize; 6] = std::array::from_fn(width);
        let line = |cells: &[&str; 6], note: &str| {
            let mut text = String::new();
            for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
                // Text is on the left of its column, numbers on the right.
                let _ = match column {
                    0 | 5 => write!(text, "{cell:<width$}  "),
                    _ => write!(text, "{cell:>width$}  "),
                };
            }
            format!("{}{note}", text).trim_end().to_owned() + "\n"
        };
        let mut text = line(&HEAD, "");
        let mut part = "";
        for ((of, row), cells) in self.rows.iter().zip(&cells) {
            if *of != part {
                part = of;
                let _ = writeln!(text, "-- {part}");
            }
            text.push_str(&line(&cells.each_ref().map(String::as_str), row.remark()));
        }
        text
    }

    /// For programs. `machine` is put beside the rows.
    pub fn json(&self, machine: Value) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(|(part, row)| row.json(part)).collect();
        json!({ "machine": machine, "rows": rows })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::default();
        let fast = Row::of("kernel time", Unit::Nanoseconds, &[900.0, 1100.0, 1000.0]);
        table.add("cost", fast.budget(Budget::AtMost(3000.0)).note("warm"));
        let few = Row::of("whole stacks", Unit::Percent, &[12.5]);
        table.add("stacks", few.budget(Budget::AtLeast(99.5)));
        table.add("stacks", Row::absent("bpftrace", Unit::Percent, "not installed"));
        table
    }

    #[test]
    fn the_text_says_what_holds_and_what_does_not() {
        let expect = "\
what              budget  measured       spread  runs
-- cost
kernel time   <= 3000 ns   1000 ns  900 .. 1100     3  holds         warm
-- stacks
whole stacks  >= 99.50 %   12.50 %                  1  BROKEN
bpftrace               -         -                     not measured  not installed
";
        assert_eq!(table().text(), expect);
        assert_eq!(table().broken(), 1);
    }

    #[test]
    fn the_json_holds_the_same() {
        let json = table().json(json!({"cpus": 2}));
        assert_eq!(json["machine"]["cpus"], 2);
        assert_eq!(json["rows"][0]["median"], 1000.0);
        assert_eq!(json["rows"][0]["holds"], true);
        assert_eq!(json["rows"][1]["holds"], false);
        assert_eq!(json["rows"][1]["part"], "stacks");
        assert_eq!(json["rows"][2]["not_measured"], "not installed");
    }

    #[test]
    fn runs_on_both_sides_of_the_budget_are_told() {
        let verdict = |values: &[f64]| {
            let row = Row::of("slowdown", Unit::Percent, values).budget(Budget::AtMost(1.0));
            row.cells()[5].clone()
        };
        assert_eq!(verdict(&[-1.0, 0.5, 9.0]), "holds mostly");
        assert_eq!(verdict(&[-1.0, 8.0, 9.0]), "BROKEN mostly");
        assert_eq!(verdict(&[2.0, 8.0, 9.0]), "BROKEN");
        assert_eq!(verdict(&[-2.0, 0.0, 1.0]), "holds");
    }

    #[test]
    fn a_figure_on_its_budget_holds_it() {
        let figure = Figure::of(&[5.0]).unwrap();
        assert_eq!(Budget::AtMost(5.0).holds(&figure), Some(true));
        assert_eq!(Budget::AtLeast(5.0).holds(&figure), Some(true));
        assert_eq!(Budget::AtMost(4.9).holds(&figure), Some(false));
        assert_eq!(Budget::None.holds(&figure), None);
    }
}
