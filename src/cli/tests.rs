use clap::CommandFactory;

use super::args::*;
use super::output::table;
use super::*;
use crate::control::ops::Target;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split(' '))
}

#[test]
fn the_command_tree_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn the_contract_is_understood() {
    for line in [
        "loopers serve",
        "loopers serve --config x.yaml",
        "loopers --config x.yaml keys list --json",
        "loopers check --json",
        "loopers init",
        "loopers init --yes --force --providers openai,azure --base-url openai=http://127.0.0.1:9999 --ledger redis --key ci --daily 1 --monthly 5",
        "loopers doctor",
        "loopers doctor --json --config x.yaml",
        "loopers exec -- env",
        "loopers exec --provider openai --url https://gw --key file:k -- codex exec --json -- x",
        "loopers demo --json",
        "loopers version",
        "loopers keys create --name n --team t --providers a,b --models c --expires 30d --overflow cut --minute 1 --hourly $2 --daily 3 --weekly 4 --monthly 5 --session-budget 1 --session-steps 3 --allow-ip 10.0.0.0/8 --json",
        "loopers keys create --name n --unlimited --provider-key config",
        "loopers keys show K",
        "loopers keys rotate K --json",
        "loopers keys revoke K",
        "loopers teams create --name n --parent p --daily 1",
        "loopers teams list",
        "loopers teams resume T",
        "loopers budget set K --daily 1",
        "loopers budget unset K minute daily",
        "loopers budget status K --json",
        "loopers kill K",
        "loopers kill --session S --key K",
        "loopers kill --all --json",
        "loopers resume --all",
        "loopers holds list",
        "loopers holds release ID --charged 0.1 --force",
        "loopers prices import f.json",
        "loopers prices import f.json --provider openai --provider azure,bedrock --output - --source x --date 2026-11-23 --json",
        "loopers prices show gpt-4o",
        "loopers prices show gpt-4o --input 5 --output 0 --json",
        "loopers prices check",
        "loopers mock --listen 127.0.0.1:1",
    ] {
        assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
    }
}

#[test]
fn what_is_unclear_is_a_usage_error() {
    for line in [
        "loopers keys create",
        "loopers prices import",
        "loopers prices import f.json --provider xai",
        "loopers prices import f.json --date today",
        "loopers prices show gpt-4o --input -1",
        "loopers keys create --name n --overflow maybe",
        "loopers kill",
        "loopers kill K --all",
        "loopers kill --session S --all",
        "loopers kill K --key K",
        "loopers budget unset K",
        "loopers budget unset K yearly",
        "loopers mock --listen here",
        "loopers serve --confg x",
        "loopers init --ledger mysql",
        "loopers init --providers xai",
        "loopers exec",
        "loopers exec env",
        "loopers doctor now",
    ] {
        assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        assert_eq!(format!("{:?}", run(line.split(' ').map(Into::into))), format!("{:?}", ExitCode::from(2)), "{line}");
    }
}

#[test]
fn amounts_reach_the_operations_as_they_were_typed() {
    // A sign or a blank must be refused as an amount, not swallowed as a flag.
    for amount in ["1e3", " 10 ", "-1", "10,00", "NaN"] {
        let cli = Cli::try_parse_from(["loopers", "keys", "create", "--name", "n", "--daily", amount]).unwrap();
        let Command::Keys { command: KeysCommand::Create { flags, .. } } = cli.command else { unreachable!() };
        let refused = flags.new_key().limits.limits().unwrap_err();
        assert!(refused.message.contains(amount) && refused.message.starts_with("daily: "), "{refused}");
    }
}

#[test]
fn a_kill_names_its_target() {
    let target = |line: &str| match parse(line).unwrap().command {
        Command::Kill(args) => args.target(),
        other => unreachable!("{other:?}"),
    };
    assert_eq!(target("loopers kill K"), Target::Node("K".into()));
    assert_eq!(target("loopers kill --all"), Target::All);
    assert_eq!(target("loopers kill --session S --key K"), Target::Session { id: "S".into(), key: Some("K".into()) });
}

#[test]
fn tables_line_up() {
    let rows = [vec!["a".to_string(), "1".into()], vec!["longer".into(), "1000".into()]];
    assert_eq!(table(&["NAME", ">USD"], &rows), "NAME     USD\na          1\nlonger  1000\n");
}

#[test]
fn a_config_that_is_named_must_be_there() {
    let failed = service::check(Some(std::path::Path::new("/nonexistent/loopers.yaml")), false).unwrap_err();
    assert!(failed.messages[0].contains("no such config file") && !failed.hint.is_empty());
}

#[test]
fn a_port_that_is_taken_is_not_shared() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = tempfile::NamedTempFile::new().unwrap();
    let address = taken.local_addr().unwrap();
    std::fs::write(config.path(), format!("listen: {address}\nledger: \"memory:\"\n")).unwrap();
    let failed = service::serve(Some(config.path())).unwrap_err();
    assert!(failed.messages[0].starts_with(&format!("listen: cannot listen on {address}")), "{failed:?}");
}
