//! The shipped price table: it is what the import makes of the public file, it says what people read on the providers' pages,
//! and every entry of the six providers is either in it or on its list with a reason.

mod by_hand;
mod command;
mod whole;

use std::path::PathBuf;
use std::sync::LazyLock;

use loopers::pricing::PriceTable;
use loopers::pricing::import::{Import, Origin};

/// The whole file, from which the fixture was cut.
const SHA256: &str = "66970be01c88f94618f9f69c1a1d29e400474f2d7b89973de7e373c110f455c2";
const SIX: [&str; 6] = ["anthropic", "azure", "bedrock", "gemini", "mistral", "openai"];

static TABLE: LazyLock<PriceTable> = LazyLock::new(|| PriceTable::builtin().unwrap());
static FIXTURE: LazyLock<String> = LazyLock::new(|| std::fs::read_to_string(fixture()).unwrap());
static IMPORT: LazyLock<Import> = LazyLock::new(|| {
    let origin = Origin { name: "litellm 1.106.2".into(), sha256: SHA256.into(), day: "2026-11-23".into() };
    Import::read(&FIXTURE, origin, &SIX).unwrap()
});

/// The entries of the six providers, word for word as they stand in the file.
fn fixture() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/prices/litellm-1.106.2.json"))
}
