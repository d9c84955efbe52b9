//! What a test can tell the mock to do: `key=value;key=value`.

/// What happens to a running generation when its caller leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLeave {
    /// Generation stops when the departure is noticed; billed up to there.
    Stop,
    /// Generation goes on, at its own rate, to its natural end; all of it is billed.
    Complete,
}

/// How the usage report of an answer deviates from the truth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UsageMode {
    /// The true numbers, once.
    #[default]
    Honest,
    /// No usage at all.
    None,
    /// All numbers are 0.
    Zero,
    /// All numbers are negated.
    Negative,
    /// The report comes twice.
    Twice,
    /// No number is larger than 1.
    Small,
    /// All numbers are 2^63.
    Huge,
    /// The bare word `NaN` (which is not JSON) in place of numbers.
    Nan,
    /// `usage` is `null`.
    Null,
    /// The usage event comes after the terminal event.
    AfterDone,
    /// Every event carries a running total.
    Cumulative,
    /// All numbers are JSON strings.
    Text,
    /// All numbers have a decimal point.
    Float,
}

impl UsageMode {
    /// How a report in this mode writes a number.
    pub fn say(self, true_number: u64) -> String {
        match self {
            UsageMode::Zero => "0".into(),
            UsageMode::Negative => format!("-{true_number}"),
            UsageMode::Small => true_number.min(1).to_string(),
            UsageMode::Huge => (1_u64 << 63).to_string(),
            UsageMode::Nan => "NaN".into(),
            UsageMode::Text => format!("\"{true_number}\""),
            UsageMode::Float => format!("{true_number}.0"),
            _ => true_number.to_string(),
        }
    }

    /// How often an answer that is not streamed holds the report.
    pub fn copies(self) -> usize {
        match self {
            UsageMode::None => 0,
            UsageMode::Twice => 2,
            _ => 1,
        }
    }
}

/// The service tier that a call is billed at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tier {
    /// List price.
    #[default]
    Default,
    /// Half price.
    Flex,
    /// The model's priority price.
    Priority,
    /// Six times the list price.
    Ultrafast,
}

impl Tier {
    /// The name that requests and answers use.
    pub fn name(self) -> &'static str {
        match self {
            Tier::Default => "default",
            Tier::Flex => "flex",
            Tier::Priority => "priority",
            Tier::Ultrafast => "ultrafast",
        }
    }

    /// The tier with this name; `fast` is another word for priority, `standard` for default.
    pub fn from_name(name: &str) -> Option<Tier> {
        Some(match name {
            "default" | "standard" => Tier::Default,
            "flex" => Tier::Flex,
            "priority" | "fast" => Tier::Priority,
            "ultrafast" => Tier::Ultrafast,
            _ => return None,
        })
    }
}

/// A parsed script. Every field left alone means: behave like the real thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // One field per script key; docs/MOCK.md explains the keys.
pub struct Script {
    pub tokens: Option<u64>,
    pub reasoning: Option<u64>,
    pub cached: Option<u64>,
    pub cache_write: Option<u64>,
    pub cache_write_1h: Option<u64>,
    pub prompt: Option<u64>,
    pub late_input: Option<u64>,
    pub tool_use: Option<u64>,
    pub audio_in: Option<u64>,
    pub image_in: Option<u64>,
    pub audio_out: Option<u64>,
    pub image_out: Option<u64>,
    pub search: Option<u64>,
    pub extra_usage: Option<u64>,
    pub obey: Option<u64>,
    pub rate: Option<u64>,
    pub chunk: Option<u64>,
    pub first_ms: Option<u64>,
    pub delay_headers_ms: Option<u64>,
    pub pause_at: Option<u64>,
    pub pause_ms: Option<u64>,
    pub burst: Option<u64>,
    pub split: Option<u64>,
    pub status: Option<u64>,
    pub error_at: Option<u64>,
    pub die_at: Option<u64>,
    pub big: Option<u64>,
    pub large_event: Option<u64>,
    pub crlf: bool,
    pub comment: bool,
    pub nospace: bool,
    pub billed: bool,
    pub html: bool,
    pub empty_choices: bool,
    pub die_before: bool,
    pub truncate: bool,
    pub endless: bool,
    pub gzip: bool,
    pub redirect: bool,
    pub tool_call: bool,
    pub no_done: bool,
    pub hang: bool,
    pub unicode: bool,
    pub hidden: bool,
    pub unbilled: bool,
    pub content_filter: bool,
    pub usage: UsageMode,
    pub tier: Option<Tier>,
    pub model_as: Option<String>,
    pub say_tier: Option<String>,
    pub geo: Option<String>,
    pub speed: Option<String>,
    pub finish: Option<String>,
    pub leave: Option<OnLeave>,
}

