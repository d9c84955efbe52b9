//! What happens to a valid order: accidents, billing, generation, the answer. The same for all dialects.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use hyper::Response;
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION};
use hyper::http::request::Parts;
use serde_json::Value;

use super::body::MockBody;
use super::cache::Cache;
use super::dialect::{Dialect, Routed, put};
use super::error::ApiError;
use super::generate::Beat;
use super::invoice::Books;
use super::log::{RequestInfo, RequestLog};
use super::openai::responses::Stored;
pub use super::order::Order;
use super::script::{OnLeave, Script, Tier};

/// A response of the mock.
pub type Reply = Response<MockBody>;

const JSON: &str = "application/json";

/// What all requests share.
pub struct App {
    /// The invoice.
    pub books: Arc<Books>,
    /// The requests.
    pub log: RequestLog,
    /// Prompts seen before.
    pub cache: Cache,
    /// Responses that can be asked for again.
    pub stored: Stored,
    /// The script of requests that bring none.
    pub default_script: Script,
    /// What becomes of a generation whose caller leaves.
    pub on_leave: OnLeave,
    /// The tier that `auto` means.
    pub auto_tier: Tier,
    /// Numbers the answers.
    pub replies: AtomicU64,
}

impl App {
    /// Forgets everything but the configuration.
    pub fn reset(&self) {
        self.books.reset();
        self.log.clear();
        self.cache.clear();
        self.stored.clear();
    }
}

/// A request with its body.
pub struct Incoming {
    /// Request line and headers.
    pub parts: Parts,
    /// The path within the dialect, undecoded.
    pub path: String,
    /// The body.
    pub body: Bytes,
    /// Its entry in the log.
    pub info: Arc<RequestInfo>,
    /// The language it speaks.
    pub dialect: &'static dyn Dialect,
}

/// Answers a request. An error means: drop the connection.
pub async fn handle(app: &App, incoming: Incoming) -> io::Result<Reply> {
    match incoming.dialect.route(app, &incoming) {
        Ok(Routed::Reply(reply)) => Ok(reply),
        Ok(Routed::Order(order)) => run(app, *order).await,
        Err(error) => Ok(error_reply(app, incoming.dialect, &error)),
    }
}

/// Carries out an order.
async fn run(app: &App, mut order: Order) -> io::Result<Reply> {
    let delay = Duration::from_millis(order.script.delay_headers_ms.unwrap_or(0));
    if order.script.hang || order.script.die_before {
        order.bill_unread(app);
        if order.script.hang {
            std::future::pending::<()>().await;
        }
        wait(delay).await;
        return Err(io::Error::other("mock: dies before it answers"));
    }
    if let Some(reply) = failure(app, &order) {
        order.bill_unread(app);
        wait(delay).await;
        return Ok(reply);
    }
    let job = order.open(app);
    let status = order.script.status.unwrap_or(200) as u16;
    if let Some(answer) = order.at_once.take() {
        job.spawn_unread();
        wait(delay).await;
        return Ok(order.reply(app, status, JSON, MockBody::scripted(answer, &order.script)));
    }
    if order.stream {
        let beats = job.spawn();
        wait(delay).await;
        let stream = order.take_answer().stream();
        let body = MockBody::events(beats, stream.render, stream.pad, &order.script);
        return Ok(order.reply(app, status, stream.kind, body));
    }
    if job.is_instant() {
        job.finish_now();
    } else {
        let mut beats = job.spawn();
        let drained = async {
            loop {
                match beats.recv().await {
                    Some(Beat::Start | Beat::Thoughts { .. } | Beat::Tokens { .. }) => {}
                    last => return last,
                }
            }
        };
        let (last, ()) = tokio::join!(drained, wait(delay));
        match last {
            Some(Beat::Error) => return Ok(error_reply(app, order.dialect, &ApiError::failing())),
            Some(Beat::End) => {}
            _ => return Err(io::Error::other("mock: dies while it generates")),
        }
    }
    let bytes = order.answer.full();
    let length = bytes.len();
    let body = MockBody::scripted(bytes, &order.script);
    let mut reply = order.reply(app, status, JSON, body);
    if order.script.truncate {
        reply.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(reply)
}

async fn wait(delay: Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}

/// The error answer that the script asks for, if it asks for one.
fn failure(app: &App, order: &Order) -> Option<Reply> {
    let script = &order.script;
    let status = script.status.map(|status| status as u16);
    if script.redirect {
        let mut reply = reply(app, order.dialect, status.unwrap_or(307), JSON, MockBody::full("{}"));
        reply.headers_mut().insert(LOCATION, HeaderValue::from_static("/redirected"));
        return Some(reply);
    }
    if script.html {
        let page = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\n";
        return Some(order.reply(app, status.unwrap_or(502), "text/html", MockBody::scripted(page.into(), script)));
    }
    let error = match &order.refusal {
        Some(refusal) => refusal.clone(),
        None => ApiError::scripted(status.filter(|status| !(200..300).contains(status))?),
    };
    let mut body = order.dialect.error_body(&error, &request_id(app));
    let is_billed = order.bills_error();
    if is_billed && body.last() == Some(&b'}') {
        body.pop();
        order.answer.usage_member(&mut body);
        body.push(b'}');
    }
    let body = MockBody::scripted(body, script);
    // What is not billed was not counted: no header says that it was.
    let mut reply = match is_billed {
        true => order.reply(app, error.status, JSON, body),
        false => reply(app, order.dialect, error.status, JSON, body),
    };
    order.dialect.error_headers(&error, reply.headers_mut());
    Some(reply)
}

impl Order {
    /// A response to this order, with what its script does to responses.
    fn reply(&self, app: &App, status: u16, kind: &'static str, body: MockBody) -> Reply {
        let mut reply = reply(app, self.dialect, status, kind, body);
        for (name, value) in &self.headers {
            put(reply.headers_mut(), name, value);
        }
        if self.script.gzip {
            reply.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        reply
    }
}

/// The name of the next answer.
fn request_id(app: &App) -> String {
    format!("req_mock{:012}", app.replies.fetch_add(1, Relaxed) + 1)
}

/// A response with the headers that all have.
pub fn reply(app: &App, dialect: &dyn Dialect, status: u16, kind: &'static str, body: MockBody) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    dialect.headers(&request_id(app), reply.headers_mut());
    reply
}

/// A JSON response that costs nothing.
pub fn json_reply(app: &App, dialect: &dyn Dialect, status: u16, value: &Value) -> Reply {
    reply(app, dialect, status, JSON, MockBody::full(value.to_string()))
}

/// An error response.
pub fn error_reply(app: &App, dialect: &dyn Dialect, error: &ApiError) -> Reply {
    let id = request_id(app);
    let body = MockBody::full(dialect.error_body(error, &id));
    let mut reply = reply(app, dialect, error.status, JSON, body);
    dialect.error_headers(error, reply.headers_mut());
    reply
}
