//! Limits of keys and teams, and what is spent of them.

use super::directory::Directory;
use super::{Amounts, BudgetView, LevelView, OpError};
use crate::clock::Window;
use crate::ledger::{Edit, Ledger, Limits, Node, NodeId};
use crate::money::Money;

/// Sets the limits of the windows given; the others stay.
pub async fn budget_set(ledger: &Ledger, name: &str, amounts: &Amounts) -> Result<BudgetView, OpError> {
    let limits = amounts.limits()?;
    let changes: Vec<(Window, Option<Money>)> =
        Window::ALL.into_iter().filter_map(|window| Some((window, Some(limits.of(window)?)))).collect();
    if changes.is_empty() {
        return Err(OpError::invalid("no limit was given").hint("give at least one window, such as --daily 5"));
    }
    let id = Directory::load(ledger).await?.either(name)?.id().clone();
    ledger.edit(&id, &Edit::Limits(changes)).await?;
    budget_status(ledger, id.as_str()).await
}

/// Lifts the limits of the windows named. Refused when that would leave a key without any limit that was not made so.
pub async fn budget_unset(ledger: &Ledger, name: &str, windows: &[String]) -> Result<BudgetView, OpError> {
    let mut changes = Vec::new();
    for text in windows {
        let window = Window::from_name(text).ok_or_else(|| {
            OpError::invalid(format!("`{text}` is not a window")).hint("minute, hourly, daily, weekly or monthly")
        })?;
        changes.push((window, None));
    }
    if changes.is_empty() {
        return Err(OpError::invalid("no window was named").hint("minute, hourly, daily, weekly or monthly"));
    }
    let directory = Directory::load(ledger).await?;
    let node = directory.either(name)?;
    let id = node.id().clone();
    let mut left = limits_of(node);
    for (window, limit) in &changes {
        left.0[window.index()] = *limit;
    }
    if left.is_empty()
        && let Some(key) = uncovered(&directory, &id)
    {
        return Err(OpError::conflict(format!("that would leave key `{key}` without any limit"))
            .hint("set another limit first; a key may go without only when it was made with --unlimited"));
    }
    ledger.edit(&id, &Edit::Limits(changes)).await?;
    budget_status(ledger, id.as_str()).await
}

fn limits_of(node: &Node) -> Limits {
    match node {
        Node::Key(key) => key.limits,
        Node::Team(team) => team.limits,
    }
}

/// The name of a key that no limit would cover if node `id` had none, though it was not made so.
fn uncovered(directory: &Directory, id: &NodeId) -> Option<String> {
    let open = directory.keys().filter(|key| !key.policy.unlimited && key.state != crate::ledger::State::Revoked);
    let mut open = open.filter(|key| {
        let above = directory.above(&Node::Key((*key).clone()));
        let below = key.id == *id || above.iter().any(|team| team.id == *id);
        let own = key.id != *id && !key.limits.is_empty();
        below && !own && !above.iter().any(|team| team.id != *id && !team.limits.is_empty())
    });
    open.next().map(|key| key.name.clone())
}

/// The books of a key or team, and of every level above it.
pub async fn budget_status(ledger: &Ledger, name: &str) -> Result<BudgetView, OpError> {
    let directory = Directory::load(ledger).await?;
    let node = directory.either(name)?;
    let mut levels = vec![LevelView::from(ledger.status(node.id()).await?)];
    for team in directory.above(node) {
        levels.push(LevelView::from(ledger.status(&team.id).await?));
    }
    Ok(BudgetView { id: node.id().to_string(), levels })
}
