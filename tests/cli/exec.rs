//! `exec`: the command has what it needs in its environment, and nobody else has it.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::world::{Running, World, free_port};

/// A gateway with these providers, and a key in `LP_KEY`.
fn gateway(providers: &[&str]) -> (World, u16, String) {
    let mut world = World::new();
    let port = free_port();
    let mut config = format!("listen: 127.0.0.1:{port}\nadmin: {{ listen: 127.0.0.1:{} }}\nproviders:\n", free_port());
    for name in providers {
        let region = if *name == "bedrock" { ", region: eu-west-1" } else { "" };
        config.push_str(&format!("  {name}: {{ base_url: \"http://127.0.0.1:9\"{region} }}\n"));
    }
    world.write("loopers.yaml", config);
    let key = world.good(&["keys", "create", "--name", "me", "--daily", "1"]).trim().to_string();
    world.serve("loopers.yaml", port);
    world.set("LP_KEY", key.clone());
    (world, port, key)
}

/// A program of that name that prints its arguments and its environment.
fn program(world: &mut World, name: &str) -> String {
    let path = world.path(name);
    std::fs::write(&path, "#!/bin/sh\nfor a in \"$@\"; do echo \"arg=$a\"; done\nenv\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

fn line<'a>(said: &'a str, name: &str) -> Option<&'a str> {
    said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
}

#[test]
fn every_sdk_is_pointed_at_the_gateway() {
    let (mut world, port, key) = gateway(&["openai", "anthropic", "gemini", "mistral", "azure", "bedrock"]);
    let real = "sk-real-key-of-a-provider";
    for name in ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "GOOGLE_API_KEY", "AZURE_AD_TOKEN"] {
        world.set(name, real);
    }
    world.set("GOOGLE_GENAI_USE_VERTEXAI", "true");
    world.set("UNTOUCHED", "as it was");
    let said = world.good(&["exec", "--", "env"]);
    let base = format!("http://127.0.0.1:{port}");
    for (name, rest) in [
        ("OPENAI_BASE_URL", "/openai/v1"),
        ("OPENAI_API_BASE", "/openai/v1"),
        ("ANTHROPIC_BASE_URL", "/anthropic"),
        ("ANTHROPIC_API_BASE", "/anthropic"),
        ("GOOGLE_GEMINI_BASE_URL", "/gemini"),
        ("GEMINI_API_BASE", "/gemini/v1beta"),
        ("MISTRAL_API_BASE", "/mistral/v1"),
        ("MISTRAL_BASE_URL", "/mistral/v1"),
        ("AZURE_OPENAI_ENDPOINT", "/azure"),
        ("AZURE_API_BASE", "/azure"),
        ("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "/bedrock"),
        ("ANTHROPIC_BEDROCK_BASE_URL", "/bedrock"),
    ] {
        assert_eq!(line(&said, name), Some(format!("{base}{rest}").as_str()), "{name}");
    }
    for name in [
        "OPENAI_API_KEY",
        "ANTHROPIC_API_KEY",
        "GEMINI_API_KEY",
        "GOOGLE_API_KEY",
        "MISTRAL_API_KEY",
        "AZURE_OPENAI_API_KEY",
        "AZURE_API_KEY",
        "AWS_BEARER_TOKEN_BEDROCK",
    ] {
        assert_eq!(line(&said, name), Some(key.as_str()), "{name}");
    }
    for name in ["ANTHROPIC_AUTH_TOKEN", "AZURE_AD_TOKEN", "GOOGLE_GENAI_USE_VERTEXAI"] {
        assert_eq!(line(&said, name), None, "{name}");
    }
    assert_eq!((line(&said, "AWS_REGION"), line(&said, "UNTOUCHED")), (Some("eu-west-1"), Some("as it was")));
    assert!(!said.contains(real));
    let only = world.good(&["exec", "--provider", "mistral", "--", "env"]);
    assert_eq!(line(&only, "MISTRAL_API_KEY"), Some(key.as_str()));
    assert_eq!((line(&only, "OPENAI_API_KEY"), line(&only, "OPENAI_BASE_URL")), (Some(real), None));
}

