//! Over workspaces in memory: who asks for what, and what is told of it.

use super::*;
use custody_contracts::unit::Mode;
use custody_contracts::workspace::Encryption;
use custody_ports::compared::{ChangedFile, FileChange};
use custody_ports::workspaces::Change;
use custody_testkit::workspace_suite::{advance, change};
use custody_testkit::workspaces::MemoryWorkspaces;
use rstest::rstest;

fn document(id: &str) -> Workspace {
    Workspace {
        id: WorkspaceId::parse(id).unwrap(),
        bucket: "file:///nowhere".into(),
        mode: Mode::Rw,
        encryption: Encryption::none(),
        purpose: "Notes.".into(),
        trunk: "main".into(),
    }
}

async fn ask(all: &MemoryWorkspaces, verb: &str, body: Value) -> Result<Value, ErrorDoc> {
    let request = Request {
        subject: ["content.", verb].concat(),
        bytes: body.to_string().into_bytes(),
        reply_to: "_INBOX_api.1".into(),
    };
    answer(all, |id| (id == "notes" || id == "new").then(|| document(id)), &request).await
}

/// A workspace with one commit in its trunk, one that waits, and one that nobody stored.
struct Stage {
    all: MemoryWorkspaces,
    landed: String,
    waits: String,
    loose: String,
}

async fn stage() -> Stage {
    let all = MemoryWorkspaces::default();
    let open = all.open(&document("notes")).await.unwrap();
    let head = open.found().await.unwrap();
    let (_, landed) = change(open.as_ref(), &head, &head.trunk, &[("a.md", Some("a\n"))]).await;
    let head = advance(open.as_ref(), &head, &landed, Change::Trunk(landed.clone())).await.unwrap();
    let (_, waits) = change(open.as_ref(), &head, &landed, &[("a.md", Some("b\n"))]).await;
    let propose = Change::Propose { id: "d-9".into(), commit: waits.clone() };
    let head = advance(open.as_ref(), &head, &waits, propose).await.unwrap();
    let (_, loose) = change(open.as_ref(), &head, &landed, &[("secret.md", Some("s\n"))]).await;
    Stage { all, landed, waits, loose }
}

#[tokio::test]
async fn what_a_commit_changed_is_told_against_the_one_before() {
    let stage = stage().await;
    let told = ask(&stage.all, "diff", json!({ "workspace": "notes", "commit": stage.landed })).await.unwrap();
    assert_eq!(told["commit"]["dispatch"], "d-1");
    assert_eq!(told["files"][0]["path"], "a.md");
    assert_eq!(
        (&told["files"][0]["change"], &told["total"], &told["cut"]),
        (&json!("added"), &json!(1), &json!(false))
    );
    let body = json!({ "workspace": "notes", "commit": stage.waits, "proposal": "d-9" });
    let told = ask(&stage.all, "diff", body).await.unwrap();
    assert_eq!((&told["parent"], &told["files"][0]["change"]), (&json!(stage.landed), &json!("modified")));
    let told = ask(&stage.all, "log", json!({ "workspace": "notes", "limit": 1 })).await.unwrap();
    assert_eq!((&told["rows"][0]["commit"], told["rows"].as_array().unwrap().len()), (&json!(stage.landed), 1));
    let told = ask(&stage.all, "tree", json!({ "workspace": "notes" })).await.unwrap();
    assert_eq!((&told["entries"][0]["path"], &told["total"], &told["cut"]), (&json!("a.md"), &json!(1), &json!(false)));
}

#[tokio::test]
async fn what_no_tip_reaches_is_told_like_what_is_not_there() {
    let stage = stage().await;
    for (commit, proposal) in [
        (&stage.waits, None),
        (&stage.loose, None),
        (&stage.loose, Some("d-9")),
        (&stage.landed, Some("d-8")),
        (&"0".repeat(40), None),
        (&"--output=/etc/x".to_owned(), None),
    ] {
        let body = json!({ "workspace": "notes", "commit": commit, "proposal": proposal });
        for verb in ["diff", "tree"] {
            assert_eq!(ask(&stage.all, verb, body.clone()).await.unwrap_err().code, "NOT_FOUND", "{verb} {body}");
        }
    }
}

#[rstest]
#[case::another("diff", json!({ "workspace": "other", "commit": "x" }), "NOT_FOUND")]
#[case::session_files("tree", json!({ "workspace": "sys-u_jane" }), "NOT_FOUND")]
#[case::unknown_verb("write", json!({ "workspace": "notes" }), "QUERY_UNKNOWN")]
#[case::unknown_field("log", json!({ "workspace": "notes", "bucket": "file:///etc" }), "QUERY_INVALID")]
#[case::no_workspace("log", json!({}), "QUERY_INVALID")]
#[tokio::test]
async fn what_is_refused(#[case] verb: &str, #[case] body: Value, #[case] code: &str) {
    assert_eq!(ask(&stage().await.all, verb, body).await.unwrap_err().code, code);
}

#[tokio::test]
async fn a_workspace_that_nothing_was_put_in_is_empty_and_stays_so() {
    let all = MemoryWorkspaces::default();
    assert_eq!(ask(&all, "log", json!({ "workspace": "new" })).await.unwrap(), json!({ "trunk": null, "rows": [] }));
    assert_eq!(ask(&all, "tree", json!({ "workspace": "new" })).await.unwrap()["total"], 0);
    assert_eq!(ask(&all, "diff", json!({ "workspace": "new" })).await.unwrap_err().code, "NOT_FOUND");
    assert_eq!(all.newest("new"), None, "reading makes nothing");
}

#[tokio::test]
async fn a_bucket_that_is_away_is_said_without_a_word_of_this_machine() {
    let stage = stage().await;
    stage.all.be_away("notes", 1);
    let error = ask(&stage.all, "log", json!({ "workspace": "notes" })).await.unwrap_err();
    assert_eq!((error.code.as_str(), error.message.contains("nowhere")), ("WORKSPACE_UNAVAILABLE", false));
    ask(&stage.all, "log", json!({ "workspace": "notes" })).await.unwrap();
}

#[test]
fn an_answer_fits_whatever_is_in_it() {
    let own = Logged {
        commit: "c".into(),
        author: "u_jane".into(),
        committer: "web".into(),
        time: 1,
        subject: "x".repeat(200),
        dispatch: None,
        effect: None,
    };
    let file = |n: usize| ChangedFile {
        path: format!("{n}{}", "\"".repeat(1_000)),
        before: None,
        change: FileChange::Added,
        added: 1,
        removed: 0,
        binary: false,
        patch: "\"\\".repeat(16 * 1024),
        cut: false,
    };
    let compared = Compared { files: (0..200).map(file).collect(), total: 200, cut: false };
    let told = as_answer(&own, None, compared);
    assert!(told.to_string().len() <= ANSWER_BYTES_MAX);
    assert_eq!((&told["cut"], &told["total"], &told["files"][0]["cut"]), (&json!(true), &json!(200), &json!(false)));
    let rows = fitting((0..10).map(|_| json!("12345")), 24);
    assert_eq!(rows.len(), 3);
}
