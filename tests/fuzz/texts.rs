//! Strategies for text, and for what goes wrong with it.

use proptest::collection::vec;
use proptest::prelude::*;

/// Text as clients send it: words, other scripts, escapes, long runs without a space, special tokens.
pub fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => "[a-zA-Z]{1,12} ?",
        2 => "[ -~]{0,20}",
        2 => "\\PC{0,8}",
        1 => "[\\x00-\\x1f\"\\\\/]{0,4}",
        1 => (prop_oneof![Just('a'), Just('='), Just('\u{1F600}'), Just('\u{4E2D}'), Just(' ')], 1..300usize)
            .prop_map(|(c, count)| c.to_string().repeat(count)),
        1 => prop_oneof![Just("<|endoftext|>"), Just("<|im_start|>"), Just("\u{202E}"), Just("e\u{301}")].prop_map(String::from),
    ];
    vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

/// One thing that happens to bytes.
#[derive(Clone, Debug)]
pub enum Damage {
    Replace(usize, u8),
    Insert(usize, Vec<u8>),
    Delete(usize, usize),
    Repeat(usize, usize),
    Cut(usize),
}

/// A few damages; often none.
pub fn damages() -> impl Strategy<Value = Vec<Damage>> {
    let bytes = prop_oneof![
        vec(any::<u8>(), 1..4),
        "[{}\\[\\]:,\"'0-9eE.+-]{1,3}".prop_map(String::into_bytes),
        prop_oneof![
            Just("null"),
            Just("1e999"),
            Just("18446744073709551616"),
            Just("\\ud800"),
            Just("\n"),
            Just("\r\n")
        ]
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    let one = prop_oneof![
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Damage::Replace(at, byte)),
        (any::<usize>(), bytes).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        (any::<usize>(), 1..20usize).prop_map(|(at, count)| Damage::Delete(at, count)),
        (any::<usize>(), 1..40usize).prop_map(|(at, count)| Damage::Repeat(at, count)),
        any::<usize>().prop_map(Damage::Cut),
    ];
    prop_oneof![3 => Just(Vec::new()), 1 => vec(one, 1..4)]
}

/// The bytes after all damages.
pub fn damaged(bytes: &[u8], damages: &[Damage]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for damage in damages {
        let length = bytes.len();
        let within = |at: &usize| at % (length + 1);
        match damage {
            Damage::Replace(at, byte) => {
                if let Some(slot) = bytes.get_mut(within(at)) {
                    *slot = *byte;
                }
            }
            Damage::Insert(at, new) => drop(bytes.splice(within(at)..within(at), new.iter().copied())),
            Damage::Delete(at, count) => drop(bytes.drain(within(at)..(within(at) + count).min(length))),
            Damage::Repeat(at, count) => {
                let again = bytes[within(at)..(within(at) + count).min(length)].to_vec();
                drop(bytes.splice(within(at)..within(at), again));
            }
            Damage::Cut(at) => bytes.truncate(within(at)),
        }
    }
    bytes
}
