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
    /// The longest time for a client to send its request body.
    body_seconds = 60, 1..=HOUR;
    /// The largest answer that is read as a whole before it is passed on.
    answer_bytes = 64 * MIB, KIB..=1024 * MIB;
    /// Bodies of all calls together that may be in memory at once.
    buffered_bytes = 512 * MIB, MIB..=1024 * 1024 * MIB;
    /// Calls that run at once; one more is answered 503.
    in_flight = 10_000, 1..=1_000_000;
    /// The longest life of a call: then it is cut, and its hold is charged.
    call_seconds = HOUR, 10..=24 * HOUR;
    /// How long a stop waits for the calls that run.
    drain_seconds = 30, 0..=HOUR;
    /// Keys whose place in the ledger is remembered.
    key_cache = 100_000, 1..=10_000_000;
    /// The longest wait for one answer of the ledger, in milliseconds.
    ledger_ms = 250, 10..=30_000;
    /// Connections to a Redis ledger.
    ledger_connections = 2, 1..=256;
    /// Replicas of a Redis ledger that must have a hold before its call goes out.
    ledger_wait_replicas = 0, 0..=16;
    /// How long the files of the journal are kept, in days; 0: there is none.
    journal_days = 62, 0..=3660;
    /// A file of the journal that has become so large is followed by another one.
    journal_file_bytes = 64 * MIB, MIB..=1024 * 1024 * MIB;
}
