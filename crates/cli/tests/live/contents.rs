//! What workspaces hold, over REST: a run's commit line by line, to whose it is and to nobody else; what waits, before and
//! after its owner decides; histories and trees to members.

use crate::browser::Browser;
use crate::stack::{LOOK, Options, Stack};
use custody_testkit::model::Turn;
use serde_json::{Value, json};
use std::time::Duration;

fn write(path: &str, content: &str) -> Turn {
    let args = json!({ "path": path, "content": content });
    Turn::Call { id: "c1".into(), name: "write_file".into(), args }
}

async fn ok(browser: &Browser, path: &str) -> Value {
    browser.get(&["/api/v1", path].concat()).await.is(200).json()
}

async fn refused(browser: &Browser, path: &str) -> (u16, String) {
    let answer = browser.get(&["/api/v1", path].concat()).await;
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    (answer.status, answer.json()["code"].as_str().unwrap_or_default().to_owned())
}

/// Waits until the row of what became of a dispatch's proposal says so.
async fn stands(browser: &Browser, dispatch: &str, state: &str) -> Value {
    let until = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let list = ok(browser, &format!("/dispatches/{dispatch}/changes")).await;
        if list["rows"][0]["proposal"] == state {
            return list["rows"][0].clone();
        }
        assert!(tokio::time::Instant::now() < until, "{dispatch} never was {state}: {list}");
        tokio::time::sleep(LOOK).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runs_changes_are_told_line_by_line_to_whose_they_are() {
    let script = vec![write("plan.md", "first\n"), Turn::Say("Done.".into())];
    let stack = Stack::with(Options { script, ..Options::default() }).await;
    let (admin, omar) = (stack.admin().await, stack.user("u_omar").await);
    let dispatch = stack.launch(&["write it"]).await;
    assert_eq!(stack.ended(&dispatch).await["status"], "completed");

    let list = ok(&admin, &format!("/dispatches/{dispatch}/changes")).await;
    assert_eq!((&list["ended"], list["rows"].as_array().unwrap().len()), (&json!(true), 1), "no session files: {list}");
    let row = &list["rows"][0];
    assert_eq!((&row["workspace"], &row["outcome"]), (&json!("default"), &json!("landed")));
    let one = ok(&admin, &format!("/dispatches/{dispatch}/changes/default")).await;
    let (commit, file) = (&one["diff"]["commit"], &one["diff"]["files"][0]);
    assert_eq!(
        (&commit["commit"], &commit["author"], &commit["dispatch"]),
        (&row["commit"], &json!("u_tester"), &json!(dispatch))
    );
    assert_eq!(one["diff"]["parent"], row["base"]);
    assert_eq!(
        (&file["path"], &file["change"], &file["patch"]),
        (&json!("plan.md"), &json!("added"), &json!("@@ -0,0 +1 @@\n+first\n"))
    );

    // To others neither the dispatch nor its changes exist; the workspace is everybody's, so its history does.
    for path in [format!("/dispatches/{dispatch}/changes"), format!("/dispatches/{dispatch}/changes/default")] {
        assert_eq!(refused(&omar, &path).await, (404, "NOT_FOUND".into()), "{path}");
    }
    assert_eq!(refused(&admin, &format!("/dispatches/{dispatch}/changes/sys-u_tester")).await.1, "NOT_FOUND");
    let id = row["commit"].as_str().unwrap();
    for browser in [&admin, &omar] {
        let diff = ok(browser, &format!("/workspaces/default/diff/{id}")).await;
        assert_eq!(diff, one["diff"]);
        let log = ok(browser, "/workspaces/default/log?limit=1").await;
        assert_eq!((&log["rows"][0]["commit"], log["rows"].as_array().unwrap().len()), (&row["commit"], 1));
        let tree = ok(browser, "/workspaces/default/tree").await;
        assert_eq!(
            (&tree["entries"][0]["path"], &tree["commit"], &tree["cut"]),
            (&json!("plan.md"), &row["commit"], &json!(false))
        );
        let page = ok(browser, "/workspaces").await;
        assert_eq!(page["rows"].as_array().unwrap().len(), 1, "no system workspace: {page}");
        assert_eq!((&page["rows"][0]["access"], page.to_string().contains("file://")), (&json!("rw"), false));
    }

    // A workspace of one person: to another it is as if it were not there.
    stack.ok(&["workspace", "new", "own", "--owner", "u_tester"]).await;
    assert_eq!(ok(&admin, "/workspaces/own/log").await["rows"].as_array().unwrap().len(), 1);
    for path in ["/workspaces/own", "/workspaces/own/log", "/workspaces/own/tree", "/workspaces/sys-u_tester/tree"] {
        assert_eq!(refused(&omar, path).await, (404, "NOT_FOUND".into()), "{path}");
    }
    for commit in ["0".repeat(40), "HEAD".into(), "--output=x".into()] {
        assert_eq!(refused(&admin, &format!("/workspaces/default/diff/{commit}")).await, (404, "NOT_FOUND".into()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_told_before_and_after_its_owner_decides() {
    let script = vec![
        write("plan.md", "one\n"),
        Turn::Say("Done.".into()),
        write("plan.md", "two\n"),
        Turn::Say("Done.".into()),
    ];
    let stack = Stack::with(Options { script, ..Options::default() }).await;
    let (admin, omar) = (stack.admin().await, stack.user("u_omar").await);
    stack.ok(&["workspace", "new", "own", "--owner", "u_tester"]).await;
    stack.ok(&["workspace", "share", "own", "u_omar:ro"]).await;
    let propose = async |what: &str| {
        let dispatch = stack.launch(&["--workspace", "own:propose", what]).await;
        assert_eq!(stack.ended(&dispatch).await["status"], "completed");
        dispatch
    };
    let first = propose("write one").await;
    let row = stands(&admin, &first, "open").await;
    let commit = row["commit"].as_str().unwrap().to_owned();
    let one = ok(&admin, &format!("/dispatches/{first}/changes/own")).await;
    assert_eq!(
        (&one["diff"]["files"][0]["patch"], &one["change"]["proposal"]),
        (&json!("@@ -0,0 +1 @@\n+one\n"), &json!("open"))
    );
    // A member who reads sees what has landed, not what waits.
    let path = format!("/workspaces/own/diff/{commit}");
    assert_eq!(ok(&admin, &path).await, one["diff"]);
    assert_eq!(refused(&omar, &path).await, (404, "NOT_FOUND".into()));
    assert_eq!(ok(&omar, "/workspaces/own").await["proposals"], json!([]));
    assert_eq!(ok(&admin, "/workspaces/own").await["proposals"][0]["proposal"], json!(first));

    stack.ok(&["workspace", "land", "own", &first]).await;
    let row = stands(&admin, &first, "landed").await;
    let landed = row["landed"].as_str().unwrap().to_owned();
    let one = ok(&admin, &format!("/dispatches/{first}/changes/own")).await;
    assert_eq!((&one["diff"]["commit"]["commit"], &one["diff"]["total"]), (&json!(landed), &json!(1)));
    assert_eq!(ok(&omar, &format!("/workspaces/own/diff/{landed}")).await, one["diff"]);

    let second = propose("write two").await;
    let row = stands(&admin, &second, "open").await;
    stack.ok(&["workspace", "reject", "own", &second, "--why", "not this"]).await;
    stands(&admin, &second, "rejected").await;
    assert_eq!(refused(&admin, &format!("/dispatches/{second}/changes/own")).await, (404, "PROPOSAL_REJECTED".into()));
    let path = format!("/workspaces/own/diff/{}", row["commit"].as_str().unwrap());
    assert_eq!(refused(&admin, &path).await, (404, "NOT_FOUND".into()), "no tip reaches it any more");
}
