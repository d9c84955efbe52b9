//! `init`: from an empty folder to a first call, and nothing overwritten by accident.

use serde_yaml::Value;

use super::world::{World, free_port, http};

const FILES: [&str; 3] = [".env.example", "compose.yaml", "loopers.yaml"];
const CALL: &str = r#"{"model":"gpt-4o-mini","max_tokens":16,"messages":[{"role":"user","content":"Hello"}]}"#;

#[test]
fn from_an_empty_folder_to_a_first_call() {
    let mut world = World::new();
    // Elsewhere, so that the folder stays empty.
    let mut elsewhere = World::new();
    let mock = elsewhere.mock();
    let said = world.good(&["init", "--yes", "--base-url", &format!("http://127.0.0.1:{mock}")]);
    assert_eq!(world.names(), FILES);
    // Two ports that no other test has.
    let (port, admin) = (free_port(), free_port());
    let config = world.read("loopers.yaml").replace("0.0.0.0:8080", &format!("127.0.0.1:{port}"));
    world.write("loopers.yaml", config.replace("127.0.0.1:9090", &format!("127.0.0.1:{admin}")));
    world.good(&["check"]);
    let (report, code) = world.doctor();
    assert_eq!((code, &report["errors"]), (0, &0.into()), "{report:#}");
    assert!(report["findings"].to_string().contains("missing_env"), "{report:#}");
    world.serve("loopers.yaml", port);
    // The very command that init has printed makes the key.
    let line = said.lines().find(|line| line.contains("keys create")).unwrap();
    let words: Vec<&str> = line.split("$(loopers ").nth(1).unwrap().trim_end_matches(")\"").split(' ').collect();
    assert_eq!(words, ["keys", "create", "--name", "me", "--daily", "5.00"]);
    let key = world.good(&words);
    let head = format!(
        "POST /openai/v1/chat/completions HTTP/1.1\r\nauthorization: Bearer {}\r\ncontent-type: application/json",
        key.trim()
    );
    let (status, answer) = http(port, &head, CALL);
    assert!(status == 400 && answer.contains("There is no key for openai"), "{answer}");
    let (status, answer) = http(port, &format!("{head}\r\nx-loopers-provider-key: sk-mine"), CALL);
    assert!(status == 200 && answer.to_lowercase().contains("x-loopers-cost-usd: 0.0"), "{answer}");
}

#[test]
fn with_a_key_in_the_shell_nothing_is_missing() {
    let mut world = World::new();
    world.set("ANTHROPIC_API_KEY", "sk-ant-1");
    world.set("MISTRAL_API_KEY", "sk-2");
    world.set("GEMINI_API_KEY", "");
    world.good(&["init", "--yes"]);
    let config: Value = serde_yaml::from_str(&world.read("loopers.yaml")).unwrap();
    let providers: Vec<&str> = config["providers"].as_mapping().unwrap().keys().filter_map(Value::as_str).collect();
    assert_eq!(providers, ["anthropic", "mistral"]);
    assert_eq!(world.run(&["check"]).err, "");
    let all: String = FILES.iter().map(|name| world.read(name)).collect();
    assert!(!all.contains("sk-"), "a key was written");
}

#[test]
fn the_same_again_changes_nothing_and_another_is_refused() {
    let world = World::new();
    world.good(&["init", "--yes"]);
    let before: Vec<String> = FILES.iter().map(|name| world.read(name)).collect();
    assert!(world.good(&["init", "--yes"]).starts_with("unchanged"));
    world.write("compose.yaml", "# mine\n");
    let said = world.run(&["init", "--yes", "--ledger", "redis"]);
    assert_eq!(said.code, 1);
    let list = "nothing was written: there is already loopers.yaml, .env.example, compose.yaml";
    assert!(said.err.contains(list) && said.err.contains("--force"), "{}", said.err);
    assert_eq!((world.read("loopers.yaml"), world.read("compose.yaml").as_str()), (before[2].clone(), "# mine\n"));
    // Asked, and not allowed; no answer is no.
    for typed in ["\n\n\n\nn\n", ""] {
        let said = world.run_with(&["init"], typed);
        assert!(said.code == 1 && said.err.contains("nothing was written"), "{}", said.err);
        assert_eq!(world.read("compose.yaml"), "# mine\n");
    }
    world.good(&["init", "--yes", "--force"]);
    assert_eq!(FILES.iter().map(|name| world.read(name)).collect::<Vec<_>>(), before);
    assert_eq!(world.names(), FILES);
}

