//! The admin interface: a page for people, metrics for Prometheus, and the queue as JSON, over HTTP/1.1.
//!
//! ```text
//! GET  /                    a page                                  open
//! GET  /healthz             200, or 503 when the store has failed   open
//! GET  /metrics             Prometheus text                         open
//! GET  /queue?after=ID      up to 1000 entries, oldest first        token
//! GET  /queue/ID            one entry, whole                        token
//! GET  /check               what does not add up; reads everything  token
//! POST /queue/ID/hold | release | retry | remove                    token
//! ```
//!
//! It binds to loopback unless told otherwise. What shows or changes mail wants `Authorization: Bearer TOKEN`; the token stands in the data folder,
//! readable by its owner alone.

mod entry;
mod page;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use waypost_queue::{Change, Store, StoreError};
use waypost_types::MessageId;

use crate::observe::writer::Writer;
use crate::observe::{Observe, now};

pub(crate) use entry::{entry_json, entry_text};

/// Connections at once: it is an interface for a few people and a scraper.
const CONNECTIONS_MAX: usize = 64;
/// Entries of one answer.
const LIST_MAX: u32 = 1000;
/// A client must have sent its request by then.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// What the interface shows and changes.
pub(crate) struct Admin {
    /// The queue.
    pub(crate) store: Arc<dyn Store>,
    /// The counters.
    pub(crate) observe: Arc<Observe>,
    /// The log, for its own counter.
    pub(crate) writer: Arc<Writer>,
    /// What a client must show for `/queue`.
    pub(crate) token: String,
    /// `hostname`.
    pub(crate) hostname: String,
}

/// Serves until dropped.
pub(crate) async fn serve(listener: TcpListener, admin: Arc<Admin>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of files: the mail listeners say so; wait for some to be closed.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let admin = admin.clone();
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| answer(admin.clone(), request));
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            // A client that goes away half-way is no news.
            let _ = connection.await;
            drop(permit);
        });
    }
}

type Answer = Response<Full<Bytes>>;

async fn answer(admin: Arc<Admin>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let path = request.uri().path().trim_end_matches('/').to_string();
    let answer = match (request.method(), path.as_str()) {
        (&Method::GET, "") => html(page::render(&admin)),
        (&Method::GET, "/healthz") => health(&admin),
        (&Method::GET, "/metrics") => {
            let text = admin.observe.counters().render(admin.store.counts(), admin.writer.dropped());
            typed(StatusCode::OK, "text/plain; version=0.0.4", text)
        }
        (&Method::GET, "/check") if is_allowed(&admin, &request) => check(&admin).await,
        (_, "/check") => unauthorised(),
        (method, path) if path == "/queue" || path.starts_with("/queue/") => {
            if !is_allowed(&admin, &request) {
                return Ok(unauthorised());
            }
            let query = request.uri().query().unwrap_or("");
            queue(&admin, method, &path["/queue".len()..], query).await
        }
        _ => problem(StatusCode::NOT_FOUND, "no such page; / names what there is"),
    };
    Ok(answer)
}

fn health(admin: &Admin) -> Answer {
    if admin.observe.counters().store_has_failed() {
        return problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "the store takes no writes any more; look for store_failed in the log, mend the disk, restart",
        );
    }
    typed(StatusCode::OK, "text/plain", "ok\n".into())
}

