//! A valid request: what it is billed, what is generated, how it is answered.

use std::sync::Arc;

use super::cache::Hit;
use super::dialect::{Answer, Dialect, Stream};
use super::error::ApiError;
use super::flow::{App, Incoming};
use super::generate::{Beat, Job, Plan};
use super::invoice::{Call, CallStart, Media, Prompt};
use super::log::RequestInfo;
use super::prices::{Conditions, Model, Provider, Terms};
use super::script::{Script, Tier};
use super::words::word;

/// Somebody who wants to know which call an order became.
pub type OnOpen = Box<dyn FnOnce(&App, &Arc<Call>) + Send>;

/// A valid request.
pub struct Order {
    /// The language to answer in.
    pub dialect: &'static dyn Dialect,
    /// What is said about it in the answer.
    pub facts: Facts,
    /// Its script.
    pub script: Script,
    /// Is the answer a stream?
    pub stream: bool,
    /// How the answer is written.
    pub answer: Box<dyn Answer>,
    /// Headers of the answer.
    pub headers: Vec<(&'static str, String)>,
    /// The error that this request gets, although it may be billed.
    pub refusal: Option<ApiError>,
    /// An answer to give before anything is generated.
    pub at_once: Option<Vec<u8>>,
    /// What the prompt cache remembers once the call is billed.
    pub remember: Vec<u64>,
    /// Told about the call when it is opened.
    pub on_open: Option<OnOpen>,
    requested: String,
    provider: Provider,
    model: &'static Model,
    terms: Terms,
    request: Arc<RequestInfo>,
}

/// What an answer says about its call.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Names the answer.
    pub id: u64,
    /// The model it names.
    pub model: String,
    /// The tier it ran in.
    pub tier: Tier,
    /// Its prompt.
    pub prompt: Prompt,
    /// Its output.
    pub plan: Plan,
    /// Which of its output is not text.
    pub media: Media,
    /// Its script.
    pub script: Script,
}

impl Facts {
    /// Writes visible words of a choice.
    pub fn words(&self, out: &mut Vec<u8>, choice: u64, from: u64, to: u64) {
        for index in from..to {
            out.extend_from_slice(word(self.plan.seed, self.script.unicode, choice, index).as_bytes());
        }
    }

    /// Writes words of thought.
    pub fn thoughts(&self, out: &mut Vec<u8>, from: u64, to: u64) {
        for index in from..to {
            out.extend_from_slice(word(!self.plan.seed, self.script.unicode, 0, index).as_bytes());
        }
    }

    /// Output tokens of all choices together.
    pub fn completion(&self) -> u64 {
        self.plan.total().saturating_mul(self.plan.choices)
    }

    /// Output tokens of all choices together when `visible` tokens of each are there.
    pub fn completion_at(&self, visible: u64) -> u64 {
        self.plan.silent().saturating_add(visible).saturating_mul(self.plan.choices)
    }

    /// Reasoning tokens of all choices together, of `completion` output tokens.
    pub fn reasoning(&self, completion: u64) -> u64 {
        self.plan.reasoning.saturating_mul(self.plan.choices).min(completion)
    }

    /// The tier that the answer names: the one it ran in, in this dialect's word for it, unless the script lies.
    pub fn tier_name<'a>(&'a self, name: &'a str) -> &'a str {
        self.script.say_tier.as_deref().unwrap_or(name)
    }

    /// Writes a number of the usage report, truly or not.
    pub fn say(&self, true_number: u64) -> String {
        self.script.usage.say(true_number)
    }

    /// A member that no dialect knows, if the script wants one: `,"mystery_tokens":5`.
    pub fn extra(&self) -> String {
        self.script.extra_usage.map_or(String::new(), |n| format!(",\"mystery_tokens\":{n}"))
    }
}

/// The model and the conditions of a call.
pub struct Sale {
    /// Whose.
    pub provider: Provider,
    /// Which.
    pub model: &'static Model,
    /// The model as the request names it, or as it names a deployment.
    pub requested: String,
    /// How it runs.
    pub conditions: Conditions,
}