#[test]
fn known_programs_get_what_they_read() {
    let (mut world, port, key) = gateway(&["openai", "anthropic", "gemini", "bedrock"]);
    let base = format!("http://127.0.0.1:{port}");
    world.set("CLAUDE_CODE_OAUTH_TOKEN", "of a subscription");
    let mut run = |name: &str, more: &[&str]| {
        let path = program(&mut world, name);
        let said = world.good(&[&["exec"], more, &["--", &path, "first", "second"]].concat());
        let arguments: Vec<String> =
            said.lines().filter_map(|line| line.strip_prefix("arg=").map(String::from)).collect();
        assert!(arguments.ends_with(&["first".into(), "second".into()]), "{arguments:?}");
        assert!(!arguments.concat().contains(&key), "the key is an argument: {arguments:?}");
        (said, arguments)
    };

    let (said, _) = run("claude", &[]);
    assert_eq!(line(&said, "ANTHROPIC_BASE_URL"), Some(format!("{base}/anthropic").as_str()));
    assert_eq!(line(&said, "ANTHROPIC_AUTH_TOKEN"), Some(key.as_str()));
    assert_eq!((line(&said, "ANTHROPIC_API_KEY"), line(&said, "CLAUDE_CODE_OAUTH_TOKEN")), (None, None));
    let (said, _) = run("claude", &["--provider", "bedrock"]);
    assert_eq!(line(&said, "CLAUDE_CODE_USE_BEDROCK"), Some("1"));
    assert_eq!(line(&said, "ANTHROPIC_BEDROCK_BASE_URL"), Some(format!("{base}/bedrock").as_str()));

    let (said, arguments) = run("codex", &[]);
    for setting in [
        "model_provider=\"loopers\"".to_string(),
        format!("model_providers.loopers.base_url=\"{base}/openai/v1\""),
        "model_providers.loopers.env_key=\"OPENAI_API_KEY\"".to_string(),
        "model_providers.loopers.wire_api=\"responses\"".to_string(),
    ] {
        assert!(
            arguments.windows(2).any(|pair| pair == ["-c".to_string(), setting.clone()]),
            "{setting}: {arguments:?}"
        );
    }
    assert_eq!(line(&said, "OPENAI_API_KEY"), Some(key.as_str()));

    let (said, _) = run("aider", &[]);
    assert_eq!(line(&said, "AIDER_OPENAI_API_BASE"), Some(format!("{base}/openai/v1").as_str()));
    let (said, _) = run("gemini", &[]);
    assert_eq!(line(&said, "GEMINI_DEFAULT_AUTH_TYPE"), Some("gemini-api-key"));

    let (said, _) = run("opencode", &[]);
    let content = line(&said, "OPENCODE_CONFIG_CONTENT").unwrap();
    assert!(!content.contains(&key), "{content}");
    let config: Value = serde_json::from_str(content).unwrap();
    let options = |id: &str| config["provider"][id]["options"].clone();
    assert_eq!(options("anthropic")["baseURL"], format!("{base}/anthropic/v1"));
    assert_eq!(options("google")["baseURL"], format!("{base}/gemini/v1beta"));
    assert_eq!(options("openai")["apiKey"], "{env:OPENAI_API_KEY}");
    assert_eq!(options("amazon-bedrock")["endpoint"], format!("{base}/bedrock"));
}

#[test]
fn what_the_user_told_opencode_stays() {
    let (mut world, _, _) = gateway(&["anthropic"]);
    world.set(
        "OPENCODE_CONFIG_CONTENT",
        r#"{"theme":"x","provider":{"anthropic":{"options":{"timeout":5,"baseURL":"y"}}}}"#,
    );
    let path = program(&mut world, "opencode");
    let said = world.good(&["exec", "--", &path]);
    let config: Value = serde_json::from_str(line(&said, "OPENCODE_CONFIG_CONTENT").unwrap()).unwrap();
    let options = &config["provider"]["anthropic"]["options"];
    assert_eq!((&config["theme"], &options["timeout"]), (&"x".into(), &5.into()));
    assert!(options["baseURL"].as_str().unwrap().ends_with("/anthropic/v1"));
    world.set("OPENCODE_CONFIG_CONTENT", "[1]");
    assert!(world.run(&["exec", "--", &path]).err.contains("no JSON object"));
}

