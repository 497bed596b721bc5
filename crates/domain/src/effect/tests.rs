//! Tables of given, when, then.

use super::Effect;
use crate::events::OfEffect;
use crate::tests::{check, golden};
use custody_contracts::events::{EffectEvent, LedgerEvent, ModelCalled};
use rstest::rstest;
use serde_json::json;

fn called(status: u16) -> ModelCalled {
    match golden("ModelCalled", &[("status", json!(status))]) {
        LedgerEvent::Effect(EffectEvent::ModelCalled(called)) => called,
        other => panic!("{other:?}"),
    }
}

fn of(status: u16) -> OfEffect {
    OfEffect(EffectEvent::ModelCalled(called(status)))
}

#[rstest]
#[case::once(&[], 200, &[200])]
#[case::again(&[200], 200, &[])]
#[case::again_with_another_end(&[200], 500, &[])]
fn an_effect_is_recorded_once(#[case] history: &[u16], #[case] command: u16, #[case] expected: &[u16]) {
    let of_all = |statuses: &[u16]| statuses.iter().map(|s| of(*s)).collect::<Vec<_>>();
    check::<Effect>(&of_all(history), called(command), Ok(of_all(expected)));
}
