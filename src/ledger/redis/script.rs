//! The Lua verbs, each with the prelude before it, and one call of one verb.

use std::sync::LazyLock;

use ::redis::Cmd;

use super::reply;
use crate::ledger::LedgerError;

/// A verb: its source and the name under which Redis remembers it.
pub(super) struct Script {
    source: &'static str,
    sha: String,
}

/// Makes the verb of a file in `lua/`.
macro_rules! verb {
    ($name:ident, $file:literal) => {
        pub(super) static $name: LazyLock<Script> = LazyLock::new(|| {
            Script::new(concat!(
                include_str!("../../../lua/prelude.lua"),
                "\n",
                include_str!(concat!("../../../lua/", $file))
            ))
        });
    };
}

verb!(RESERVE, "reserve.lua");
verb!(SETTLE, "settle.lua");
verb!(DUE, "due.lua");
verb!(STANDING, "standing.lua");
verb!(STATUS, "status.lua");
verb!(SESSION, "session.lua");
verb!(EDIT, "edit.lua");
verb!(CREATE, "create.lua");
verb!(SWAP, "swap.lua");
verb!(BOOKS, "books.lua");

impl Script {
    fn new(source: &'static str) -> Self {
        Script { source, sha: ::redis::Script::new(source).get_hash().to_string() }
    }
}

/// One call of one verb: its keys and arguments, in the order of the verb's header.
pub(super) struct Call<'a> {
    script: &'static Script,
    keys: Vec<String>,
    args: Vec<Arg<'a>>,
}

/// One argument.
pub(super) enum Arg<'a> {
    /// Text or packed bytes of someone else.
    Bytes(&'a [u8]),
    /// Text made for the call.
    Text(String),
    /// Bytes made for the call.
    Made(Vec<u8>),
}

impl<'a> From<&'a str> for Arg<'a> {
    fn from(text: &'a str) -> Self {
        Arg::Bytes(text.as_bytes())
    }
}

impl From<String> for Arg<'_> {
    fn from(text: String) -> Self {
        Arg::Text(text)
    }
}

impl From<u64> for Arg<'_> {
    fn from(number: u64) -> Self {
        Arg::Text(number.to_string())
    }
}

impl Arg<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Arg::Bytes(bytes) => bytes,
            Arg::Text(text) => text.as_bytes(),
            Arg::Made(bytes) => bytes,
        }
    }
}

impl<'a> Call<'a> {
    /// A call with these keys and no arguments yet.
    pub(super) fn new(script: &'static Script, keys: Vec<String>) -> Self {
        Call { script, keys, args: Vec::with_capacity(12) }
    }

    /// Adds an argument.
    pub(super) fn arg(mut self, arg: impl Into<Arg<'a>>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds an argument of bytes.
    pub(super) fn bytes(mut self, bytes: &'a [u8]) -> Self {
        self.args.push(Arg::Bytes(bytes));
        self
    }

    /// Adds an argument of bytes that was made for the call.
    pub(super) fn made(mut self, bytes: Vec<u8>) -> Self {
        self.args.push(Arg::Made(bytes));
        self
    }

    /// A key of the slot that the call writes in.
    pub(super) fn slot_key(&self) -> Result<&str, LedgerError> {
        self.keys.first().map(String::as_str).ok_or_else(|| reply::unexpected("a call without keys"))
    }

    /// The command, with `first` before the call's own arguments; by hash, or with the whole source.
    pub(super) fn command(&self, first: &[&[u8]], whole: bool) -> Cmd {
        let size: usize = self.keys.iter().map(|key| key.len() + 10).sum::<usize>()
            + self.args.iter().map(|arg| arg.bytes().len() + 10).sum::<usize>()
            + if whole { self.script.source.len() } else { 64 };
        let mut cmd = Cmd::with_capacity(3 + self.keys.len() + first.len() + self.args.len(), size + 200);
        if whole {
            cmd.arg("EVAL").arg(self.script.source);
        } else {
            cmd.arg("EVALSHA").arg(&self.script.sha);
        }
        cmd.arg(self.keys.len());
        for key in &self.keys {
            cmd.arg(key);
        }
        for bytes in first {
            cmd.arg(*bytes);
        }
        for arg in &self.args {
            cmd.arg(arg.bytes());
        }
        cmd
    }
}
