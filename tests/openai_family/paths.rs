//! Paths and methods that are no routes: those that cost money and are not metered, and hundreds of misspellings.

use http::Method;

use super::support::provider;

const METHODS: [Method; 7] =
    [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::HEAD, Method::OPTIONS];

/// Good targets, each with its method.
const GOOD: [(&str, Method, &str); 9] = [
    ("openai", Method::POST, "/v1/chat/completions"),
    ("openai", Method::POST, "/v1/responses"),
    ("openai", Method::POST, "/v1/completions"),
    ("openai", Method::POST, "/v1/embeddings"),
    ("openai", Method::POST, "/v1/responses/input_tokens"),
    ("azure", Method::POST, "/openai/deployments/g/chat/completions"),
    ("azure", Method::POST, "/openai/v1/responses"),
    ("mistral", Method::POST, "/v1/fim/completions"),
    ("groq", Method::POST, "/v1/chat/completions"),
];

#[test]
fn a13_what_costs_money_and_is_not_metered_is_no_route() {
    for path in [
        "/v1/images/generations",
        "/v1/images/edits",
        "/v1/images/variations",
        "/v1/audio/speech",
        "/v1/audio/transcriptions",
        "/v1/audio/translations",
        "/v1/videos",
        "/v1/videos/v_1/remix",
        "/v1/batches",
        "/v1/files",
        "/v1/uploads",
        "/v1/fine_tuning/jobs",
        "/v1/evals",
        "/v1/evals/e/runs",
        "/v1/assistants",
        "/v1/threads",
        "/v1/threads/runs",
        "/v1/vector_stores",
        "/v1/vector_stores/v/search",
        "/v1/containers",
        "/v1/conversations",
        "/v1/conversations/c/items",
        "/v1/realtime",
        "/v1/realtime/client_secrets",
        "/v1/realtime/calls",
        "/v1/responses/compact",
        "/v1/skills",
        "/v1/chatkit/sessions",
        "/v1/decisions",
        "/v1/responses/resp_1/compact",
        "/v1/organization/costs",
        "/v1/engines/x/completions",
        "/v1/edits",
    ] {
        for name in ["openai", "groq", "mistral", "azure"] {
            for method in METHODS {
                assert_eq!(provider(name).route(&method, path, None), None, "{name} {method} {path}");
                assert_eq!(
                    provider(name).route(&method, &format!("/openai{path}"), None),
                    None,
                    "{name} {method} {path}"
                );
            }
        }
    }
    assert_eq!(provider("openai").route(&Method::POST, "/v1/responses", Some("beta=true")), None);
    // What is free with OpenAI may not be so elsewhere.
    for path in ["/v1/moderations", "/v1/responses/input_tokens"] {
        assert!(provider("openai").route(&Method::POST, path, None).is_some_and(|route| !route.metered && route.body));
        assert_eq!(provider("groq").route(&Method::POST, path, None), None);
    }
}

#[test]
fn a13_stored_responses_are_read_but_not_made() {
    let route = |method: &Method, path: &str, query| provider("openai").route(method, path, query);
    for (method, path, query) in [
        (Method::GET, "/v1/responses/resp_1", None),
        (Method::GET, "/v1/responses/resp_1", Some("stream=true&starting_after=5")),
        (
            Method::GET,
            "/v1/responses/resp_1/input_items",
            Some("limit=20&order=asc&after=msg_1&include[]=reasoning.encrypted_content"),
        ),
        (Method::DELETE, "/v1/responses/resp_1", None),
        (Method::POST, "/v1/responses/resp_1/cancel", None),
    ] {
        assert!(route(&method, path, query).is_some_and(|route| !route.metered), "{method} {path}");
    }
    for (method, path, query) in [
        (Method::POST, "/v1/responses/resp_1", None),
        (Method::GET, "/v1/responses", None),
        (Method::GET, "/v1/responses/", None),
        (Method::GET, "/v1/responses/..", None),
        (Method::GET, "/v1/responses/other_1", None),
        (Method::GET, "/v1/responses/resp_1/cancel", None),
        (Method::POST, "/v1/responses/resp_1/input_items", None),
        (Method::DELETE, "/v1/responses/resp_1/input_items", None),
        (Method::GET, "/v1/responses/resp_1/input_items/x", None),
        (Method::GET, "/v1/responses/resp_1", Some("model=gpt-5")),
        (Method::GET, "/v1/responses/resp_1", Some("")),
        (Method::GET, "/v1/responses/resp_1", Some("stream")),
        (Method::GET, "/v1/responses/resp_1", Some("limit=1%26model=x")),
        (Method::DELETE, "/v1/responses/resp_1", Some("limit=1")),
    ] {
        assert_eq!(route(&method, path, query), None, "{method} {path} {query:?}");
    }
}

#[test]
fn a13_hundreds_of_misspelt_targets_are_no_routes() {
    let mut count = 0;
    for (name, good, path) in GOOD {
        let query = path.contains("deployments").then_some("api-version=2024-10-21");
        assert!(provider(name).route(&good, path, query).is_some(), "{name} {path}");
        let mut bad: Vec<String> = vec![
            format!("{path}/"),
            format!("/{path}"),
            format!("{path}?"),
            format!("{path};a=b"),
            format!("{path}%20"),
            format!("{path}%00"),
            format!("{path}#x"),
            format!("{path}/."),
            format!("{path}/.."),
            format!("{path}/../completions"),
            path.to_uppercase(),
            path.replace('/', "//"),
            path.replace('/', "\\"),
            path.replacen("/v1", "/v2", 1) + "x",
            path[1..].to_string(),
            format!("http://h{path}"),
            format!("{path}\u{e9}"),
            format!(" {path}"),
            path.replace('o', "%6f"),
            path.replace("com", "c%6Fm") + "!",
        ];
        for at in 0..path.len() {
            // A letter left out, doubled, in the other case, or as a percent escape.
            let (before, after) = path.split_at(at);
            let letter = &after[..1];
            bad.push(format!("{before}{}", &after[1..]));
            bad.push(format!("{before}{letter}{after}"));
            bad.push(format!("{before}%{:02x}{}", letter.as_bytes()[0], &after[1..]));
            bad.push(format!("{before}{}{}", letter.to_uppercase(), &after[1..]));
        }
        for path in bad.iter().filter(|bad| {
            *bad != path
                && *bad != "/openai/deployments/gchat/completions"
                && !bad.starts_with("/openai/deployments/gg/")
                && !bad.starts_with("/openai/deployments/G/")
        }) {
            for method in METHODS {
                count += 1;
                assert_eq!(provider(name).route(&method, path, query), None, "{name} {method} {path:?}");
            }
        }
        for method in METHODS.iter().filter(|method| **method != good) {
            assert_eq!(provider(name).route(method, path, query), None, "{name} {method} {path}");
        }
    }
    assert!(count > 500, "{count}");
}
