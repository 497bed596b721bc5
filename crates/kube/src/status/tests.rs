//! What the cluster says and what the runtime is told, case by case.

use super::{begun, status};
use custody_ports::containers::BoxState;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use rstest::rstest;
use serde_json::{Value, json};

fn job(suspend: bool, annotations: Value, conditions: Value) -> Job {
    serde_json::from_value(json!({
        "metadata": { "name": "custody-d-1", "uid": "u-1", "creationTimestamp": "2026-11-22T21:00:00Z",
            "labels": { "custody.box": "true" }, "annotations": annotations },
        "spec": { "suspend": suspend, "template": { "spec": { "containers": [] } } },
        "status": { "conditions": conditions },
    }))
    .unwrap()
}

fn pod(agent: Value) -> Pod {
    serde_json::from_value(json!({ "status": { "containerStatuses": [
        { "name": "agent", "image": "x", "imageID": "x", "ready": false, "restartCount": 0, "state": agent },
    ], "initContainerStatuses": [
        { "name": "link", "image": "x", "imageID": "x", "ready": true, "restartCount": 0,
          "state": { "terminated": { "exitCode": 9, "reason": "Error" } } },
    ] } }))
    .unwrap()
}

fn exited(code: i64, oom: bool, error: Option<&str>) -> BoxState {
    BoxState::Exited { code, oom, error: error.map(str::to_owned) }
}

fn terminated(code: i64, reason: &str) -> Value {
    json!({ "terminated": { "exitCode": code, "reason": reason, "startedAt": "2026-11-22T21:00:01Z", "finishedAt": "2026-11-22T21:00:09Z" } })
}

#[rstest]
#[case::made(job(true, json!({}), json!([])), None, BoxState::Created)]
#[case::released(job(false, json!({}), json!([])), None, BoxState::Running)]
#[case::waiting(job(false, json!({}), json!([])), Some(json!({ "waiting": { "reason": "ContainerCreating" } })), BoxState::Running)]
#[case::running(job(false, json!({}), json!([])), Some(json!({ "running": { "startedAt": "2026-11-22T21:00:01Z" } })), BoxState::Running)]
#[case::well(job(false, json!({}), json!([])), Some(terminated(0, "Completed")), exited(0, false, None))]
#[case::badly(job(false, json!({}), json!([])), Some(terminated(3, "Error")), exited(3, false, None))]
#[case::memory(job(false, json!({}), json!([])), Some(terminated(137, "OOMKilled")), exited(137, true, None))]
#[case::cannot_run(job(false, json!({}), json!([])), Some(terminated(128, "StartError")), exited(128, false, Some("StartError")))]
#[case::kept_code(job(false, json!({ "custody.exit-code": "143", "custody.exit-oom": "false" }), json!([])), None, exited(143, false, None))]
#[case::kept_memory(job(false, json!({ "custody.exit-code": "137", "custody.exit-oom": "true" }), json!([])), None, exited(137, true, None))]
#[case::the_pod_says_more_than_what_was_kept(
    job(false, json!({ "custody.exit-code": "143" }), json!([])), Some(terminated(0, "Completed")), exited(0, false, None))]
#[case::done_and_gone(
    job(false, json!({}), json!([{ "type": "Complete", "status": "True" }])), None, exited(0, false, None))]
#[case::not_done(job(false, json!({}), json!([{ "type": "Complete", "status": "False" }])), None, BoxState::Running)]
#[case::too_late(
    job(false, json!({}), json!([{ "type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "too long" }])),
    None,
    exited(137, false, Some("DeadlineExceeded: too long; the cluster keeps no exit code of a Pod that is gone")))]
fn a_job_and_its_pod_are_one_state(#[case] job: Job, #[case] agent: Option<Value>, #[case] expected: BoxState) {
    assert_eq!(status(&job, agent.map(pod).as_ref()).state, expected);
}

#[test]
fn times_and_names_are_taken_over() {
    let status = status(&job(false, json!({}), json!([])), Some(&pod(terminated(0, "Completed"))));
    assert_eq!((status.id.as_str(), status.name.as_str()), ("u-1", "custody-d-1"));
    let base = 1_795_381_200_000;
    assert_eq!(status.created_at.0, base);
    assert_eq!(status.started_at.map(|t| t.0 - base), Some(1_000));
    assert_eq!(status.finished_at.map(|t| t.0 - base), Some(9_000));
    assert_eq!(status.labels["custody.box"], "true");
}

#[rstest]
#[case::creating(json!({ "waiting": { "reason": "ContainerCreating" } }), Ok(false))]
#[case::running(json!({ "running": {} }), Ok(true))]
#[case::over(terminated(0, "Completed"), Ok(true))]
#[case::no_profile(json!({ "waiting": { "reason": "CreateContainerError", "message": "seccomp: no such file" } }),
    Err("container agent: CreateContainerError: seccomp: no such file"))]
#[case::no_image(json!({ "waiting": { "reason": "ImagePullBackOff" } }), Err("container agent: ImagePullBackOff: "))]
fn a_start_is_waited_for_and_what_keeps_it_for_good_is_said(
    #[case] agent: Value,
    #[case] expected: Result<bool, &str>,
) {
    assert_eq!(begun(&pod(agent)), expected.map_err(str::to_owned));
}
