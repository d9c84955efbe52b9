use super::*;

#[test]
fn every_metric_of_the_contract_is_there_with_its_labels() {
    let cent = Money::from_nano(10_000_000);
    request("openai", "chat_completions", "ok");
    refusal("budget_exceeded");
    cut("hold_reached");
    charged("openai", "gpt-\"4", cent);
    charged("openai", "gpt-\"4", Money::from_nano(1));
    refunded(cent);
    overrun(Money::ZERO);
    hold_opened(cent);
    hold_opened(cent);
    hold_closed(cent);
    unsettled(3);
    tokens("openai", "gpt-4o", "input", 7);
    overhead(Duration::from_micros(70));
    ledger("reserve", Duration::from_micros(300));
    ttft("openai", Duration::from_millis(300));
    stream_opened();
    stream_opened();
    stream_closed();
    client_disconnect("openai");
    ledger_up(true);
    odd_usage("openai");
    config_reload("taken");
    alert_sent("ops", "delivered");
    alert_dropped("queue");
    budget_used(&HashMap::from([(("key", "daily"), 750_000)]));
    prices_at(1_700_000_000);
    log_dropped(0);
    otlp_begins();
    let text = render();
    for line in [
        "loopers_requests_total{outcome=\"ok\",provider=\"openai\",route=\"chat_completions\"} 1",
        "loopers_refusals_total{code=\"budget_exceeded\"} 1",
        "loopers_cuts_total{reason=\"hold_reached\"} 1",
        "loopers_charged_usd_total{provider=\"openai\",model=\"gpt-\\\"4\"} 0.010000001",
        "loopers_refunded_usd_total 0.01",
        "loopers_overrun_usd_total 0",
        "loopers_held_usd 0.01",
        "loopers_open_holds 1",
        "loopers_tokens_total{direction=\"input\",model=\"gpt-4o\",provider=\"openai\"} 7",
        "loopers_overhead_seconds_bucket{le=\"0.0001\"} 1",
        "loopers_ledger_seconds_count{op=\"reserve\"} 1",
        "loopers_ttft_seconds_bucket{provider=\"openai\",le=\"0.2\"} 0",
        "loopers_streams_open 1",
        "loopers_client_disconnects_total{provider=\"openai\"} 1",
        "loopers_ledger_up 1",
        "loopers_config_reloads_total{result=\"taken\"} 1",
        "loopers_alerts_total{result=\"delivered\",webhook=\"ops\"} 1",
        "loopers_alerts_dropped_total{queue=\"queue\"} 1",
        "loopers_budget_used_ratio_max{level=\"key\",window=\"daily\"} 0.75",
        "loopers_budget_used_ratio_max{level=\"team\",window=\"daily\"} 0",
        "loopers_price_table_timestamp_seconds 1700000000",
        concat!("loopers_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\nnot in\n{text}");
    }
    // Other tests of this process settle holds too.
    assert!(text.lines().any(|line| line.starts_with("loopers_unsettled_holds ")), "{text}");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = &line[..line.find(['{', ' ']).unwrap()];
        let name = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
    }
    agrees_with_the_docs(&text);
}

/// The table of metrics in the docs is what is there: names, types and help.
fn agrees_with_the_docs(text: &str) {
    const DOCS: &str = include_str!("../../../docs/OPERATIONS.md");
    let rows: BTreeMap<String, (String, String)> = DOCS
        .lines()
        .filter(|line| line.starts_with("| `loopers_"))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" |").map(str::trim).collect();
            (cells[0].trim_matches('`').to_string(), (cells[1].to_string(), cells[3].to_string()))
        })
        .collect();
    let told = |kind: &str| -> BTreeMap<String, String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(kind)?.trim_start().split_once(' '));
        lines.map(|(name, rest)| (name.to_string(), rest.to_string())).collect()
    };
    let types = told("# TYPE");
    let found = told("# HELP").into_iter().map(|(name, help)| {
        let kind = types[&name].clone();
        (name, (kind, help))
    });
    assert_eq!(rows, found.collect::<BTreeMap<_, _>>());
}
