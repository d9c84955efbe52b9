//! Which paths there are, and that there are no others.

use super::*;

fn label(method: &Method, path: &str, query: Option<&str>) -> Option<&'static str> {
    Gemini.route(method, path, query).map(|route| route.label)
}

fn post(path: &str, query: Option<&str>) -> Option<&'static str> {
    label(&Method::POST, path, query)
}

#[test]
fn the_known_routes() {
    for version in ["v1", "v1beta"] {
        for colon in [":", "%3A", "%3a"] {
            let path = |verb: &str| format!("/{version}/models/gemini-3.8-flash{colon}{verb}");
            assert_eq!(post(&path("generateContent"), None), Some("generate_content"));
            assert_eq!(post(&path("streamGenerateContent"), Some("alt=sse")), Some("stream_generate_content"));
            assert_eq!(post(&path("streamGenerateContent"), None), Some("stream_generate_content_array"));
            assert_eq!(post(&path("embedContent"), None), Some("embed_content"));
            assert_eq!(post(&path("batchEmbedContents"), None), Some("batch_embed_contents"));
            assert_eq!(post(&path("countTokens"), None), Some("count_tokens"));
            assert_eq!(route::model(&path("generateContent")), Some("gemini-3.8-flash"));
        }
        assert_eq!(label(&Method::GET, &format!("/{version}/models"), None), Some("models"));
        assert_eq!(
            label(&Method::GET, &format!("/{version}/models"), Some("pageSize=50&pageToken=Ch_x-%3D")),
            Some("models")
        );
        assert_eq!(label(&Method::GET, &format!("/{version}/models/gemini-2.5-pro"), None), Some("models"));
    }
    let metered = |path: &str| Gemini.route(&Method::POST, path, None).map(|route| (route.metered, route.body));
    assert_eq!(metered("/v1beta/models/m:countTokens"), Some((false, true)));
    assert_eq!(metered("/v1beta/models/m:generateContent"), Some((true, true)));
}

#[test]
fn only_known_parameters_have_a_route() {
    let path = "/v1beta/models/m:streamGenerateContent";
    for (query, want) in [
        ("alt=sse", Some("stream_generate_content")),
        ("$alt=sse", Some("stream_generate_content")),
        ("alt=sse&prettyPrint=false", Some("stream_generate_content")),
        ("$prettyPrint=true", Some("stream_generate_content_array")),
        ("alt=json", Some("stream_generate_content_array")),
    ] {
        assert_eq!(post(path, Some(query)), want, "{query}");
    }
    for bad in [
        "",
        "&",
        "alt",
        "alt=",
        "alt=proto",
        "alt=media",
        "alt=SSE",
        "ALT=sse",
        "%61lt=sse",
        "alt=s%73e",
        "alt=sse&",
        "alt=sse&alt=sse",
        "alt=sse&alt=json",
        "alt=sse&$alt=json",
        "fields=candidates",
        "callback=x",
        "access_token=x",
        "oauth_token=x",
        "quotaUser=x",
        "upload_protocol=x",
        "uploadType=media",
        "$.xgafv=1",
        "key=x",
        "x",
        "prettyPrint=1",
        "pageSize=5",
        "alt=sse;x=1",
        "alt=sse#x",
        "$httpMethod=DELETE",
        "$fields=x",
        "$callback=x",
        "$userProject=p",
    ] {
        assert_eq!(post(path, Some(bad)), None, "{bad}");
    }
    assert_eq!(post("/v1beta/models/m:generateContent", Some("alt=sse")), None);
    assert_eq!(post("/v1beta/models/m:countTokens", Some("alt=sse")), None);
    assert_eq!(label(&Method::GET, "/v1beta/models", Some("alt=sse")), None);
    assert_eq!(label(&Method::GET, "/v1beta/models/m", Some("pageSize=5")), None);
    assert_eq!(label(&Method::GET, "/v1beta/models", Some("pageSize=")), None);
}

/// Methods of a model that cost money in another way, or that nobody meters.
const DENIED_VERBS: &[&str] = &[
    "batchGenerateContent",
    "asyncBatchEmbedContent",
    "predict",
    "predictLongRunning",
    "bidiGenerateContent",
    "BidiGenerateContent",
    "fetchPredictOperation",
    "generateAnswer",
    "generateText",
    "generateMessage",
    "embedText",
    "batchEmbedText",
    "countTextTokens",
    "generateImages",
    "editImage",
    "upscaleImage",
    "generateVideos",
    "transferOwnership",
    "computeTokens",
    "rawPredict",
    "streamRawPredict",
    "serverStreamingPredict",
    "generatecontent",
    "GenerateContent",
    "generateContent/",
    "generateContent ",
    "",
    "generateContent:generateContent",
    "streamGenerateContent%20",
    "generateContent;x=1",
    "generateContent%00",
    "generate%43ontent",
    "generateContent?x",
    "embedcontent",
    "countTokens/..",
];

