//! Addresses of providers' names: looked up off the hot path, once at a time, and kept while they are fresh.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use pingora::{Error, ErrorType, Result};

/// How long a name's addresses are used before they are looked up again.
const FRESH: Duration = Duration::from_secs(30);
/// How long they are used while that look-up runs.
const STALE: Duration = Duration::from_secs(300);
/// How long a look-up that failed answers for the calls that come after it.
const FAILED: Duration = Duration::from_secs(1);
/// How long a look-up may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// Names that are remembered: those of the config, and of configs before it.
const NAMES_MAX: usize = 1000;

type LookUp = dyn Fn(String, u16) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>> + Send + Sync;

/// The times of the constants above, which tests make shorter.
#[derive(Clone, Copy)]
struct Times {
    fresh: Duration,
    stale: Duration,
    failed: Duration,
    patience: Duration,
}

/// Addresses by name.
pub struct Resolver {
    known: RwLock<HashMap<(String, u16), Arc<Name>>>,
    look_up: Arc<LookUp>,
    times: Times,
}

impl Default for Resolver {
    fn default() -> Self {
        Resolver::new(
            Arc::new(|host, port| {
                Box::pin(async move { Ok(tokio::net::lookup_host((host.as_str(), port)).await?.collect()) })
            }),
            Times { fresh: FRESH, stale: STALE, failed: FAILED, patience: PATIENCE },
        )
    }
}

impl Resolver {
    fn new(look_up: Arc<LookUp>, times: Times) -> Resolver {
        Resolver { known: RwLock::default(), look_up, times }
    }

    /// An address of `host`; the next one each time. Fresh ones cost nothing, older ones are given while they are looked up again, and
    /// the last good answer stays when that fails.
    pub async fn address(&self, host: &str, port: u16) -> Result<SocketAddr> {
        if let Ok(ip) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Ok(SocketAddr::new(ip, port));
        }
        let name = self.name(host, port);
        let (age, address) = name.known();
        if let Some(address) = address
            && age < self.times.stale
        {
            if age >= self.times.fresh
                && let Ok(turn) = name.turn.clone().try_lock_owned()
            {
                let (name, look_up, patience) = (name.clone(), self.look_up.clone(), self.times.patience);
                tokio::spawn(async move {
                    name.ask(&*look_up, patience).await;
                    drop(turn);
                });
            }
            return Ok(address);
        }
        // One asks; who waits for its turn finds the answer there.
        let turn = name.turn.lock().await;
        if name.known().0 >= self.times.fresh && !name.failed_within(self.times.failed) {
            name.ask(&*self.look_up, self.times.patience).await;
        }
        drop(turn);
        name.known().1.ok_or_else(|| Error::explain(ErrorType::ConnectNoRoute, format!("no address for {host}")))
    }

    fn name(&self, host: &str, port: u16) -> Arc<Name> {
        let key = (host.to_string(), port);
        if let Some(name) = self.known.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return name.clone();
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= NAMES_MAX {
            known.clear();
        }
        let fresh = || Arc::new(Name { host: host.into(), port, ..Name::default() });
        known.entry(key).or_insert_with(fresh).clone()
    }
}

/// What is known of one name.
#[derive(Default)]
struct Name {
    host: String,
    port: u16,
    found: Mutex<Found>,
    next: AtomicUsize,
    /// Whoever holds it looks the name up.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct Found {
    list: Vec<SocketAddr>,
    at: Option<Instant>,
    failed: Option<Instant>,
}

impl Name {
    /// How old the last good answer is, and the next address of it.
    fn known(&self) -> (Duration, Option<SocketAddr>) {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let address = found.list.get(turn % found.list.len().max(1)).copied();
        (found.at.map_or(Duration::MAX, |at| at.elapsed()), address)
    }

    fn failed_within(&self, time: Duration) -> bool {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.failed.is_some_and(|at| at.elapsed() < time)
    }

