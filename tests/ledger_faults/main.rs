//! The ledger in doubt: a real gateway, a real redis-server, and each way in which the one can fail the other.
//!
//! Every test asks the same: no call goes out meanwhile, the refusal comes within the ledger's time, it heals by itself where
//! nothing was lost, and stays blocked until an operator decides where something was; and then the provider's invoice ≤ what is
//! charged ≤ the limit, with nothing held.

#[path = "../gateway/support/mod.rs"]
#[allow(dead_code, unused_imports)]
mod support;

mod cluster;
mod lab;
mod lost;
mod rebuild;
mod replicas;
mod unavailable;