impl Script {
    /// Lays `text` over this script: keys named there win, the rest stays. An unknown key or a value
    /// that makes no sense is an error, so that a misspelt test fails loudly.
    pub fn apply(&mut self, text: &str) -> Result<(), String> {
        for part in text.split(';') {
            let part = part.trim();
            if part.is_empty() {
                continue;
            }
            let (key, value) = part.split_once('=').unwrap_or((part, "1"));
            self.set(key.trim(), value.trim())?;
        }
        Ok(())
    }

    /// Parses `text` on its own.
    pub fn parse(text: &str) -> Result<Script, String> {
        let mut script = Script::default();
        script.apply(text)?;
        Ok(script)
    }

    /// The text between `[[mock` and `]]`, if `message` holds such a marker.
    pub fn marker(message: &str) -> Option<&str> {
        let rest = message.split_once("[[mock")?.1;
        Some(rest.split_once("]]")?.0)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let bad = || format!("mock script: bad value `{value}` for `{key}`");
        if let Some((slot, max)) = self.number(key) {
            let number: u64 = value.parse().map_err(|_| bad())?;
            if number > max {
                return Err(format!("mock script: `{key}` is at most {max}"));
            }
            *slot = Some(number);
            return Ok(());
        }
        if let Some(slot) = self.flag(key) {
            *slot = match value {
                "1" | "true" => true,
                "0" | "false" => false,
                _ => return Err(bad()),
            };
            return Ok(());
        }
        match key {
            "usage" => self.usage = usage_mode(value).ok_or_else(bad)?,
            "tier" => self.tier = Some(Tier::from_name(value).ok_or_else(bad)?),
            "leave" => {
                self.leave = Some(match value {
                    "stop" => OnLeave::Stop,
                    "complete" => OnLeave::Complete,
                    _ => return Err(bad()),
                })
            }
            "model_as" if !value.is_empty() => self.model_as = Some(value.to_owned()),
            "say_tier" if !value.is_empty() => self.say_tier = Some(value.to_owned()),
            "geo" if !value.is_empty() => self.geo = Some(value.to_owned()),
            "speed" if !value.is_empty() => self.speed = Some(value.to_owned()),
            "finish" if !value.is_empty() => self.finish = Some(value.to_owned()),
            _ => return Err(format!("mock script: unknown key `{key}`")),
        }
        Ok(())
    }

    /// The number that `key` sets, and the largest value it takes.
    fn number(&mut self, key: &str) -> Option<(&mut Option<u64>, u64)> {
        const TOKENS: u64 = 10_000_000;
        const MS: u64 = 3_600_000;
        Some(match key {
            "tokens" => (&mut self.tokens, TOKENS),
            "reasoning" => (&mut self.reasoning, TOKENS),
            "cached" => (&mut self.cached, TOKENS),
            "cache_write" => (&mut self.cache_write, TOKENS),
            "cache_write_1h" => (&mut self.cache_write_1h, TOKENS),
            "prompt" => (&mut self.prompt, TOKENS),
            "late_input" => (&mut self.late_input, TOKENS),
            "tool_use" => (&mut self.tool_use, TOKENS),
            "audio_in" => (&mut self.audio_in, TOKENS),
            "image_in" => (&mut self.image_in, TOKENS),
            "audio_out" => (&mut self.audio_out, TOKENS),
            "image_out" => (&mut self.image_out, TOKENS),
            "search" => (&mut self.search, 1000),
            "extra_usage" => (&mut self.extra_usage, TOKENS),
            "pause_at" => (&mut self.pause_at, TOKENS),
            "error_at" => (&mut self.error_at, TOKENS),
            "die_at" => (&mut self.die_at, TOKENS),
            "chunk" => (&mut self.chunk, TOKENS),
            "obey" => (&mut self.obey, 1),
            "rate" => (&mut self.rate, 1_000_000),
            "first_ms" => (&mut self.first_ms, MS),
            "delay_headers_ms" => (&mut self.delay_headers_ms, MS),
            "pause_ms" => (&mut self.pause_ms, MS),
            "burst" => (&mut self.burst, 10_000),
            "split" => (&mut self.split, 1 << 20),
            "status" => (&mut self.status, 599),
            "big" => (&mut self.big, 4096),
            "large_event" => (&mut self.large_event, 64 << 20),
            _ => return None,
        })
    }

