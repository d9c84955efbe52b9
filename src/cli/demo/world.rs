//! The demo's world: mock provider, gateway, and one team whose budget covers every key.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::time::sleep;

use crate::clock::{Clock, Window};
use crate::config::{self, Purpose, Settings};
use crate::control::ops::{self, Amounts, NewKey, NewTeam};
use crate::gateway::{self, InProcess};
use crate::ledger::embedded::Role;
use crate::ledger::{Ledger, NodeId, NodeStatus, Overflow};
use crate::mock::{self, MockConfig, MockHandle};
use crate::money::Money;

/// The model of all calls: $2.50 and $10 per million tokens.
pub const MODEL: &str = "gpt-4o";
/// The one budget that covers all keys.
const LIMIT_USD: &str = "0.05";
const REST_MOST: Duration = Duration::from_secs(20);

/// A key, its name and its own limit.
pub struct DemoKey {
    /// The key itself.
    pub secret: String,
    id: NodeId,
}

/// Everything that runs.
pub struct World {
    /// Where the gateway listens.
    pub gateway: SocketAddr,
    /// A key with no limit but the team's.
    pub plain: DemoKey,
    /// A key with a small limit of its own, and `overflow: clamp`.
    pub clamped: DemoKey,
    /// The same with `overflow: refuse`.
    pub refused: DemoKey,
    /// The same with `overflow: cut`.
    pub cut: DemoKey,
    team: NodeId,
    limit: Money,
    ledger: Ledger,
    server: InProcess,
    mock: MockHandle,
}

impl World {
    /// Starts everything on free ports of this machine.
    pub async fn start() -> anyhow::Result<World> {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mock = mock::start(free, MockConfig::default()).await.context("the mock provider could not be started")?;
        let settings = settings(&mock.url())?;
        let ledger = gateway::open_ledger(&settings, Role::Gateway).await?;
        let now = Clock::System.now();
        let monthly = |usd: &str| Amounts { monthly: Some(usd.into()), ..Amounts::default() };
        let team = NewTeam { name: "demo".into(), limits: monthly(LIMIT_USD), ..NewTeam::default() };
        let team = ops::team_create(&ledger, now, &team).await?;
        let prices = settings.prices.clone();
        let key = async |name: &str, limits: Amounts, overflow: Overflow| {
            let new = NewKey { name: name.into(), team: Some(team.id.clone()), limits, overflow, ..NewKey::default() };
            let issued = ops::key_create(&ledger, &prices, now, &new).await?;
            anyhow::Ok(DemoKey { secret: issued.key, id: NodeId::from(issued.view.id.as_str()) })
        };
        let plain = key("plain", Amounts::default(), Overflow::Clamp).await?;
        let clamped = key("clamped", monthly("0.005"), Overflow::Clamp).await?;
        let refused = key("refused", monthly("0.001"), Overflow::Refuse).await?;
        let cut = key("cut", monthly("0.01"), Overflow::Cut).await?;
        let listener = TcpListener::bind(free)?;
        let server = gateway::start_in_process(settings, ledger.clone(), listener)?;
        let (team, limit) = (NodeId::from(team.id.as_str()), Money::parse_limit(LIMIT_USD)?);
        let gateway = server.addr();
        Ok(World { gateway, plain, clamped, refused, cut, team, limit, ledger, server, mock })
    }

    /// The one budget.
    pub fn limit(&self) -> Money {
        self.limit
    }

    /// The mock's own invoice.
    pub fn invoice(&self) -> Money {
        Money::from_nano(self.mock.invoice().invoice_nano)
    }

    /// POST requests that reached the provider.
    pub fn provider_posts(&self) -> u64 {
        self.mock.invoice().posts
    }

    /// The team's books.
    pub async fn books(&self) -> anyhow::Result<NodeStatus> {
        Ok(self.ledger.status(&self.team).await?)
    }

    /// Spent and held of the team this month.
    pub async fn spent_and_held(&self) -> anyhow::Result<(Money, Money)> {
        let month = self.books().await?.windows[Window::Monthly.index()];
        Ok((month.spent, month.held))
    }

    /// Everything ever charged to a key.
    pub async fn charged_to(&self, key: &DemoKey) -> anyhow::Result<Money> {
        Ok(self.ledger.status(&key.id).await?.charged_total)
    }

    /// Waits until the provider generates nothing, no call runs and no money is held.
    pub async fn at_rest(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + REST_MOST;
        while self.mock.invoice().in_flight > 0
            || !self.server.quiet(REST_MOST).await
            || !self.ledger.holds(1).await?.is_empty()
        {
            if Instant::now() > deadline {
                bail!("calls or holds are left over after {REST_MOST:?}");
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Stops everything.
    pub async fn stop(self) {
        self.server.stop().await;
        self.mock.shutdown();
    }
}

fn settings(mock_url: &str) -> anyhow::Result<Settings> {
    let text = format!(
        "listen: 127.0.0.1:8080\nledger: \"memory:\"\nproviders: {{ openai: {{ base_url: \"{mock_url}\", key: env:DEMO_KEY }} }}\n"
    );
    let environment = |_: &str| Some(OsString::from("sk-test-demo"));
    Ok(config::parse(Path::new("demo.yaml"), &text, &environment, Purpose::Serve)?.settings)
}
