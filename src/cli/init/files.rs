//! The texts of the files. Each says why it is as it is, for whoever reads it a year later.

use std::fmt::Write as _;
use std::path::Path;

use super::Plan;
use crate::clock::Window;

/// The variable with the URL of Redis, which has a password in it.
pub const LEDGER_VARIABLE: &str = "LOOPERS_LEDGER";

/// A provider that can be written into a config.
#[derive(Debug)]
pub struct Known {
    /// Its name.
    pub name: &'static str,
    /// The variable that its own SDK reads its key from.
    pub variable: &'static str,
    /// Where it is reached.
    pub base_url: &'static str,
    /// Whether that is its address for everybody.
    pub is_public: bool,
    /// Where a person finds the address.
    pub where_is_it: &'static str,
}

/// All that can be written, in the order in which they are written.
pub const KNOWN: [Known; 6] = [
    public("openai", "OPENAI_API_KEY", "https://api.openai.com"),
    public("anthropic", "ANTHROPIC_API_KEY", "https://api.anthropic.com"),
    public("gemini", "GEMINI_API_KEY", "https://generativelanguage.googleapis.com"),
    public("mistral", "MISTRAL_API_KEY", "https://api.mistral.ai"),
    Known {
        name: "azure",
        variable: "AZURE_OPENAI_API_KEY",
        base_url: "https://NAME.openai.azure.com",
        is_public: false,
        where_is_it: "Its portal shows it as the resource's endpoint.",
    },
    Known {
        name: "bedrock",
        variable: "AWS_BEARER_TOKEN_BEDROCK",
        base_url: "https://bedrock-runtime.us-east-1.amazonaws.com",
        is_public: false,
        where_is_it: "The region is part of the address.",
    },
];

const fn public(name: &'static str, variable: &'static str, base_url: &'static str) -> Known {
    Known { name, variable, base_url, is_public: true, where_is_it: "" }
}

/// `loopers.yaml`.
pub fn config(plan: &Plan) -> String {
    let ledger = if plan.redis {
        format!(
            "# The books are in Redis 7 or Valkey, so that several gateways can share them: maxmemory-policy noeviction, and\n\
             # appendonly yes. The URL has a password in it and stands in the environment: redis://:PASSWORD@HOST:6379\n\
             ledger: env:{LEDGER_VARIABLE}\n"
        )
    } else {
        "# The books: a file beside this one, for one gateway on one machine. Back it up; who deletes it forgets all keys and\n\
         # all spending. Several gateways need Redis instead: env:LOOPERS_LEDGER with redis://:PASSWORD@HOST:6379 in it.\n\
         ledger: file:loopers.db\n"
            .to_string()
    };
    let mut text = format!(
        "# Loopers. What is not here has its default. After a change: `loopers check` reads this file, `loopers doctor` looks at\n\
         # everything around it as well. Paths count from this file's folder.\n\
         \n\
         # Where programs connect. 0.0.0.0: from everywhere that reaches this machine; 127.0.0.1:8080: from this machine only.\n\
         listen: 0.0.0.0:8080\n\
         \n\
         # Metrics, and the admin API, which answers 403 until it has a token.\n\
         admin:\n  listen: 127.0.0.1:9090\n  # token: env:LOOPERS_ADMIN_TOKEN          # made by: openssl rand -hex 32\n\
         \n\
         {ledger}\
         \n\
         # Where days, weeks (from Monday) and months begin, e.g. Europe/Berlin.\n\
         time_zone: UTC\n\
         \n\
         # Prices: those that come with the program. Files of your own win, model by model, in their order.\n\
         # prices: [prices.yaml]\n\
         \n\
         # Only what is listed here can be called. A key is never written here: env:NAME or file:PATH. While a variable is not\n\
         # set, calls to that provider must bring a key of their own (X-Loopers-Provider-Key); the others are not affected.\n\
         providers:\n"
    );
    for (known, base_url) in &plan.providers {
        let _ = write!(text, "  {}:\n    base_url: {base_url}\n    key: env:{}\n", known.name, known.variable);
        text.push_str(more(known, base_url).as_str());
    }
    for known in KNOWN.iter().filter(|known| plan.providers.iter().all(|(used, _)| used.name != known.name)) {
        let _ =
            writeln!(text, "  # {}: {{ base_url: \"{}\", key: env:{} }}", known.name, known.base_url, known.variable);
    }
    text
}

/// What a provider needs beyond address and key.
fn more(known: &Known, base_url: &str) -> String {
    match known.name {
        "azure" => "    # What each deployment runs: without it a call cannot be priced, and is refused.\n    \
                    # deployments: { my-gpt: gpt-4o }\n"
            .into(),
        "bedrock" => {
            let region = base_url.split('.').nth(1).filter(|_| base_url.contains("amazonaws.com"));
            format!("    region: {}\n", region.unwrap_or("us-east-1"))
        }
        _ => String::new(),
    }
}

/// `.env.example`.
pub fn environment(plan: &Plan) -> String {
    let mut text = String::from(
        "# Copy this file to .env, fill it in, and keep .env out of version control. docker compose reads .env by itself; for\n\
         # `loopers serve` in a shell: set -a; . ./.env; set +a\n\
         \n\
         # The providers' own keys. They stay with the gateway; programs get Loopers keys.\n",
    );
    for (known, _) in &plan.providers {
        let _ = writeln!(text, "{}=", known.variable);
    }
    if plan.redis {
        text.push_str(
            "\n# The password of Redis, made by: openssl rand -hex 24. compose.yaml makes LOOPERS_LEDGER from it; outside of\n\
             # compose: LOOPERS_LEDGER=redis://:PASSWORD@127.0.0.1:6379\n\
             REDIS_PASSWORD=\n",
        );
    }
    text.push_str(
        "\n# Only if admin.token in the config refers to it. Made by: openssl rand -hex 32\n# LOOPERS_ADMIN_TOKEN=\n",
    );
    text
}

