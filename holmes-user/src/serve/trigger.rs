//! `POST /trigger`: what a client asks for, and whose asking is heard.
//!
//! Must not: know what is watched. The recorder answers each request itself.

use std::time::Duration;

use axum::http::{HeaderMap, header};
use tokio::sync::oneshot;

/// Trigger requests that wait for the recorder's loop at most. It takes them within milliseconds;
/// more than a few at once are a script gone wild.
pub const TRIGGER_QUEUE: usize = 8;

/// Bytes of a target: what Linux allows of a path.
const MAX_TARGET_BYTES: usize = 4096;

/// The largest pid that a Linux kernel gives (`PID_MAX_LIMIT`).
const MAX_PID: u32 = 1 << 22;

/// What to cut an incident of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TriggerTarget {
    /// The whole host: `host`.
    Host,
    /// A process: `123` or `pid-123`.
    Process(u32),
    /// A cgroup's path, as the client wrote it: absolute, or relative to the cgroup mount.
    Cgroup(String),
}

/// Somebody asks for an incident now.
#[derive(Debug)]
pub struct TriggerRequest {
    target: Option<TriggerTarget>,
    reply: oneshot::Sender<TriggerAnswer>,
}

/// What the recorder answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TriggerAnswer {
    /// An incident of this target will be cut.
    Accepted {
        /// The target, as it will be named in the incident.
        target: String,
    },
    /// Not now: the hourly budget is used, or a capture of the target is under way.
    Busy {
        /// Why.
        reason: String,
        /// When it may be worth asking again.
        retry_after: Duration,
    },
    /// There is no such target among what is watched.
    UnknownTarget {
        /// What is wrong, and what is watched.
        reason: String,
    },
}

impl TriggerRequest {
    pub(super) fn new(target: Option<TriggerTarget>) -> (Self, oneshot::Receiver<TriggerAnswer>) {
        let (reply, answer) = oneshot::channel();
        (Self { target, reply }, answer)
    }

    /// What to cut an incident of; `None`: whatever the recorder watches.
    pub fn target(&self) -> Option<&TriggerTarget> {
        self.target.as_ref()
    }

    /// Answers the client.
    pub fn answer(self, answer: TriggerAnswer) {
        // The client may have gone; the incident is cut all the same.
        let _ = self.reply.send(answer);
    }
}

/// Reads `?target=`. The error says what is allowed.
pub(super) fn parse_target(text: &str) -> Result<TriggerTarget, String> {
    let allowed = "give `host`, a process id, or a cgroup's path";
    if text.is_empty() || text.len() > MAX_TARGET_BYTES || text.chars().any(char::is_control) {
        return Err(format!("not a target; {allowed}"));
    }
    if text == "host" {
        return Ok(TriggerTarget::Host);
    }
    let digits = text.strip_prefix("pid-").unwrap_or(text);
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return match digits.parse() {
            Ok(pid) if (1..=MAX_PID).contains(&pid) => Ok(TriggerTarget::Process(pid)),
            _ => Err(format!("{text:?} is no process id; {allowed}")),
        };
    }
    if text.split('/').any(|part| part == "..") {
        return Err(format!("a cgroup's path has no `..`; {allowed}"));
    }
    Ok(TriggerTarget::Cgroup(text.to_owned()))
}

/// Why a request must not trigger anything: a web page sent it.
///
/// The recorder listens on localhost without a password, and a browser on the same machine lets
/// any page POST there without asking first. Such requests say so: browsers add `Sec-Fetch-Site`,
/// and `Origin` to every POST; curl and other tools send neither. A page whose own host name was
/// made to point here (DNS rebinding) looks like its own origin, so an origin counts as ours only
/// if it is an address, or `localhost`, and the one that was asked.
pub(super) fn refuse_cross_site(headers: &HeaderMap) -> Option<&'static str> {
    let refused = "requests from web pages of another site may not trigger an incident";
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    if let Some(site) = text(header::HeaderName::from_static("sec-fetch-site"))
        && !matches!(site, "same-origin" | "none")
    {
        return Some(refused);
    }
    let origin = text(header::ORIGIN)?;
    let host = text(header::HOST).unwrap_or("");
    let is_ours = origin.strip_prefix("http://") == Some(host) && is_address(host);
    (!is_ours).then_some(refused)
}

/// Whether a `Host` is an IP address or `localhost`, with or without a port.
fn is_address(host: &str) -> bool {
    use std::net::{IpAddr, SocketAddr};
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost" || host.parse::<SocketAddr>().is_ok() || host.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read() {
        use TriggerTarget::{Cgroup, Host, Process};
        for (text, expect) in [
            ("host", Host),
            ("1", Process(1)),
            ("pid-4194304", Process(MAX_PID)),
            ("/", Cgroup("/".to_owned())),
            ("/sys/fs/cgroup/app", Cgroup("/sys/fs/cgroup/app".to_owned())),
            ("app.slice/x", Cgroup("app.slice/x".to_owned())),
        ] {
            assert_eq!(parse_target(text).unwrap(), expect, "{text}");
        }
        let long = "x".repeat(MAX_TARGET_BYTES + 1);
        for text in ["", "0", "pid-0", "4194305", "99999999999", "pid-", "a/../b", "a\nb", &long] {
            let error = parse_target(text).unwrap_err();
            assert!(error.contains("give `host`"), "{text:?}: {error}");
        }
    }

    #[test]
    fn only_tools_and_our_own_pages_trigger() {
        let check = |pairs: &[(&'static str, &'static str)], heard: bool| {
            let headers = pairs
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
                .collect::<HeaderMap>();
            assert_eq!(refuse_cross_site(&headers).is_none(), heard, "{pairs:?}");
        };
        let host = ("host", "127.0.0.1:8731");
        check(&[], true);
        check(&[("host", "node-1:8731")], true);
        check(&[host, ("origin", "http://127.0.0.1:8731")], true);
        check(
            &[host, ("origin", "http://127.0.0.1:8731"), ("sec-fetch-site", "same-origin")],
            true,
        );
        check(&[("host", "[::1]:8731"), ("origin", "http://[::1]:8731")], true);
        check(&[("host", "localhost:8731"), ("origin", "http://localhost:8731")], true);
        check(&[host, ("sec-fetch-site", "none")], true);
        check(&[host, ("sec-fetch-site", "cross-site")], false);
        check(&[host, ("sec-fetch-site", "same-site")], false);
        check(&[host, ("origin", "http://evil.example")], false);
        check(&[host, ("origin", "https://127.0.0.1:8731")], false);
        check(&[host, ("origin", "http://127.0.0.1:9999")], false);
        check(&[host, ("origin", "null")], false);
        check(&[host, ("origin", "\u{e9}")], false);
        check(&[("origin", "http://")], false);
        // DNS rebinding: the page's own name points here.
        check(&[("host", "evil.example:8731"), ("origin", "http://evil.example:8731")], false);
    }
}
