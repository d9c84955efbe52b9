//! Requests without a valid key, counted by the address that they come from.
//!
//! Only failures count, and only failures are answered differently: who shares an address with an attacker (one NAT, one proxy) and
//! has a valid key never notices. A key cannot be guessed anyway; this keeps guessing from becoming a load, and shows it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pingora::proxy::Session;

use super::admit;
use super::app::{App, size};
use super::counts::Counts;
use super::intake::{self, Credentials, Target};
use super::refusal::Refusal;
use crate::config::Settings;
use crate::ledger::KeyView;

/// The time over which failures are counted.
const MINUTE: Duration = Duration::from_secs(60);

/// Who sends a request, and what is known of the key. Without a valid one: the same answer for whatever is wrong, and another one
/// for whoever tries too often.
pub async fn authenticate(
    session: &Session,
    app: &Arc<App>,
    settings: &Settings,
    target: &Target<'_>,
) -> Result<(Credentials, Arc<KeyView>), Refusal> {
    let found = match intake::credentials(&session.req_header().headers, target) {
        Ok(credentials) => admit::key_view(app, &credentials.key).await.map(|view| (credentials, view)),
        Err(refusal) => Err(refusal),
    };
    found.map_err(|refusal| {
        let limits = &settings.limits;
        let tolerated = refusal.status != 401 || {
            let from = intake::client_ip(session);
            app.attempts.failed(from, limits.auth_failures_per_minute, size(limits.auth_addresses))
        };
        if tolerated { refusal } else { Refusal::too_many_failures() }
    })
}

/// Failures by address.
#[derive(Default)]
pub struct Attempts {
    counts: Counts,
}

impl Attempts {
    /// A request from `from` had no valid key. False when it is one of more than `most` in a minute, or when `addresses_max` other
    /// addresses are counted already. An unknown address counts as one.
    pub fn failed(&self, from: Option<IpAddr>, most: u64, addresses_max: usize) -> bool {
        self.failed_at(Instant::now(), from, most, addresses_max)
    }

    fn failed_at(&self, now: Instant, from: Option<IpAddr>, most: u64, addresses_max: usize) -> bool {
        self.counts.add(now, network(from), MINUTE, addresses_max).is_some_and(|failures| failures <= most)
    }
}

/// What counts as one address: an IPv4 address, or the /64 network that one customer of IPv6 has for himself.
fn network(from: Option<IpAddr>) -> u128 {
    match from.map(|address| address.to_canonical()) {
        // IPv4 lies where no IPv6 network is: below ::ffff:0:0/96 as IPv6 maps it.
        Some(IpAddr::V4(address)) => address.to_ipv6_mapped().to_bits(),
        Some(IpAddr::V6(address)) => address.to_bits() >> 64 << 64,
        None => u128::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn e49_failures_are_counted_by_address_and_forgotten_after_a_minute() {
        let (attempts, start) = (Attempts::default(), Instant::now());
        let failed =
            |from: &str, seconds: u64| attempts.failed_at(start + Duration::from_secs(seconds), ip(from), 3, 100);
        for at in 0..3 {
            assert!(failed("192.0.2.1", at));
        }
        assert!(!failed("192.0.2.1", 3) && !failed("192.0.2.1", 59));
        // The same address in its IPv6 form is no other one; a neighbour is.
        assert!(!failed("::ffff:192.0.2.1", 59));
        assert!(failed("192.0.2.2", 59));
        assert!(failed("192.0.2.1", 60), "its minute is over");
    }

    #[test]
    fn e49_a_network_of_ipv6_cannot_be_rotated_through() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let failed = |from: String| attempts.failed_at(now, ip(&from), 10, 100);
        let passed = (0..1000).filter(|at| failed(format!("2001:db8:1:2:{at:x}::1"))).count();
        assert_eq!(passed, 10);
        assert!(failed("2001:db8:1:3::1".into()), "the next network is another customer's");
        assert_eq!(attempts.counts.counted(), 2);
    }

    #[test]
    fn e49_the_table_is_bounded_and_full_refuses_only_failures_of_new_addresses() {
        let (attempts, start) = (Attempts::default(), Instant::now());
        let failed = |at: u32, seconds: u64| {
            attempts.failed_at(start + Duration::from_secs(seconds), Some(IpAddr::V4(at.into())), 5, 100)
        };
        let passed = (0..10_000).filter(|at| failed(*at, 0)).count();
        assert_eq!((passed, attempts.counts.counted()), (100, 100));
        assert!(failed(0, 1), "who was counted before still is");
        assert!(failed(20_000, 61), "those of the first minute have made room");
        assert!(attempts.counts.counted() <= 100);
    }

    #[test]
    fn an_unknown_address_is_one_address() {
        let attempts = Attempts::default();
        assert!(attempts.failed(None, 1, 10));
        assert!(!attempts.failed(None, 1, 10));
        assert!(attempts.failed(ip("192.0.2.1"), 1, 10));
    }
}
