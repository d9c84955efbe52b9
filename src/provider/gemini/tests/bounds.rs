//! A random provider against the bound. Whatever the request says and the provider does within the API's rules, its invoice never
//! exceeds the hold, and the answer is charged exactly what it was invoiced.
//!
//! The request, the provider and its prices are written without the code under test. `LOOPERS_BILL_CASES` sets the number of cases,
//! `LOOPERS_BILL_SEED` the first seed.

mod judge;
mod random;

use super::*;
use crate::money::ExactCost;
use crate::provider::Progress;
use judge::{Answer, Framed};
use random::Rng;

const CASES: u64 = 2_000;

/// Prices as the judge knows them: in [`judge::PRICES`], typed again.
const ROWS: &str = r#"
gemini/gemini-3.8-flash:
  {input: "0.75", output: "3.75", cache_read: "0.075", audio_in: "0.75", audio_in_cached: "0.075", image_in: "0.75", video_in: "0.75",
   flex: {input: "0.375", output: "1.875"}, priority: {input: "1.35", output: "6.75"}, hidden_output: true,
   fees: {web_search: "0.014", maps: "0.014", per_query: true}, context_window: 1114112, max_output: 65536}
gemini/gemini-3.1-pro-preview:
  {input: "2", output: "12", cache_read: "0.2", audio_in: "2", audio_in_cached: "0.2", image_in: "2", video_in: "2",
   long_context: {above: 200000, input: "4", output: "18", cache_read: "0.4"}, hidden_output: true,
   fees: {web_search: "0.014", per_query: true}, context_window: 1114112, max_output: 65536}
gemini/gemini-2.5-flash:
  {input: "0.3", output: "2.5", cache_read: "0.03", audio_in: "1", audio_in_cached: "0.1", image_in: "0.3", video_in: "0.3",
   hidden_output: true, fees: {web_search: "0.035", maps: "0.025"}, context_window: 1114112, max_output: 65536}
gemini/gemini-4-argon:
  {input: "2", output: "10", cache_read: "0.1", audio_in: "2", audio_in_cached: "0.1", image_in: "2", video_in: "2", hidden_output: true,
   fees: {web_search: "0.014", per_query: true}, context_window: 2097152, max_output: 1048576}
gemini/gemini-paints:
  {input: "1", output: "2", cache_read: "0.5", audio_in: "1", audio_in_cached: "0.5", image_in: "1", video_in: "1", image_out: "30",
   fees: {web_search: "0.035"}, context_window: 40000, max_output: 8192}
gemini/gemini-embedding-2:
  {mode: embedding, input: "0.2", audio_in: "6.5", image_in: "0.45", video_in: "12", context_window: 8192}
"#;

static PRICES: LazyLock<PriceTable> =
    LazyLock::new(|| PriceTable::load(&[("prices.yaml".into(), ROWS.into())]).unwrap());

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}: {text}?")))
}

#[test]
fn the_invoice_never_exceeds_the_hold() {
    let (mut taken, mut clamped, mut long, mut near) = (0, 0, 0, 0);
    let (cases, first) = (number("LOOPERS_BILL_CASES", CASES), number("LOOPERS_BILL_SEED", 0));
    for seed in first..first + cases {
        let mut rng = Rng::new(seed);
        let request = random::request(&mut rng);
        let options = if rng.one_in(2) { fees() } else { Options::default() };
        let reading = Reading { options: &options, ..Reading::plain("gemini", &PRICES) };
        let route = Gemini.route(&Method::POST, &request.path, request.query).unwrap();
        let asked =
            Request { query: request.query, ..Request::plain(route, &request.path, Bytes::from(request.body.clone())) };
        let Ok(call) = Gemini.read(asked, &reading) else { continue };
        taken += 1;
        // What the gateway does: all of it, or what is left of a budget.
        let full = call.bound(call.input_max, call.output_max);
        let least = call.bound(call.input_max, call.output_min);
        let granted = match rng.one_in(3) && least < full {
            true => Money::from_nano(rng.between(least.nano(), full.nano() - 1)),
            false => full,
        };
        let limit = (granted < full)
            .then(|| call.body.limit_within(call.output_within(call.input_max, granted).expect("the input fits")));
        clamped += u64::from(limit.is_some());
        let sent = call.body.render(limit);
        let answer = judge::answer(&mut rng, &request, &sent);
        assert!(answer.invoice <= granted, "seed {seed}: {} of {granted} for {}", answer.invoice, text(&sent));
        near += u64::from(answer.invoice.nano() > granted.nano() / 10 * 8);
        long += u64::from(answer.is_long);
        let (charged, has_usage) = charge(&mut rng, route, &call, &answer);
        if has_usage {
            assert_eq!(charged, answer.invoice, "seed {seed}: {} for {}", answer.text, text(&sent));
        }
        assert!(!has_usage || answer.has_usage, "seed {seed}");
    }
    println!(
        "gemini: {taken} of {cases} taken from seed {first}, {clamped} clamped, {long} long prompts, {near} above four fifths of their hold"
    );
    // The property says nothing of requests that are refused, or of a provider that bills next to nothing.
    assert!(taken * 2 > cases && clamped * 20 > taken && near * 50 > taken && long > 0);
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().take(4_000).collect()
}

/// Reads the answer in random pieces, and charges by the gateway's formula.
fn charge(rng: &mut Rng, route: Route, call: &Call, answer: &Answer) -> (Money, bool) {
    let kind = match answer.framed {
        Framed::Sse => "text/event-stream",
        Framed::Array | Framed::Whole => "application/json; charset=UTF-8",
    };
    let mut reader = Gemini.answer(route, call, &AnswerHead::plain(kind), Ceiling::Certain(u64::MAX));
    let mut emit = bytes::BytesMut::new();
    let mut rest = answer.text.as_bytes();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rng.between(1, rest.len() as u64) as usize);
        assert_eq!(reader.push(piece, &mut emit), Progress::More);
        rest = after;
    }
    assert_eq!(reader.finish(&mut emit), Progress::More);
    assert_eq!(emit, answer.text.as_bytes());
    let observed = reader.observed(true);
    let Some(usage) = observed.usage else { return (Money::ZERO, false) };
    let row = |model: &Option<String>| {
        let named = model.as_deref().and_then(|model| PRICES.for_model("gemini", model));
        named.unwrap_or(&call.price).clone()
    };
    let own = row(&observed.model).cost_scaled(&usage, observed.tier, observed.thousandths);
    let cost = observed.others.iter().fold(own.and(ExactCost::of(observed.fees)), |sum, line| {
        sum.and(row(&line.model).cost_scaled(&line.usage, line.tier, line.thousandths))
    });
    (cost.rounded_up(), true)
}
