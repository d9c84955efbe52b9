//! A 13, 14 for all six providers: what costs money and is not metered, and whatever is nearly a route, never reaches a provider.

use serde_json::{Value, json};

use crate::support::six::{plain, six};
use crate::support::*;

/// What each provider bills in a way that is not metered here, or keeps to itself.
const DENIED: [(&str, &[&str]); 6] = [
    (
        "/openai/v1",
        &[
            "/images/generations",
            "/images/edits",
            "/images/variations",
            "/audio/speech",
            "/audio/transcriptions",
            "/audio/translations",
            "/videos",
            "/batches",
            "/files",
            "/uploads",
            "/fine_tuning/jobs",
            "/evals",
            "/assistants",
            "/threads",
            "/threads/t/runs",
            "/vector_stores",
            "/vector_stores/v/search",
            "/containers",
            "/conversations",
            "/realtime",
            "/realtime/client_secrets",
            "/responses/compact",
            "/skills",
            "/chatkit/sessions",
            "/decisions",
            "/responses?beta=true",
            "/anything",
        ],
    ),
    (
        "/anthropic/v1",
        &[
            "/messages/batches",
            "/files",
            "/skills",
            "/complete",
            "/sessions",
            "/agents",
            "/environments",
            "/deployments",
            "/dreams",
            "/organizations/me",
            "/chat/completions",
            "/anything",
        ],
    ),
    (
        "/gemini",
        &[
            "/v1beta/models/gemini-2.5-flash:batchGenerateContent",
            "/v1beta/models/gemini-2.5-flash:asyncBatchEmbedContent",
            "/v1beta/models/imagen-4:predict",
            "/v1beta/models/veo-3:predictLongRunning",
            "/v1beta/models/gemini-2.5-flash:bidiGenerateContent",
            "/v1beta/cachedContents",
            "/upload/v1beta/files",
            "/v1beta/files",
            "/v1beta/fileSearchStores",
            "/v1beta/interactions",
            "/v1beta/tunedModels",
            "/v1beta/tunedModels/x:generateContent",
            "/v1beta/auth_tokens",
            "/v1alpha/auth_tokens",
            "/v1beta/agents",
            "/v1beta/openai/chat/completions",
            "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent",
            "/v1/projects/p/locations/l/publishers/google/models/gemini-2.5-flash:generateContent",
            "/v1beta/anything",
        ],
    ),
    (
        "/bedrock",
        &[
            "/model/amazon.nova-sonic-v1%3A0/invoke-with-bidirectional-stream",
            "/async-invoke",
            "/guardrail/g/version/1/apply",
            "/guardrail-checks/invoke",
            "/agents/a/agentAliases/b/sessions/c/text",
            "/flows/f/aliases/a",
            "/retrieveAndGenerate",
            "/knowledgebases/k/retrieve",
            "/model-invocation-job",
            "/provisioned-model-throughput",
            "/openai/v1/chat/completions",
            "/anthropic/v1/messages",
            "/anything",
        ],
    ),
    (
        "/azure",
        &[
            "/openai/v1/batches",
            "/openai/v1/files",
            "/openai/v1/fine_tuning/jobs",
            "/openai/v1/images/generations",
            "/openai/v1/audio/speech",
            "/openai/v1/videos",
            "/openai/v1/realtime",
            "/openai/v1/vector_stores",
            "/openai/v1/evals",
            "/openai/v1/containers",
            "/openai/deployments/g/images/generations?api-version=2024-10-21",
            "/openai/deployments/g/audio/transcriptions?api-version=2024-10-21",
            "/openai/deployments/g/extensions/chat/completions?api-version=2024-10-21",
            "/openai/assistants?api-version=2024-10-21",
            "/models/chat/completions?api-version=2024-10-21",
            "/anthropic/v1/messages",
            "/openai/v1/anything",
        ],
    ),
    (
        "/mistral/v1",
        &[
            "/agents/completions",
            "/conversations",
            "/agents",
            "/libraries",
            "/connectors",
            "/rag",
            "/workflows",
            "/ocr",
            "/audio/transcriptions",
            "/audio/speech",
            "/audio/realtime",
            "/moderations",
            "/classifications",
            "/chat/moderations",
            "/chat/classifications",
            "/batch/jobs",
            "/files",
            "/fine_tuning/jobs",
            "/responses/resp_1",
            "/responses/compact",
            "/anything",
        ],
    ),
];