#[test]
fn exit_codes_and_signals_are_the_commands_own() {
    let (mut world, _, _) = gateway(&["openai"]);
    for (command, code) in [(&["sh", "-c", "exit 42"][..], 42), (&["true"], 0), (&["no-such-command-here"], 127)] {
        assert_eq!(world.run(&[&["exec", "--"], command].concat()).code, code, "{command:?}");
    }
    world.write("plain", "text");
    let plain = world.path("plain").display().to_string();
    assert_eq!(world.run(&["exec", "--", &plain]).code, 126);

    // A signal to the process that was started reaches the command, which may answer it in its own way.
    let script = "trap 'exit 7' TERM; touch ready; while :; do sleep 0.05; done";
    for (script, expected) in [(script, (Some(7), None)), ("touch ready; exec sleep 60", (None, Some(15)))] {
        let child = world.command(&["exec", "--", "sh", "-c", script]).stdout(Stdio::null()).spawn().unwrap();
        let mut child = Running(child);
        let until = Instant::now() + Duration::from_secs(30);
        while !world.path("ready").exists() {
            assert!(Instant::now() < until, "the command does not run");
            std::thread::sleep(Duration::from_millis(10));
        }
        std::fs::remove_file(world.path("ready")).unwrap();
        let sent = std::process::Command::new("kill").args(["-TERM", &child.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let status = child.0.wait().unwrap();
        assert_eq!((status.code(), status.signal()), expected);
    }
    world.keep.clear();
}

#[test]
fn the_key_is_written_nowhere() {
    let (world, _, key) = gateway(&["openai"]);
    world.write("key", format!("{key}\n"));
    let said = world.run(&["exec", "--key", "file:key", "--", "true"]);
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, "", ""));
    std::fs::remove_file(world.path("key")).unwrap();
    let files = world.files();
    assert!(files.iter().any(|file| file.ends_with("loopers.yaml")), "{files:?}");
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(key.len()).any(|window| window == key.as_bytes()), "{} has the key", file.display());
    }
    let refused = world.run(&["exec", "--key", &key, "--", "true"]);
    assert!(refused.code == 1 && !refused.err.contains(&key) && refused.err.contains("env:NAME"), "{}", refused.err);
}

#[test]
fn what_cannot_work_is_said_before_the_command_runs() {
    let (mut world, port, key) = gateway(&["openai"]);
    let refused = |world: &World, arguments: &[&str], word: &str| {
        let said = world.run(&[&["exec"], arguments, &["--", "touch", "ran"]].concat());
        assert!(
            said.code == 1 && said.err.contains(word) && said.err.contains(" hint: "),
            "{arguments:?}: {}",
            said.err
        );
        assert!(!world.path("ran").exists() && !said.err.contains(&key));
    };
    refused(&world, &["--provider", "gemini"], "the gateway has no provider `gemini`");
    refused(&world, &["--url", &format!("http://127.0.0.1:{}", free_port())], "cannot be reached");
    refused(&world, &["--url", "nowhere"], "must begin with https://");
    world.set("LP_KEY", format!("lp-{}", "x".repeat(43)));
    refused(&world, &[], "key");
    world.set("LP_KEY", "sk-mine");
    refused(&world, &[], "holds no Loopers key");
    world.env.clear();
    refused(&world, &[], "LP_KEY is not set");
    // Elsewhere, without any config, the address is enough.
    let mut away = World::new();
    away.set("LP_KEY", key.clone());
    away.set("LOOPERS_URL", format!("http://127.0.0.1:{port}"));
    let said = away.good(&["exec", "--", "env"]);
    assert_eq!(line(&said, "ANTHROPIC_BASE_URL"), Some(format!("http://127.0.0.1:{port}/anthropic").as_str()));
    let path = program(&mut world, "claude");
    world.set("LP_KEY", key.clone());
    let said = world.run(&["exec", "--", &path]);
    assert!(said.code == 1 && said.err.contains("claude needs the provider anthropic"), "{}", said.err);
}
