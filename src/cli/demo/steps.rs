//! The demo's steps, in the order in which they are told.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::Counts;
use super::client::{Reply, ask, chat, open};
use super::world::{MODEL, World};
use crate::money::Money;

/// Calls that race for the last cents.
const BURST: usize = 40;
/// Rushes; fewer when nothing is left before.
const ROUNDS_MOST: usize = 30;

type Tell<'a> = &'a (dyn Fn(&str) + Sync);

/// All steps.
pub async fn all(world: &World, tell: Tell<'_>) -> anyhow::Result<Counts> {
    let mut counts = Counts::default();
    tell(&format!(
        "A mock provider, a gateway and a ledger run in this process. One team may spend ${} this month,",
        world.limit()
    ));
    tell(&format!("and every call below is a real HTTP request for {MODEL} on one of the team's keys."));
    tell("");
    passes(world, tell, &mut counts).await?;
    hangs_up(world, tell, &mut counts).await?;
    is_clamped(world, tell, &mut counts).await?;
    is_refused(world, tell, &mut counts).await?;
    is_cut(world, tell, &mut counts).await?;
    race(world, tell, &mut counts).await?;
    Ok(counts)
}

/// Two calls that fit: the worst case is held, the true cost is charged, the rest is free again.
async fn passes(world: &World, tell: Tell<'_>, counts: &mut Counts) -> anyhow::Result<()> {
    let reply = ask(world.gateway, &world.plain.secret, &chat("tokens=40", Some(200), false)).await?;
    expect(&reply, 200)?;
    world.at_rest().await?;
    let first = world.books().await?.charged_total;
    let held = reply.header("x-loopers-held-usd");
    tell(&format!("1. A call with max_tokens 200 passes. Held before it went out: ${held}, the most it could cost."));
    tell(&format!("   The answer has {} tokens. Charged: ${first}.", reply.field("/usage/completion_tokens")));
    let reply = ask(world.gateway, &world.plain.secret, &chat("tokens=60", Some(200), true)).await?;
    expect(&reply, 200)?;
    world.at_rest().await?;
    let cost = world.books().await?.charged_total.saturating_sub(first);
    tell(&format!(
        "2. A streamed call passes, event by event. Held: ${}, charged: ${cost}.",
        reply.header("x-loopers-held-usd")
    ));
    counts.ok += 2;
    Ok(())
}

/// A client that leaves in mid-answer: what was not used is free again.
async fn hangs_up(world: &World, tell: Tell<'_>, counts: &mut Counts) -> anyhow::Result<()> {
    let before = world.books().await?.charged_total;
    let body = chat("tokens=250;rate=800", Some(900), true);
    let mut answer = open(world.gateway, &world.plain.secret, &body).await?;
    ensure!(answer.status == 200 && answer.piece().await.is_some(), "the stream did not begin");
    let (_, held) = world.spent_and_held().await?;
    answer.hang_up().await;
    world.at_rest().await?;
    let charged = world.books().await?.charged_total.saturating_sub(before);
    ensure!(charged < held, "a client that left was charged {charged} of {held} held");
    let back = held.saturating_sub(charged);
    tell(&format!(
        "3. A client hangs up in mid-stream. Held: ${held}. The provider's bill is ${charged}; ${back} is free again."
    ));
    counts.ok += 1;
    Ok(())
}

/// A call that asks for more than is left: its output limit is lowered before it goes out.
async fn is_clamped(world: &World, tell: Tell<'_>, counts: &mut Counts) -> anyhow::Result<()> {
    let reply = ask(world.gateway, &world.clamped.secret, &chat("tokens=5000", None, false)).await?;
    expect(&reply, 200)?;
    let (most, why) = (reply.header("x-loopers-max-tokens"), reply.field("/choices/0/finish_reason"));
    ensure!(
        !most.is_empty() && why == "length",
        "the call was not clamped: max tokens `{most}`, finish reason `{why}`"
    );
    tell(&format!(
        "4. A key with $0.005 asks for an answer of any length. Its output is clamped to {most} tokens, what the money"
    ));
    world.at_rest().await?;
    let charged = world.charged_to(&world.clamped).await?;
    tell(&format!("   certainly pays for; the answer ends with finish_reason {why}. Charged: ${charged}."));
    counts.clamped += 1;
    Ok(())
}

