//! What is counted by which role, and that no label grows without a bound.

use super::{Counts, LABELS_MAX, Scope};
use crate::fixtures::{golden, one_dispatch, recorded};
use custody_contracts::events::{DispatchEvent, EffectEvent, LedgerEvent};
use rstest::rstest;

fn text(scope: Scope) -> String {
    let counts = Counts::new(scope, "1.2.3").unwrap();
    for recorded in recorded(&one_dispatch(), None) {
        counts.apply(&recorded);
    }
    counts.text().unwrap()
}

fn all() -> Scope {
    Scope { authority: true, runtime: Some("i-1".into()), gateway: true }
}

#[rstest]
#[case("custody_dispatches_total{outcome=\"admitted\"} 1")]
#[case("custody_dispatches_total{outcome=\"refused\"} 1")]
#[case("custody_queue_depth 0")]
#[case("custody_queue_wait_seconds_sum 1")]
#[case("custody_start_phase_seconds_count{phase=\"create\"} 1")]
#[case("custody_start_phase_seconds_count{phase=\"first_frame\"} 1")]
#[case("custody_start_seconds_sum 0.1")]
#[case("custody_pool_hits_total 1")]
#[case("custody_pool_misses_total 0")]
#[case("custody_boxes_running 0")]
#[case("custody_model_calls_total{model=\"small-1\",outcome=\"failed\"} 1")]
#[case("custody_model_tokens_total{direction=\"input\",model=\"small-1\"} 1204")]
#[case("custody_telemetry_ledger_seq 6")]
#[case("custody_build_info{version=\"1.2.3\"} 1")]
fn the_ledger_is_counted(#[case] line: &str) {
    let text = text(all());
    assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
}

#[rstest]
#[case::nothing(Scope::default(), [0, 0, 0])]
#[case::authority(Scope { authority: true, ..Scope::default() }, [1, 0, 0])]
#[case::runtime(Scope { runtime: Some("i-1".into()), ..Scope::default() }, [0, 1, 0])]
#[case::another_runtime(Scope { runtime: Some("i-2".into()), ..Scope::default() }, [0, 0, 0])]
#[case::gateway(Scope { gateway: true, ..Scope::default() }, [0, 0, 1])]
fn a_process_counts_what_its_roles_write(#[case] scope: Scope, #[case] expected: [usize; 3]) {
    let text = text(scope);
    let has = |line: &str| usize::from(text.lines().any(|l| l.starts_with(line) && l.ends_with(" 1")));
    let found = [
        has("custody_dispatches_total{outcome=\"admitted\"}"),
        has("custody_runs_total{reason="),
        has("custody_model_calls_total{"),
    ];
    assert_eq!(found, expected, "{text}");
}

#[test]
fn tools_costs_and_budgets_are_counted() {
    let shapes = ["DispatchAdmitted", "ToolIntended", "ToolFinished", "ToolRefused", "ModelCalled", "BudgetExhausted"];
    let counts = Counts::new(all(), "1").unwrap();
    for recorded in recorded(&shapes.map(golden), None) {
        counts.apply(&recorded);
    }
    let LedgerEvent::Effect(EffectEvent::ToolIntended(intended)) = golden("ToolIntended") else { panic!() };
    let LedgerEvent::Effect(EffectEvent::ToolRefused(refused)) = golden("ToolRefused") else { panic!() };
    let (tool, refused_tool) = (intended.tool, refused.tool.unwrap());
    let text = counts.text().unwrap();
    for line in [
        format!("custody_tool_calls_total{{outcome=\"failed\",tool=\"{tool}\"}} 1"),
        format!("custody_tool_calls_total{{outcome=\"refused\",tool=\"{refused_tool}\"}} {}", refused.count),
        format!("custody_refusals_total{{code=\"{}\"}} {}", refused.reason, refused.count),
        "custody_model_cost_micros_total{model=\"small-1\"} 4213".to_owned(),
        "custody_refusals_total{code=\"BUDGET_OF_".to_owned(),
    ] {
        assert!(text.lines().any(|l| l.starts_with(&line)), "{line} is not in\n{text}");
    }
}

#[test]
fn a_person_is_in_no_label() {
    assert!(!text(all()).contains("u_jane"));
}

#[test]
fn what_is_open_is_a_depth_and_then_a_box() {
    let counts = Counts::new(all(), "1").unwrap();
    let mut seen = Vec::new();
    for recorded in recorded(&one_dispatch(), None) {
        counts.apply(&recorded);
        seen.push((counts.queue_depth.get(), counts.boxes_running.get()));
    }
    assert_eq!(seen, [(1, 0), (0, 0), (0, 1), (0, 1), (0, 1), (0, 0)]);
}

#[test]
fn values_after_the_last_that_has_room_are_other() {
    let counts = Counts::new(all(), "1").unwrap();
    let LedgerEvent::Dispatch(DispatchEvent::Refused(refused)) = golden("DispatchRefused") else { panic!() };
    let events: Vec<LedgerEvent> = (0..=LABELS_MAX + 1)
        .map(|n| {
            let mut refused = refused.clone();
            refused.reason = format!("CODE_{n}");
            LedgerEvent::Dispatch(DispatchEvent::Refused(refused))
        })
        .collect();
    for recorded in recorded(&events, None) {
        counts.apply(&recorded);
    }
    let text = counts.text().unwrap();
    let values = text.lines().filter(|l| l.starts_with("custody_refusals_total{")).count();
    assert_eq!(values, LABELS_MAX + 1, "{text}");
    assert!(text.contains("custody_refusals_total{code=\"other\"} 2"), "{text}");
}

#[test]
fn the_dashboard_asks_for_nothing_that_is_not_counted() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ops/dashboards/custody.json");
    let text = std::fs::read_to_string(path).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let asked: std::collections::BTreeSet<&str> = panels
        .iter()
        .flat_map(|p| p["targets"].as_array().into_iter().flatten())
        .flat_map(|t| t["expr"].as_str().unwrap().split(|c: char| !c.is_ascii_alphanumeric() && c != '_'))
        .filter(|word| word.starts_with("custody_"))
        .map(|word| word.strip_suffix("_bucket").unwrap_or(word))
        .collect();
    let counts = Counts::new(all(), "1").unwrap();
    let known: std::collections::BTreeSet<&str> = counts.families().collect();
    let unknown: Vec<_> = asked.difference(&known).collect();
    assert!(unknown.is_empty() && asked.len() > 15, "{unknown:?} of {asked:?}");
    let unshown: Vec<_> =
        known.difference(&asked).filter(|n| !n.ends_with("_seq") && !n.contains("build_info")).collect();
    assert_eq!(unshown, [&"custody_model_call_seconds", &"custody_run_output_bytes_total"], "what no panel shows");
}
