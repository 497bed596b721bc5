//! The probe as a dispatch through the whole platform: every control is set, and measured from inside.

use crate::stack::{Options, Stack, cache};
use serde_json::Value;

/// Controls that a host may not have; every other one must hold.
const MAY_BE_ABSENT: [&str; 7] = [
    "user namespace",
    "AppArmor or SELinux",
    "isolation userns",
    "isolation gvisor",
    "isolation kata",
    "warm boxes",
    "memory",
];

#[tokio::test(flavor = "multi_thread")]
async fn every_control_is_set_and_measured() {
    let stack = Stack::with(Options::default()).await;
    for name in ["probe", "probe-loopback"] {
        let file = format!("{name}.runner.json");
        let from = cache().join("runners").join(&file);
        let copied = std::fs::copy(&from, stack.home().join("runners").join(&file));
        copied.unwrap_or_else(|e| panic!("{}: {e}; run: cargo xtask image {name} --load", from.display()));
    }
    let report = stack.custody(&["doctor", "--sandbox", "-o", "json"]).await;
    let document = report.json();
    let controls = document["controls"].as_array().unwrap();
    let failed: Vec<&Value> = controls.iter().filter(|row| row["status"] == "fail").collect();
    assert_eq!(failed, Vec::<&Value>::new(), "{}", report.err);
    for row in controls.iter().filter(|row| row["status"] == "skip") {
        let control = row["control"].as_str().unwrap();
        assert!(MAY_BE_ABSENT.contains(&control), "{row}");
        assert!(!row["measured"].as_str().unwrap().is_empty(), "a skip has a reason: {row}");
    }
    assert_eq!(report.code, Some(0), "{report:?}");
    // One line for each row of the document, and the table of system calls.
    for row in 1..=28 {
        assert!(
            controls.iter().any(|control| control["row"].as_str().and_then(|r| r.parse().ok()) == Some(row)),
            "row {row}"
        );
    }
    assert!(controls.iter().filter(|control| control["row"] == "4.2").count() > 50, "{controls:?}");
}
