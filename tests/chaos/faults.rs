//! The table of faults.

use crate::wire::Mode;

/// What is done to redis-server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    Frozen,
    Killed,
    Stopped,
    Busy,
    PausedWrites,
    ScriptsFlushed,
    LoadingForbidden,
    EvalForbidden,
    EvictingPolicy,
    OutOfMemory,
    ReadOnly,
    ClientsKilled,
    PasswordChanged,
    Emptied,
    RestartedEmpty,
    RestartedOlder,
    Evicted,
}

impl Server {
    /// The books are lost: gateways must block until an operator decides.
    pub fn loses_books(self) -> bool {
        matches!(self, Server::Emptied | Server::RestartedEmpty | Server::RestartedOlder | Server::Evicted)
    }
}

/// What is done to a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    Killed,
    KilledAll,
    Terminated,
    TerminatedTwice,
    Interrupted,
    Frozen,
    Reloaded,
    BrokenConfig,
    PricesChanged,
    FilesExhausted,
}

/// What an operator does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    KillsKey,
    KillsTeam,
    KillsAll,
    KillsSession,
    Pauses,
    Lowers,
    Raises,
    Revokes,
    Rotates,
}

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    Whole,
    LeavesInUpload,
    LeavesBeforeHead { reset: bool },
    LeavesAfter { bytes: usize, reset: bool },
    HalfClose,
    StopsReading,
    SlowBody,
    HugeHeader,
    Garbage,
}

/// Which calls a fault is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kinds {
    Any,
    Plain,
    Stream,
    OpenAiStream,
}

/// Where a fault is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What {
    /// redis-server itself.
    Server(Server),
    /// Between gateways and Redis.
    Ledger(Mode),
    /// Between gateways and providers.
    Upstream(Mode),
    Process(Process),
    Operator(Operator),
    Client(Client, Kinds),
    /// The provider follows this script.
    Script(&'static str, Kinds),
}

impl What {
    pub fn group(self) -> &'static str {
        match self {
            What::Server(_) => "ledger",
            What::Ledger(_) => "ledger's network",
            What::Upstream(_) => "provider's network",
            What::Process(_) => "gateway",
            What::Operator(_) => "operator",
            What::Client(..) => "client",
            What::Script(..) => "provider",
        }
    }

    /// True for what single calls carry.
    pub fn is_of_calls(self) -> bool {
        matches!(self, What::Client(..) | What::Script(..))
    }

    /// True when both can be about at once. An operator can do nothing to a ledger that is not there.
    pub fn goes_with(self, other: What) -> bool {
        let at = |group| self.group() == group || other.group() == group;
        self.group() != other.group() && !(at("ledger") && at("operator"))
    }
}

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    pub name: &'static str,
    pub what: What,
}

const fn fault(name: &'static str, what: What) -> Fault {
    Fault { name, what }
}

