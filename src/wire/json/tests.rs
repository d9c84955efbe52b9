use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<Document, JsonError> {
    Document::parse(Bytes::copy_from_slice(text.as_bytes()))
}

#[test]
fn a_string_ends_where_the_first_special_byte_stands() {
    // Every byte at every place of a word, before and behind bytes that could mislead a search by words.
    for special in 0..=255u8 {
        for at in 0..20 {
            for around in [b' ', b'!', b'#', b'[', b']', b'a', 0x7f, 0x80, 0xff] {
                let mut bytes = [around; 20];
                bytes[at] = special;
                bytes[(at + 7) % 20] = special;
                let simple = bytes.iter().position(|&b| b == b'"' || b == b'\\' || b < 0x20);
                assert_eq!(parse::plain_run(&bytes), simple, "{special} at {at} among {around}");
            }
        }
    }
}

#[test]
fn one_reading_only() {
    for good in [
        "{}",
        "[]",
        " {\"a\" : [1, -2.5e+3, true, false, null, \"x\\n\\u00e9\\ud83d\\ude00\"] }\r\n",
        "0",
        "-0",
        "\"\"",
        "{\"\":{\"\":1}}",
        "\"\\u0000\"",
    ] {
        assert!(parse(good).is_ok(), "{good}");
    }
    for (bad, error) in [
        ("", JsonError::Syntax(0)),
        ("\u{feff}{}", JsonError::ByteOrderMark),
        ("{}{}", JsonError::Trailing(2)),
        ("{} x", JsonError::Trailing(3)),
        ("{\"a\":1,\"a\":2}", JsonError::DuplicateKey(7)),
        ("{\"a\":1,\"\\u0061\":2}", JsonError::DuplicateKey(7)),
        ("[{\"x\":{\"b\":1,\"b\":1}}]", JsonError::DuplicateKey(13)),
        ("\"\\ud800\"", JsonError::LoneSurrogate(1)),
        ("\"\\ud800\\u0041\"", JsonError::LoneSurrogate(1)),
        ("\"\\udc00\"", JsonError::LoneSurrogate(1)),
        ("{\"\\ud800\":1}", JsonError::LoneSurrogate(2)),
        ("[1e999]", JsonError::OutOfRange(6)),
        ("-1E+400", JsonError::OutOfRange(7)),
    ] {
        assert_eq!(parse(bad).map(|_| ()), Err(error), "{bad}");
    }
    for bad in [
        "NaN",
        "[Infinity]",
        "-Infinity",
        "01",
        "+1",
        "1.",
        ".5",
        "1e",
        "--1",
        "0x1",
        "1_0",
        "{a:1}",
        "{'a':1}",
        "[1,]",
        "{\"a\":1,}",
        "[1 2]",
        "// c\n1",
        "\"\t\"",
        "\"\\x41\"",
        "\"\\u12\"",
        "\"",
        "{",
        "[",
        "{\"a\"",
        "{\"a\":",
        "tru",
        "nul",
        "\u{a0}1",
        "\0",
        "{\"a\":1 \"b\":2}",
    ] {
        assert!(parse(bad).is_err(), "{bad:?} was read");
    }
    assert_eq!(Document::parse(Bytes::from_static(b"\"\xff\"")).map(|_| ()), Err(JsonError::NotUtf8(1)));
    assert!(Document::parse(Bytes::from_static(b"\xff\xfe{\0}\0")).is_err());
}

#[test]
fn depth_and_count_are_bounded_without_harm() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(parse(&nested(DEPTH_MAX)).is_ok());
    assert_eq!(parse(&nested(DEPTH_MAX + 1)).map(|_| ()), Err(JsonError::TooDeep(DEPTH_MAX)));
    assert!(parse(&"[".repeat(5_000_000)).is_err());
    assert!(parse(&"{\"a\":".repeat(1_000_000)).is_err());
    assert_eq!(parse(&format!("[{}0]", "0,".repeat(NODES_MAX))).map(|_| ()), Err(JsonError::TooMany));
}

