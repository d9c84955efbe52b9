//! Routes: what there is, in one spelling, and nothing else.

use super::*;

fn label(method: &Method, path: &str, query: Option<&str>) -> Option<&'static str> {
    Anthropic.route(method, path, query).map(|route| route.label)
}

const METHODS: [Method; 8] = [
    Method::POST,
    Method::GET,
    Method::PUT,
    Method::DELETE,
    Method::PATCH,
    Method::HEAD,
    Method::OPTIONS,
    Method::CONNECT,
];

#[test]
fn a13_what_there_is() {
    let (post, get) = (&Method::POST, &Method::GET);
    for query in [None, Some("beta=true")] {
        assert_eq!(Anthropic.route(post, "/v1/messages", query), Some(MESSAGES));
        assert_eq!(Anthropic.route(post, "/v1/messages/count_tokens", query), Some(COUNT_TOKENS));
        assert_eq!(Anthropic.route(get, "/v1/models", query), Some(MODELS));
        assert_eq!(Anthropic.route(get, "/v1/models/claude-opus-5-5", query), Some(MODELS));
    }
    let costs = [MESSAGES, COUNT_TOKENS, MODELS].map(|route| (route.metered, route.body));
    assert_eq!(costs, [(true, true), (false, true), (false, false)]);
    for query in [
        "limit=1000",
        "limit=5&after_id=claude-x",
        "before_id=a.b-c",
        "lifecycle[]=active&lifecycle[]=retired&beta=true",
    ] {
        assert_eq!(label(get, "/v1/models", Some(query)), Some("models"), "{query}");
    }
    for query in ["", "limit", "limit=5&", "x=1", "limit=%41", "beta=true&url=http://x", "after_id=../x", "limit=1 "] {
        assert_eq!(label(get, "/v1/models", Some(query)), None, "{query}");
    }
    for query in ["", "beta=false", "beta=true&beta=true", "beta=True", "x=1", "beta=true&x=1"] {
        for (method, path) in
            [(post, "/v1/messages"), (post, "/v1/messages/count_tokens"), (get, "/v1/models/claude-opus-5-5")]
        {
            assert_eq!(label(method, path, Some(query)), None, "{path}?{query}");
        }
    }
}

#[test]
fn a13_what_costs_money_and_is_not_metered_is_no_route() {
    for path in [
        "/v1/messages/batches",
        "/v1/messages/batches/msgbatch_1",
        "/v1/messages/batches/msgbatch_1/results",
        "/v1/messages/batches/msgbatch_1/cancel",
        "/v1/files",
        "/v1/files/file_1/content",
        "/v1/skills",
        "/v1/skills/s/versions",
        "/v1/complete",
        "/v1/chat/completions",
        "/v1/embeddings",
        "/v1/agents",
        "/v1/sessions",
        "/v1/sessions/s/events",
        "/v1/threads",
        "/v1/environments",
        "/v1/deployments",
        "/v1/dreams",
        "/v1/memory_stores",
        "/v1/vaults",
        "/v1/containers",
        "/v1/organizations/me",
        "/v1/organizations/api_keys",
        "/v1/organizations/usage_report/messages",
        "/v1/user_profiles",
        "/v1/oauth/token",
        "/v1/experimental/generate_prompt",
        "/v1/messages/count_tokens/x",
        "/v1/messages/x",
        "/v2/messages",
        "/messages",
        "",
        "/",
        "*",
    ] {
        for method in METHODS {
            for query in [None, Some("beta=true")] {
                assert_eq!(label(&method, path, query), None, "{method} {path}");
            }
        }
    }
    for method in METHODS.iter().filter(|method| **method != Method::POST) {
        assert_eq!(label(method, "/v1/messages", None), None, "{method}");
        assert_eq!(label(method, "/v1/messages/count_tokens", None), None, "{method}");
    }
    for method in METHODS.iter().filter(|method| **method != Method::GET) {
        assert_eq!(label(method, "/v1/models", None), None, "{method}");
        assert_eq!(label(method, "/v1/models/claude-opus-5-5", None), None, "{method}");
    }
}

/// Every change of one byte, every byte left out, doubled, escaped or put in: another path, and so no route.
#[test]
fn a13_mutated_paths_are_no_routes() {
    let mut mutants = std::collections::BTreeSet::new();
    for path in ["/v1/messages", "/v1/messages/count_tokens", "/v1/models"] {
        for at in 0..path.len() {
            let (head, tail) = (&path[..at], &path[at + 1..]);
            let byte = path.as_bytes()[at] as char;
            for other in ["", "%", "/", ".", "\\", ";", " ", "\t", "é", "//", "/./", "/../"] {
                mutants.insert(format!("{head}{other}{tail}"));
                mutants.insert(format!("{head}{other}{byte}{tail}"));
            }
            mutants.insert(format!("{head}%{:02x}{tail}", byte as u8));
            mutants.insert(format!("{head}%{:02X}{tail}", byte as u8));
            mutants.insert(format!("{head}{byte}{byte}{tail}"));
            mutants.insert(format!("{head}{}{tail}", byte.to_ascii_uppercase()));
        }
        for end in
            ["/", "//", "?", "?beta=true", "#", ";x", "%00", "%2f", "%20", " ", "\r\n", "/../messages", ".json", "."]
        {
            mutants.insert(format!("{path}{end}"));
        }
        mutants.insert(format!("https://api.anthropic.com{path}"));
        mutants.insert(format!("/anthropic{path}"));
    }
    for known in ["/v1/messages", "/v1/messages/count_tokens", "/v1/models"] {
        mutants.remove(known);
    }
    assert!(mutants.len() >= 500, "{}", mutants.len());
    for path in mutants {
        for method in METHODS {
            assert_eq!(label(&method, &path, None), None, "{method} {path}");
        }
    }
    for id in ["", "..", ".", "a/b", "a%2Fb", "a?b", "a;b", "a b", "é", "a\\b"] {
        assert_eq!(label(&Method::GET, &format!("/v1/models/{id}"), None), None, "{id}");
    }
}