const METHODS: [&str; 11] =
    ["GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "QUERY", "post", "POSTX", "CONNECT"];

/// Sends it and expects a refusal, or a connection that a parser gave up.
async fn refused(world: &World, key: &Key, method: &str, target: &str, body: &Value) {
    let mut request = Request::post(target, body.to_string()).bearer(&key.secret);
    request.method = method.into();
    let mut conn = Conn::open(world.gateway()).await;
    if let Some(answer) = within(target, conn.try_call(&request)).await {
        assert!((400..500).contains(&answer.status), "{method} {target}: {} {}", answer.status, answer.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cap_13_denied_routes_of_all_six_never_go_out() {
    let world = six().start().await;
    let key = world.rich();
    let body = ask("tokens=5");
    for (start, paths) in DENIED {
        for path in paths {
            let target = format!("{start}{path}");
            let answer = world.send(&Request::post(&target, body.to_string()).bearer(&key.secret)).await;
            assert_eq!(answer.status, 404, "{target}: {}", answer.text());
            assert!(answer.text().contains("unknown_route"), "{target}: {}", answer.text());
            for method in ["GET", "DELETE", "PUT"] {
                refused(&world, &key, method, &target, &body).await;
            }
        }
    }
    world.assert_untouched().await;
}

/// Every target that is one change away from a good one.
fn mutations(path: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for at in 0..path.len() {
        let (head, byte, tail) = (&path[..at], path.as_bytes()[at], &path[at + 1..]);
        let swapped = if byte.is_ascii_lowercase() { byte.to_ascii_uppercase() } else { b'_' };
        paths.push(format!("{head}{}{tail}", swapped as char));
        paths.push(format!("{head}%{byte:02x}{tail}"));
        paths.push(format!("{head}%25{byte:02X}{tail}"));
        for insert in ["/", "./", "../", ";", "\\", "%00", "%2f", "é"] {
            paths.push(format!("{head}{insert}{}", &path[at..]));
        }
    }
    for end in ["/", "//", "/.", "/..", ";", "%20", "%00", ".", "~", "%0d%0aX: y", "\\", "/x", "%3Fx", "%23"] {
        paths.push(format!("{path}{end}"));
    }
    // Google's SDKs write the colon before a verb in both ways: that is the same route.
    let colon = path.replace(':', "%3a");
    paths.retain(|other| other != path && *other != colon);
    paths.sort();
    paths.dedup();
    paths
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cap_13_hundreds_of_mutated_targets_of_all_six_never_go_out() {
    let world = six().start().await;
    let key = world.rich();
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    let good = plain(90);
    for kind in &good {
        let (path, query, body, provider) = (kind.path.as_str(), kind.query, &kind.body, kind.provider());
        for (at, target) in mutations(path).iter().enumerate() {
            // Each with the right method, which is the dangerous one, and with a wrong one.
            let target = format!("{target}{query}");
            refused(&world, &key, "POST", &target, body).await;
            refused(&world, &key, METHODS[at % METHODS.len()], &target, body).await;
            *counts.entry(provider).or_default() += 2;
        }
        for method in METHODS {
            refused(&world, &key, method, &format!("{path}{query}"), body).await;
            *counts.entry(provider).or_default() += 1;
        }
    }
    println!("{counts:?}");
    assert!(counts.len() == 6 && counts.values().all(|count| *count >= 500), "{counts:?}");
    world.assert_untouched().await;
    // What was mutated is a route, or else nothing was tested.
    for kind in &good {
        world.send(&kind.request(&key, "")).await.expect(200);
    }
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cap_14_free_routes_of_all_six_need_a_key_that_may_call_them() {
    let world = six().start().await;
    let (key, stranger) = (world.rich(), world.key(&["--providers", "bedrock_mantle", "--daily", "1"]));
    world.cli(&["keys", "revoke", &key.id]);
    let prompt =
        json!({"model": "claude-haiku-4-5", "messages": [{"role": "user", "content": "a prompt ".repeat(100)}]});
    for (method, target) in [
        ("GET", "/openai/v1/models"),
        ("POST", "/openai/v1/responses/input_tokens"),
        ("POST", "/openai/v1/moderations"),
        ("GET", "/anthropic/v1/models"),
        ("POST", "/anthropic/v1/messages/count_tokens"),
        ("GET", "/gemini/v1beta/models"),
        ("POST", "/gemini/v1beta/models/gemini-2.5-flash:countTokens"),
        ("POST", "/bedrock/model/amazon.nova-micro-v1%3A0/count-tokens"),
        ("GET", "/azure/openai/v1/models"),
        ("GET", "/mistral/v1/models"),
        ("POST", "/mistral/v1/responses/input_tokens"),
    ] {
        let request = |secret: &str| {
            let mut request = Request::post(target, prompt.to_string()).bearer(secret);
            request.method = method.into();
            if method == "GET" {
                request.body.clear();
            }
            request
        };
        for (secret, status) in [
            ("lp-0000000000000000000000000000000000000000000", 401),
            (key.secret.as_str(), 403),
            (stranger.secret.as_str(), 403),
        ] {
            let answer = world.send(&request(secret)).await;
            assert_eq!(answer.status, status, "{method} {target}: {}", answer.text());
        }
    }
    world.assert_untouched().await;
}