    async fn ask(&self, look_up: &LookUp, patience: Duration) {
        let answer = tokio::time::timeout(patience, look_up(self.host.clone(), self.port)).await;
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Ok(Ok(list)) if !list.is_empty() => *found = Found { list, at: Some(Instant::now()), failed: None },
            _ => {
                log::warn!("the name {} cannot be looked up", self.host);
                found.failed = Some(Instant::now());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name server whose answer changes, which counts its questions.
    #[derive(Default)]
    struct Server {
        answer: Mutex<Option<&'static str>>,
        asked: AtomicUsize,
        silent: std::sync::atomic::AtomicBool,
    }

    impl Server {
        fn say(&self, address: Option<&'static str>) {
            *self.answer.lock().unwrap() = address;
        }

        fn asked(&self) -> usize {
            self.asked.load(Ordering::SeqCst)
        }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn resolver(times: Times) -> (Arc<Server>, Arc<Resolver>) {
        let server = Arc::new(Server::default());
        let theirs = server.clone();
        let look_up: Arc<LookUp> = Arc::new(move |_, port| {
            let server = theirs.clone();
            Box::pin(async move {
                server.asked.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(ms(20)).await;
                if server.silent.load(Ordering::SeqCst) {
                    std::future::pending::<()>().await;
                }
                let answer = *server.answer.lock().unwrap();
                answer.map(|ip| vec![SocketAddr::new(ip.parse().unwrap(), port)]).ok_or(io::ErrorKind::NotFound.into())
            })
        });
        (server, Arc::new(Resolver::new(look_up, times)))
    }

    const LONG: Duration = Duration::from_secs(600);

    #[tokio::test]
    async fn an_address_needs_no_lookup_and_an_unknown_name_is_an_error() {
        let resolver = Resolver::default();
        assert_eq!(resolver.address("127.0.0.1", 1).await.unwrap().to_string(), "127.0.0.1:1");
        assert_eq!(resolver.address("[::1]", 1).await.unwrap().to_string(), "[::1]:1");
        assert!(resolver.address("no-such-host.invalid", 443).await.is_err());
    }

    #[tokio::test]
    async fn d43_a_name_that_moves_is_followed_and_nobody_waits_for_it() {
        let (server, resolver) = resolver(Times { fresh: ms(50), stale: LONG, failed: ms(1), patience: LONG });
        server.say(Some("10.0.0.1"));
        assert_eq!(resolver.address("a.test", 1).await.unwrap().to_string(), "10.0.0.1:1");
        server.say(Some("10.0.0.2"));
        let deadline = Instant::now() + LONG;
        while resolver.address("a.test", 1).await.unwrap().to_string() != "10.0.0.2:1" {
            assert!(Instant::now() < deadline);
            tokio::time::sleep(ms(5)).await;
        }
        // A name server that says nothing any more delays no call: the addresses known last are used.
        server.silent.store(true, Ordering::SeqCst);
        tokio::time::sleep(ms(100)).await;
        let asked = server.asked();
        for _ in 0..50 {
            assert_eq!(resolver.address("a.test", 1).await.unwrap().to_string(), "10.0.0.2:1");
            tokio::time::sleep(ms(2)).await;
        }
        assert!(server.asked() <= asked + 1, "one question at a time");
    }

    #[tokio::test]
    async fn d43_the_last_good_answer_stays_when_a_name_is_gone() {
        let (server, resolver) = resolver(Times { fresh: ms(1), stale: ms(2), failed: ms(1), patience: LONG });
        server.say(Some("10.0.0.1"));
        assert!(resolver.address("a.test", 1).await.is_ok());
        server.say(None);
        for _ in 0..3 {
            tokio::time::sleep(ms(10)).await;
            assert_eq!(resolver.address("a.test", 1).await.unwrap().to_string(), "10.0.0.1:1");
        }
    }

    #[tokio::test]
    async fn d43_many_calls_to_an_unknown_name_are_one_question() {
        let (server, resolver) = resolver(Times { fresh: LONG, stale: LONG, failed: LONG, patience: LONG });
        let ask_all = async |good: bool| {
            let calls: Vec<_> = (0..200)
                .map(|_| {
                    let resolver = resolver.clone();
                    tokio::spawn(async move { resolver.address("a.test", 1).await.is_ok() })
                })
                .collect();
            for call in calls {
                assert_eq!(call.await.unwrap(), good);
            }
        };
        ask_all(false).await;
        assert_eq!(server.asked(), 1);
        server.say(Some("10.0.0.1"));
        assert!(resolver.address("b.test", 1).await.is_ok(), "another name is another question");
        assert_eq!(server.asked(), 2);
    }

    #[tokio::test]
    async fn d43_a_silent_name_server_is_waited_for_so_long_and_no_longer() {
        let (server, resolver) = resolver(Times { fresh: LONG, stale: LONG, failed: LONG, patience: ms(50) });
        server.silent.store(true, Ordering::SeqCst);
        let started = Instant::now();
        assert!(resolver.address("a.test", 1).await.is_err());
        assert!(resolver.address("a.test", 1).await.is_err());
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
        assert_eq!(server.asked(), 1, "who comes right after a failure is not kept waiting");
    }

    #[tokio::test]
    async fn names_are_bounded() {
        let (server, resolver) = resolver(Times { fresh: LONG, stale: LONG, failed: LONG, patience: LONG });
        server.say(Some("10.0.0.1"));
        for at in 0..NAMES_MAX + 10 {
            resolver.name(&format!("{at}.test"), 1);
        }
        assert!(resolver.known.read().unwrap().len() <= NAMES_MAX);
    }
}
