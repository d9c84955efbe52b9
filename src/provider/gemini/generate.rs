//! `generateContent` and `streamGenerateContent`: the request.

use bytes::Bytes;

use super::contents::{Contents, Found};
use super::tools::{self, Tools};
use super::{config, fields, names, route};
use crate::pricing::{ModelPrice, Terms, Tier};
use crate::provider::{Call, CallBody, CountAsk, Fee, Reading, Reject, Request, nfkc, reject};
use crate::wire::json::{self, Document, Value, write_string};

/// Tokens that a request may add beyond its contents and tools.
const TOKENS_PER_REQUEST: u64 = 1024;
/// A clamp does not go below this many output tokens, unless the request itself does.
const CLAMP_MIN: u64 = 16;

/// What is held for beyond Google's own count, which is not documented as that of the bill: 1 % and 64 tokens.
const COUNT_SLACK: (u64, u64) = (1, 64);

/// A request, read and checked.
struct Generate {
    document: Document,
    /// True when the whole prompt is in the body, and no tool adds to it.
    is_counted: bool,
    /// How the request spells `generationConfig`, if it has it.
    config_key: Option<String>,
    /// How it spells the limit in there, if it has one.
    limit_field: Option<String>,
    /// The field of the service tier, when it must be set to standard.
    tier_key: Option<String>,
    served: Vec<(&'static str, Fee)>,
}

/// What the top-level fields say.
#[derive(Default)]
struct Parts<'a> {
    contents: Option<Value<'a>>,
    system: Option<Value<'a>>,
    tools: Option<Value<'a>>,
    config: Option<Value<'a>>,
    config_key: Option<String>,
    tier: Option<(String, Value<'a>)>,
    /// Earlier output that is billed as input, and is not in the body.
    continues: bool,
    is_cached: bool,
}

/// Reads and bounds a request.
pub fn read(request: Request<'_>, reading: &Reading<'_>) -> Result<Call, Reject> {
    let (model, price) = super::model(request.path, reading)?;
    if price.embedding {
        let message = format!("`{model}` makes embeddings, not content");
        return Err(reject::invalid(message, "use embedContent, or name another model"));
    }
    let is_stream = request.route != route::GENERATE;
    let document = super::document(request.body)?;
    let parts = parts(&document, &model, reading)?;
    let config = config::read(parts.config, reading, &price)?;
    let tools = tools::read(parts.tools, reading, &price)?;
    let (has_tools, is_served) = (parts.tools.is_some(), !tools.served.is_empty());
    let found = found(&parts, &model, reading, is_served)?;
    let input_max = input_bound(&document, &found, &tools, config.extra, &price);
    let (tiers, forces_tier) = tiers(&parts, &price)?;
    let output_max = config.output_max(&price);
    // What was generated in earlier hops counts towards the limit of a continuation: a lower one would leave nothing.
    let can_clamp = !config.makes_media() && !parts.continues;
    let least = config::with_overshoot(config.limit.unwrap_or(CLAMP_MIN).min(CLAMP_MIN)).min(output_max);
    let terms = Terms {
        audio_in: found.audio,
        image_in: found.image,
        video_in: found.video,
        audio_out: config.audio,
        image_out: config.images,
        tiers,
        passes: tools.passes(),
        fees: tools.fees(),
        ..Terms::default()
    };
    let is_counted = !(is_served || parts.continues || parts.is_cached || found.refers);
    let body = Generate {
        is_counted,
        config_key: parts.config_key,
        limit_field: config.limit_field,
        tier_key: parts.tier.filter(|_| forces_tier).map(|(spelled, _)| spelled),
        served: tools.served,
        document,
    };
    Ok(Call {
        model,
        stream: is_stream,
        shows_usage: true,
        samples: config.samples,
        input_max,
        output_max,
        output_min: if can_clamp { least } else { output_max },
        // Thinking and media are billed without being seen as text, so is what a tool puts into the prompt, and the call of a
        // function until all of it is written.
        cuttable: is_stream && can_clamp && !price.hidden_output && !has_tools,
        price,
        terms,
        body: Box::new(body),
    })
}

fn parts<'a>(document: &'a Document, model: &str, reading: &Reading<'_>) -> Result<Parts<'a>, Reject> {
    let mut parts = Parts::default();
    for field in names::read(reading, document.root(), "", fields::REQUEST)? {
        match field.name {
            "model" => super::same_model(field.value, model, "model")?,
            "contents" => parts.contents = Some(field.value),
            "systemInstruction" => parts.system = Some(field.value),
            "tools" => parts.tools = Some(field.value),
            "generationConfig" => {
                parts.config = Some(field.value);
                parts.config_key = Some(field.spelled.into_owned());
            }
            "cachedContent" if reading.admits("cachedContent") => parts.is_cached = true,
            "cachedContent" => {
                let message = "`cachedContent`: a cache may hold tools that Google runs and bills for, and its content is not in the body";
                let hint = format!(
                    "send the content itself; or, where no cache of this account holds such tools, have it held for as a whole \
                     context window: `allow_fields: [cachedContent]` under providers.{} in loopers.yaml",
                    reading.provider
                );
                return Err(reject::unpriceable(message, hint));
            }
            "serviceTier" => parts.tier = Some((field.spelled.into_owned(), field.value)),
            _ => parts.continues = true,
        }
    }
    // `null` means the same as nothing, but the field is there, and must be the one that is rewritten.
    if parts.config_key.is_none() {
        let spelled = document.root().fields().map(|(key, _)| key);
        let mut null = spelled.filter(|key| key == "generationConfig" || key == "generation_config");
        parts.config_key = null.next().map(|key| key.into_owned());
    }
    Ok(parts)
}

/// Everything that the prompt holds.
fn found(parts: &Parts<'_>, model: &str, reading: &Reading<'_>, is_served: bool) -> Result<Found, Reject> {
    let counts_images = model.starts_with("gemini-3.") || model.starts_with("gemini-3-");
    let mut contents = Contents { reading, counts_images, found: Found::default() };
    for content in parts.contents.into_iter().flat_map(names::items) {
        contents.content(content, "contents[]")?;
    }
    if contents.found.count == 0 {
        return Err(reject::invalid("`contents` is missing or empty", "send at least one content"));
    }
    if let Some(system) = parts.system {
        contents.content(system, "systemInstruction")?;
    }
    if parts.is_cached || parts.continues || is_served {
        contents.found.hidden();
    }
    Ok(contents.found)
}

/// The most input tokens of one pass: every byte of the body could be one, and nothing exceeds the context window.
fn input_bound(document: &Document, found: &Found, tools: &Tools, schemas: Option<u64>, price: &ModelPrice) -> u64 {
    let (false, Some(tools), Some(schemas)) = (found.fills_window, tools.extra, schemas) else {
        return price.context_window;
    };
    (document.len() as u64)
        .saturating_sub(found.image_bytes)
        .saturating_add(nfkc::growth(document.root()))
        .saturating_add(found.extra)
        .saturating_add(tools)
        .saturating_add(schemas)
        .saturating_add(TOKENS_PER_REQUEST)
        .min(price.context_window)
}

/// The tiers to hold for beside the ordinary one, and whether the ordinary one must be forced.
fn tiers(parts: &Parts<'_>, price: &ModelPrice) -> Result<(Vec<Tier>, bool), Reject> {
    let Some((_, tier)) = &parts.tier else { return Ok((Vec::new(), false)) };
    let has_price = |tier: Tier| price.tiers.iter().any(|(known, _)| *known == tier);
    match tier.as_str().unwrap_or_default().to_ascii_lowercase().as_str() {
        "standard" | "unspecified" => Ok((Vec::new(), false)),
        // Held at standard prices, which are never below flex (the price table sees to it); settled by the tier that answers.
        "flex" => Ok((Vec::new(), !has_price(Tier::Flex))),
        "priority" if has_price(Tier::Priority) => Ok((vec![Tier::Priority], false)),
        "priority" => Err(Reject {
            code: "unpriced_model",
            message: format!("`serviceTier`: {} has no price of the priority tier", price.id),
            hint: format!(
                "send \"standard\", or add `priority: {{input: \"…\", output: \"…\"}}` to the row {}",
                price.id
            ),
        }),
        _ => {
            let message = "`serviceTier` is none of standard, flex, priority";
            Err(reject::unpriceable(message, "send \"standard\", or leave it out"))
        }
    }
}

impl Generate {
    /// `generationConfig` with this limit in it.
    fn config_with(&self, limit: u64) -> String {
        let limit = limit.to_string();
        let limit_field = self.limit_field.as_deref().unwrap_or("maxOutputTokens");
        let before = self.config_key.as_deref().and_then(|key| self.document.root().get(key));
        let kept = before.into_iter().flat_map(Value::fields).filter(|(key, value)| {
            // A limit of `null` is none, in either spelling.
            key != limit_field && !(value.is_null() && (key == "maxOutputTokens" || key == "max_output_tokens"))
        });
        let mut text = vec![b'{'];
        for (key, value) in kept {
            write_string(&mut text, &key);
            text.push(b':');
            text.extend_from_slice(value.raw().as_bytes());
            text.push(b',');
        }
        write_string(&mut text, limit_field);
        text.push(b':');
        text.extend_from_slice(limit.as_bytes());
        text.push(b'}');
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl CallBody for Generate {
    /// The tokenizers of current models are not public.
    fn exact_input(&self) -> Option<u64> {
        None
    }

    fn count(&self, path: &str) -> Option<CountAsk> {
        let (start, model) = (path.split("/models/").next()?, route::model(path)?);
        let model = format!("\"models/{model}\"");
        let fields = self.document.root().fields().filter(|(name, _)| name != "model");
        let fields = fields.map(|(name, value)| (name, value.raw())).chain([("model".into(), model.as_str())]);
        let inner = String::from_utf8(json::write_object(fields)).ok()?;
        let body = json::write_object([("generateContentRequest".into(), inner.as_str())].into_iter());
        let path = format!("{start}/models/{}:countTokens", route::model(path)?);
        self.is_counted.then(|| CountAsk { path, body: body.into(), field: "totalTokens", slack: COUNT_SLACK })
    }

    fn render(&self, output_limit: Option<u64>) -> Bytes {
        let config = output_limit.map(|limit| self.config_with(limit));
        let mut changes: Vec<(&str, Option<&str>)> = Vec::with_capacity(2);
        if let Some(config) = &config {
            changes.push((self.config_key.as_deref().unwrap_or("generationConfig"), Some(config)));
        }
        if let Some(key) = &self.tier_key {
            changes.push((key, Some("\"standard\"")));
        }
        self.document.render(&changes)
    }

    fn limit_within(&self, output: u64) -> u64 {
        config::without_overshoot(output)
    }

    fn held_tools(&self) -> &[(&'static str, Fee)] {
        &self.served
    }
}