/// `compose.yaml`. `config` is the name of the config file beside it.
pub fn compose(plan: &Plan, config: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut text = format!(
        "# The gateway in a container. Once, in the source of Loopers: docker build -t loopers:{version} .\n\
         #   cp .env.example .env && docker compose up -d\n\
         #   docker compose exec gateway loopers {}\n\
         name: loopers\n\
         \n\
         services:\n  gateway:\n    image: loopers:{version}\n    restart: unless-stopped\n    read_only: true\n    cap_drop: [ALL]\n    \
         security_opt: [\"no-new-privileges:true\"]\n    environment:\n",
        in_container(plan)
    );
    for (known, _) in &plan.providers {
        let _ = writeln!(text, "      {0}: ${{{0}:-}}", known.variable);
    }
    if plan.redis {
        let _ = writeln!(text, "      {LEDGER_VARIABLE}: redis://:${{REDIS_PASSWORD:?put it into .env}}@redis:6379");
    }
    let volume = if plan.redis { "" } else { "      - ledger:/data\n" };
    let (folder, command, beside) = if plan.redis {
        let command = "    command: [serve, --config, /etc/loopers/loopers.yaml]\n";
        let beside = "    # Nothing is written here: the books are in Redis.\n    tmpfs: [\"/data:size=1m,uid=65532,gid=65532,mode=0700\"]\n    \
                      depends_on:\n      redis: { condition: service_healthy }\n";
        ("/etc/loopers", command, beside)
    } else {
        ("/data", "", "")
    };
    let _ = write!(
        text,
        "{command}    volumes:\n{volume}      - {{ type: bind, source: \"./{config}\", target: {folder}/loopers.yaml, read_only: true }}\n{beside}    \
         # This machine only; 8080:8080 opens it to others.\n    ports: [\"127.0.0.1:8080:8080\"]\n    \
         # limits.drain_seconds (30), the last settlements, and a margin: a call that is killed is charged in full.\n    stop_grace_period: 50s\n    \
         ulimits:\n      nofile: {{ soft: 65536, hard: 65536 }}\n"
    );
    text.push_str(if plan.redis { REDIS } else { "\nvolumes:\n  ledger: {}\n" });
    text
}

/// Redis with a password that no argument shows, writing each second, never evicting, reached by nobody else.
const REDIS: &str = r#"
  redis:
    image: redis:7.4.2-bookworm
    restart: unless-stopped
    user: "999:999"
    read_only: true
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    command:
      - sh
      - -c
      - |
        exec redis-server - --dir /data --appendonly yes --appendfsync everysec --save '' --maxmemory-policy noeviction <<END
        requirepass $$REDIS_PASSWORD
        END
    environment:
      REDIS_PASSWORD: ${REDIS_PASSWORD:?put it into .env}
    volumes: ["ledger:/data"]
    healthcheck:
      test: [CMD-SHELL, 'REDISCLI_AUTH="$$REDIS_PASSWORD" redis-cli ping | grep -q PONG']
      interval: 5s
      timeout: 3s
      retries: 10
    stop_grace_period: 30s

volumes:
  ledger: {}
"#;

/// The command that makes the first key.
fn first_key(plan: &Plan) -> String {
    let limits =
        [&plan.limits.minute, &plan.limits.hourly, &plan.limits.daily, &plan.limits.weekly, &plan.limits.monthly];
    let flags = limits.into_iter().zip(Window::ALL);
    let flags = flags.filter_map(|(limit, window)| {
        Some(format!(" --{} {}", window.name(), limit.as_ref()?.trim_start_matches('$')))
    });
    format!("keys create --name {}{}", plan.key, flags.collect::<String>())
}

fn in_container(plan: &Plan) -> String {
    let config = if plan.redis { "--config /etc/loopers/loopers.yaml " } else { "" };
    format!("{config}{}", first_key(plan))
}

/// What to do now.
pub fn next_steps(plan: &Plan, config: &Path, written: &[String]) -> String {
    let flag = if config == Path::new(crate::config::DEFAULT_FILE) {
        String::new()
    } else {
        format!("--config {} ", config.display())
    };
    let done = if written.is_empty() {
        "unchanged: all files are there".into()
    } else {
        format!("wrote {}", written.join(", "))
    };
    let (first, _) = plan.providers[0];
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let mut steps = Vec::new();
    for (known, _) in plan.providers.iter().filter(|(known, _)| !set(known.variable)) {
        steps.push(format!("export {}=…", known.variable));
    }
    if plan.redis && !set(LEDGER_VARIABLE) {
        steps.push(format!("export {LEDGER_VARIABLE}=redis://:PASSWORD@127.0.0.1:6379"));
    }
    steps.push(format!("loopers {flag}doctor"));
    steps.push(format!("loopers {flag}serve &"));
    steps.push(format!("export LP_KEY=\"$(loopers {flag}{})\"", first_key(plan)));
    format!(
        "{done}\n\nnow:\n    {}\n\nprograms then use http://127.0.0.1:8080/{} with LP_KEY as their key; `loopers exec -- COMMAND` sets both for one command",
        steps.join("\n    "),
        first.name
    )
}