#[test]
fn when_one_file_cannot_be_written_none_is() {
    let world = World::new();
    std::fs::create_dir(world.path("compose.yaml")).unwrap();
    let said = world.run(&["init", "--yes", "--force"]);
    assert!(
        said.code == 1 && said.err.contains("nothing was written") && said.err.contains("compose.yaml"),
        "{}",
        said.err
    );
    assert_eq!(world.names(), ["compose.yaml"]);
}

#[test]
fn answers_are_asked_for_explained_and_checked() {
    let world = World::new();
    let typed = "opanai\nopenai, azure\nnot a url\nhttps://mine.openai.azure.com\nmysql\nredis\n1e3\n2.50\n40\n";
    let said = world.run_with(&["init"], typed);
    assert_eq!(said.code, 0, "{}", said.err);
    for word in ["Default: file", "there is no provider `opanai`", "must begin with https://", "file or redis", "1e3"] {
        assert!(said.err.contains(word), "{word}: {}", said.err);
    }
    assert!(said.out.contains("keys create --name me --daily 2.50 --monthly 40"), "{}", said.out);
    let config: Value = serde_yaml::from_str(&world.read("loopers.yaml")).unwrap();
    assert_eq!(config["ledger"], "env:LOOPERS_LEDGER");
    assert_eq!(config["providers"]["azure"]["base_url"], "https://mine.openai.azure.com");
    let said = world.run(&["check"]);
    assert!(said.err.contains("LOOPERS_LEDGER is not set"), "{}", said.err);
}

#[test]
fn flags_are_checked_before_anything_is_written() {
    for (arguments, word) in [
        (&["--daily", "1e3"][..], "1e3"),
        (&["--base-url", "ftp://x"], "must begin with https://"),
        (&["--providers", "openai,gemini", "--base-url", "http://x"], "for which of the providers"),
        (&["--providers", "openai", "--base-url", "gemini=http://x"], "gemini is none of the providers"),
    ] {
        let world = World::new();
        let said = world.run(&[&["init", "--yes"], arguments].concat());
        assert!(said.code == 1 && said.err.contains(word), "{arguments:?}: {}", said.err);
        assert!(world.names().is_empty(), "{arguments:?}");
    }
}

#[test]
fn every_choice_gives_files_that_are_read_as_meant() {
    for ledger in ["file", "redis"] {
        let mut world = World::new();
        let all = "openai,anthropic,gemini,mistral,azure,bedrock";
        world.good(&["init", "--yes", "--providers", all, "--ledger", ledger]);
        world.set("LOOPERS_LEDGER", "redis://127.0.0.1:1");
        world.good(&["check"]);
        let config: Value = serde_yaml::from_str(&world.read("loopers.yaml")).unwrap();
        let compose: Value = serde_yaml::from_str(&world.read("compose.yaml")).unwrap();
        let example = world.read(".env.example");
        let gateway = &compose["services"]["gateway"];
        for (_, provider) in config["providers"].as_mapping().unwrap() {
            let variable = provider["key"].as_str().unwrap().strip_prefix("env:").unwrap();
            assert_eq!(gateway["environment"][variable], format!("${{{variable}:-}}").as_str());
            assert!(example.contains(&format!("\n{variable}=\n")), "{variable}");
        }
        let on_redis = ledger == "redis";
        assert_eq!(compose["services"]["redis"].is_mapping(), on_redis);
        assert_eq!(gateway["environment"]["LOOPERS_LEDGER"].is_string(), on_redis);
        assert_eq!(example.contains("REDIS_PASSWORD="), on_redis);
        let mounted = gateway["volumes"].as_sequence().unwrap().iter().find(|volume| volume.is_mapping()).unwrap();
        let target = if on_redis { "/etc/loopers/loopers.yaml" } else { "/data/loopers.yaml" };
        assert_eq!(mounted["target"], target);
    }
}
