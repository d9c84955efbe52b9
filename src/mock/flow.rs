//! What happens to a valid order: accidents, billing, generation, the answer. The same for all dialects.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use hyper::Response;
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use hyper::http::request::Parts;
use serde_json::Value;

use super::body::{MockBody, Render};
use super::embeddings::EmbedAnswer;
use super::generate::{Beat, Job, Plan};
use super::invoice::{Books, CallStart, Prompt};
use super::log::{RequestInfo, RequestLog};
use super::openai::ApiError;
use super::openai_out::{ChatAnswer, STREAM_ERROR, write_usage};
use super::prices::{self, MODELS, Rates};
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
    /// The script of requests that bring none.
    pub default_script: Script,
    /// What becomes of a generation whose caller leaves.
    pub on_leave: OnLeave,
    /// The tier that `auto` means.
    pub auto_tier: Tier,
    /// Numbers the answers.
    pub replies: AtomicU64,
}

/// A request with its body.
pub struct Incoming {
    /// Request line and headers.
    pub parts: Parts,
    /// The body.
    pub body: Bytes,
    /// Its entry in the log.
    pub info: Arc<RequestInfo>,
}

/// How to write the answer of an order.
#[derive(Clone)]
pub enum Answer {
    /// Nothing decided yet.
    Empty,
    /// A chat completion.
    Chat(Box<ChatAnswer>),
    /// Embeddings.
    Embeddings(Box<EmbedAnswer>),
}

impl Answer {
    fn full(&self) -> Vec<u8> {
        match self {
            Answer::Empty => b"{}".to_vec(),
            Answer::Chat(chat) => chat.full(),
            Answer::Embeddings(embeddings) => embeddings.full(),
        }
    }

    fn render(self) -> Box<dyn Render> {
        match self {
            Answer::Chat(chat) => chat,
            Answer::Empty | Answer::Embeddings(_) => Box::new(Silent),
        }
    }
}

struct Silent;

impl Render for Silent {
    fn render(&mut self, _: Beat, _: &mut super::body::Out) {}
}

/// A valid request: what it is billed, what is generated, how it is answered.
pub struct Order {
    /// The model it names.
    pub requested: String,
    /// Its prompt.
    pub prompt: Prompt,
    /// Its output.
    pub plan: Plan,
    /// Its script.
    pub script: Script,
    /// Is the answer a stream?
    pub stream: bool,
    /// How the answer is written.
    pub answer: Answer,
    model: usize,
    tier: Tier,
    rates: Rates,
    request: Arc<RequestInfo>,
}

impl Order {
    /// An order for model number `model` of the price list, unless the script bills another one.
    pub fn new(
        incoming: &Incoming,
        requested: String,
        model: usize,
        tier: Tier,
        prompt: Prompt,
        plan: Plan,
        script: Script,
    ) -> Order {
        let billed = script.model_as.as_deref().and_then(prices::find).map_or(model, |(index, _)| index);
        let (rates, tier) = MODELS[billed].rates(tier, prompt.total);
        let request = incoming.info.clone();
        let (stream, answer) = (false, Answer::Empty);
        Order { requested, prompt, plan, script, stream, answer, model: billed, tier, rates, request }
    }

    /// The tier it is billed in.
    pub fn billed_tier(&self) -> Tier {
        self.tier
    }

    /// The model that the answer names: chat models answer with a dated name.
    pub fn answer_model(&self) -> String {
        match &self.script.model_as {
            Some(name) => name.clone(),
            None if MODELS.iter().any(|m| m.name == self.requested && !m.embeds()) => {
                format!("{}-2026-01-01", self.requested)
            }
            None => self.requested.clone(),
        }
    }

    /// Bills the prompt; from here on the call is on the invoice.
    fn open(&self, app: &App) -> Job {
        let call = app.books.open(CallStart {
            model: self.model,
            requested: self.requested.clone(),
            tier: self.tier,
            rates: self.rates,
            prompt: self.prompt,
            reasoning: self.plan.reasoning.saturating_mul(self.plan.choices),
            stream: self.stream,
            request: self.request.clone(),
        });
        let leave = self.script.leave.unwrap_or(app.on_leave);
        Job { books: app.books.clone(), call, plan: self.plan.clone(), script: self.script.clone(), leave }
    }