/// Compared without regard to where the first difference is.
fn is_allowed(admin: &Admin, request: &Request<Incoming>) -> bool {
    let shown =
        request.headers().get(AUTHORIZATION).and_then(|v| v.to_str().ok()).and_then(|v| v.strip_prefix("Bearer "));
    let Some(shown) = shown else { return false };
    let difference = shown.bytes().zip(admin.token.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
    shown.len() == admin.token.len() && difference == 0
}

fn unauthorised() -> Answer {
    let mut answer = problem(
        StatusCode::UNAUTHORIZED,
        "send `Authorization: Bearer TOKEN`; the token is in the file admin-token of the data folder",
    );
    answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    answer
}

async fn queue(admin: &Admin, method: &Method, rest: &str, query: &str) -> Answer {
    let mut parts = rest.split('/').skip(1);
    let Some(id) = parts.next() else {
        return if method == Method::GET { list(admin, query).await } else { not_allowed("GET") };
    };
    let Ok(id) = id.parse::<MessageId>() else {
        return problem(StatusCode::BAD_REQUEST, "not a message id: 20 letters and digits, as the log prints them");
    };
    match (method, parts.next(), parts.next()) {
        (&Method::GET, None, None) => show(admin, id).await,
        (&Method::POST, Some(action), None) => change(admin, id, action).await,
        (_, None, None) => not_allowed("GET"),
        (_, Some(_), None) => not_allowed("POST"),
        _ => problem(StatusCode::NOT_FOUND, "no such page; / names what there is"),
    }
}

async fn list(admin: &Admin, query: &str) -> Answer {
    let after = query.split('&').find_map(|pair| pair.strip_prefix("after="));
    let after = match after.map(str::parse::<MessageId>).transpose() {
        Ok(after) => after,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    match admin.store.list(after, LIST_MAX).await {
        Ok(entries) => {
            let next = (entries.len() == LIST_MAX as usize).then(|| entries.last().map(|e| e.id.to_string())).flatten();
            let entries: Vec<_> = entries.iter().map(entry_json).collect();
            json_answer(StatusCode::OK, &json!({ "entries": entries, "next": next }))
        }
        Err(error) => store_problem(&error),
    }
}

async fn check(admin: &Admin) -> Answer {
    match admin.store.check().await {
        Ok(problems) => {
            let problems: Vec<_> =
                problems.iter().map(|p| json!({ "id": p.id.map(|id| id.to_string()), "text": p.text })).collect();
            json_answer(StatusCode::OK, &json!({ "problems": problems }))
        }
        Err(error) => store_problem(&error),
    }
}

async fn show(admin: &Admin, id: MessageId) -> Answer {
    match admin.store.get(id).await {
        Ok(Some(entry)) => json_answer(StatusCode::OK, &entry_json(&entry)),
        Ok(None) => store_problem(&StoreError::Missing),
        Err(error) => store_problem(&error),
    }
}

async fn change(admin: &Admin, id: MessageId, action: &str) -> Answer {
    let change = match action {
        "hold" => Change::Hold("by an operator".into()),
        "release" => Change::Release,
        "retry" => Change::Due(now()),
        "remove" => Change::Remove,
        _ => return problem(StatusCode::NOT_FOUND, "no such action: hold, release, retry or remove"),
    };
    match admin.store.change(id, change).await {
        Ok(()) => json_answer(StatusCode::OK, &json!({ "id": id.to_string(), "done": action })),
        Err(error) => store_problem(&error),
    }
}

fn store_problem(error: &StoreError) -> Answer {
    let (status, text) = match error {
        StoreError::Missing => {
            (StatusCode::NOT_FOUND, "no such message in the queue: it may have been delivered".to_string())
        }
        StoreError::Busy => {
            (StatusCode::CONFLICT, "the message is being delivered at this moment; try again".to_string())
        }
        other => (StatusCode::INTERNAL_SERVER_ERROR, other.to_string()),
    };
    problem(status, &text)
}

fn not_allowed(method: &'static str) -> Answer {
    let mut answer = problem(StatusCode::METHOD_NOT_ALLOWED, "not with this method");
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(method));
    answer
}

fn problem(status: StatusCode, text: &str) -> Answer {
    json_answer(status, &json!({ "error": text }))
}

fn json_answer(status: StatusCode, value: &serde_json::Value) -> Answer {
    typed(status, "application/json", format!("{value}\n"))
}

fn html(text: String) -> Answer {
    typed(StatusCode::OK, "text/html; charset=utf-8", text)
}

fn typed(status: StatusCode, kind: &'static str, text: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}