/// Every fault; docs/TESTING.md lists them as they stand here.
pub const FAULTS: &[Fault] = &[
    fault("redis frozen", What::Server(Server::Frozen)),
    fault("redis killed", What::Server(Server::Killed)),
    fault("redis stopped", What::Server(Server::Stopped)),
    fault("redis busy for a second", What::Server(Server::Busy)),
    fault("redis pauses writes", What::Server(Server::PausedWrites)),
    fault("redis forgets its scripts", What::Server(Server::ScriptsFlushed)),
    fault("redis loads no scripts", What::Server(Server::LoadingForbidden)),
    fault("redis runs no scripts", What::Server(Server::EvalForbidden)),
    fault("redis may evict", What::Server(Server::EvictingPolicy)),
    fault("redis out of memory", What::Server(Server::OutOfMemory)),
    fault("redis read-only", What::Server(Server::ReadOnly)),
    fault("redis drops its clients", What::Server(Server::ClientsKilled)),
    fault("redis wants another password", What::Server(Server::PasswordChanged)),
    fault("books emptied", What::Server(Server::Emptied)),
    fault("redis restarted empty", What::Server(Server::RestartedEmpty)),
    fault("redis restarted from older files", What::Server(Server::RestartedOlder)),
    fault("keys evicted", What::Server(Server::Evicted)),
    fault("ledger refuses connections", What::Ledger(Mode::Refuse)),
    fault("ledger is a black hole", What::Ledger(Mode::BlackHole)),
    fault("ledger answers late", What::Ledger(Mode::Delay(300))),
    fault("ledger answers much too late", What::Ledger(Mode::Delay(2000))),
    fault("ledger resets in mid-answer", What::Ledger(Mode::ResetInAnswer)),
    fault("ledger's answers are lost", What::Ledger(Mode::DropAnswers)),
    fault("ledger's answers are half", What::Ledger(Mode::Truncate)),
    fault("ledger's line is slow", What::Ledger(Mode::Throttle)),
    fault("ledger's connections are reset", What::Ledger(Mode::Cut(0))),
    fault("provider refuses connections", What::Upstream(Mode::Refuse)),
    fault("provider is a black hole", What::Upstream(Mode::BlackHole)),
    fault("provider answers late", What::Upstream(Mode::Delay(400))),
    fault("provider resets in mid-answer", What::Upstream(Mode::ResetInAnswer)),
    fault("provider's answers are lost", What::Upstream(Mode::DropAnswers)),
    fault("provider half-closes in mid-answer", What::Upstream(Mode::Truncate)),
    fault("provider's line is slow", What::Upstream(Mode::Throttle)),
    fault("provider's idle connections are reset", What::Upstream(Mode::Cut(0))),
    fault("gateway killed", What::Process(Process::Killed)),
    fault("all gateways killed", What::Process(Process::KilledAll)),
    fault("gateway terminated", What::Process(Process::Terminated)),
    fault("gateway terminated twice", What::Process(Process::TerminatedTwice)),
    fault("gateway interrupted", What::Process(Process::Interrupted)),
    fault("gateway frozen", What::Process(Process::Frozen)),
    fault("config reloaded", What::Process(Process::Reloaded)),
    fault("broken config reloaded", What::Process(Process::BrokenConfig)),
    fault("prices changed", What::Process(Process::PricesChanged)),
    fault("gateway out of file descriptors", What::Process(Process::FilesExhausted)),
    fault("key killed", What::Operator(Operator::KillsKey)),
    fault("team killed", What::Operator(Operator::KillsTeam)),
    fault("everything killed", What::Operator(Operator::KillsAll)),
    fault("session killed", What::Operator(Operator::KillsSession)),
    fault("key paused", What::Operator(Operator::Pauses)),
    fault("limit lowered below what is spent", What::Operator(Operator::Lowers)),
    fault("limit raised", What::Operator(Operator::Raises)),
    fault("key revoked", What::Operator(Operator::Revokes)),
    fault("key rotated", What::Operator(Operator::Rotates)),
    fault("client leaves in mid-upload", What::Client(Client::LeavesInUpload, Kinds::Any)),
    fault("client leaves before the head", What::Client(Client::LeavesBeforeHead { reset: false }, Kinds::Any)),
    fault("client resets before the head", What::Client(Client::LeavesBeforeHead { reset: true }, Kinds::Any)),
    fault("client leaves in mid-stream", What::Client(Client::LeavesAfter { bytes: 500, reset: false }, Kinds::Stream)),
    fault("client resets in mid-stream", What::Client(Client::LeavesAfter { bytes: 900, reset: true }, Kinds::Stream)),
    fault("client leaves near the end", What::Client(Client::LeavesAfter { bytes: 4000, reset: false }, Kinds::Stream)),
    fault("client half-closes", What::Client(Client::HalfClose, Kinds::Any)),
    fault("client stops reading", What::Client(Client::StopsReading, Kinds::Stream)),
    fault("client sends slowly", What::Client(Client::SlowBody, Kinds::Any)),
    fault("client sends a huge header", What::Client(Client::HugeHeader, Kinds::Any)),
    fault("client sends half a body", What::Client(Client::Garbage, Kinds::Any)),
    fault("provider answers 500", What::Script("status=500", Kinds::Any)),
    fault("provider bills its 500", What::Script("tokens=20;status=500;billed", Kinds::OpenAiStream)),
    fault("provider answers in HTML", What::Script("html", Kinds::Any)),
    fault("provider redirects", What::Script("redirect", Kinds::Any)),
    fault("provider truncates a body", What::Script("tokens=40;truncate", Kinds::Plain)),
    fault("provider truncates a stream", What::Script("tokens=40;truncate", Kinds::Stream)),
    fault("provider sends too much", What::Script("tokens=5;big=3", Kinds::Plain)),
    fault("provider sends no usage", What::Script("tokens=40;usage=none", Kinds::Any)),
    fault("provider's usage is 0", What::Script("tokens=40;usage=zero", Kinds::Any)),
    fault("provider's usage is too small", What::Script("tokens=40;usage=small", Kinds::Any)),
    fault("provider's usage is negative", What::Script("tokens=40;usage=negative", Kinds::Any)),
    fault("provider's usage is no number", What::Script("tokens=40;usage=nan", Kinds::Any)),
    fault("provider's usage comes too late", What::Script("tokens=40;usage=after_done", Kinds::Any)),
    fault("provider never ends", What::Script("endless;rate=40;chunk=1;leave=stop", Kinds::OpenAiStream)),
    fault(
        "provider ignores its limit",
        What::Script("tokens=3000;obey=0;rate=50;chunk=1;leave=stop;usage=none", Kinds::OpenAiStream),
    ),
    fault("provider hangs up at once", What::Script("die_before", Kinds::Any)),
    fault("provider dies in mid-stream", What::Script("tokens=60;rate=60;die_at=20", Kinds::Stream)),
    fault("provider never answers", What::Script("hang", Kinds::Any)),
    fault("provider's head is late", What::Script("tokens=20;delay_headers_ms=1500", Kinds::Any)),
    fault("provider stalls in mid-stream", What::Script("tokens=60;pause_at=10;pause_ms=6000", Kinds::Stream)),
    fault("provider errs in mid-stream", What::Script("tokens=60;error_at=20", Kinds::Stream)),
    fault("provider's stream has no last event", What::Script("tokens=40;no_done", Kinds::Stream)),
    fault("provider says gzip", What::Script("tokens=20;gzip", Kinds::Any)),
];
