//! The first run of somebody who has nothing: no key, no network, only what is installed.

use crate::stack::{Model, Options, Stack, cache};

#[tokio::test(flavor = "multi_thread")]
async fn first_run_needs_no_key_and_no_network() {
    let program =
        std::env::var_os("CUSTODY_LOCAL_MODEL").map_or_else(|| cache().join("bin/custody-local-model"), Into::into);
    assert!(program.is_file(), "there is no local model at {}; run: ops/setup", program.display());
    let env = vec![("CUSTODY_LOCAL_MODEL".to_owned(), program.display().to_string())];
    let stack = Stack::with(Options { model: Model::Local, offline: true, env, ..Options::default() }).await;
    let ran = stack.ok(&["run", "What is the capital of France?"]).await;
    assert!(ran.out.contains("Paris"), "{ran:?}");
    let row = stack.ok(&["dispatch", "get", "last", "-o", "json"]).await.json();
    assert_eq!(row["status"], "completed", "{row}");
    assert!(row["usage"]["output_tokens"].as_u64().unwrap() > 0, "{row}");
    assert!(stack.ok(&["audit", "verify"]).await.out.contains("PASS"));
}
