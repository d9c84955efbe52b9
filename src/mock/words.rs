//! Deterministic text: each word, with a space before it, is one token.

/// Common words. Each, with a space before it, is one token in OpenAI's encodings (a test counts them).
static WORDS: [&str; 128] = [
    " time",
    " year",
    " people",
    " way",
    " day",
    " man",
    " thing",
    " woman",
    " life",
    " child",
    " world",
    " school",
    " state",
    " family",
    " student",
    " group",
    " country",
    " problem",
    " hand",
    " part",
    " place",
    " case",
    " week",
    " company",
    " system",
    " program",
    " question",
    " work",
    " government",
    " number",
    " night",
    " point",
    " home",
    " water",
    " room",
    " mother",
    " area",
    " money",
    " story",
    " fact",
    " month",
    " lot",
    " right",
    " study",
    " book",
    " eye",
    " job",
    " word",
    " business",
    " issue",
    " side",
    " kind",
    " head",
    " house",
    " service",
    " friend",
    " father",
    " power",
    " hour",
    " game",
    " line",
    " end",
    " member",
    " law",
    " car",
    " city",
    " community",
    " name",
    " president",
    " team",
    " minute",
    " idea",
    " kid",
    " body",
    " information",
    " back",
    " parent",
    " face",
    " others",
    " level",
    " office",
    " door",
    " health",
    " person",
    " art",
    " war",
    " history",
    " party",
    " result",
    " change",
    " morning",
    " reason",
    " research",
    " girl",
    " guy",
    " moment",
    " air",
    " teacher",
    " force",
    " education",
    " the",
    " of",
    " and",
    " that",
    " with",
    " from",
    " this",
    " they",
    " have",
    " would",
    " there",
    " what",
    " about",
    " which",
    " when",
    " make",
    " like",
    " just",
    " know",
    " take",
    " into",
    " good",
    " some",
    " could",
    " them",
    " other",
    " than",
    " then",
];

/// Words of more bytes than letters; one token each as well.
static UNICODE_WORDS: [&str; 8] = [" más", " für", " été", " är", " é", " à", " não", " está"];

/// Token number `index` of a choice.
pub fn word(seed: u64, is_unicode: bool, choice: u64, index: u64) -> &'static str {
    let list: &[&str] = if is_unicode { &UNICODE_WORDS } else { &WORDS };
    let mixed = mix(seed ^ mix(choice.wrapping_add(1)) ^ index.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    list[(mixed % list.len() as u64) as usize]
}

/// Scrambles 64 bits.
pub fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// A hash of the request body: the same body always gets the same answer.
pub fn seed_of(body: &[u8]) -> u64 {
    let mut chunks = body.chunks_exact(8);
    let mut hash = 0x243F_6A88_85A3_08D3 ^ body.len() as u64;
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    }
    for byte in chunks.remainder() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
    }
    mix(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_one_token() {
        for word in WORDS.iter().chain(&UNICODE_WORDS) {
            assert_eq!(bpe_openai::o200k_base().count(word), 1, "{word}");
            assert_eq!(bpe_openai::cl100k_base().count(word), 1, "{word}");
        }
        for is_unicode in [false, true] {
            let text: String = (0..500).map(|i| word(7, is_unicode, 0, i)).collect();
            assert_eq!(bpe_openai::o200k_base().count(&text), 500);
            assert_eq!(bpe_openai::cl100k_base().count(&text), 500);
        }
    }

    #[test]
    fn seeds_and_words_depend_on_everything() {
        assert_eq!(seed_of(b"abc"), seed_of(b"abc"));
        assert_ne!(seed_of(b"abc"), seed_of(b"abd"));
        assert_ne!(seed_of(b"12345678"), seed_of(b"123456789"));
        let text = |seed, choice| (0..20).map(|i| word(seed, false, choice, i)).collect::<String>();
        assert_eq!(text(1, 0), text(1, 0));
        assert_ne!(text(1, 0), text(1, 1));
        assert_ne!(text(1, 0), text(2, 0));
    }
}