impl Order {
    /// An order, unless the script bills another model.
    pub fn new(incoming: &Incoming, sale: Sale, prompt: Prompt, plan: Plan, script: Script) -> Order {
        let provider = sale.provider;
        let billed = script.model_as.as_deref().and_then(|name| provider.find(name)).unwrap_or(sale.model);
        let prompt_tokens = prompt.total;
        let (mut terms, tier) = billed.terms(&sale.conditions, prompt_tokens);
        if script.unbilled {
            terms = Terms::FREE;
        }
        let model = answer_model(&sale, &script);
        let planned = plan.total().saturating_mul(plan.choices);
        let audio = script.audio_out.unwrap_or(0).min(planned);
        let image = script.image_out.unwrap_or(0).min(planned - audio);
        let media = Media { planned, audio, image };
        let facts = Facts { id: plan.seed, model, tier, prompt, plan, media, script: script.clone() };
        Order {
            dialect: incoming.dialect,
            facts,
            script,
            stream: false,
            answer: Box::new(Nothing),
            headers: Vec::new(),
            refusal: None,
            at_once: None,
            remember: Vec::new(),
            on_open: None,
            requested: sale.requested,
            provider,
            model: billed,
            terms,
            request: incoming.info.clone(),
        }
    }

    /// Takes the answer out, to be streamed.
    pub fn take_answer(&mut self) -> Box<dyn Answer> {
        std::mem::replace(&mut self.answer, Box::new(Nothing))
    }

    /// Bills the prompt; from here on the call is on the invoice.
    pub fn open(&mut self, app: &App) -> Job {
        let (facts, script) = (&self.facts, &self.script);
        let call = app.books.open(CallStart {
            provider: self.provider,
            model: self.model.name,
            requested: self.requested.clone(),
            tier: facts.tier,
            terms: self.terms,
            searches: script.search.unwrap_or(0),
            prompt: facts.prompt,
            reasoning: facts.plan.reasoning.saturating_mul(facts.plan.choices),
            media: facts.media,
            stream: self.stream,
            request: self.request.clone(),
        });
        app.cache.remember(&self.remember);
        if let Some(tell) = self.on_open.take() {
            tell(app, &call);
        }
        let leave = script.leave.unwrap_or(app.on_leave);
        Job { books: app.books.clone(), call, plan: facts.plan.clone(), script: script.clone(), leave }
    }

    /// Is an error, a hang or a death of this order billed?
    pub fn bills_error(&self) -> bool {
        let status = self.refusal.as_ref().map_or(self.script.status.unwrap_or(0) as u16, |refusal| refusal.status);
        self.script.billed || self.dialect.bills_error(status, &self.script)
    }

    /// Bills the whole order although nobody will read it, if that is how it is.
    pub fn bill_unread(&mut self, app: &App) {
        if self.bills_error() {
            let job = self.open(app);
            if job.is_instant() { job.finish_now() } else { job.spawn_unread() }
        }
    }
}

/// The model that the answer names: OpenAI's chat models answer with a dated name, Azure's with that of the model
/// behind the deployment.
fn answer_model(sale: &Sale, script: &Script) -> String {
    match &script.model_as {
        Some(name) => name.clone(),
        None => match sale.provider {
            Provider::Openai if sale.requested == sale.model.name && !sale.model.embeds() => {
                format!("{}-2026-01-01", sale.requested)
            }
            Provider::Azure => {
                let name = sale.model.name.split_once('/').map_or(sale.model.name, |(_, name)| name);
                if sale.model.embeds() { name.to_owned() } else { format!("{name}-2026-01-01") }
            }
            _ => sale.requested.clone(),
        },
    }
}

/// Splits a prompt by how it is billed. The script decides before the cache does.
pub fn split_prompt(total: u64, hit: &Hit, script: &Script) -> Prompt {
    let total = script.prompt.unwrap_or(total) + script.late_input.unwrap_or(0);
    let mut left = total;
    let mut take = |scripted: Option<u64>, otherwise: u64| {
        let part = scripted.unwrap_or(otherwise).min(left);
        left -= part;
        part
    };
    Prompt {
        total,
        cached: take(script.cached, hit.read),
        cache_write: take(script.cache_write, hit.short),
        cache_write_1h: take(script.cache_write_1h, hit.hour),
        audio: take(script.audio_in, 0),
        image: take(script.image_in, 0),
        tool_use: script.tool_use.unwrap_or(0),
    }
}

struct Nothing;

impl Answer for Nothing {
    fn full(&self) -> Vec<u8> {
        b"{}".to_vec()
    }

    fn stream(self: Box<Self>) -> Stream {
        Stream::sse(self)
    }
}

impl super::body::Render for Nothing {
    fn render(&mut self, _: Beat, _: &mut super::body::Out) {}
}

/// The conditions that a script and a tier make.
pub fn conditions(script: &Script, tier: Tier) -> Conditions {
    Conditions {
        tier,
        regional: script.geo.as_deref().is_some_and(|geo| geo != "global"),
        fast: script.speed.as_deref() == Some("fast"),
        searches: script.search.unwrap_or(0),
    }
}