    fn flag(&mut self, key: &str) -> Option<&mut bool> {
        Some(match key {
            "crlf" => &mut self.crlf,
            "comment" => &mut self.comment,
            "nospace" => &mut self.nospace,
            "billed" => &mut self.billed,
            "html" => &mut self.html,
            "empty_choices" => &mut self.empty_choices,
            "die_before" => &mut self.die_before,
            "truncate" => &mut self.truncate,
            "endless" => &mut self.endless,
            "gzip" => &mut self.gzip,
            "redirect" => &mut self.redirect,
            "tool_call" => &mut self.tool_call,
            "no_done" => &mut self.no_done,
            "hang" => &mut self.hang,
            "unicode" => &mut self.unicode,
            "hidden" => &mut self.hidden,
            "unbilled" => &mut self.unbilled,
            "content_filter" => &mut self.content_filter,
            _ => return None,
        })
    }
}

fn usage_mode(name: &str) -> Option<UsageMode> {
    Some(match name {
        "honest" => UsageMode::Honest,
        "none" => UsageMode::None,
        "zero" => UsageMode::Zero,
        "negative" => UsageMode::Negative,
        "twice" => UsageMode::Twice,
        "small" => UsageMode::Small,
        "huge" => UsageMode::Huge,
        "nan" => UsageMode::Nan,
        "null" => UsageMode::Null,
        "after_done" => UsageMode::AfterDone,
        "cumulative" => UsageMode::Cumulative,
        "text" => UsageMode::Text,
        "float" => UsageMode::Float,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_layers_win_key_by_key() {
        let mut script = Script::parse("tokens=5; rate=10 ;crlf=1").unwrap();
        script.apply("tokens=7;crlf=0;empty_choices").unwrap();
        assert_eq!(script.tokens, Some(7));
        assert_eq!(script.rate, Some(10));
        assert!(!script.crlf && script.empty_choices);
    }

    #[test]
    fn nonsense_is_loud() {
        for text in ["tokns=1", "tokens=-1", "tokens=99999999999", "crlf=2", "usage=odd", "leave=", "model_as="] {
            assert!(Script::parse(text).is_err(), "{text}");
        }
        assert_eq!(Script::parse(" ; ;"), Ok(Script::default()));
    }

    #[test]
    fn every_key_is_known() {
        let all = "tokens=1;obey=0;rate=1;chunk=1;first_ms=1;pause_at=1;pause_ms=1;burst=1;split=1;crlf=1;comment=1;\
                   nospace=1;reasoning=1;cached=1;cache_write=1;status=500;billed=1;html=1;empty_choices;tier=priority;\
                   model_as=x;error_at=1;die_at=1;die_before=1;truncate=1;big=1;endless=1;gzip=1;redirect=1;tool_call=1;\
                   no_done=1;hang=1;delay_headers_ms=1;large_event=1;unicode=1;leave=stop;cache_write_1h=1;prompt=1;\
                   late_input=1;tool_use=1;audio_in=1;image_in=1;audio_out=1;image_out=1;search=1;extra_usage=1;hidden;\
                   unbilled;content_filter;say_tier=x;geo=us;speed=fast;finish=x";
        Script::parse(all).unwrap();
        for mode in "none zero negative twice small huge nan null after_done cumulative text float honest".split(' ') {
            Script::parse(&format!("usage={mode}")).unwrap();
        }
    }

    #[test]
    fn marker_is_found_inside_text() {
        assert_eq!(Script::marker("hi [[mock tokens=3;crlf=1]] there"), Some(" tokens=3;crlf=1"));
        assert_eq!(Script::marker("hi [[mock tokens=3"), None);
    }
}
