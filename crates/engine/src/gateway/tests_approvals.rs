//! Calls that wait for a person, through a gateway as it runs: what is made after a decision, how often, and what is not.

use super::Budgets;
use super::tests_doors::{Stand, repeats};
use crate::runtime::tests::put;
use custody_contracts::approval::ToolAwaiting;
use custody_contracts::events::{DispatchAdmitted, EffectEvent, LedgerEvent, ToolPhase};
use custody_domain::tool::{Policy, PolicyAsked, Verdict};
use rstest::rstest;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const ARGS: &str = r#"{"body":"The figure is 4.2 M.","title":"Reply to Bob"}"#;

fn args() -> Value {
    serde_json::from_str(ARGS).unwrap()
}

/// A policy that can be changed while calls wait.
#[derive(Debug, Default)]
struct Changing(AtomicBool);

impl Policy for Changing {
    fn digest(&self) -> &'static str {
        "sha256:0000000000000000000000000000000000000000000000000000000000000000"
    }

    fn decide(&self, _: PolicyAsked<'_>) -> Verdict {
        match self.0.load(Ordering::SeqCst) {
            false => Verdict::Permit { rule: "all".into() },
            true => Verdict::Forbid { rule: "nothing-any-more".into(), why: "it changed".into() },
        }
    }
}

fn awaiting(stand: &Stand) -> Vec<ToolAwaiting> {
    let waits = |e| match e {
        EffectEvent::ToolAwaiting(e) => Some(*e),
        _ => None,
    };
    stand.effects().into_iter().filter_map(waits).collect()
}

fn intended(stand: &Stand) -> usize {
    stand.effects().iter().filter(|e| matches!(e, EffectEvent::ToolIntended(_))).count()
}

async fn say(stand: &Stand, event: &str, more: Value) {
    let mut data = json!({ "card": "d-1-t1", "dispatch": "d-1", "version": 1 });
    data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let event = LedgerEvent::decode(&format!("custody.approval.{event}.v1"), &data.to_string()).unwrap();
    put(&stand.log, event, "d-1-t1").await;
}

async fn approve(stand: &Stand) {
    let digest = custody_contracts::canonical::digest(ARGS.as_bytes());
    say(stand, "decided", json!({ "decision": "approve", "by": "u_jane", "args_digest": digest })).await;
}

/// The box is gone.
async fn end(stand: &Stand) {
    let output = json!({
        "subject": "unit.d-1.out", "frames": 0, "bytes": 0, "digest": custody_contracts::canonical::digest(b""),
        "truncated": false,
    });
    let usage = json!({ "wall_ms": 1, "input_tokens": 0, "output_tokens": 0, "model_calls": 0 });
    let finished = json!({
        "dispatch": "d-1", "attempt": 1, "reason": "completed", "finished_at": 1_000_001, "output": output, "usage": usage,
    });
    put(&stand.log, LedgerEvent::decode("custody.run.finished.v1", &finished.to_string()).unwrap(), "d-1").await;
}

/// A dispatch whose call waits.
async fn proposed(stand: &Stand) -> Value {
    stand.claim("d-1", |a| a.unit.tools = vec!["card_propose".to_owned()]).await;
    stand.start(Budgets::default(), Value::Null);
    stand.agent("d-1").await.tool("card_propose", args()).await
}

/// T10: the same call again is the same card, and its approval is one call.
#[tokio::test]
async fn t10_an_approved_call_is_made_once_also_when_it_was_asked_for_twice_and_its_box_is_gone() {
    let stand = Stand::new(vec![]).await;
    let pending = proposed(&stand).await;
    assert_eq!(pending["result"]["structuredContent"]["status"], "pending", "{pending}");
    assert_eq!(pending["result"]["structuredContent"]["card"], "d-1-t1");
    let again = stand.agent("d-1").await.tool("card_propose", args()).await;
    assert_eq!(again["result"], pending["result"]);
    assert_eq!((awaiting(&stand).len(), intended(&stand)), (1, 0));
    end(&stand).await;
    // A second gateway over the same log: the intent is the lock.
    stand.start(Budgets::default(), Value::Null);
    approve(&stand).await;
    let ends = stand.wait("the outcome", 1, |e| matches!(e, EffectEvent::ToolFinished(_))).await;
    assert!(matches!(&ends[0], EffectEvent::ToolFinished(e) if e.phase == ToolPhase::Succeeded));
    let effects = stand.effects();
    let made: Vec<_> = effects
        .iter()
        .filter_map(|e| match e {
            EffectEvent::ToolIntended(e) => Some((e.args_digest.clone(), e.approval.clone().unwrap().by.to_string())),
            _ => None,
        })
        .collect();
    assert_eq!(made, [(custody_contracts::canonical::digest(ARGS.as_bytes()), "u_jane".to_owned())]);
}

