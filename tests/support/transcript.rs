//! The lines a child process prints, collected on a thread.
//!
//! Must not: interpret them.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long anything may take before a test gives up on it: a guard against hanging, far above
/// what a slow and busy machine needs. An emulated CPU (`cargo xtask vm`) is ten times slower.
pub const HANG_GUARD: Duration = Duration::from_secs(180);

/// How often a condition without an event of its own is looked at again.
const POLL: Duration = Duration::from_millis(20);

#[derive(Default)]
struct State {
    lines: Vec<String>,
    /// The same as it came: a profile on standard output is not text.
    bytes: Vec<u8>,
    ended: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    /// A panic in a test does not spoil a list of lines.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lines of one stream so far.
#[derive(Clone, Default)]
pub struct Transcript {
    shared: Arc<Shared>,
}

impl Transcript {
    /// Reads `stream` to its end on a thread of its own.
    pub fn follow(stream: impl Read + Send + 'static) -> Self {
        let transcript = Self::default();
        let shared = Arc::clone(&transcript.shared);
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut bytes = Vec::new();
            // A stream that cannot be read any more has ended, for whatever reason.
            while matches!(reader.read_until(b'\n', &mut bytes), Ok(read) if read > 0) {
                let text = String::from_utf8_lossy(&bytes);
                let mut state = shared.lock();
                state.lines.push(text.trim_end_matches(['\n', '\r']).to_owned());
                state.bytes.extend_from_slice(&bytes);
                drop(state);
                shared.changed.notify_all();
                bytes.clear();
            }
            shared.lock().ended = true;
            shared.changed.notify_all();
        });
        transcript
    }

    /// Every line so far.
    pub fn lines(&self) -> Vec<String> {
        self.shared.lock().lines.clone()
    }

    /// All that was printed so far, as it came.
    pub fn bytes(&self) -> Vec<u8> {
        self.shared.lock().bytes.clone()
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.shared.lock().lines.len()
    }

    /// Whether nothing has been printed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The lines that contain `pattern`.
    pub fn matching(&self, pattern: &str) -> Vec<String> {
        self.lines().into_iter().filter(|line| line.contains(pattern)).collect()
    }

    /// Waits until the stream has ended.
    ///
    /// # Errors
    /// It has not within `guard`.
    pub fn wait_for_end(&self, guard: Duration) -> anyhow::Result<()> {
        let state = self.shared.lock();
        let (state, waited) = self
            .shared
            .changed
            .wait_timeout_while(state, guard, |state| !state.ended)
            .unwrap_or_else(PoisonError::into_inner);
        drop(state);
        anyhow::ensure!(!waited.timed_out(), "the output did not end; it was:\n{self}");
        Ok(())
    }

    /// Waits for the first line that contains `pattern`, from line `from` on, and returns its
    /// number and its text.
    ///
    /// # Errors
    /// There is none within `guard`, or the stream ended before.
    pub fn wait_for(
        &self,
        pattern: &str,
        from: usize,
        guard: Duration,
    ) -> anyhow::Result<(usize, String)> {
        let deadline = Instant::now() + guard;
        let mut state = self.shared.lock();
        loop {
            let found =
                state.lines.iter().enumerate().skip(from).find(|(_, line)| line.contains(pattern));
            if let Some((number, line)) = found {
                return Ok((number, line.clone()));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.ended || left.is_zero() {
                let why = if state.ended { "the output ended" } else { "nothing came" };
                drop(state);
                anyhow::bail!("waited for a line with {pattern:?}: {why}; the output was:\n{self}");
            }
            state = self
                .shared
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl fmt::Display for Transcript {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.lines() {
            writeln!(out, "    {line}")?;
        }
        Ok(())
    }
}

/// Asks again and again until there is an answer.
///
/// # Errors
/// There is none within [`HANG_GUARD`]; the error names `what`.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let deadline = Instant::now() + HANG_GUARD;
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        anyhow::ensure!(Instant::now() < deadline, "{what}: not within {HANG_GUARD:?}");
        std::thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_in_order_and_the_last_may_lack_its_end() -> anyhow::Result<()> {
        let transcript = Transcript::follow(&b"one\r\ntwo \xff\none more"[..]);
        assert_eq!(transcript.wait_for("one", 0, HANG_GUARD)?, (0, "one".to_owned()));
        assert_eq!(transcript.wait_for("one", 1, HANG_GUARD)?, (2, "one more".to_owned()));
        transcript.wait_for_end(HANG_GUARD)?;
        assert_eq!(transcript.matching("one"), ["one", "one more"]);
        Ok(())
    }

    #[test]
    fn a_stream_that_ends_ends_the_wait_and_is_shown() {
        let transcript = Transcript::follow(&b"error: no\n"[..]);
        let error = transcript.wait_for("ready", 0, HANG_GUARD).expect_err("there is no such line");
        assert!(error.to_string().contains("error: no"), "{error}");
    }
}
