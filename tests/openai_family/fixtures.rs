//! Real shapes of answers, cut at every byte: the same reading, the same bytes for the client, the cost computed by hand.

use loopers::pricing::Tier;
use serde_json::{Value, json};

use super::support::{answer, call, charged};

/// One answer.
struct Case {
    file: &'static str,
    provider: &'static str,
    target: &'static str,
    body: Value,
    tier: Tier,
    is_finished: bool,
    has_error: bool,
    is_odd: bool,
    /// What the call costs, in nano-dollars; `None` without usage.
    cost: Option<u64>,
}

/// Every metered route, with the forms that its answers have.
const ROUTES: [(&str, &str, &str); 23] = [
    ("openai", "/chat/completions", ".json"),
    ("openai", "/chat/completions", ".sse"),
    ("openai", "/v1/responses", ".json"),
    ("openai", "/v1/responses", ".sse"),
    ("openai", "/v1/completions", ".json"),
    ("openai", "/v1/completions", ".sse"),
    ("openai", "/embeddings", ".json"),
    ("azure", "/g/chat/completions", ".json"),
    ("azure", "/g/chat/completions", ".sse"),
    ("azure", "/v1/chat/completions", ".json"),
    ("azure", "/v1/chat/completions", ".sse"),
    ("azure", "/responses", ".json"),
    ("azure", "/responses", ".sse"),
    ("azure", "/g/completions", ".json"),
    ("azure", "/g/completions", ".sse"),
    ("azure", "/embeddings", ".json"),
    ("mistral", "/chat/completions", ".json"),
    ("mistral", "/chat/completions", ".sse"),
    ("mistral", "/fim/completions", ".json"),
    ("mistral", "/fim/completions", ".sse"),
    ("mistral", "/embeddings", ".json"),
    ("mistral", "/responses", ".json"),
    ("mistral", "/responses", ".sse"),
];

const AZURE: &str = "/openai/deployments/g/chat/completions?api-version=2024-10-21";

fn case(file: &'static str, cost: u64) -> Case {
    let (provider, target, model) = match file.split_once('_').map_or("", |(start, _)| start) {
        "r" => ("openai", "/v1/responses", "gpt-4o"),
        "c" => ("openai", "/v1/completions", "gpt-3.5-turbo-instruct"),
        "a" => ("azure", AZURE, "g"),
        "m" => ("mistral", "/v1/chat/completions", "mistral-large-latest"),
        _ => ("openai", "/v1/chat/completions", "gpt-4o"),
    };
    let mut body = json!({ "model": model, "stream": file.ends_with(".sse") });
    match target.rsplit('/').next() {
        Some("responses") => body["input"] = json!("x"),
        Some("completions") if file.starts_with("c_") => body["prompt"] = json!("x"),
        _ => body["messages"] = json!([{"role": "user", "content": "x"}]),
    }
    let (tier, is_finished) = (Tier::Standard, true);
    Case { file, provider, target, body, tier, is_finished, has_error: false, is_odd: false, cost: Some(cost) }
}

impl Case {
    /// With these fields in the request.
    fn with(mut self, fields: Value) -> Case {
        self.body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self
    }

    fn to(self, target: &'static str) -> Case {
        Case { target, ..self }
    }

    fn tier(self, tier: Tier) -> Case {
        Case { tier, ..self }
    }

    /// Without a usage at its end.
    fn unknown(self) -> Case {
        Case { cost: None, ..self }
    }
}

