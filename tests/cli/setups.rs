//! A set-up in which nothing is wrong, and ways to break it.

use super::servers;
use super::world::{World, free_port};

/// The key of the provider in these set-ups.
pub const PROVIDER_KEY: &str = "sk-test-of-a-set-up";

/// A config in which nothing is wrong, line by line. Line 1 is `lines[0]`.
pub struct Setup {
    pub world: World,
    pub lines: Vec<String>,
}

impl Setup {
    /// One gateway, a ledger file, OpenAI on a server that answers.
    pub fn new() -> Setup {
        let mut world = World::new();
        world.set("OPENAI_API_KEY", PROVIDER_KEY);
        let provider = servers::plain("200 OK");
        let lines = [
            format!("listen: 127.0.0.1:{}", free_port()),
            format!("admin: {{ listen: 127.0.0.1:{} }}", free_port()),
            "ledger: file:loopers.db".into(),
            "limits: { in_flight: 20, ledger_ms: 2000 }".into(),
            "providers:".into(),
            "  openai:".into(),
            format!("    base_url: http://127.0.0.1:{provider}"),
            "    key: env:OPENAI_API_KEY".into(),
        ];
        Setup { world, lines: lines.into() }
    }

    /// Line `number` is another one.
    pub fn line(&mut self, number: usize, text: impl Into<String>) {
        self.lines[number - 1] = text.into();
    }

    /// One line more, at the end.
    pub fn more(&mut self, text: impl Into<String>) {
        self.lines.push(text.into());
    }

    /// The books are in this Redis, whose URL is in the environment.
    pub fn redis(&mut self, url: String) {
        self.world.set("LOOPERS_LEDGER", url);
        self.line(3, "ledger: env:LOOPERS_LEDGER");
    }

    /// The provider is at this address.
    pub fn base_url(&mut self, url: String) {
        self.line(7, format!("    base_url: {url}"));
    }

    /// Writes the config.
    pub fn write(&self) {
        self.world.write("loopers.yaml", self.lines.join("\n") + "\n");
    }

    /// The port of `listen` or of the admin listener.
    pub fn port(&self, line: usize) -> u16 {
        let digits: String =
            self.lines[line - 1].rsplit(':').next().unwrap().chars().filter(char::is_ascii_digit).collect();
        digits.parse().unwrap()
    }
}
