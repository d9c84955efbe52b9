//! B 24: sessions are checked in the same atomic step, and a client can only tighten them.

use crate::support::*;

fn call(key: &Key, script: &str, session: &str, extra: &[(&str, &str)]) -> Request {
    let request = Request::chat(&ask(script)).bearer(&key.secret).header("x-loopers-session-id", session);
    extra.iter().fold(request, |request, (name, value)| request.header(name, value))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b24_a_session_budget_holds() {
    let world = World::plain().await;
    let key = world.key(&["--daily", "5", "--session-budget", "0.0005"]);
    let mut spent = 0;
    let refused = loop {
        let answer = world.send(&call(&key, "tokens=200", "run-1", &[])).await;
        if answer.status != 200 {
            break answer;
        }
        spent += json::nano(&serde_json::json!(answer.header("x-loopers-cost-usd").expect("a cost")));
        assert!(spent <= 500_000, "{spent}");
    };
    let said = refused.refused(402, "session_budget_exceeded").loopers();
    assert_eq!(said["level"], "session", "{said}");
    assert!(spent > 0);
    // Another run of the same key has its own budget.
    world.send(&call(&key, "tokens=5", "run-2", &[])).await.expect(200);
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b24_client_headers_tighten_and_never_raise() {
    let world = World::plain().await;
    let key = world.key(&["--daily", "5", "--session-budget", "0.01", "--session-steps", "4"]);
    // Asking for more than the policy does not help.
    let more = [("x-loopers-session-budget", "1000"), ("x-loopers-session-max-steps", "1000")];
    for _ in 0..4 {
        world.send(&call(&key, "tokens=5", "a", &more)).await.expect(200);
    }
    world.send(&call(&key, "tokens=5", "a", &more)).await.refused(402, "session_steps_exceeded");
    // Tightened once, it stays tight.
    world.send(&call(&key, "tokens=5", "b", &[("x-loopers-session-max-steps", "2")])).await.expect(200);
    world.send(&call(&key, "tokens=5", "b", &[("x-loopers-session-max-steps", "4")])).await.expect(200);
    world.send(&call(&key, "tokens=5", "b", &more)).await.refused(402, "session_steps_exceeded");
    world.send(&call(&key, "tokens=5", "b", &[])).await.refused(402, "session_steps_exceeded");
    let tiny = [("x-loopers-session-budget", "0.000000001")];
    world.send(&call(&key, "tokens=5", "c", &tiny)).await.refused(402, "session_budget_exceeded");
    for (name, value) in [
        ("x-loopers-session-max-steps", "-1"),
        ("x-loopers-session-max-steps", "1.5"),
        ("x-loopers-session-max-steps", "many"),
        ("x-loopers-session-budget", "a lot"),
        ("x-loopers-session-budget", "NaN"),
    ] {
        let answer = world.send(&call(&key, "tokens=5", "d", &[(name, value)])).await;
        assert_eq!(answer.status, 400, "{name}: {value}: {}", answer.text());
    }
    world.assert_books_exact().await;
    assert_eq!(world.invoice().await.calls, 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b24_a_fresh_session_for_each_call_does_not_escape_the_key() {
    let world = World::plain().await;
    let key = world.key(&["--daily", "0.0005", "--session-budget", "0.0004", "--session-steps", "1"]);
    let mut passed = 0;
    for call_number in 0..40 {
        let answer = world.send(&call(&key, "tokens=300", &format!("run-{call_number}"), &[])).await;
        match answer.status {
            200 => passed += 1,
            _ => assert_eq!((answer.status, answer.code().as_str()), (402, "budget_exceeded"), "{}", answer.text()),
        }
    }
    assert!(passed > 0 && passed < 40, "{passed}");
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_show_in_the_budget_and_can_be_killed() {
    let world = World::plain().await;
    let key = world.key(&["--daily", "5"]);
    world.send(&call(&key, "tokens=5", "agent:7.x_y-z", &[])).await.expect(200);
    world.settled().await;
    let ask = Request::get("/loopers/v1/budget").bearer(&key.secret).header("x-loopers-session-id", "agent:7.x_y-z");
    let view = world.send(&ask).await.expect(200).json();
    assert!(view.get("session").is_some(), "{view}");
    world.cli_ok(&["kill", "--session", "agent:7.x_y-z", "--key", &key.id]);
    let answer = world.send(&call(&key, "tokens=5", "agent:7.x_y-z", &[])).await;
    assert_eq!(answer.status, 403, "{}", answer.text());
    world.send(&call(&key, "tokens=5", "another", &[])).await.expect(200);
    world.assert_books_exact().await;
}
