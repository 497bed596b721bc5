//! Which policies shut boxes in.

use super::shuts_in;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use rstest::rstest;
use serde_json::{Value, json};

fn good() -> Value {
    json!({ "spec": {
        "podSelector": { "matchLabels": { "custody.box": "true" } },
        "policyTypes": ["Ingress", "Egress"],
        "egress": [{ "to": [{ "podSelector": { "matchLabels": { "custody.role": "gateway" } } }],
                     "ports": [{ "protocol": "TCP", "port": 7443 }] }],
    } })
}

#[rstest]
#[case::honest(|_: &mut Value| {}, "")]
#[case::all_pods(|p: &mut Value| p["spec"]["podSelector"] = json!({}), "")]
#[case::no_way_out_at_all(|p: &mut Value| p["spec"]["egress"] = json!([]), "")]
#[case::other_pods(|p: &mut Value| p["spec"]["podSelector"] = json!({ "matchLabels": { "app": "x" } }), "select every box")]
#[case::some_boxes(|p: &mut Value| p["spec"]["podSelector"]["matchExpressions"] = json!([{ "key": "a", "operator": "Exists" }]), "select every box")]
#[case::one_direction(|p: &mut Value| p["spec"]["policyTypes"] = json!(["Ingress"]), "both directions")]
#[case::way_in(|p: &mut Value| p["spec"]["ingress"] = json!([{}]), "lets something in")]
#[case::anybody(|p: &mut Value| p["spec"]["egress"] = json!([{ "ports": [{ "port": 7443 }] }]), "anybody")]
#[case::any_port(|p: &mut Value| p["spec"]["egress"][0]["ports"] = json!([]), "any port")]
#[case::port_unnamed(|p: &mut Value| p["spec"]["egress"][0]["ports"] = json!([{ "protocol": "TCP" }]), "any port")]
fn a_policy_must_shut_every_box_in(#[case] change: fn(&mut Value), #[case] why: &str) {
    let mut policy = good();
    change(&mut policy);
    let policy: NetworkPolicy = serde_json::from_value(policy).unwrap();
    match shuts_in(&policy) {
        Ok(()) => assert_eq!(why, ""),
        Err(found) => assert!(!why.is_empty() && found.contains(why), "{found}"),
    }
}
