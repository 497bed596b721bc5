//! One effect, proved to somebody who has nothing of ours.

use crate::stack::{Ran, Stack, binary, ran, short_folder};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// `custody audit verify` in a folder with no configuration, no state and no way to anything of the installation's.
async fn verify_elsewhere(file: &Path, more: &[&str]) -> Ran {
    let elsewhere = short_folder();
    let copy = elsewhere.path().join("proof.json");
    fs::copy(file, &copy).unwrap();
    let mut command = binary(elsewhere.path());
    ran(command.args(["audit", "verify"]).arg(copy).args(more)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_effect_is_proved_to_somebody_who_has_nothing_of_ours() {
    let mut stack = Stack::start().await;
    stack.run(&["hello"]).await;
    let older = stack.kept_checkpoint("older").await;
    let dispatch = stack.launch(&["hello again"]).await;
    stack.ended(&dispatch).await;
    let file = stack.home().join("proof.json");
    let effect = format!("{dispatch}-m1");
    let arguments = ["audit", "prove", &effect, "--since", older.to_str().unwrap()];
    stack.ok(&[&arguments[..], &["--output-file", file.to_str().unwrap()]].concat()).await;
    let whole = stack.home().join("whole.json");
    fs::write(&whole, stack.ok(&["audit", "prove", &dispatch]).await.out).unwrap();
    stack.stop().await;

    let told = verify_elsewhere(&file, &["--checkpoint", older.to_str().unwrap(), "-o", "json"]).await.ended(0).json();
    assert_eq!(told["result"], "pass");
    let proved = &told["proved"];
    assert_eq!((&proved["dispatch"], &proved["type"]), (&dispatch.into(), &"custody.effect.model_called.v1".into()));
    assert_eq!((&proved["launch_signed"], &proved["kept_outside"]), (&true.into(), &true.into()));
    let root_key = proved["root_key"].as_str().unwrap();
    let plain = verify_elsewhere(&whole, &["--root-key", root_key]).await.ended(0);
    assert!(plain.out.contains("signed by the launcher's own key") && plain.out.contains("PASS"), "{}", plain.out);

    verify_elsewhere(&file, &["--root-key", "k-authority-0123456789abcdef"]).await.ended(9);
    let text = fs::read_to_string(&file).unwrap();
    let bundle: Value = serde_json::from_str(&text).unwrap();
    let person = bundle["entries"].as_array().unwrap().iter().find_map(|e| {
        let event: Value = serde_json::from_str(e["bytes"].as_str()?).ok()?;
        event["subject"].as_str().map(str::to_owned)
    });
    let changed = text.replace(&format!("\\\"{}\\\"", person.unwrap()), "\\\"u_somebody\\\"");
    assert_ne!(changed, text);
    fs::write(&file, changed).unwrap();
    let found = verify_elsewhere(&file, &[]).await.ended(9);
    assert!(found.err.contains("[NOT_AUTHENTIC]"), "{found:?}");
}
