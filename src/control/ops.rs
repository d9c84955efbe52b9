//! One function an operation. Keys and teams are named by id or by name; money comes and goes as decimal strings.

mod budgets;
mod directory;
mod error;
mod expiry;
mod holds;
mod keys;
mod kill;
mod ledger;
mod policy;
mod stop;
mod teams;
mod views;

pub use budgets::{budget_set, budget_status, budget_unset};
pub use error::{Kind, OpError};
pub use expiry::expires_at;
pub use holds::{Released, holds_list, holds_release};
pub use keys::{NewKey, key_create, key_list, key_rotate, key_show, key_state};
pub use kill::{Killed, kill};
pub use ledger::{LedgerView, RebuildView, ledger_accept, ledger_rebuild, ledger_status};
pub use policy::model_matches;
pub use stop::{Changed, Target, set_state};
pub use teams::{NewTeam, team_create, team_list, team_show, team_state};
pub use views::{
    Amounts, BudgetView, HoldView, IssuedKey, KeyView, LevelView, LimitsView, StateChange, TeamView, WindowView,
};

#[cfg(test)]
mod tests;
