//! The named numbers that bound every buffer, queue and wait.

use super::file::Section;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const HOUR: u64 = 3600;

/// One table for field, default, range and meaning.
macro_rules! limits {
    ($($(#[doc = $doc:literal])+ $name:ident = $default:expr, $range:expr;)+) => {
        /// Sizes, times and numbers; the unit is part of each name.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Limits {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl Default for Limits {
            fn default() -> Self {
                Limits { $($name: $default,)+ }
            }
        }

        impl Limits {
            /// Every limit's name, default, least and largest value.
            pub const TABLE: &'static [(&'static str, u64, u64, u64)] =
                &[$((stringify!($name), $default, *$range.start(), *$range.end()),)+];

            /// What each of them bounds, in the order of the table.
            pub(super) const MEANINGS: &'static [&'static str] = &[$(concat!($($doc),+),)+];

            pub(super) fn read(section: &mut Section<'_>) -> Limits {
                Limits { $($name: section.number(stringify!($name), $default, $range),)+ }
            }
        }
    };
}

limits! {
    /// The largest request body.
    body_bytes = 32 * MIB, KIB..=1024 * MIB;
    /// The largest request head: request line and all headers.
    header_bytes = 64 * KIB, KIB..=1023 * KIB;
    /// Connections of clients that may be open at once; one more is answered 503 and closed. Fewer where the system allows fewer files.
    connections = 20_000, 10..=10_000_000;
    /// Connections to the admin listener that may be open at once; one more is closed.
    admin_connections = 64, 4..=100_000;
    /// Streams that a client's HTTP/2 connection may have open at once; further ones wait.
    http2_streams = 256, 1..=10_000;
    /// Bytes of each such stream that may be between the client and the proxy.
    http2_stream_bytes = 64 * KIB, 4 * KIB..=16 * MIB;
    /// Connections to providers that may idle, for the next call; fewer where the system allows fewer files.
    idle_upstreams = 512, 1..=100_000;
    /// The longest time for a client to send a request's head, from its first byte.
    head_seconds = 30, 1..=HOUR;
    /// The longest time for a client to send its request body.
    body_seconds = 60, 1..=HOUR;
    /// The largest answer in one piece that is kept back until its cost can be written into its head; a larger one goes without.
    answer_bytes = 4 * MIB, KIB..=1024 * MIB;
    /// Bodies of all calls together that may be in memory at once: requests, and answers that are kept back.
    buffered_bytes = 512 * MIB, MIB..=1024 * 1024 * MIB;
    /// Calls that run at once; one more is answered 503.
    in_flight = 10_000, 1..=1_000_000;
    /// The longest life of a call: then it is cut, and its hold is charged.
    call_seconds = HOUR, 10..=24 * HOUR;
    /// How long a stop waits for the calls that run.
    drain_seconds = 30, 0..=HOUR;
    /// Requests without a valid key that an address (of IPv6, its /64 network) may send in a minute; further ones are answered 429.
    auth_failures_per_minute = 300, 1..=1_000_000;
    /// Addresses whose failures are counted at once. When there are more, failures of new ones are answered 429.
    auth_addresses = 100_000, 100..=10_000_000;
    /// How often one key may send the same request body, in the same session, in `loop_seconds`; 0: as often as it likes.
    loop_repeats = 0, 0..=1_000_000;
    /// The time in which repeated bodies are counted.
    loop_seconds = 60, 1..=HOUR;
    /// Bodies that are counted at once; those that find no room are not counted.
    loop_bodies = 100_000, 100..=10_000_000;
    /// Keys whose place in the ledger is remembered.
    key_cache = 100_000, 1..=10_000_000;
    /// The longest wait for one answer of the ledger, in milliseconds.
    ledger_ms = 250, 10..=30_000;
    /// Connections to a Redis ledger.
    ledger_connections = 2, 1..=256;
    /// Replicas of a Redis ledger that must have a hold before its call goes out.
    ledger_wait_replicas = 0, 0..=16;
    /// Operations that may wait for the thread of a `file:` ledger; further ones wait before it.
    ledger_queue = 4096, 16..=1_000_000;
    /// Calls that ended and whose charge the ledger has not taken: with so many no new one is taken.
    unsettled = 100_000, 1..=10_000_000;
    /// How long the files of the journal are kept, in days; 0: there is none.
    journal_days = 62, 0..=3660;
    /// A file of the journal that has become so large is followed by another one.
    journal_file_bytes = 64 * MIB, MIB..=1024 * 1024 * MIB;
    /// Pieces of the journal that may wait for the disk, for two seconds; then calls are refused.
    journal_queue = 8192, 16..=1_000_000;
    /// Keys, teams and sessions whose budgets may wait to be looked at for alerts; further ones are looked at when they spend again.
    alert_notes = 20_000, 100..=10_000_000;
}