/// The data stays in Europe, where gpt-5.6-sol costs a tenth more. gpt-4o: 2,500 nano-dollars an input token, 1,250 a cached one, 10,000 an output token.
fn openai() -> Vec<Case> {
    let search = json!({"tools": [{"type": "web_search"}]});
    let code = json!({"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]});
    vec![
        // 36 − 16 = 20 input, 16 cached: 20 × 2,500 + 16 × 1,250 + 8 × 10,000 = 50,000 + 20,000 + 80,000.
        case("r_plain.sse", 150_000),
        case("r_plain.json", 150_000),
        // gpt-5.6-sol above 272,000: 8 in, 0.8 read, 10 written, 30 out, and a tenth more. 300,000 − 100,000 − 150,000 = 50,000:
        // 50,000 × 8,800 + 100,000 × 880 + 150,000 × 11,000 + 520 × 33,000 = 440 M + 88 M + 1,650 M + 17.16 M.
        case("r_reasoning_long.sse", 2_195_160_000).with(json!({"model": "gpt-5.6-sol"})),
        // 80 × 2,500 + 17 × 10,000.
        case("r_function_call.sse", 370_000),
        // 9,000 × 2,500 + 40 × 10,000 = 22,900,000; two queries and one search at a cent each.
        case("r_web_search.sse", 22_900_000 + 3 * 10_000_000).with(search),
        // 500 × 2,500 + 60 × 10,000 = 1,850,000; two containers at three cents.
        case("r_code_interpreter.json", 1_850_000 + 2 * 30_000_000).with(code),
        // A tool that nobody asked for has no price: the cost is not known.
        Case { is_odd: true, ..case("r_unasked_tool.json", 0).unknown() },
        // 20 × 2,500 + 16 × 10,000.
        case("r_incomplete.sse", 210_000),
        Case { has_error: true, ..case("r_failed_no_usage.sse", 0).unknown() },
        Case { has_error: true, is_finished: false, ..case("r_error.sse", 0).unknown() },
        Case { is_finished: false, ..case("r_no_end.sse", 0).unknown() },
        // gpt-5 in priority: 2.5 and 20. 100 × 2,500 + 10 × 20,000.
        case("r_priority.json", 450_000).with(json!({"model": "gpt-5"})).tier(Tier::Priority),
        // gpt-3.5-turbo-instruct: 1.5 and 2. 3 × 1,500 + 4 × 2,000.
        case("c_plain.json", 12_500),
        // Three samples of 16: 3 × 1,500 + 48 × 2,000.
        case("c_best_of.json", 100_500).with(json!({"best_of": 3})),
        // The prompt that is repeated is no output: 15 × 1,500 + 1 × 2,000.
        case("c_echo.json", 24_500).with(json!({"echo": true})),
        // No output at all, and so none is named: 3 × 1,500.
        case("c_scores.json", 4_500).with(json!({"echo": true, "max_tokens": 0, "logprobs": 1})),
        // 3 × 1,500 + 2 × 2,000.
        case("c_stream.sse", 8_500).with(json!({"stream_options": {"include_usage": true}})),
        case("c_no_usage.sse", 0).unknown(),
        // 14 × 2,500 + 5 × 1,250 + 4 × 10,000.
        case("chat_plain.json", 81_250),
        // The same tokens as above, by the other API.
        case("chat_long.sse", 2_195_160_000)
            .with(json!({"model": "gpt-5.6-sol", "stream_options": {"include_usage": true}})),
        // gpt-5.6-sol with a tenth more: 4.4 in, 0.44 read, 5.5 written, 22 out. 3,000 − 1,024 − 1,900 = 76:
        // 76 × 4,400 + 1,024 × 440 + 1,900 × 5,500 + 512 × 22,000 = 334,400 + 450,560 + 10,450,000 + 11,264,000.
        case("chat_written.json", 22_498_960).with(json!({"model": "gpt-5.6-sol"})),
        // gpt-5 in flex: 0.625 and 5. 100 × 625 + 70 × 5,000.
        case("chat_flex.json", 412_500).with(json!({"model": "gpt-5", "service_tier": "flex"})).tier(Tier::Flex),
        // 8 × 20.
        case("embeddings.json", 160)
            .to("/v1/embeddings")
            .with(json!({"model": "text-embedding-3-small", "input": "x"})),
    ]
}

/// azure/gpt-4o as OpenAI's.
fn azure() -> Vec<Case> {
    let v1 = "/openai/v1/chat/completions";
    let asks = || json!({"stream_options": {"include_usage": true}});
    vec![
        // 19 × 2,500 + 3 × 10,000.
        case("a_stream.sse", 77_500).with(asks()),
        // What the filter stopped is billed: 19 × 2,500 + 7 × 10,000.
        case("a_filtered.sse", 117_500).with(asks()),
        case("a_filtered_no_usage.sse", 0).unknown(),
        Case { has_error: true, is_finished: false, ..case("a_error.sse", 0).unknown() },
        // 60 × 2,500 + 15 × 10,000.
        case("a_tool.sse", 300_000).with(asks()),
        // 600 × 2,500 + 400 × 1,250 + 100 × 10,000.
        case("a_plain.json", 3_000_000),
        // The same in the data zone, by its own row: 600 × 2,750 + 400 × 1,375 + 100 × 11,000.
        case("a_plain.json", 3_300_000).to(v1).with(json!({"model": "us"})),
        // gpt-6-sol with 20 % for Europe: 2.4 in, 0.24 read, 3 written, 12 out. 1,000 − 400 − 500 = 100:
        // 100 × 2,400 + 400 × 240 + 500 × 3,000 + 100 × 12,000.
        case("a_gpt6_eu.json", 3_036_000).to(v1).with(json!({"model": "eu6"})),
        // The deployment was moved to gpt-5 (1.25 and 10), which is what is billed: 1,000 × 1,250 + 100 × 10,000.
        case("a_upgraded.json", 2_250_000),
        // The same in the data zone, where gpt-5 has no row of its own: a tenth more. 1,000 × 1,375 + 100 × 11,000.
        case("a_upgraded.json", 2_475_000).to(v1).with(json!({"model": "us"})),
        // gpt-6-sol above 272,000 with 20 % for Europe: 4.8 in, 0.48 read, 6 written, 18 out. 300,000 − 100,000 − 150,000 = 50,000:
        // 50,000 × 4,800 + 100,000 × 480 + 150,000 × 6,000 + 520 × 18,000 = 240 M + 48 M + 900 M + 9.36 M.
        case("a_long.json", 1_197_360_000).to(v1).with(json!({"model": "eu6"})),
        // gpt-5, of whose 70 tokens 64 are not shown: 100 × 1,250 + 70 × 10,000.
        case("a_reasoning.sse", 825_000)
            .to(v1)
            .with(json!({"model": "five", "stream_options": {"include_usage": true}})),
        // 20 × 2,500 + 16 × 1,250 + 8 × 10,000.
        case("a_responses.json", 150_000).to("/openai/v1/responses").with(json!({"input": "x"})),
        // 36 × 2,500 + 8 × 10,000.
        case("a_responses.sse", 170_000).to("/openai/v1/responses").with(json!({"input": "x"})),
        // 800 × 20.
        case("a_embeddings.json", 16_000)
            .to("/openai/deployments/e/embeddings?api-version=2023-05-15")
            .with(json!({"input": "x"})),
        // 5 × 2,500 + 1 × 10,000.
        case("a_completions.json", 22_500)
            .to("/openai/deployments/g/completions?api-version=2024-10-21")
            .with(json!({"prompt": "x"})),
        // 3 × 2,500 + 2 × 10,000.
        case("a_completions.sse", 27_500)
            .to("/openai/deployments/g/completions?api-version=2024-10-21")
            .with(json!({"prompt": "x", "stream_options": {"include_usage": true}})),
    ]
}

/// mistral-large-latest: 500 nano-dollars an input token, 50 a cached one, 1,500 an output token.
fn mistral() -> Vec<Case> {
    let fim = "/v1/fim/completions";
    let codestral = || json!({"model": "codestral-latest", "prompt": "x"});
    vec![
        // 14 × 500 + 5 × 1,500.
        case("m_stream.sse", 14_500),
        // 1,000 − 640 = 360: 360 × 500 + 640 × 50 + 2 × 1,500.
        case("m_cached.sse", 215_000),
        // 70 × 500 + 22 × 1,500.
        case("m_tool.sse", 68_000),
        // mistral-medium-3.5: 1.5 and 7.5. 14 × 1,500 + 30 × 7,500.
        case("m_thinking.sse", 246_000).with(json!({"model": "mistral-medium-3.5"})),
        Case { has_error: true, is_finished: false, ..case("m_error.sse", 0).unknown() },
        case("m_no_usage.sse", 0).unknown(),
        // A usage that was not the end's is no usage.
        Case { is_finished: false, ..case("m_no_end.sse", 0).unknown() },
        // 14 × 500 + 2 × 1,500.
        case("m_plain.json", 10_000),
        // 14 × 500 + 6 × 1,500.
        case("m_n.json", 16_000).with(json!({"n": 3})),
        // codestral: 0.3 and 0.9. 12 × 300 + 3 × 900.
        case("m_fim.json", 6_300).to(fim).with(codestral()),
        // 12 × 300 + 2 × 900.
        case("m_fim.sse", 5_400).to(fim).with(codestral()),
        // 15 × 100.
        case("m_embeddings.json", 1_500).to("/v1/embeddings").with(json!({"model": "mistral-embed", "input": "x"})),
        // 100 − 64 = 36: 36 × 500 + 64 × 50 + 8 × 1,500.
        case("m_responses.json", 33_200).to("/v1/responses").with(json!({"input": "x"})),
        case("m_responses.sse", 33_200).to("/v1/responses").with(json!({"input": "x"})),
        // An alias that moved is billed as what answered: 14 × 1,500 + 2 × 7,500.
        case("m_moved.json", 36_000),
    ]
}

fn cases() -> Vec<Case> {
    let mut cases = openai();
    cases.extend(azure());
    cases.extend(mistral());
    for case in &mut cases {
        // A request has the fields of its own API only.
        let body = case.body.as_object_mut().unwrap();
        if body.contains_key("prompt") || body.contains_key("input") {
            body.remove("messages");
        }
        if body.contains_key("input") && case.target.contains("embeddings") {
            body.remove("stream");
        }
    }
    cases
}

#[test]
fn every_answer_cut_at_every_byte() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/openai_family");
    let all = cases();
    for name in ["openai", "azure", "mistral"] {
        assert!(all.iter().filter(|case| case.provider == name).count() >= 12, "{name}: a dozen cases");
    }
    let has = |route: &(&str, &str, &str)| {
        all.iter().any(|case| case.provider == route.0 && case.target.contains(route.1) && case.file.ends_with(route.2))
    };
    let missing: Vec<_> = ROUTES.iter().filter(|route| !has(route)).collect();
    assert!(missing.is_empty(), "no case of {missing:?}");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name == "prices.yaml" || all.iter().any(|case| case.file == name), "{name}: a fixture without a case");
    }
    for case in all {
        let bytes = std::fs::read(format!("{folder}/{}", case.file)).unwrap();
        let (name, body) = (case.file, &case.body);
        let call = call(case.provider, case.target, body).unwrap_or_else(|reject| panic!("{name}: {reject:?}"));
        let read = |chunks: &[&[u8]]| answer(case.provider, case.target, &call, 200, chunks);
        let (emitted, observed) = read(&[&bytes]);
        assert_eq!(charged(case.provider, &call, &observed), case.cost, "{name}: {observed:?}");
        let said = (observed.tier, observed.finished, observed.error, observed.odd_usage);
        assert_eq!(said, (case.tier, case.is_finished, case.has_error, case.is_odd), "{name}");
        if call.shows_usage {
            assert_eq!(emitted, bytes, "{name}");
        } else {
            assert!(
                emitted.len() <= bytes.len() && !String::from_utf8_lossy(&emitted).contains("\"prompt_tokens\""),
                "{name}"
            );
        }
        for cut in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            assert_eq!(read(&[head, tail]), (emitted.clone(), observed.clone()), "{name} cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read(&single), (emitted, observed), "{name} byte by byte");
    }
}
