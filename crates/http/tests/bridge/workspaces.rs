//! Who is told what a workspace holds. The projector and the runtime are made up; what is asked of them is looked at.

use crate::stage::Stage;
use axum::Json;
use axum::extract::{Path, State};
use custody_contracts::messages::ErrorDoc;
use custody_http::auth::Person;
use custody_http::problem::Problem;
use custody_http::rest::workspaces::{diff, list, one, tree};
use custody_ports::asks::{AskFailed, Asks};
use futures::future::BoxFuture;
use rstest::rstest;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

const LANDED: &str = "1111111111111111111111111111111111111111";
const WAITS: &str = "2222222222222222222222222222222222222222";
const SAID_NO: &str = "3333333333333333333333333333333333333333";

fn proposal(id: &str, commit: &str, state: &str) -> Value {
    json!({ "proposal": id, "subject": "u_omar", "state": state, "base": LANDED, "commit": commit, "opened_at": "" })
}

/// Jane's workspace, which Eva may read and Omar may propose to; and Jane's session files.
fn row(id: &str) -> Option<Value> {
    let document = json!({
        "id": "notes", "bucket": "file:///var/secret/place", "mode": "rw", "encryption": { "scheme": "none" },
        "purpose": "Notes.", "trunk": "main",
    });
    match id {
        "notes" => Some(json!({
            "workspace": "notes", "document": document, "owner": "u_jane", "commit": LANDED, "landed": 3, "waiting": 1,
            "members": [{ "subject": "u_eva", "mode": "ro" }, { "subject": "u_omar", "mode": "propose" }],
            "proposals": [proposal("d-2", WAITS, "open"), proposal("d-3", SAID_NO, "rejected")],
            "registered_at": "2026-06-24T10:42:01.118Z", "last_seq": 9,
        })),
        "sys-u_jane" => Some(json!({ "workspace": "sys-u_jane", "document": null, "owner": "u_jane" })),
        _ => None,
    }
}

#[derive(Default)]
struct Roles(Mutex<Vec<(String, Value)>>);

impl Asks for Roles {
    fn ask<'a>(&'a self, subject: &'a str, body: Vec<u8>) -> BoxFuture<'a, Result<Vec<u8>, AskFailed>> {
        let body: Value = serde_json::from_slice(&body).unwrap();
        self.0.lock().unwrap().push((subject.to_owned(), body.clone()));
        let ok = |value: Value| json!({ "ok": value });
        let answer = match subject {
            "query.workspace.ls" => ok(json!({ "as_of": 9, "rows": [row("notes"), row("sys-u_jane")] })),
            "query.workspace.get" => match row(body["id"].as_str().unwrap()) {
                Some(row) => ok(json!({ "as_of": 9, "row": row })),
                None => serde_json::to_value(ErrorDoc::new("NOT_FOUND", "no", None)).unwrap(),
            },
            "content.diff" => ok(json!({
                "commit": {
                    "commit": body["commit"], "author": "u_omar", "committer": "web", "time": 1_700_000_000,
                    "subject": "Changes of d-2", "dispatch": "d-2", "effect": null,
                },
                "parent": LANDED, "total": 1, "cut": false,
                "files": [{
                    "path": "a.md", "change": "modified", "added": 1, "removed": 1, "binary": false,
                    "patch": "@@ -1 +1 @@\n-a\n+b\n", "cut": false,
                }],
            })),
            "content.tree" => {
                serde_json::to_value(ErrorDoc::new("WORKSPACE_UNAVAILABLE", "its bucket does not answer", None))
                    .unwrap()
            }
            other => panic!("{other}"),
        };
        Box::pin(async move { Ok(answer.to_string().into_bytes()) })
    }
}

struct Asked {
    stage: Stage,
    roles: Arc<Roles>,
}

impl Asked {
    fn new() -> Asked {
        let roles = Arc::new(Roles::default());
        Asked { stage: Stage::asking(roles.clone()), roles }
    }

    fn person(&self, subject: &str) -> Person {
        let mut person = self.stage.jane();
        subject.clone_into(&mut person.subject);
        person.admin = subject == "u_admin";
        person
    }

    async fn diff(&self, subject: &str, id: &str, commit: &str) -> Result<Value, Problem> {
        let path = Path((id.to_owned(), commit.to_owned()));
        let Json(shape) = diff(State(self.stage.api.clone()), self.person(subject), path).await?;
        Ok(serde_json::to_value(shape).unwrap())
    }

