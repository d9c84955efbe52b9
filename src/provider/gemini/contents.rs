//! What a prompt holds: which parts are admitted, and what they may cost beyond their bytes.

use super::{fields, names};
use crate::provider::{Reading, Reject, sealed};
use crate::wire::json::Value;

/// The most tokens of an image, in the finest resolution there is, for models of the third generation.
const TOKENS_PER_IMAGE: u64 = 2_240;
/// Tokens around a content: its role, and what separates it.
const TOKENS_PER_CONTENT: u64 = 16;
/// How the media begins, in base64 of either alphabet, that is a still image without doubt.
const STILLS: [(&str, [&str; 2]); 2] =
    [("image/png", ["iVBORw0KGgo", "iVBORw0KGgo"]), ("image/jpeg", ["/9j/", "_9j_"])];

/// What all contents of a request hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// How many contents there are.
    pub count: u64,
    /// Tokens to add to the bytes of the body.
    pub extra: u64,
    /// Bytes of the body that are certainly no text: images, counted in `extra`.
    pub image_bytes: u64,
    /// True when something fills the context window for all that the body says.
    pub fills_window: bool,
    /// True when something is only referred to: it may be another input when the call is made.
    pub refers: bool,
    /// Whether there may be audio.
    pub audio: bool,
    /// Whether there may be images or documents.
    pub image: bool,
    /// Whether there may be video.
    pub video: bool,
}

impl Found {
    /// Input that the body does not show: it may be anything.
    pub fn hidden(&mut self) {
        (self.fills_window, self.audio, self.image, self.video) = (true, true, true, true);
    }

    /// Media whose tokens cannot be told from its bytes.
    fn media(&mut self, mime: &str) {
        self.fills_window = true;
        let kind = mime.split('/').next().unwrap_or_default();
        match kind {
            "text" => {}
            "audio" => self.audio = true,
            "image" => self.image = true,
            _ if mime == "application/pdf" => self.image = true,
            _ => self.hidden(),
        }
    }
}

/// Reads contents.
pub struct Contents<'r, 'a> {
    /// What the operator admits.
    pub reading: &'r Reading<'a>,
    /// True when the model's images have a known bound.
    pub counts_images: bool,
    /// The sum so far.
    pub found: Found,
}

impl Contents<'_, '_> {
    /// Takes a content; `place` is its name in errors.
    pub fn content(&mut self, content: Value<'_>, place: &str) -> Result<(), Reject> {
        self.found.count += 1;
        self.found.extra += TOKENS_PER_CONTENT;
        for field in names::read(self.reading, content, place, fields::CONTENT)? {
            for part in names::items(field.value) {
                self.part(part, &format!("{place}.parts[]"))?;
            }
        }
        Ok(())
    }

    fn part(&mut self, part: Value<'_>, place: &str) -> Result<(), Reject> {
        let fields = names::read(self.reading, part, place, fields::PART)?;
        let sized = fields.iter().find(|field| field.name == "mediaResolution");
        let has_size = match sized {
            Some(field) => !names::read(self.reading, field.value, place, fields::RESOLUTION)?.is_empty(),
            None => false,
        };
        for field in &fields {
            match field.name {
                "inlineData" => self.blob(field.value, place, self.counts_images && !has_size)?,
                "fileData" => {
                    names::read(self.reading, field.value, &format!("{place}.fileData"), fields::FILE)?;
                    self.found.hidden();
                    self.found.refers = true;
                }
                "functionResponse" => self.function_response(field.value, place)?,
                "thoughtSignature" => {
                    self.found.extra = self.found.extra.saturating_add(sealed::beyond_bytes(field.value));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Media in base64. A still image has a bound of its own where the model is known; everything else may fill the window.
    fn blob(&mut self, blob: Value<'_>, place: &str, may_count: bool) -> Result<(), Reject> {
        let (mut mime, mut data) = (None, None);
        for field in names::read(self.reading, blob, &format!("{place}.inlineData"), fields::BLOB)? {
            match field.name {
                "mimeType" => mime = field.value.as_str(),
                _ => data = Some(field.value),
            }
        }
        let mime = mime.unwrap_or_default();
        let text = data.and_then(Value::as_str);
        let begins =
            |starts: &[&str; 2]| text.as_deref().is_some_and(|text| starts.iter().any(|start| text.starts_with(start)));
        let is_still = STILLS.iter().any(|(still, starts)| *still == mime && begins(starts));
        if may_count && is_still {
            self.found.image = true;
            self.found.extra = self.found.extra.saturating_add(TOKENS_PER_IMAGE);
            self.found.image_bytes += data.map_or(0, |data| data.raw().len() as u64);
        } else {
            self.found.media(&mime);
        }
        Ok(())
    }

    /// A function's answer. Its text may refer to its media more than once, so media fills the window.
    fn function_response(&mut self, response: Value<'_>, place: &str) -> Result<(), Reject> {
        let place = format!("{place}.functionResponse");
        for field in names::read(self.reading, response, &place, fields::FUNCTION_RESPONSE)? {
            for part in names::items(field.value) {
                let counts = std::mem::replace(&mut self.counts_images, false);
                let read = self.part(part, &format!("{place}.parts[]"));
                self.counts_images = counts;
                read?;
                self.found.fills_window = true;
            }
        }
        Ok(())
    }
}
