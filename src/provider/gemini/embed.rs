//! `embedContent` and `batchEmbedContents`: the request.

use bytes::Bytes;

use super::contents::{Contents, Found};
use super::{fields, names, route};
use crate::pricing::{ModelPrice, Terms};
use crate::provider::{Call, CallBody, Reading, Reject, Request, nfkc, reject};
use crate::wire::json::{Document, Value};

/// Tokens that mark the ends of one content.
const TOKENS_PER_REQUEST: u64 = 16;

struct Embed(Document);

/// Reads and bounds a request.
pub fn read(request: Request<'_>, reading: &Reading<'_>) -> Result<Call, Reject> {
    let (model, price) = super::model(request.path, reading)?;
    if !price.embedding {
        let message = format!("`{model}` is not an embedding model");
        return Err(reject::invalid(message, "name one, e.g. gemini-embedding-001"));
    }
    let document = super::document(request.body)?;
    let mut sum = Sum { reading, model: &model, price: &price, input: 0, found: Found::default() };
    if request.route == route::EMBED {
        sum.one(document.root(), "")?;
    } else {
        sum.batch(document.root())?;
    }
    let Sum { input, found, .. } = sum;
    Ok(Call {
        stream: false,
        shows_usage: true,
        samples: 1,
        input_max: input,
        output_max: 0,
        output_min: 0,
        cuttable: false,
        terms: Terms { audio_in: found.audio, image_in: found.image, video_in: found.video, ..Terms::default() },
        model,
        price,
        body: Box::new(Embed(document)),
    })
}

/// The input of all requests of a batch.
struct Sum<'r, 'a> {
    reading: &'r Reading<'a>,
    model: &'r str,
    price: &'r ModelPrice,
    input: u64,
    found: Found,
}

impl Sum<'_, '_> {
    fn batch(&mut self, root: Value<'_>) -> Result<(), Reject> {
        let mut is_empty = true;
        for field in names::read(self.reading, root, "", fields::BATCH_EMBED)? {
            if field.name == "model" {
                super::same_model(field.value, self.model, "model")?;
                continue;
            }
            for request in names::items(field.value) {
                is_empty = false;
                self.one(request, "requests[]")?;
            }
        }
        if is_empty {
            return Err(reject::invalid("`requests` is missing or empty", "send at least one request"));
        }
        Ok(())
    }

    /// One text, or media. Whether a text that is too long is billed before it is cut is not documented: all its bytes count.
    fn one(&mut self, request: Value<'_>, place: &str) -> Result<(), Reject> {
        let mut content = None;
        for field in names::read(self.reading, request, place, fields::EMBED)? {
            match field.name {
                "model" => super::same_model(field.value, self.model, "model")?,
                _ => content = Some(field.value),
            }
        }
        let Some(content) = content else {
            return Err(reject::invalid("`content` is missing", "send {\"parts\": [{\"text\": \"…\"}]}"));
        };
        let mut contents = Contents { reading: self.reading, counts_images: false, found: Found::default() };
        contents.content(content, "content")?;
        let found = contents.found;
        let bytes = (request.raw().len() as u64)
            .saturating_add(nfkc::growth(request))
            .saturating_add(found.extra)
            .saturating_add(TOKENS_PER_REQUEST);
        let tokens = if found.fills_window { bytes.max(self.price.context_window) } else { bytes };
        self.input = self.input.saturating_add(tokens);
        self.found.audio |= found.audio;
        self.found.image |= found.image;
        self.found.video |= found.video;
        Ok(())
    }
}

impl CallBody for Embed {
    fn exact_input(&self) -> Option<u64> {
        None
    }

    fn render(&self, _output_limit: Option<u64>) -> Bytes {
        self.0.render(&[])
    }
}
