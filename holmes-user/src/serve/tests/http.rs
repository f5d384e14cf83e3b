//! The server through real sockets: routes, triggers, and clients that are slow, large or many.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::{snapshot, value};
use crate::serve::server::ClientLimits;
use crate::serve::*;

/// A server on a free port, on a thread with a runtime of its own.
struct Running {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    status: Arc<Status>,
    triggers: Option<mpsc::Receiver<TriggerRequest>>,

    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start() -> Self {
        Self::with(ClientLimits::default(), Status::new())
    }

    /// With a recorder that is gone: what the metrics show is what the test has put there.
    fn with(limits: ClientLimits, status: Status) -> Self {
        Self::beside(limits, status, mpsc::channel(1).0)
    }

    fn beside(
        limits: ClientLimits,
        status: Status,
        refreshes: mpsc::Sender<RefreshRequest>,
    ) -> Self {
        let server = Server::bind("127.0.0.1:0".parse().unwrap()).unwrap().with_limits(limits);
        let address = server.local_addr();
        let metrics = Arc::new(Metrics::new().unwrap());
        let status = Arc::new(status);
        let (sender, triggers) = mpsc::channel(1);
        let (stop, stopped) = oneshot::channel::<()>();
        let state = ServerState {
            metrics: metrics.clone(),
            status: status.clone(),
            triggers: sender,
            refreshes,
        };
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(server.run(state, async { drop(stopped.await) })).unwrap();
        });
        Self {
            address,
            metrics,
            status,
            triggers: Some(triggers),

            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        // Only so that a hanging server fails the test instead of hanging it.
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// Sends this and reads until the server closes.
    fn talk(&self, request: &[u8]) -> String {
        let mut stream = self.connect();
        // The server may answer and close before it has read everything.
        let _ = stream.write_all(request);
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    fn request(&self, method: &str, path: &str, headers: &str) -> Answer {
        let text = self.talk(
            format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", self.address)
                .as_bytes(),
        );
        Answer::read(&text)
    }

    fn get(&self, path: &str) -> Answer {
        self.request("GET", path, "")
    }

    /// Answers the next trigger request like this, and says what it asked for.
    fn answering(&mut self, answer: TriggerAnswer) -> JoinHandle<Option<TriggerTarget>> {
        let mut triggers = self.triggers.take().unwrap();
        std::thread::spawn(move || {
            let request = triggers.blocking_recv().unwrap();
            let target = request.target().cloned();
            request.answer(answer);
            target
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the server panicked");
        }
    }
}

struct Answer {
    code: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Answer {
    fn read(text: &str) -> Self {
        let (head, body) =
            text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text:?}"));
        let mut lines = head.lines();
        let code = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Self { code, headers, body: body.to_owned() }
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

#[test]
fn metrics_are_served_as_prometheus_wants_them() {
    let server = Running::start();
    server.metrics.update(&snapshot());
    server.metrics.observe_capture(Duration::from_millis(700));
    let answer = server.get("/metrics");
    assert_eq!(answer.code, 200);
    assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    assert_eq!(answer.headers["connection"], "close");
    let bucket = "holmes_capture_duration_seconds_bucket";
    assert_eq!(value(&answer.body, &format!("{bucket}{{le=\"0.5\"}}")), Some("0"));
    assert_eq!(value(&answer.body, &format!("{bucket}{{le=\"1\"}}")), Some("1"));
    let again = server.get("/metrics");
    let requests = "holmes_http_requests_total{code=\"200\",path=\"/metrics\"}";
    assert_eq!(value(&again.body, requests), Some("1"));
}

#[test]
fn a_scrape_shows_the_totals_of_the_moment_it_asks_for() {
    let (sender, mut refreshes) = mpsc::channel::<RefreshRequest>(1);
    let server = Running::beside(ClientLimits::default(), Status::new(), sender);
    let metrics = server.metrics.clone();
    let recorder = std::thread::spawn(move || {
        let request = refreshes.blocking_recv().unwrap();
        metrics.update(&snapshot());
        request.done();
    });
    let taken =
        |answer: &Answer| value(&answer.body, "holmes_samples_taken_total").map(str::to_owned);
    assert_eq!(taken(&server.get("/metrics")), Some(snapshot().samples.taken.to_string()));
    recorder.join().unwrap();
}

#[test]
fn a_recorder_that_hangs_does_not_hold_up_a_scrape() {
    let (sender, _never_answered) = mpsc::channel(1);
    let server = Running::beside(ClientLimits::default(), Status::new(), sender);
    server.metrics.update(&snapshot());
    assert!(value(&server.get("/metrics").body, "holmes_samples_taken_total").is_some());
}

#[test]
fn unknown_paths_and_methods_are_refused() {
    let server = Running::start();
    assert!(server.get("/").body.contains("/metrics"));
    assert_eq!(server.get("/debug/nothing").code, 404);
    assert_eq!(server.get("/metrics/../etc/passwd").code, 404);
    let answer = server.get("/trigger");
    assert_eq!((answer.code, answer.headers["allow"].as_str()), (405, "POST"));
    assert_eq!(server.request("DELETE", "/metrics", "").code, 405);
    let head = server.request("HEAD", "/healthz", "");
    assert_eq!((head.code, head.body.as_str()), (200, ""));
    assert!(server.get("/metrics").body.contains("path=\"other\""));
}

#[test]
fn health_is_the_heartbeat() {
    let server = Running::with(
        ClientLimits::default(),
        Status::with_heartbeat_limit(Duration::from_millis(1)),
    );
    std::thread::sleep(Duration::from_millis(10));
    let answer = server.get("/healthz");
    assert_eq!(answer.code, 503);
    assert!(answer.body.contains("loop has hung"), "{}", answer.body);

    let server = Running::start();
    server.status.beat();
    assert_eq!(server.get("/healthz").code, 200);
}

#[test]
fn readiness_tells_the_address_and_the_probes() {
    let server = Running::start();
    let answer = server.get("/readyz");
    assert_eq!((answer.code, answer.json()["reason"].as_str()), (503, Some("starting")));

    let off =
        ProbeState { name: "memory".to_owned(), on: false, reason: Some("no sys_exit".into()) };
    let on = ProbeState { name: "sample".to_owned(), on: true, reason: None };
    server.status.set_readiness(Readiness::Ready { probes: vec![on, off] });
    let answer = server.get("/readyz");
    assert_eq!(answer.code, 200);
    let body = answer.json();
    assert_eq!(body["address"], server.address.to_string());
    assert_eq!(body["probes"][0], serde_json::json!({ "name": "sample", "on": true }));
    assert_eq!(body["probes"][1]["reason"], "no sys_exit");
}

#[test]
fn a_trigger_reaches_the_recorder_and_its_answer_the_client() {
    let accepted = TriggerAnswer::Accepted { target: "cgroup /a b".to_owned() };
    for (query, expect) in [
        ("", None),
        ("?target=host", Some(TriggerTarget::Host)),
        ("?target=42", Some(TriggerTarget::Process(42))),
        ("?target=%2Fa%20b", Some(TriggerTarget::Cgroup("/a b".to_owned()))),
    ] {
        let mut server = Running::start();
        let asked = server.answering(accepted.clone());
        let answer = server.request("POST", &format!("/trigger{query}"), "Content-Length: 0\r\n");
        assert_eq!((answer.code, answer.json()["target"].as_str()), (202, Some("cgroup /a b")));
        assert_eq!(asked.join().unwrap(), expect);
    }
}

#[test]
fn a_trigger_that_cannot_be_says_why() {
    let mut server = Running::start();
    let retry_after = Duration::from_millis(1500);
    let asked =
        server.answering(TriggerAnswer::Busy { reason: "30 in this hour".into(), retry_after });
    let answer = server.request("POST", "/trigger", "");
    asked.join().unwrap();
    assert_eq!((answer.code, answer.headers["retry-after"].as_str()), (429, "2"));
    assert_eq!(answer.json()["error"], "30 in this hour");
    // The recorder's end of the queue is gone by now.
    assert_eq!(server.request("POST", "/trigger", "").code, 503);

    let mut server = Running::start();
    let asked = server.answering(TriggerAnswer::UnknownTarget { reason: "no such pid".into() });
    assert_eq!(server.request("POST", "/trigger?target=1", "").code, 404);
    asked.join().unwrap();

    let server = Running::start();
    for query in ["?target=", "?target=..", "?target=0", "?traget=host", "?target=a&target=b"] {
        let answer = server.request("POST", &format!("/trigger{query}"), "");
        assert_eq!(answer.code, 400, "{query}");
        assert_eq!(answer.json()["accepted"], false);
    }
    let answer = server.request("POST", "/trigger", "Origin: http://evil.example\r\n");
    assert_eq!(answer.code, 403);
    let body = "x".repeat(2000);
    let answer = server.request("POST", "/trigger", &format!("Content-Length: 2000\r\n\r\n{body}"));
    assert_eq!(answer.code, 413);
}

#[test]
fn a_full_queue_is_said_at_once() {
    let server = Running::start();
    // Nobody takes this one out of the queue, which has room for one.
    let mut first = server.connect();
    first.write_all(b"POST /trigger HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    while server.triggers.as_ref().unwrap().is_empty() {
        std::thread::yield_now();
    }
    let answer = server.request("POST", "/trigger", "");
    assert_eq!(answer.code, 429);
    assert!(answer.headers.contains_key("retry-after"));
}

#[test]
fn slow_clients_are_cut_off_while_others_are_served() {
    let head = Duration::from_millis(300);
    let server = Running::with(ClientLimits { head, whole: 2 * head }, Status::new());
    let mut silent = server.connect();
    let mut dripping = server.connect();
    dripping.write_all(b"GET /metrics HTTP/1.1\r\nX-Drip: ").unwrap();
    let mut body = server.connect();
    body.write_all(b"POST /trigger HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n1").unwrap();
    assert_eq!(server.get("/healthz").code, 200);
    for stream in [&mut silent, &mut dripping, &mut body] {
        // To the end: the server closed it.
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(!String::from_utf8_lossy(&rest).contains(" 200 "));
    }
    let text = server.get("/metrics").body;
    let timeouts = value(&text, "holmes_http_connections_dropped_total{cause=\"timeout\"}");
    assert_eq!(timeouts, Some("3"));
}

#[test]
fn more_connections_than_allowed_wait_and_are_served() {
    let limits = ClientLimits { head: Duration::from_millis(300), ..ClientLimits::default() };
    let server = Running::with(limits, Status::new());
    let held: Vec<_> = (0..80).map(|_| server.connect()).collect();
    assert_eq!(server.get("/healthz").code, 200);
    drop(held);
}

#[test]
fn large_or_broken_requests_are_refused() {
    let server = Running::start();
    let big = format!("X-Big: {}\r\n", "x".repeat(100_000));
    assert_eq!(server.request("GET", "/metrics", &big).code, 431);
    let many = (0..100).map(|number| format!("X-{number}: y\r\n")).collect::<String>();
    assert_eq!(server.request("GET", "/metrics", &many).code, 431);
    let long = format!("/{}", "x".repeat(70_000));
    assert!((400..500).contains(&server.request("GET", &long, "").code));
    assert!(server.talk(b"\x16\x03\x01\x02\x00\x01 not http\r\n\r\n").starts_with("HTTP/1.1 400"));
    assert_eq!(server.get("/healthz").code, 200);
}

#[test]
fn an_address_in_use_is_named_with_the_option() {
    let server = Running::start();
    let error = Server::bind(server.address).unwrap_err();
    assert!(matches!(error, ServeError::AddressInUse { .. }));
    let text = error.to_string();
    assert!(text.contains(&server.address.to_string()) && text.contains("--listen"), "{text}");
    // TEST-NET-1: no host has it.
    let error = Server::bind("192.0.2.1:1".parse().unwrap()).unwrap_err();
    assert!(error.to_string().contains("--listen"), "{error}");
}

#[test]
fn a_shutdown_closes_the_port() {
    let server = Running::start();
    let address = server.address;
    drop(server);
    assert!(TcpStream::connect(address).is_err());
}