#[tokio::test]
async fn a_repetition_is_answered_as_a_call_that_waited_was_and_asks_nobody() {
    let stand = Stand::new(vec![]).await;
    let pending = proposed(&stand).await;
    approve(&stand).await;
    stand.wait("the outcome", 1, |e| matches!(e, EffectEvent::ToolFinished(_))).await;
    let again = |a: &mut DispatchAdmitted| {
        repeats(a, "d-1");
        a.unit.tools = vec!["card_propose".to_owned()];
    };
    stand.claim("d-2", again).await;
    let agent = stand.agent("d-2").await;
    assert_eq!(agent.tool("card_propose", args()).await["result"], pending["result"]);
    // Another proposal was never made: nobody is asked about it now.
    let other = agent.tool("card_propose", json!({ "title": "Reply to Eve", "body": "No." })).await;
    assert_eq!(other["error"]["data"]["code"], "REPLAY_DIVERGED", "{other}");
    let refused = |e| match e {
        EffectEvent::ToolRefused(e) => Some((e.dispatch.to_string(), e.reason)),
        _ => None,
    };
    let refused: Vec<_> = stand.effects().into_iter().filter_map(refused).collect();
    assert_eq!(refused, [("d-2", "REPLAYED"), ("d-2", "REPLAY_DIVERGED")].map(|(d, r)| (d.to_owned(), r.to_owned())));
    assert_eq!((awaiting(&stand).len(), intended(&stand)), (1, 1), "one card and one effect, those of the first run");
}

#[tokio::test]
async fn an_approval_that_came_while_no_gateway_ran_is_followed_after_the_restart() {
    let stand = Stand::new(vec![]).await;
    proposed(&stand).await;
    stand.cancel.cancel();
    let (effects, policy) = (awaiting(&stand), stand.policy.clone());
    let mut next = Stand::new(vec![]).await;
    (next.log, next.blobs, next.policy) = (stand.log.clone(), stand.blobs.clone(), policy);
    end(&next).await;
    approve(&next).await;
    assert_eq!((effects.len(), intended(&next)), (1, 0));
    next.start(Budgets::default(), Value::Null);
    next.wait("the outcome", 1, |e| matches!(e, EffectEvent::ToolFinished(_))).await;
    assert_eq!(intended(&next), 1);
}

#[rstest]
#[case::rejected("reject", "APPROVAL_REJECTED")]
#[case::expired("expire", "APPROVAL_EXPIRED")]
#[case::approved_and_too_late("late", "APPROVAL_EXPIRED")]
#[case::policy_changed("policy", "POLICY_FORBIDS")]
#[case::arguments_that_nobody_stored("edit", "ARGUMENTS_LOST")]
#[tokio::test]
async fn what_may_not_be_made_any_more_is_closed_and_nothing_is_done(#[case] how: &str, #[case] code: &str) {
    let mut stand = Stand::new(vec![]).await;
    let policy = Arc::new(Changing::default());
    stand.policy = policy.clone();
    proposed(&stand).await;
    match how {
        "reject" => say(&stand, "decided", json!({ "decision": "reject", "by": "u_jane", "reason": "No." })).await,
        "expire" => say(&stand, "expired", json!({ "expired_at": 1_060_000 })).await,
        "late" => {
            stand.clock.advance(60_001);
            approve(&stand).await;
        }
        "policy" => {
            policy.0.store(true, Ordering::SeqCst);
            approve(&stand).await;
        }
        _ => {
            let other = custody_contracts::canonical::digest(b"other");
            let edit = json!({ "decision": "edit", "by": "u_jane", "args_digest": other });
            say(&stand, "decided", edit).await;
            let approve = json!({ "decision": "approve", "by": "u_jane", "args_digest": other, "version": 2 });
            say(&stand, "decided", approve).await;
        }
    }
    let closed = stand.wait("the end", 1, |e| matches!(e, EffectEvent::ToolRefused(_))).await;
    assert!(matches!(&closed[0], EffectEvent::ToolRefused(e) if e.reason == code), "{closed:?}");
    assert_eq!(intended(&stand), 0);
    // The same call again in the same dispatch is the same answer.
    policy.0.store(false, Ordering::SeqCst);
    let again = stand.agent("d-1").await.tool("card_propose", args()).await;
    assert_eq!(again["error"]["data"]["code"], code, "{again}");
    assert_eq!(awaiting(&stand).len(), 1);
}

