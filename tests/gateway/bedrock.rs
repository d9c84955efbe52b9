//! Bedrock's model ids hold colons, which clients write in more than one way, and its requests are signed.

use serde_json::{Value, json};

use crate::support::six::six;
use crate::support::*;

/// The access key whose signatures the mock can check.
const SIGNING: &str = "AKIAMOCKMOCKMOCKMOCK:mock-secret-access-key";
/// As boto3 and the SDKs of AWS write a model, as Anthropic's clients do, and as an ARN.
const SPELLINGS: [&str; 4] = [
    "amazon.nova-pro-v1%3A0",
    "amazon.nova-pro-v1:0",
    "arn%3Aaws%3Abedrock%3Aus-east-1%3A%3Afoundation-model%2Famazon.nova-pro-v1%3A0",
    "arn:aws:bedrock:us-east-1::foundation-model%2Famazon.nova-pro-v1:0",
];

fn request(model: &str, operation: &str, key: &Key) -> Request {
    let body = match operation {
        "count-tokens" => {
            json!({"input": {"converse": {"messages": [{"role": "user", "content": [{"text": "Say hello."}]}]}}})
        }
        "invoke" => {
            json!({"messages": [{"role": "user", "content": [{"text": "x"}]}], "inferenceConfig": {"maxTokens": 20}})
        }
        _ => json!({"messages": [{"role": "user", "content": [{"text": "x"}]}]}),
    };
    Request::post(&format!("/bedrock/model/{model}/{operation}"), body.to_string()).bearer(&key.secret)
}

fn sent_header(seen: &Value, name: &str) -> Option<String> {
    let headers = seen["headers"].as_array().expect("a list");
    headers.iter().find(|header| header[0] == name).and_then(|header| header[1].as_str().map(String::from))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_models_colon_is_read_signed_and_forwarded_however_it_is_written() {
    let world = six().start().await;
    let tags = r#"{"team": "search", "environment": "test"}"#;
    for model in SPELLINGS {
        for operation in ["converse", "converse-stream", "invoke", "invoke-with-response-stream", "count-tokens"] {
            world.reset_mock().await;
            world.forget_keys();
            let key = world.key(&["--daily", "1", "--models", "bedrock/amazon.nova-pro-v1:0"]);
            let request = request(model, operation, &key).header("x-loopers-provider-key", SIGNING);
            let request = request.header("X-Amzn-Bedrock-Request-Metadata", tags);
            let answer = world.send(&request).await;
            assert_eq!(answer.status, 200, "{model} {operation}: {}", answer.text());
            let seen = world.seen().await;
            let model = model.replace(':', "%3A");
            assert_eq!(seen[0]["path"], format!("/bedrock/model/{model}/{operation}"));
            assert_eq!(seen[0]["auth"], "sigv4_ok", "{model} {operation}");
            assert_eq!(sent_header(&seen[0], "x-amzn-bedrock-request-metadata").as_deref(), Some(tags));
            let authorization = sent_header(&seen[0], "authorization").expect("a signature");
            assert!(authorization.contains("x-amzn-bedrock-request-metadata"), "{authorization}");
            world.settled().await;
            assert_eq!(world.charged().await, world.invoice().await.nano, "{model} {operation}");
        }
    }
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_of_models_holds_for_each_spelling() {
    let world = six().start().await;
    let key = world.key(&["--daily", "1", "--models", "bedrock/amazon.nova-micro-v1:0"]);
    for model in SPELLINGS {
        let answer = world.send(&request(model, "converse", &key)).await;
        assert!(answer.status == 403 && answer.text().contains("model_not_allowed"), "{model}: {}", answer.text());
    }
    world.assert_untouched().await;
    for model in ["amazon.nova-micro-v1%3A0", "amazon.nova-micro-v1:0"] {
        world.send(&request(model, "converse", &key)).await.expect(200);
    }
}