/// A call that does not fit, on a key that wants no clamps: the provider never sees it.
async fn is_refused(world: &World, tell: Tell<'_>, counts: &mut Counts) -> anyhow::Result<()> {
    let before = world.provider_posts();
    let reply = ask(world.gateway, &world.refused.secret, &chat("tokens=5000", None, false)).await?;
    expect(&reply, 402)?;
    let after = world.provider_posts();
    ensure!(after == before, "the provider saw a refused call");
    let needed = reply.field("/error/loopers/requested_usd");
    tell(&format!(
        "5. A key with $0.001 that prefers refusals asks the same: 402 {}. It would need ${needed}.",
        reply.field("/error/code")
    ));
    tell(&format!("   The provider has seen {before} requests before and {after} after: it was never asked."));
    counts.refused += 1;
    Ok(())
}

/// A stream that runs until the money of its key is used up.
async fn is_cut(world: &World, tell: Tell<'_>, counts: &mut Counts) -> anyhow::Result<()> {
    let body = chat("tokens=5000;rate=2000;leave=stop", None, true);
    let reply = ask(world.gateway, &world.cut.secret, &body).await?;
    expect(&reply, 200)?;
    ensure!(reply.body.contains("\"error\"") && !reply.body.contains("[DONE]"), "the stream was not cut");
    world.at_rest().await?;
    let charged = world.charged_to(&world.cut).await?;
    let events = reply.body.matches("data: ").count();
    tell(&format!(
        "6. A stream on a key with $0.01 and overflow cut runs for {events} events, then is cut with an error event"
    ));
    tell(&format!("   that SDKs raise. Held: ${}, charged: ${charged}.", reply.header("x-loopers-held-usd")));
    counts.cut += 1;
    Ok(())
}

/// Many calls at once for what is left, again and again until nothing fits.
async fn race(world: &World, tell: Tell<'_>, counts: &mut Counts) -> anyhow::Result<()> {
    let (spent, _) = world.spent_and_held().await?;
    let left = world.limit().saturating_sub(spent);
    tell(&format!("7. {BURST} calls race at once for the ${left} that the team has left, until nothing is left."));
    let mut highest = Money::ZERO;
    for _ in 0..ROUNDS_MOST {
        let (done, seen) = burst(world).await?;
        highest = highest.max(seen);
        tell(&format!("   {} pass in full, {} clamped, {} are refused.", done.ok, done.clamped, done.refused));
        counts.ok += done.ok;
        counts.clamped += done.clamped;
        counts.refused += done.refused;
        world.at_rest().await?;
        if done.ok + done.clamped == 0 {
            break;
        }
    }
    ensure!(highest <= world.limit(), "spent + held was {highest}, above the limit");
    tell(&format!("   The highest spent + held that was seen meanwhile: ${highest} of ${}.", world.limit()));
    Ok(())
}

/// One rush: what became of each call, and the highest spent + held that was seen.
async fn burst(world: &World) -> anyhow::Result<(Counts, Money)> {
    let gate = Arc::new(Barrier::new(BURST));
    let mut calls = JoinSet::new();
    for _ in 0..BURST {
        let (gate, gateway, key) = (gate.clone(), world.gateway, world.plain.secret.clone());
        calls.spawn(async move {
            gate.wait().await;
            ask(gateway, &key, &chat("tokens=100;first_ms=50", Some(100), false)).await
        });
    }
    let (mut done, mut highest) = (Counts::default(), Money::ZERO);
    while let Some(reply) = calls.join_next().await {
        let reply = reply.context("a call of the race broke down")??;
        match reply.status {
            200 if reply.header("x-loopers-max-tokens").is_empty() => done.ok += 1,
            200 => done.clamped += 1,
            402 => done.refused += 1,
            _ => expect(&reply, 200)?,
        }
        let (spent, held) = world.spent_and_held().await?;
        highest = highest.max(spent.saturating_add(held));
    }
    Ok((done, highest))
}

fn expect(reply: &Reply, status: u16) -> anyhow::Result<()> {
    ensure!(reply.status == status, "expected {status}, got {}: {}", reply.status, reply.body);
    Ok(())
}