#[tokio::test]
async fn an_edited_call_is_made_as_it_was_edited() {
    let stand = Stand::new(vec![]).await;
    proposed(&stand).await;
    let edited = r#"{"body":"The figure is 4.3 M.","title":"Reply to Bob"}"#;
    let jane = custody_contracts::ids::Subject::parse("u_jane").unwrap();
    let digest = custody_ports::blobs::Blobs::put(stand.blobs.as_ref(), &jane, edited.into()).await.unwrap();
    say(&stand, "decided", json!({ "decision": "edit", "by": "u_jane", "args_digest": digest })).await;
    say(&stand, "decided", json!({ "decision": "approve", "by": "u_jane", "args_digest": digest, "version": 2 })).await;
    stand.wait("the outcome", 1, |e| matches!(e, EffectEvent::ToolFinished(_))).await;
    let effects = stand.effects();
    let intent = effects.iter().find_map(|e| match e {
        EffectEvent::ToolIntended(e) => Some(e.clone()),
        _ => None,
    });
    assert_eq!(intent.map(|e| (e.args_digest, e.approval.map(|a| a.version))), Some((digest, Some(2))));
}

/// A gateway that died between intent and outcome: nobody knows, and it is not made again, though its run is over.
#[tokio::test]
async fn an_approved_call_that_a_restart_cut_in_two_ends_in_doubt() {
    let stand = Stand::new(vec![]).await;
    proposed(&stand).await;
    stand.cancel.cancel();
    let waits = awaiting(&stand).remove(0);
    let mut next = Stand::new(vec![]).await;
    (next.log, next.blobs) = (stand.log.clone(), stand.blobs.clone());
    end(&next).await;
    approve(&next).await;
    let intent = json!({
        "dispatch": "d-1", "n": 1, "tool": waits.tool, "scope": waits.scope, "effect": "write",
        "args_digest": waits.args_digest, "input_trust": "trusted", "idempotency_key": waits.idempotency_key,
        "policy": waits.policy, "tool_digest": waits.tool_digest, "approval": { "seq": 5, "version": 1, "by": "u_jane" },
    });
    let event = LedgerEvent::decode("custody.effect.tool_intended.v1", &intent.to_string()).unwrap();
    put(&next.log, event, "d-1-t1").await;
    next.start(Budgets::default(), Value::Null);
    let ends = next.wait("the outcome", 1, |e| matches!(e, EffectEvent::ToolFinished(_))).await;
    assert!(matches!(&ends[0], EffectEvent::ToolFinished(e) if e.phase == ToolPhase::InDoubt), "{ends:?}");
    assert_eq!(intended(&next), 1);
}

#[tokio::test]
async fn a_dispatch_has_so_many_cards_and_no_more() {
    let stand = Stand::new(vec![]).await;
    proposed(&stand).await;
    let agent = stand.agent("d-1").await;
    for n in 1..64 {
        let answer = agent.tool("card_propose", json!({ "title": format!("Card {n}"), "body": "" })).await;
        assert_eq!(answer["result"]["structuredContent"]["status"], "pending", "{n}: {answer}");
    }
    let answer = agent.tool("card_propose", json!({ "title": "One more", "body": "" })).await;
    assert_eq!(answer["error"]["data"]["code"], "CARDS_FULL", "{answer}");
}
