//! What counts for whom, in which window, and once.

use super::*;
use custody_contracts::envelope::Meta;
use custody_contracts::events::{EffectOutcome, Role};
use custody_contracts::ids::DispatchId;
use custody_ledger::recorded::encode;
use custody_ledger::{Seq, Stored};
use custody_trust::RoleKey;

const DAY: u64 = 86_400_000;
const JANE: Whose<'static> = Whose { dispatch: "d-1", subject: "u_jane", launcher: "cli" };

fn record(tokens: u64, cost_micros: u64) -> CallRecord {
    CallRecord {
        api: "openai-chat".into(),
        upstream: "house".into(),
        model: "m".into(),
        request_digest: custody_contracts::canonical::digest(b""),
        response_digest: custody_contracts::canonical::digest(b""),
        status: 200,
        outcome: EffectOutcome::Succeeded,
        detail: None,
        input_tokens: tokens,
        output_tokens: 0,
        duration_ms: 1,
        cached_tokens: 0,
        cost_micros: Some(cost_micros),
        attempts: 1,
        provider: "local".into(),
        response_model: None,
    }
}

/// A call as it comes back from the ledger.
fn folded(whose: Whose<'_>, n: u32, at: u64, tokens: u64, cost: u64) -> Recorded {
    let event = record(tokens, cost).into_event(DispatchId::parse(whose.dispatch).unwrap(), n);
    let event = LedgerEvent::Effect(EffectEvent::ModelCalled(event));
    let meta = Meta {
        time: UnixMillis(at).rfc3339(),
        subject: Some(whose.subject.into()),
        launcher: Some(whose.launcher.into()),
        ..Meta::default()
    };
    let bytes = encode(&RoleKey::from_seed(Role::Gateway, &[3; 32]), "id", &[event], &meta).unwrap();
    let log_subject = format!("ledger.effect.{}-m{n}", whose.dispatch);
    let stored = Stored { seq: Seq(1), log_subject, message_id: None, bytes };
    Recorded::read(&stored).unwrap().remove(0)
}

fn tokens(accounts: &Accounts, whose: Whose<'_>, now: u64) -> [u64; 3] {
    accounts.standing(whose, Allowed::default(), UnixMillis(now)).map(|(_, used, _)| used.tokens)
}

#[test]
fn a_call_counts_once_while_it_is_made_and_when_it_is_folded() {
    let accounts = Accounts::new(Budgets::default());
    assert_eq!(tokens(&accounts, JANE, 5), [0, 0, 0]);
    accounts.called("d-1-m1", JANE, UnixMillis(5), &record(10, 7));
    assert_eq!(tokens(&accounts, JANE, 5), [10, 10, 10]);
    accounts.apply(&folded(JANE, 1, 5, 10, 7));
    assert_eq!(tokens(&accounts, JANE, 5), [10, 10, 10]);
    let [(_, used, _), ..] = accounts.standing(JANE, Allowed::default(), UnixMillis(5));
    assert_eq!(used.cost_micros, 7);
}

#[test]
fn each_account_is_its_own() {
    let accounts = Accounts::new(Budgets::default());
    let other = Whose { dispatch: "d-2", subject: "u_joe", launcher: "cli" };
    accounts.apply(&folded(JANE, 1, 5, 10, 0));
    accounts.apply(&folded(other, 1, 5, 1, 0));
    assert_eq!(tokens(&accounts, JANE, 6), [10, 10, 11]);
    assert_eq!(tokens(&accounts, other, 6), [1, 1, 11]);
}

#[test]
fn a_window_begins_anew_and_a_dispatch_does_not() {
    let accounts = Accounts::new(Budgets::default());
    accounts.apply(&folded(JANE, 1, DAY - 1, 10, 0));
    accounts.called("d-1-m2", JANE, UnixMillis(DAY - 1), &record(10, 0));
    assert_eq!(tokens(&accounts, JANE, DAY - 1), [20, 20, 20]);
    assert_eq!(tokens(&accounts, JANE, DAY), [20, 0, 0]);
}

#[test]
fn limits_of_the_unit_only_lower_and_named_budgets_come_first() {
    let budgets: Budgets = serde_json::from_value(serde_json::json!({
        "dispatch": { "tokens": 100 },
        "subject": { "tokens": 1_000, "window_ms": 60_000 },
        "subjects": { "u_jane": { "cost_micros": 5 } },
    }))
    .unwrap();
    let accounts = Accounts::new(budgets);
    let own = |tokens| Allowed { tokens: Some(tokens), ..Allowed::default() };
    let limits = |own| accounts.standing(JANE, own, UnixMillis(0)).map(|(_, _, allowed)| allowed);
    assert_eq!(limits(own(50))[0].tokens, Some(50));
    assert_eq!(limits(own(500))[0].tokens, Some(100));
    let jane = limits(own(1))[1];
    assert_eq!((jane.tokens, jane.cost_micros, jane.window_ms), (None, Some(5), Some(DAY)));
}

#[test]
fn a_window_has_bounds() {
    let of =
        |window_ms| Budgets { subject: WindowBudget { window_ms, ..WindowBudget::default() }, ..Budgets::default() };
    assert!(of(WINDOW_MS_MIN).check().is_ok() && of(WINDOW_MS_MAX).check().is_ok());
    assert!(of(WINDOW_MS_MIN - 1).check().is_err() && of(WINDOW_MS_MAX + 1).check().is_err());
}
