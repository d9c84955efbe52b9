//! Real shapes of Bedrock's answers, cut at every byte: the same reading, and the same bytes for the client.
//!
//! A fixture is a text: `model`, `operation`, `request` and `head NAME VALUE` lines, then the answer as `event TYPE JSON`, `chunk JSON` (a vendor's
//! event), `exception TYPE JSON` or `whole JSON` lines, then `cost` in nano-dollars or `none`, with `#` lines that say how it was computed by hand.

use http::{HeaderMap, HeaderName};
use loopers::pricing::{Tier, Usage};

use crate::wire;

#[derive(Default)]
struct Fixture {
    model: String,
    operation: String,
    request: String,
    head: HeaderMap,
    answer: Vec<u8>,
    usage: Option<Usage>,
    tier: Tier,
    is_odd: bool,
    has_error: bool,
    is_finished: bool,
    cost: Option<u64>,
}

fn fixture(text: &str) -> Fixture {
    let mut it = Fixture { is_finished: true, ..Fixture::default() };
    let numbers = |rest: &str| -> Vec<u64> { rest.split_whitespace().map(|n| n.parse().unwrap()).collect() };
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (first, second) = rest.split_once(' ').unwrap_or((rest, ""));
        match word {
            "model" => it.model = rest.into(),
            "operation" => it.operation = rest.into(),
            "request" => it.request = rest.into(),
            "head" => drop(it.head.append(first.parse::<HeaderName>().unwrap(), second.parse().unwrap())),
            "event" => it.answer.extend(wire::event(first, second)),
            "chunk" => it.answer.extend(wire::chunk(rest)),
            "exception" => it.answer.extend(wire::exception(first, second)),
            "whole" => it.answer.extend(rest.bytes()),
            // Input, cache read, written for 5 minutes, for an hour, output.
            "usage" => {
                let &[input, cache_read, cache_write_5m, cache_write_1h, output] = numbers(rest).as_slice() else {
                    panic!("{line}")
                };
                it.usage =
                    Some(Usage { input, cache_read, cache_write_5m, cache_write_1h, output, ..Usage::default() });
            }
            "tier" => {
                it.tier = match rest {
                    "flex" => Tier::Flex,
                    "priority" => Tier::Priority,
                    other => panic!("{other}"),
                }
            }
            "odd" => it.is_odd = true,
            "error" => it.has_error = true,
            "unfinished" => it.is_finished = false,
            "cost" => it.cost = (rest != "none").then(|| rest.parse().unwrap()),
            other => panic!("{other}"),
        }
    }
    let kind = if it.operation.contains("stream") { "application/vnd.amazon.eventstream" } else { "application/json" };
    it.head.insert("content-type", kind.parse().unwrap());
    it
}

#[test]
fn every_fixture_cut_at_every_byte() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/bedrock");
    let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    assert!(names.len() >= 30, "{}", names.len());
    for path in names {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let it = fixture(&std::fs::read_to_string(&path).unwrap());
        let call = wire::read(&it.model, &it.operation, &HeaderMap::new(), &it.request)
            .unwrap_or_else(|reject| panic!("{name}: {reject}"));
        let (emitted, observed, cost) = wire::answer(&call, &it.operation, &it.head, &[&it.answer]);
        assert_eq!(emitted, it.answer, "{name}: every byte passes");
        assert_eq!((observed.usage, observed.tier), (it.usage, it.tier), "{name}");
        assert_eq!(
            (observed.finished, observed.error, observed.odd_usage),
            (it.is_finished, it.has_error, it.is_odd),
            "{name}: finished, error, odd"
        );
        assert_eq!(cost, it.cost, "{name}");
        if let Some(cost) = cost {
            assert!(cost <= call.bound(call.input_max, call.output_max).nano(), "{name}: beyond its hold");
        }
        for cut in 0..=it.answer.len() {
            let (head, tail) = it.answer.split_at(cut);
            let read = wire::answer(&call, &it.operation, &it.head, &[head, tail]);
            assert_eq!(read, (emitted.clone(), observed.clone(), cost), "{name} cut at {cut}");
        }
        let single: Vec<&[u8]> = it.answer.chunks(1).collect();
        assert_eq!(
            wire::answer(&call, &it.operation, &it.head, &single),
            (emitted, observed, cost),
            "{name} byte by byte"
        );
    }
}

/// A stream that breaks off, wherever it does, is never taken for one that ended.
#[test]
fn cap_33_a_stream_that_breaks_off_has_no_usage() {
    let text = include_str!("../fixtures/bedrock/converse_stream_plain.txt");
    let it = fixture(text);
    let call = wire::read(&it.model, &it.operation, &HeaderMap::new(), &it.request).unwrap();
    for cut in 0..it.answer.len() {
        let observed = wire::torn(&call, &it.operation, &it.head, &it.answer[..cut]);
        assert_eq!((observed.usage, observed.finished), (None, false), "{cut}");
    }
}

/// Bytes that no reader of Amazon's would take end the stream, before anything of the broken frame is let through.
#[test]
fn cap_30_a_broken_frame_ends_the_stream() {
    let it = fixture(include_str!("../fixtures/bedrock/converse_stream_plain.txt"));
    let call = wire::read(&it.model, &it.operation, &HeaderMap::new(), &it.request).unwrap();
    for at in 0..it.answer.len() {
        let mut broken = it.answer.clone();
        broken[at] ^= 0x10;
        assert_eq!(wire::torn(&call, &it.operation, &it.head, &broken).usage, None, "{at}");
    }
}
