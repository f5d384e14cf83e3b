//! One answer about the host, as the user reads it.

/// How well something works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// As it should be.
    Ok,
    /// The recorder works, with less.
    Degraded,
    /// What it enables is off.
    Missing,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub name: String,
    /// How well it works.
    pub state: State,
    /// What the recorder uses it for.
    pub enables: &'static str,
    /// What was found.
    pub detail: String,
    /// The command or field that would change it. May have several lines.
    pub fix: Option<String>,
    /// Whether nothing is sampled at all where it is missing.
    pub essential: bool,
}

impl Finding {
    /// It works.
    pub fn ok(name: impl Into<String>, enables: &'static str, detail: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            state: State::Ok,
            enables,
            detail: detail.into(),
            fix: None,
            essential: false,
        }
    }

    /// It works in part.
    pub fn degraded(
        name: impl Into<String>,
        enables: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self { state: State::Degraded, ..Self::ok(name, enables, detail) }
    }

    /// It does not work.
    pub fn missing(
        name: impl Into<String>,
        enables: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self { state: State::Missing, ..Self::ok(name, enables, detail) }
    }

    /// The same, with what would change it.
    pub fn fix(self, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..self }
    }

    /// The same, of something without which nothing is sampled.
    pub fn essential(self) -> Self {
        Self { essential: true, ..self }
    }

    /// Whether this alone keeps the recorder from sampling.
    pub fn is_fatal(&self) -> bool {
        self.essential && self.state == State::Missing
    }
}