    /// What the runtime was asked.
    fn contents(&self) -> Vec<Value> {
        let all = self.roles.0.lock().unwrap();
        all.iter().filter(|(s, _)| s.starts_with("content.")).map(|(_, b)| b.clone()).collect()
    }
}

#[rstest]
#[case::owner("u_jane", Some(Some("rw")), 2)]
#[case::reader("u_eva", Some(Some("ro")), 0)]
#[case::proposer("u_omar", Some(Some("propose")), 2)]
#[case::administrator("u_admin", Some(None), 2)]
#[case::stranger("u_zoe", None, 0)]
#[tokio::test]
async fn a_workspace_is_shown_to_its_people_and_its_proposals_to_fewer(
    #[case] subject: &str,
    #[case] access: Option<Option<&str>>,
    #[case] proposals: usize,
) {
    let asked = Asked::new();
    let Json(page) = list(State(asked.stage.api.clone()), asked.person(subject)).await.unwrap();
    let page = serde_json::to_value(page).unwrap();
    assert!(!page.to_string().contains("secret"), "where the bucket is: {page}");
    let rows = page["rows"].as_array().unwrap();
    assert_eq!(rows.len(), usize::from(access.is_some()), "and never session files: {page}");
    let found = one(State(asked.stage.api.clone()), asked.person(subject), Path("notes".into())).await;
    match access {
        Some(access) => {
            assert_eq!(rows[0]["access"].as_str(), access);
            assert_eq!(found.unwrap().0.proposals.len(), proposals);
        }
        None => assert_eq!(found.unwrap_err().code, "NOT_FOUND"),
    }
}

#[rstest]
#[case::landed_to_a_reader("u_eva", "notes", LANDED, Some(json!({ "workspace": "notes", "commit": LANDED, "proposal": null })))]
#[case::waiting_to_its_owner("u_jane", "notes", WAITS, Some(json!({ "workspace": "notes", "commit": WAITS, "proposal": "d-2" })))]
#[case::waiting_to_whose_it_is("u_omar", "notes", WAITS, Some(json!({ "workspace": "notes", "commit": WAITS, "proposal": "d-2" })))]
#[case::waiting_to_an_administrator("u_admin", "notes", WAITS, Some(json!({ "workspace": "notes", "commit": WAITS, "proposal": "d-2" })))]
#[case::waiting_to_a_reader("u_eva", "notes", WAITS, None)]
#[case::landed_to_a_stranger("u_zoe", "notes", LANDED, None)]
#[case::session_files_to_their_owner("u_jane", "sys-u_jane", LANDED, None)]
#[case::session_files_to_an_administrator("u_admin", "sys-u_jane", LANDED, None)]
#[case::not_there("u_jane", "nothing", LANDED, None)]
#[case::no_id("u_jane", "../etc", LANDED, None)]
#[tokio::test]
async fn a_commit_is_asked_for_only_when_it_may_be_seen(
    #[case] subject: &str,
    #[case] id: &str,
    #[case] commit: &str,
    #[case] question: Option<Value>,
) {
    let asked = Asked::new();
    let told = asked.diff(subject, id, commit).await;
    assert_eq!(asked.contents(), question.iter().cloned().collect::<Vec<_>>());
    match question {
        Some(_) => {
            let told = told.unwrap();
            assert_eq!((&told["commit"]["commit"], &told["files"][0]["path"]), (&json!(commit), &json!("a.md")));
            assert_eq!(told["commit"]["time"], "2023-11-14T22:13:20.000Z");
        }
        None => assert_eq!((told.as_ref().unwrap_err().status, told.unwrap_err().code.as_str()), (404, "NOT_FOUND")),
    }
}

#[tokio::test]
async fn what_was_rejected_is_asked_for_as_part_of_the_trunk_where_it_is_not() {
    let asked = Asked::new();
    asked.diff("u_jane", "notes", SAID_NO).await.unwrap();
    assert_eq!(asked.contents(), [json!({ "workspace": "notes", "commit": SAID_NO, "proposal": null })]);
}

#[tokio::test]
async fn a_bucket_that_is_away_is_a_part_that_does_not_answer() {
    let asked = Asked::new();
    let query = custody_http::rest::Query(serde_json::from_value(json!({})).unwrap());
    let api = State(asked.stage.api.clone());
    let error = tree(api, asked.person("u_eva"), Path("notes".into()), query).await.unwrap_err();
    assert_eq!((error.status, error.code.as_str()), (503, "WORKSPACE_UNAVAILABLE"));
}