#[test]
fn a_hundred_thousand_keys_take_linear_time() {
    let fields: Vec<String> = (0..100_000).map(|i| format!("\"k{i}\":{i}")).collect();
    let text = format!("{{{}}}", fields.join(","));
    let start = std::time::Instant::now();
    let document = parse(&text).unwrap();
    assert_eq!(document.render(&[]), text.as_bytes());
    assert!(start.elapsed().as_millis() < 2_000, "{:?}", start.elapsed());
    let twice = format!("{{{},\"\\u006b7\":0}}", fields.join(","));
    assert!(matches!(parse(&twice), Err(JsonError::DuplicateKey(_))));
}

#[test]
fn values_are_read_as_written() {
    let document = parse("{\"a\":[1,2,{\"x\":\"\\u00e9\"}],\"n\":10,\"f\":1.0,\"e\":1e2,\"m\":-1,\"b\":true,\"big\":18446744073709551616}").unwrap();
    let root = document.root();
    let items: Vec<&str> = root.get("a").unwrap().items().map(Value::raw).collect();
    assert_eq!(items, ["1", "2", "{\"x\":\"\\u00e9\"}"]);
    assert_eq!(root.get("n").unwrap().as_u64(), Some(10));
    for not_whole in ["f", "e", "m", "b", "big"] {
        assert_eq!(root.get(not_whole).unwrap().as_u64(), None, "{not_whole}");
    }
    let mut strings = Vec::new();
    root.each_string(&mut |key, value| strings.push((key.to_string(), value.as_str().unwrap().to_string())));
    assert_eq!(strings, [("x".to_string(), "é".to_string())]);
    assert!(root.get("missing").is_none());
}

#[test]
fn render_leaves_every_other_byte_untouched() {
    let document = parse(" { \"a\" : 1.50 , \"b\\u0062\" : [ 1 ,\t\"\\u0041\" ] , \"c\" : null } ").unwrap();
    assert_eq!(document.render(&[]), "{\"a\":1.50,\"bb\":[ 1 ,\t\"\\u0041\" ],\"c\":null}");
    let changes = [("c", Some("7")), ("d", Some("\"x\"")), ("a", None), ("absent", None)];
    assert_eq!(document.render(&changes), "{\"bb\":[ 1 ,\t\"\\u0041\" ],\"c\":7,\"d\":\"x\"}");
    let odd = parse("{\"q\\\"\\\\\\n\":1}").unwrap();
    assert_eq!(odd.render(&[]), "{\"q\\\"\\\\\\u000a\":1}");
    assert_eq!(parse("{}").unwrap().render(&[("x", Some("1"))]), "{\"x\":1}");
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Into::into),
            prop::collection::btree_map(any::<String>(), inner, 0..8)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

/// The value as another reader would build it.
fn rebuild(value: Value<'_>) -> serde_json::Value {
    match value.kind() {
        Kind::Array => value.items().map(rebuild).collect(),
        Kind::Object => value.fields().map(|(key, value)| (key.into_owned(), rebuild(value))).collect(),
        Kind::Plain | Kind::Escaped => value.as_str().unwrap().into_owned().into(),
        _ => serde_json::from_str(value.raw()).unwrap(),
    }
}

proptest! {
    #[test]
    fn what_serde_writes_is_read_alike(json in any_json()) {
        let document = parse(&json.to_string()).unwrap();
        prop_assert_eq!(rebuild(document.root()), json.clone());
        if json.is_object() {
            let again = Document::parse(document.render(&[])).unwrap();
            prop_assert_eq!(rebuild(again.root()), json);
        }
    }

    #[test]
    fn whatever_is_accepted_serde_accepts_and_reads_alike(text in "[\\[\\]{}:,\"a0-9.eE+\\\\u \\-tru]{0,24}") {
        if let Ok(document) = parse(&text) {
            prop_assert_eq!(rebuild(document.root()), serde_json::from_str::<serde_json::Value>(&text).unwrap());
        }
    }

    #[test]
    fn strings_survive(text in any::<String>()) {
        let mut out = Vec::new();
        write_string(&mut out, &text);
        let document = Document::parse(out.into()).unwrap();
        prop_assert_eq!(document.root().as_str().unwrap(), text);
    }
}
