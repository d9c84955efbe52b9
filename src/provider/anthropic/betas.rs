//! Beta switches (`anthropic-beta`) and versions (`anthropic-version`): what each may do to the bill.

use http::HeaderMap;

use crate::pricing::ModelPrice;
use crate::provider::{Reading, Reject, reject};

/// Versions whose fields are known. A request without one is refused by the API itself, free of charge.
const VERSIONS: [&str; 3] = ["2023-01-01", "2023-06-01", "2026-10-21"];
/// Makes the context window a million tokens.
const MILLION: &str = "context-1m-2025-08-07";
const MILLION_TOKENS: u64 = 1_000_000;

/// Switches that leave the bill alone, or whose fields are priced or refused on their own.
const KNOWN: [&str; 38] = [
    MILLION,
    "advanced-tool-use-2025-11-20",
    "cache-diagnosis-2026-04-07",
    "claude-code-20250219",
    "computer-use-2024-10-22",
    "computer-use-2025-01-24",
    "computer-use-2025-11-24",
    "context-management-2025-06-27",
    "dev-full-thinking-2025-05-14",
    "effort-2025-11-24",
    "extended-cache-ttl-2025-04-11",
    "fast-mode-2026-02-01",
    "files-api-2025-04-14",
    "fine-grained-tool-streaming-2025-05-14",
    "interleaved-thinking-2025-05-14",
    "max-tokens-3-5-sonnet-2024-07-15",
    "message-batches-2024-09-24",
    "mid-conversation-output-config-2026-07-01",
    "mid-conversation-system-clear-at-2026-08-21",
    "model-context-window-exceeded-2025-08-26",
    "oauth-2025-04-20",
    "output-128k-2025-02-19",
    "pdfs-2024-09-25",
    "prompt-caching-2024-07-31",
    "search-results-2025-06-09",
    "structured-outputs-2025-09-17",
    "structured-outputs-2025-11-13",
    "task-budgets-2026-03-13",
    "thinking-binding-controls-2026-08-01",
    "thinking-display-updates-2026-08-18",
    "thinking-token-count-2026-05-13",
    "token-counting-2024-11-01",
    "token-efficient-tools-2025-02-19",
    "tool-examples-2025-10-29",
    "web-fetch-2025-09-10",
    "web-search-2025-03-05",
    "tool-search-tool-2025-10-19",
    "tools-2024-04-04",
];

/// Switches that no list of the operator's admits, by how they begin, and why.
const DENIED: [(&str, &str); 15] = [
    ("mcp-", "the provider calls servers itself, and bills what they answer"),
    ("code-execution-", "containers are billed by the hour"),
    ("skills-", "skills run in containers, which are billed by the hour"),
    ("advisor-tool-", "an advisor is another model, with its own price and no bound"),
    ("server-side-fallback-", "each fallback is a further attempt at its own model's price"),
    ("fallback-credit-", "it belongs to fallbacks, which are further attempts"),
    ("compact-", "compaction runs the model beyond `max_tokens`"),
    ("message-threads-", "the earlier conversation is billed as input, and is not in the body"),
    ("managed-agents-", "agents run outside the call"),
    ("agent-memory-", "agents run outside the call"),
    ("dreaming-", "it runs outside the call"),
    ("output-300k-", "it belongs to batches"),
    ("mid-conversation-tool-changes-", "tools in messages cannot be held for"),
    ("inline-tools-", "tools in messages cannot be held for"),
    ("user-profiles", "they change whose settings and whose bill apply"),
];

/// Checks the headers of a request.
pub fn check_headers(headers: &HeaderMap, price: &ModelPrice, reading: &Reading<'_>) -> Result<(), Reject> {
    for switches in texts(headers, "anthropic-beta")? {
        for name in switches.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            check(name, price, reading)?;
        }
    }
    let versions = texts(headers, "anthropic-version")?;
    if versions.len() > 1 {
        return Err(reject::ambiguous("`anthropic-version` is given twice", "send it once"));
    }
    match versions.first() {
        Some(version) if !VERSIONS.contains(version) && !reading.admits(version) => {
            let message = format!("`anthropic-version: {}` is not a version that is known", reject::printable(version));
            let hint = format!("send 2023-06-01, or set providers.{}.allow_fields in loopers.yaml", reading.provider);
            Err(reject::unpriceable(message, hint))
        }
        _ => Ok(()),
    }
}

/// Checks one switch.
pub fn check(name: &str, price: &ModelPrice, reading: &Reading<'_>) -> Result<(), Reject> {
    let shown = reject::printable(name);
    if let Some((_, why)) = DENIED.iter().find(|(start, _)| name.starts_with(start)) {
        return Err(reject::unpriceable(
            format!("the beta switch `{shown}`: {why}"),
            "send the request without it in `anthropic-beta`",
        ));
    }
    if name == MILLION && price.context_window < MILLION_TOKENS {
        let hint = "send the request without it, or set `context_window: 1000000` in the model's row of the price file, with the \
                    prices of long prompts as `long_context`";
        return Err(reject::unpriceable(format!("`{shown}`: `{}` has no price for such prompts", price.id), hint));
    }
    if KNOWN.contains(&name) || reading.admits(name) {
        return Ok(());
    }
    let hint = format!(
        "add it to providers.{}.allow_fields in loopers.yaml if it cannot raise the bill: `allow_fields: [{shown}]`",
        reading.provider
    );
    Err(reject::unpriceable(format!("`{shown}` is not a beta switch whose cost is known"), hint))
}

fn texts<'a>(headers: &'a HeaderMap, name: &str) -> Result<Vec<&'a str>, Reject> {
    let text = |value: &'a http::HeaderValue| {
        value.to_str().map_err(|_| reject::invalid(format!("`{name}` is not plain text"), "send ASCII"))
    };
    headers.get_all(name).iter().map(text).collect()
}
