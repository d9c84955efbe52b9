//! Every key of the Redis engine is named here, and nowhere else.
//!
//! All names start with `lp1:`; another shape of data gets another number. Keys of one tree carry `{root}` and so share
//! one hash slot; all others stand alone, each in any slot, and are only ever touched one at a time.
//!
//! | key | type | holds |
//! |---|---|---|
//! | `lp1:{root}:n:NODE` | hash | a key or team: `j` record as JSON without what follows, `m` = 1 once made, `v` revision, `s` state, `h` key hash, `x` expires_at (absent: never), `l` limits, `w` books; in a root also `b` the books' name and `gWRITER` a gateway's mark |
//! | `lp1:{root}:m` | set | ids of the tree's nodes |
//! | `lp1:{root}:h:HOLD` | string | a hold; with a time to live once it has ended |
//! | `lp1:{root}:d` | sorted set | open holds by `expires_at` |
//! | `lp1:{root}:e` | sorted set | expired holds by the time at which they are forgotten |
//! | `lp1:{root}:s:KEY:SESSION` | string | a session; with a time to live while no hold is open |
//! | `lp1:books` | hash | the ledger as a whole: `id`, `gen` when an operator last accepted it, `lost` and `at` while it is blocked, `by` whom it was halted or accepted last |
//! | `lp1:rebuild` | string | who rebuilds the books; it expires by itself |
//! | `lp1:half` | string | there while a rebuild has taken away the old books, and has not written all of the new ones |
//! | `lp1:trees` | set | the roots of all trees |
//! | `lp1:id:NODE` | string | the chain of a node: ids joined with commas, itself first, its root last |
//! | `lp1:hash:HASH` | string | the chain of the key with this hash. Counts only if the key's own `h` agrees |
//! | `lp1:name:key:NAME`, `lp1:name:team:NAME` | string | `ID`, or `?ID` while the node is being made |
//!
//! `l`, `w`, holds and sessions are packed integers: their layouts stand at the top of `lua/prelude.lua`.
//!
//! A node comes to be when `lp1:name:…` turns from `?ID` to `ID`, which is one atomic step. Everything else is written
//! before and has no effect without it: a node without `m` counts as made only if its name says so, and a name that is
//! still `?ID` may be taken by someone else. Who wants the hash of a node that is still being made first removes its `?ID`,
//! so that it can no longer be confirmed, and then takes the hash if that has not changed hands meanwhile. So a crash at any point leaves a node that is whole, or nothing that matters.

use super::{HoldId, NodeId};

/// What every key starts with: the version of the shape of the data.
pub const PREFIX: &str = "lp1:";

/// The root of the tree that only [`super::Ledger::probe`] uses. No node id looks like it.
pub const PROBE: &str = "probe";

/// The ledger as a whole.
pub fn books() -> String {
    format!("{PREFIX}books")
}

/// There while the books are neither the old ones nor those of a rebuild.
pub fn half_built() -> String {
    String::from("lp1:half")
}

/// Who rebuilds the books right now: a token that expires soon after its process has ended.
pub fn rebuild() -> String {
    String::from("lp1:rebuild")
}

/// The set of the roots of all trees.
pub fn trees() -> String {
    format!("{PREFIX}trees")
}

/// Where a node is: its chain.
pub fn location(id: &NodeId) -> String {
    format!("{PREFIX}id:{id}")
}

/// Where the key with this hash is: its chain.
pub fn hash(hex: &str) -> String {
    format!("{PREFIX}hash:{hex}")
}

/// Who has this name: keys and teams each have names of their own.
pub fn name(is_team: bool, name: &str) -> String {
    let kind = if is_team { "team" } else { "key" };
    format!("{PREFIX}name:{kind}:{name}")
}

/// The names inside one tree: all in one hash slot.
#[derive(Clone, Debug)]
pub struct Tree(String);

impl Tree {
    /// The tree of this root.
    pub fn of(root: &NodeId) -> Self {
        Tree([PREFIX, "{", root.as_str(), "}:"].concat())
    }

    /// A key or team.
    pub fn node(&self, id: &NodeId) -> String {
        self.join("n:", id.as_str())
    }

    /// The ids of the tree's nodes.
    pub fn members(&self) -> String {
        self.join("m", "")
    }

    /// A hold.
    pub fn hold(&self, id: &HoldId) -> String {
        self.join("h:", &id.0)
    }

    /// Open holds by the time at which they are due.
    pub fn open(&self) -> String {
        self.join("d", "")
    }

    /// Expired holds by the time at which they are forgotten.
    pub fn expired(&self) -> String {
        self.join("e", "")
    }

    /// A session of a key.
    pub fn session(&self, key: &NodeId, session: &str) -> String {
        let mut name = self.join("s:", key.as_str());
        name.push(':');
        name.push_str(session);
        name
    }

    fn join(&self, kind: &str, rest: &str) -> String {
        let mut name = String::with_capacity(self.0.len() + kind.len() + rest.len() + 40);
        name.push_str(&self.0);
        name.push_str(kind);
        name.push_str(rest);
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_a_tree_has_the_tree_as_its_only_hash_tag() {
        let root = NodeId::from("t_00112233445566aa");
        let tree = Tree::of(&root);
        for key in [
            tree.node(&"k_1".into()),
            tree.members(),
            tree.hold(&HoldId("abc".into())),
            tree.open(),
            tree.expired(),
            tree.session(&"k_1".into(), "run.1:a"),
        ] {
            assert!(key.starts_with("lp1:{t_00112233445566aa}:"), "{key}");
        }
        assert_eq!(tree.session(&"k_1".into(), "s"), "lp1:{t_00112233445566aa}:s:k_1:s");
    }

    #[test]
    fn names_of_keys_and_teams_do_not_meet() {
        assert_ne!(name(true, "a"), name(false, "a"));
    }
}
