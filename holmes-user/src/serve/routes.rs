//! The routes, and what each answers.
//!
//! Must not: hold state of its own, or echo what a client sent as anything but JSON text.

use std::time::Duration;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::timeout;

use super::refresh::refresh;
use super::server::Shared;
use super::status::Readiness;
use super::trigger::{TriggerAnswer, TriggerRequest, parse_target, refuse_cross_site};

/// Bytes of a request's body. No route takes one; a form that some tool adds is let through.
const MAX_BODY_BYTES: usize = 1024;

/// How long the recorder's loop may take to answer a trigger.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a request may take from its headers to its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// What a client whose trigger met a full queue should wait.
const QUEUE_RETRY: Duration = Duration::from_secs(1);

/// Prometheus' text format; <https://prometheus.io/docs/instrumenting/exposition_formats/>.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const INDEX: &str = "\
holmes-ebpf: a flight recorder for production incidents

GET  /metrics                what is recorded and what is lost, for Prometheus
GET  /healthz                whether the recorder lives
GET  /readyz                 whether it records, and with which probes
POST /trigger[?target=...]   cut an incident now; the target is `host`, a process id or a cgroup
";

pub(super) fn router(shared: Shared) -> Router {
    Router::new()
        .route("/", get(INDEX))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/trigger", post(trigger))
        .fallback(|| async { (StatusCode::NOT_FOUND, "not found; GET / lists what there is\n") })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(from_fn_with_state(shared.clone(), around))
        .with_state(shared)
}

/// Around every route: the time limit, the headers that all answers have, and the count.
async fn around(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let path = known_path(request.uri().path());
    let mut response = match timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => (StatusCode::REQUEST_TIMEOUT, "the request took too long\n").into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    shared.metrics.count_request(path, response.status().as_u16());
    response
}

/// The path as a label: one of ours, or `other`.
fn known_path(path: &str) -> &'static str {
    ["/", "/metrics", "/healthz", "/readyz", "/trigger"]
        .into_iter()
        .find(|known| *known == path)
        .unwrap_or("other")
}

async fn metrics(State(shared): State<Shared>) -> Response {
    refresh(&shared.refreshes).await;
    match shared.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn healthz(State(shared): State<Shared>) -> Response {
    match shared.status.overdue() {
        None => "ok\n".into_response(),
        Some(age) => {
            let text = format!("the recorder's loop has hung for {} s\n", age.as_secs());
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
    }
}

async fn readyz(State(shared): State<Shared>) -> Response {
    let address = shared.address.to_string();
    match shared.status.readiness() {
        Readiness::Ready { probes } => {
            let body = json!({ "ready": true, "address": address, "probes": probes });
            answer(StatusCode::OK, &body)
        }
        Readiness::NotReady { reason } => {
            let body = json!({ "ready": false, "address": address, "reason": reason });
            answer(StatusCode::SERVICE_UNAVAILABLE, &body)
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TriggerQuery {
    target: Option<String>,
}

/// The body is read (bounded by [`MAX_BODY_BYTES`]) and not looked at.
async fn trigger(
    State(shared): State<Shared>,
    headers: HeaderMap,
    query: Result<Query<TriggerQuery>, QueryRejection>,
    body: Result<axum::body::Bytes, axum::extract::rejection::BytesRejection>,
) -> Response {
    if let Some(reason) = refuse_cross_site(&headers) {
        return refusal(StatusCode::FORBIDDEN, reason);
    }
    if let Err(rejection) = body {
        return refusal(rejection.status(), &rejection.body_text());
    }
    let target = match query {
        Ok(Query(query)) => query.target.map(|text| parse_target(&text)).transpose(),
        Err(rejection) => Err(rejection.body_text()),
    };
    let target = match target {
        Ok(target) => target,
        Err(reason) => return refusal(StatusCode::BAD_REQUEST, &reason),
    };
    let (request, reply) = TriggerRequest::new(target);
    match shared.triggers.try_send(request) {
        Ok(()) => {}
        Err(TrySendError::Full(_)) => {
            return busy("too many triggers at once", QUEUE_RETRY);
        }
        Err(TrySendError::Closed(_)) => {
            return refusal(StatusCode::SERVICE_UNAVAILABLE, "the recorder is ending");
        }
    }
    match timeout(ANSWER_TIMEOUT, reply).await {
        Ok(Ok(TriggerAnswer::Accepted { target })) => {
            answer(StatusCode::ACCEPTED, &json!({ "accepted": true, "target": target }))
        }
        Ok(Ok(TriggerAnswer::Busy { reason, retry_after })) => busy(&reason, retry_after),
        Ok(Ok(TriggerAnswer::UnknownTarget { reason })) => refusal(StatusCode::NOT_FOUND, &reason),
        Ok(Err(_)) => refusal(StatusCode::SERVICE_UNAVAILABLE, "the recorder is ending"),
        Err(_) => refusal(
            StatusCode::SERVICE_UNAVAILABLE,
            "the recorder is busy; the incident may still be cut",
        ),
    }
}

fn busy(reason: &str, retry_after: Duration) -> Response {
    let mut response = refusal(StatusCode::TOO_MANY_REQUESTS, reason);
    // Whole seconds, rounded up: asking a moment too early would be refused again.
    let seconds = retry_after.as_millis().div_ceil(1000).max(1).to_string();
    if let Ok(value) = HeaderValue::from_str(&seconds) {
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    response
}

fn refusal(code: StatusCode, reason: &str) -> Response {
    answer(code, &json!({ "accepted": false, "error": reason }))
}

fn answer(code: StatusCode, body: &serde_json::Value) -> Response {
    (code, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}
