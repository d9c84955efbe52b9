//! What a world looks like before it starts.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use super::chaos::Chaos;
use super::process::{FailsLast, LOOPERS, Process, free_port, local, raise_file_limit};
use super::world::{Engine, World, answers_200};

/// Says what a world looks like before it starts.
pub struct Builder {
    pub(super) engine: Engine,
    pub(super) gateways: usize,
    pub(super) chaos: bool,
    pub(super) upstream: Option<SocketAddr>,
    pub(super) provider: Vec<(String, String)>,
    pub(super) limits: Vec<(String, u64)>,
    pub(super) sections: Vec<String>,
    pub(super) providers: Vec<String>,
    pub(super) prices: Option<String>,
    pub(super) mock_args: Vec<String>,
    pub(super) ledger: Option<String>,
    pub(super) failpoints: bool,
    pub(super) under: Vec<String>,
}

impl Builder {
    pub fn engine(mut self, engine: Engine) -> Builder {
        self.engine = engine;
        self
    }

    pub fn redis(self) -> Builder {
        self.engine(Engine::Redis)
    }

    pub fn file(self) -> Builder {
        self.engine(Engine::File)
    }

    pub fn gateways(mut self, count: usize) -> Builder {
        self.gateways = count;
        self
    }

    /// Puts a proxy that can lose answers between the gateways and Redis.
    pub fn chaos(mut self) -> Builder {
        self.chaos = true;
        self.redis()
    }

    /// One more option of `providers.openai`.
    pub fn provider(mut self, name: &str, value: &str) -> Builder {
        self.provider.push((name.into(), value.into()));
        self
    }

    /// One of the config's `limits`. Unless it is named here, the ledger may take long: on a busy machine it does.
    pub fn limit(mut self, name: &str, value: u64) -> Builder {
        self.limits.retain(|(known, _)| known != name);
        self.limits.push((name.into(), value));
        self
    }

    /// One more provider of the config, as YAML; `MOCK` in it is the mock's URL.
    pub fn other_provider(mut self, yaml: &str) -> Builder {
        self.providers.push(yaml.into());
        self
    }

    /// One more price file.
    pub fn prices(mut self, yaml: &str) -> Builder {
        self.prices = Some(yaml.into());
        self
    }

    /// One more line of the config.
    pub fn section(mut self, yaml: &str) -> Builder {
        self.sections.push(yaml.into());
        self
    }

    /// Gateways with points at which [`World::arm`] can make them fail.
    pub fn failpoints(mut self) -> Builder {
        self.failpoints = true;
        self
    }

    /// A ledger that the test has started itself.
    pub fn ledger(mut self, url: &str) -> Builder {
        self.ledger = Some(url.into());
        self.redis()
    }

    /// Runs the gateways under another program, e.g. `prlimit --nofile=256`.
    pub fn under(mut self, command: &[&str]) -> Builder {
        self.under = command.iter().map(ToString::to_string).collect();
        self
    }

    /// Another provider than the mock.
    pub fn upstream(mut self, addr: SocketAddr) -> Builder {
        self.upstream = Some(addr);
        self
    }

    pub async fn start(self) -> World {
        raise_file_limit();
        let dir = tempfile::tempdir().expect("a directory");
        let port = free_port();
        let mut command = Command::new(LOOPERS);
        command.args(["mock", "--listen", &local(port).to_string()]).args(&self.mock_args).current_dir(dir.path());
        let mut mock = Process::start(command, dir.path(), "mock");
        answers_200(&mut mock, local(port), "/invoice").await;
        let mut world = World {
            engine: self.engine,
            builder: self,
            redis: None,
            redis_port: free_port(),
            chaos: None,
            mock_process: mock,
            mock: local(port),
            gateways: Vec::new(),
            keys: Mutex::default(),
            names: AtomicUsize::new(0),
            dir,
            _fails_last: FailsLast::new(),
        };
        if world.engine == Engine::Redis && world.builder.ledger.is_none() {
            world.start_redis().await;
        }
        if world.builder.chaos {
            world.chaos = Some(Chaos::before(local(world.redis_port)).await);
        }
        for _ in 0..world.builder.gateways {
            world.add_gateway().await;
        }
        world
    }
}
