//! What a posted specification becomes, and each thing that is refused by its name.

use super::{Ceilings, Posted, read};
use crate::problem::Problem;
use custody_contracts::canonical::digest;
use custody_contracts::catalogue;
use custody_contracts::ids::Subject;
use custody_contracts::unit::{Entrypoint, Mode, Start, Trigger};
use custody_contracts::workload::Backend;
use rstest::rstest;
use serde_json::{Value, json};

fn ceilings() -> Ceilings {
    Ceilings { cpu: 1.0, memory_mb: 512, pids: 128, idle_sec: 600 }
}

fn honest() -> Value {
    json!({ "workloadId": "w-1", "profile": "custody-agent", "env": { "CUSTODY_PROMPT": "hello", "CUSTODY_LOG": "info" } })
}

fn named(bytes: &[u8]) -> Result<String, Problem> {
    Ok(digest(bytes))
}

fn posted(body: &Value) -> Result<Posted, Problem> {
    let subject = Subject::parse("u_jane").unwrap();
    read(body.to_string().as_bytes(), &subject, Backend::Docker, &ceilings(), named)
}

#[rstest]
#[case::not_an_object(|v: &mut Value| *v = json!([]), 400, "SPEC_INVALID")]
#[case::no_env(|v: &mut Value| { v.as_object_mut().unwrap().remove("env"); }, 400, "SPEC_INVALID")]
#[case::unknown_field(|v: &mut Value| v["ports"] = json!([80]), 400, "SPEC_INVALID")]
#[case::snake_case(|v: &mut Value| v["workload_id"] = json!("w"), 400, "SPEC_INVALID")]
#[case::id_with_slash(|v: &mut Value| v["workloadId"] = json!("a/b"), 400, "SPEC_INVALID")]
#[case::process(|v: &mut Value| v["backend"] = json!("process"), 400, "SPEC_INVALID")]
#[case::life(|v: &mut Value| v["maxLifetimeSec"] = json!(604_801), 400, "SPEC_INVALID")]
#[case::nothing_to_do(|v: &mut Value| v["env"] = json!({}), 400, "SPEC_INVALID")]
#[case::two_prompts(|v: &mut Value| v["env"]["CUSTODY_PROMPT_PATH"] = json!("a.md"), 400, "SPEC_INVALID")]
#[case::mode(|v: &mut Value| v["env"]["CUSTODY_WORKSPACES"] = json!("notes:all"), 400, "SPEC_INVALID")]
#[case::workspace(|v: &mut Value| v["env"]["CUSTODY_WORKSPACES"] = json!("../etc:ro"), 400, "SPEC_INVALID")]
#[case::trigger(|v: &mut Value| v["env"]["CUSTODY_TRIGGER"] = json!("root"), 400, "SPEC_INVALID")]
#[case::other_backend(|v: &mut Value| v["backend"] = json!("k8s"), 422, "BACKEND_UNAVAILABLE")]
#[case::idle_for_ever(|v: &mut Value| v["idleTimeoutSec"] = json!(0), 422, "IDLE_BOUNDED")]
#[case::memory(|v: &mut Value| v["resources"] = json!({ "memoryMb": 513 }), 422, "RESOURCES_TOO_LARGE")]
#[case::cpu(|v: &mut Value| v["resources"] = json!({ "cpu": 1.01 }), 422, "RESOURCES_TOO_LARGE")]
#[case::pids(|v: &mut Value| v["resources"] = json!({ "pids": 129 }), 422, "RESOURCES_TOO_LARGE")]
fn what_cannot_be_run_is_refused(#[case] change: fn(&mut Value), #[case] status: u16, #[case] code: &str) {
    let mut body = honest();
    change(&mut body);
    let problem = posted(&body).unwrap_err();
    assert_eq!((problem.status, problem.code.as_str()), (status, code), "{problem:?}");
}

#[rstest]
#[case::nothing("")]
#[case::half("{\"workloadId\":")]
#[case::not_text("\u{0}")]
#[case::t26_twice("{\"workloadId\":\"w-1\",\"workloadId\":\"w-2\"}")]
#[case::t26_twice_by_an_escape("{\"env\":{\"A\":\"1\",\"\\u0041\":\"2\"}}")]
#[case::t26_a_second_document("{}{}")]
#[case::t26_a_byte_order_mark("\u{feff}{}")]
fn what_is_no_json_is_refused(#[case] body: &str) {
    let subject = Subject::parse("u_jane").unwrap();
    let problem = read(body.as_bytes(), &subject, Backend::Docker, &ceilings(), named).unwrap_err();
    assert_eq!((problem.status, problem.code.as_str()), (400, "NOT_JSON"));
}

#[test]
fn it_becomes_a_unit_of_the_tokens_person_that_the_contract_takes() {
    let mut body = honest();
    body["env"]["CUSTODY_WORKSPACES"] = json!("notes:ro, drafts:rw");
    body["env"]["CUSTODY_TOOLS"] = json!("mail.read");
    body["env"]["CUSTODY_TRIGGER"] = json!("event");
    body["maxLifetimeSec"] = json!(60);
    body["resources"] = json!({ "cpu": 1.0, "memoryMb": 512, "pids": 128 });
    let posted = posted(&body).unwrap();
    let unit = &posted.unit;
    assert_eq!(unit.identity.subject.as_str(), "u_jane");
    assert_eq!(unit.identity.launcher.as_str(), "integration:runtime-http");
    assert_eq!(unit.runner.as_str(), "custody-agent");
    assert_eq!(unit.start, Start::Entrypoint(Entrypoint::Inline("hello".into())));
    assert_eq!(
        unit.workspaces.iter().map(|w| (w.id.as_str(), w.mode)).collect::<Vec<_>>(),
        [("notes", Mode::Ro), ("drafts", Mode::Rw)]
    );
    assert_eq!((unit.trigger, unit.tools.as_slice()), (Trigger::Event, ["mail.read".to_owned()].as_slice()));
    assert_eq!(unit.limits.as_ref().unwrap().wall_ms, Some(60_000));
    let reference = unit.context.as_ref().unwrap().reference.as_ref().unwrap();
    assert_eq!((reference.uri.as_str(), reference.etag.as_ref()), ("urn:custody:workload:w-1", Some(&posted.digest)));
    catalogue::check("unit.v1", "Invocation", &serde_json::to_value(unit).unwrap()).unwrap();
    assert_eq!(custody_contracts::canonical::digest(&posted.bytes), posted.digest);
}

#[test]
fn the_digest_is_of_what_is_said_and_not_of_how() {
    let one = posted(&honest()).unwrap();
    let text = serde_json::to_string_pretty(&honest()).unwrap();
    let subject = Subject::parse("u_jane").unwrap();
    let other = read(text.as_bytes(), &subject, Backend::Docker, &ceilings(), named).unwrap();
    assert_eq!(one, other);
    let mut changed = honest();
    changed["env"]["CUSTODY_LOG"] = json!("debug");
    assert_ne!(posted(&changed).unwrap().digest, one.digest);
}

#[test]
fn a_session_takes_the_prompt_as_its_next_turn() {
    let mut body = honest();
    body["env"]["CUSTODY_SESSION"] = json!("s-1");
    let Start::Session(turn) = posted(&body).unwrap().unit.start else { panic!() };
    assert_eq!((turn.reference.as_str(), turn.inline.as_deref()), ("s-1", Some("hello")));
}