/// Paths of the same kind.
const DENIED_PATHS: &[&str] = &[
    "/v1beta/openai/chat/completions",
    "/v1beta/openai/embeddings",
    "/v1beta/openai/models",
    "/v1beta/openai/images/generations",
    "/v1beta/cachedContents",
    "/v1beta/cachedContents/x",
    "/upload/v1beta/files",
    "/v1beta/files",
    "/v1beta/files/x",
    "/v1beta/fileSearchStores",
    "/v1beta/fileSearchStores/x/documents",
    "/upload/v1beta/fileSearchStores/x:uploadToFileSearchStore",
    "/v1beta/interactions",
    "/v1beta/interactions/x",
    "/v1beta/interactions/x:cancel",
    "/v1beta/tunedModels",
    "/v1beta/tunedModels/x:generateContent",
    "/v1beta/auth_tokens",
    "/v1alpha/auth_tokens",
    "/v1beta/agents",
    "/v1beta/corpora",
    "/v1beta/batches",
    "/v1beta/operations",
    "/v1beta/dynamic/x:generateContent",
    "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent",
    "/v1alpha/models/gemini-3.8-flash:generateContent",
    "/v1beta1/models/gemini-3.8-flash:generateContent",
    "/v1beta2/models/gemini-3.8-flash:generateContent",
    "/v1/projects/p/locations/l/publishers/google/models/m:generateContent",
    "/v1beta/models/a/b:generateContent",
    "/v1beta/models/a%2Fb:generateContent",
    "/v1beta/models/..:generateContent",
    "/v1beta/models/.:generateContent",
    "/v1beta/models/:generateContent",
    "/v1beta/models//m:generateContent",
    "//v1beta/models/m:generateContent",
    "/v1beta//models/m:generateContent",
    "/v1beta/./models/m:generateContent",
    "/v1beta/x/../models/m:generateContent",
    "/V1beta/models/m:generateContent",
    "/v1beta/Models/m:generateContent",
    "/v1beta/models/m%253AgenerateContent",
    "/v1beta/models/m%3BgenerateContent",
    "/v1beta/models/m/generateContent",
    "/v1beta/models/m;x:generateContent",
    "/v1beta/models/m?x:generateContent",
    "/v1beta/models/m x:generateContent",
    "/v1beta/models/é:generateContent",
    "/v1beta/modelsm:generateContent",
    "/v1beta/models:generateContent",
    "/v1beta/models/",
    "https://generativelanguage.googleapis.com/v1beta/models/m:generateContent",
    "v1beta/models/m:generateContent",
    "/v1beta/$discovery/rest",
    "/$batch",
    "/batch",
    "",
    "/",
    "*",
    "\\v1beta\\models\\m:generateContent",
];

/// Every route that the reference says to deny, and everything near the known ones.
#[test]
fn cap_13_what_is_not_metered_has_no_route() {
    let mut denied: Vec<String> =
        DENIED_VERBS.iter().map(|verb| format!("/v1beta/models/gemini-3.8-flash:{verb}")).collect();
    denied.extend(DENIED_PATHS.iter().copied().map(String::from));
    denied.push(format!("/v1beta/models/{}:generateContent", "m".repeat(129)));
    let methods = [
        Method::POST,
        Method::GET,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::HEAD,
        Method::OPTIONS,
        Method::CONNECT,
        Method::TRACE,
    ];
    let mut tried = 0;
    for path in &denied {
        for method in &methods {
            assert_eq!(label(method, path, None), None, "{method} {path}");
            assert_eq!(label(method, path, Some("alt=sse")), None, "{method} {path}");
            tried += 2;
        }
    }
    // Any one byte that is changed, left out or doubled makes another path, or another name of a model.
    let good = "/v1beta/models/m:streamGenerateContent";
    let name = "/v1beta/models/".len()..="/v1beta/models/m".len();
    for at in 0..good.len() {
        let (head, tail) = (&good[..at], &good[at + 1..]);
        let byte = &good[at..=at];
        let other = if byte == "/" { "%2F".to_string() } else { byte.to_uppercase() };
        for changed in [
            format!("{head}{tail}"),
            format!("{head}{byte}{byte}{tail}"),
            format!("{head}{other}{tail}"),
            format!("{head}\0{tail}"),
        ] {
            let is_alike = changed == good
                || route::model(&changed).is_some_and(|_| name.contains(&at) && post(&changed, None).is_some());
            assert!(is_alike || post(&changed, None).is_none(), "{changed}");
            tried += 1;
        }
    }
    for method in methods.iter().filter(|method| **method != Method::POST) {
        assert_eq!(label(method, good, Some("alt=sse")), None, "{method}");
    }
    for method in methods.iter().filter(|method| **method != Method::GET) {
        assert_eq!(label(method, "/v1beta/models", None), None, "{method}");
        assert_eq!(label(method, "/v1beta/models/m", None), None, "{method}");
    }
    assert!(tried >= 500, "{tried}");
}

#[test]
fn headers_that_change_the_call_are_dropped() {
    for name in [
        "x-http-method-override",
        "x-goog-user-project",
        "x-goog-fieldmask",
        "x-vertex-ai-llm-request-type",
        "x-gemini-service-tier",
    ] {
        assert!(Gemini.dropped_headers().contains(&name));
    }
    let key = Secret::new("AIza-test");
    let outgoing = Outgoing::bare();
    assert_eq!(Gemini.authorize(&outgoing, &key).unwrap(), [("x-goog-api-key", "AIza-test".to_string())]);
    assert_eq!(Gemini.name(), crate::provider::find("gemini", "gemini").unwrap().name());
}

#[test]
fn cap_33_only_good_answers_are_billed() {
    for status in [400, 401, 403, 404, 429, 499, 500, 502, 503, 504, 599] {
        assert!(Gemini.unbilled_status(status));
    }
    for status in [200, 201, 202, 206, 301, 302, 399, 100] {
        assert!(!Gemini.unbilled_status(status));
    }
    assert!(!Gemini.drop_stops_bill());
}