    /// Bills the whole order although nobody will read it, if the script says so.
    fn bill_unread(&self, app: &App) {
        if self.script.billed {
            let job = self.open(app);
            if job.is_instant() { job.finish_now() } else { job.spawn_unread() }
        }
    }
}

/// Carries out an order. An error means: drop the connection.
pub async fn run(app: &App, order: Order) -> io::Result<Reply> {
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
    if order.stream {
        let beats = job.spawn();
        wait(delay).await;
        let body = MockBody::events(beats, order.answer.render(), &order.script);
        return Ok(scripted_reply(app, status, "text/event-stream; charset=utf-8", body, &order.script));
    }
    if job.is_instant() {
        job.finish_now();
    } else {
        let mut beats = job.spawn();
        let drained = async {
            loop {
                match beats.recv().await {
                    Some(Beat::Start | Beat::Tokens { .. }) => {}
                    last => return last,
                }
            }
        };
        let (last, ()) = tokio::join!(drained, wait(delay));
        match last {
            Some(Beat::Error) => return Ok(reply(app, 500, JSON, MockBody::full(STREAM_ERROR))),
            Some(Beat::End) => {}
            _ => return Err(io::Error::other("mock: dies while it generates")),
        }
    }
    let bytes = order.answer.full();
    let length = bytes.len();
    let body = MockBody::scripted(bytes, &order.script);
    let mut reply = scripted_reply(app, status, JSON, body, &order.script);
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
        let mut reply = reply(app, status.unwrap_or(307), JSON, MockBody::full("{}"));
        reply.headers_mut().insert(LOCATION, HeaderValue::from_static("/redirected"));
        return Some(reply);
    }
    if script.html {
        let page = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\n";
        return Some(scripted_reply(app, status.unwrap_or(502), "text/html", odd(page.into(), script), script));
    }
    let status = status.filter(|status| !(200..300).contains(status))?;
    let (kind, code) = match status {
        429 => ("requests", Some("rate_limit_exceeded")),
        500.. => ("server_error", None),
        _ => ("invalid_request_error", None),
    };
    let message = format!("mock: status {status}, as the script asks");
    let error = ApiError { status, message, kind, param: None, code };
    let mut body = format!("{{\"error\":{}", error.to_json()).into_bytes();
    if script.billed {
        let completion = order.plan.total().saturating_mul(order.plan.choices);
        let reasoning = order.plan.silent().saturating_mul(order.plan.choices);
        write_usage(&mut body, script.usage, &order.prompt, completion, Some(reasoning));
    }
    body.push(b'}');
    Some(scripted_reply(app, status, JSON, odd(body, script), script))
}

fn odd(bytes: Vec<u8>, script: &Script) -> MockBody {
    MockBody::scripted(bytes, script)
}

fn scripted_reply(app: &App, status: u16, kind: &'static str, body: MockBody, script: &Script) -> Reply {
    let mut reply = reply(app, status, kind, body);
    if script.gzip {
        reply.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    reply
}

/// A response with the headers that all have.
pub fn reply(app: &App, status: u16, kind: &'static str, body: MockBody) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    let id = app.replies.fetch_add(1, Relaxed) + 1;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Ok(id) = HeaderValue::from_str(&format!("req_mock{id:012}")) {
        headers.insert(HeaderName::from_static("x-request-id"), id);
    }
    headers.insert(HeaderName::from_static("openai-processing-ms"), HeaderValue::from_static("1"));
    reply
}

/// A JSON response.
pub fn json_reply(app: &App, status: u16, value: &Value) -> Reply {
    reply(app, status, JSON, MockBody::full(value.to_string()))
}

/// An error response.
pub fn error_reply(app: &App, error: &ApiError) -> Reply {
    json_reply(app, error.status, &serde_json::json!({ "error": error.to_json() }))
}
