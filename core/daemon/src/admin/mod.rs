//! The admin interface: a page for people, metrics for Prometheus, and the queue as JSON, over HTTP/1.1.
//!
//! ```text
//! GET  /                    a page                                  open
//! GET  /healthz             200, or 503 when the store has failed   open
//! GET  /metrics             Prometheus text                         open
//! everything of [`work`]                                            token
//! POST /plugin/NAME/COMMAND?ARGUMENT, a message as the body         token
//! everything of [`trial`]                                           token
//! ```
//!
//! It binds to loopback unless told otherwise. What shows or changes mail wants `Authorization: Bearer TOKEN`; the token stands in the data folder,
//! readable by its owner alone.

mod entry;
mod filter;
mod page;
mod trial;
mod work;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use waypost_plugin::Host as Plugins;
use waypost_types::{Event, Message, Observer};

use crate::observe::Observe;
use crate::observe::writer::Writer;

pub(crate) use entry::entry_text;
pub(crate) use filter::{Filter, encode, span};
pub(crate) use work::{Desk, Refusal};

/// Connections at once: it is an interface for a few people and a scraper.
const CONNECTIONS_MAX: usize = 64;
/// Octets of a message that comes with a command.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// It must have come by then.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// A client must have sent its request by then.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// What the interface shows and changes.
pub(crate) struct Admin {
    /// The queue and its courier.
    pub(crate) desk: Desk,
    /// The counters.
    pub(crate) observe: Arc<Observe>,
    /// The plugins, for commands to them.
    pub(crate) plugins: Plugins,
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
            let text = admin.observe.counters().render(admin.desk.store.counts(), admin.writer.dropped());
            typed(StatusCode::OK, "text/plain; version=0.0.4", text)
        }
        (_, path)
            if ["/queue", "/check", "/destinations", "/suppress", "/tls-reports"]
                .iter()
                .any(|page| is_at(path, page)) =>
        {
            if !is_allowed(&admin, &request) {
                return Ok(unauthorised());
            }
            let query = request.uri().query().unwrap_or("");
            match admin.desk.answer(request.method().as_str(), path, query).await {
                Ok(value) => json_answer(StatusCode::OK, &value),
                Err(refusal) => refuse(&refusal),
            }
        }
        (_, path) if is_at(path, "/plugins") && !is_allowed(&admin, &request) => unauthorised(),
        (&Method::GET, "/plugins") => json_answer(StatusCode::OK, &trial::status(&admin.plugins)),
        (&Method::POST, path) if is_at(path, "/plugins") => change_plugin(&admin, path, request).await,
        (_, path) if is_at(path, "/plugins") => refuse(&Refusal::Method("GET, POST")),
        (_, path) if path.starts_with("/plugin/") && !is_allowed(&admin, &request) => unauthorised(),
        (&Method::POST, path) if path.starts_with("/plugin/") => command(&admin, path, request).await,
        (_, path) if path.starts_with("/plugin/") => refuse(&Refusal::Method("POST")),
        _ => problem(StatusCode::NOT_FOUND, "no such page; / names what there is"),
    };
    Ok(answer)
}

/// Puts a command to a plugin, with the message that the request carries.
async fn command(admin: &Admin, path: &str, request: Request<Incoming>) -> Answer {
    let mut parts = path.split('/').skip(2);
    let (Some(plugin), Some(name), None) = (parts.next(), parts.next(), parts.next()) else {
        return problem(StatusCode::NOT_FOUND, "POST /plugin/NAME/COMMAND?ARGUMENT");
    };
    let argument = request.uri().query().unwrap_or("").to_string();
    let body = Limited::new(request.into_body(), MESSAGE_BYTES_MAX).collect();
    let Ok(Ok(body)) = tokio::time::timeout(BODY_TIMEOUT, body).await else {
        return problem(StatusCode::BAD_REQUEST, "the message did not come whole, or is larger than 64 MiB");
    };
    let message = Message::new(body.to_bytes());
    match admin.plugins.command(plugin, name, &argument, Some(message)).await {
        Ok(said) => json_answer(StatusCode::OK, &json!({ "said": said })),
        Err(error) => problem(StatusCode::BAD_REQUEST, &error),
    }
}

/// Swaps a plugin's version, or puts one on trial.
async fn change_plugin(admin: &Arc<Admin>, path: &str, request: Request<Incoming>) -> Answer {
    let mut parts = path.split('/').skip(2).map(str::to_string);
    let (Some(name), Some(action), None) = (parts.next(), parts.next(), parts.next()) else {
        return problem(StatusCode::NOT_FOUND, "POST /plugins/NAME/swap, rollback, shadow or canary");
    };
    let query = request.uri().query().unwrap_or("").to_string();
    let body = Limited::new(request.into_body(), MESSAGE_BYTES_MAX).collect();
    let Ok(Ok(body)) = tokio::time::timeout(BODY_TIMEOUT, body).await else {
        return problem(StatusCode::BAD_REQUEST, "the component did not come whole, or is larger than 64 MiB");
    };
    let (plugins, component) = (admin.plugins.clone(), body.to_bytes());
    let told = format!("plugin {name}: {action}");
    // Compiling takes seconds where the component is large.
    let done = tokio::task::spawn_blocking(move || trial::change(&plugins, &name, &action, &query, component)).await;
    match done {
        Ok(Ok(value)) => {
            admin.observe.observe(Event::Notice { level: "info", message: &format!("{told}, by an operator") });
            json_answer(StatusCode::OK, &value)
        }
        Ok(Err(error)) => problem(StatusCode::BAD_REQUEST, &error),
        Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "loading the component broke off"),
    }
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

/// Whether a path is a page or below it.
fn is_at(path: &str, page: &str) -> bool {
    path.strip_prefix(page).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn refuse(refusal: &Refusal) -> Answer {
    let status = match refusal {
        Refusal::Bad(_) => StatusCode::BAD_REQUEST,
        Refusal::Missing(_) => StatusCode::NOT_FOUND,
        Refusal::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
        Refusal::Busy(_) => StatusCode::CONFLICT,
        Refusal::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut answer = problem(status, refusal.text());
    if let Refusal::Method(method) = refusal {
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static(method));
    }
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
