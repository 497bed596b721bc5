//! The first `expect.toml` of a captured scenario: what became of its one dispatch. A person adds the claim's own.

use super::End;

/// A text as a TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// The assertions about how the dispatch ended.
pub(super) fn expect(dispatch: &str, end: &End, canaries: &[String]) -> String {
    let key = quoted(dispatch);
    let mut out = String::new();
    let mut state = |id: &str, field: &str, equals: &str| {
        let block = format!(
            "[[state]]\nid = \"{id}\"\nprojection = \"dispatches\"\nkey = {key}\nfield = \"{field}\"\nequals = {}\n\n",
            quoted(equals)
        );
        out.push_str(&block);
    };
    match end {
        End::Finished(e) => {
            let completed = e.reason == custody_contracts::events::StopReason::Completed;
            state("status", "/status", if completed { "completed" } else { "ended" });
            state("reason", "/reason", e.reason.as_str());
            if let Some(container) = &e.container {
                state("container", "/container", container);
            }
            if let Some(file) = &e.session {
                state("session-file", "/session_digest", &file.digest);
            }
            out.push_str(&format!(
                "[[event]]\nid = \"one-end\"\nevent = {{ type = \"custody.run.finished.v1\", where = {{ \"/data/dispatch\" = {key} }} }}\ncount = {{ min = 1, max = 1 }}\n\n"
            ));
            out.push_str(
                "[[causes]]\nid = \"admitted-first\"\neach = { type = \"custody.run.*\" }\nneeds = { type = \"custody.dispatch.admitted.v1\" }\nequal = [[\"/data/dispatch\", \"/data/dispatch\"]]\n\n",
            );
        }
        End::Refused(e) => {
            state("status", "/status", "refused");
            out.push_str(&format!(
                "[[refused]]\nid = \"the-refusal\"\nlaunch = {}\nreason = {}\n\n",
                e.launch.stream_seq,
                quoted(&e.reason)
            ));
        }
    }
    if !canaries.is_empty() {
        let list: Vec<String> = canaries.iter().map(|c| quoted(c)).collect();
        out.push_str(&format!("[[no_secret]]\nid = \"nothing-planted\"\ncanaries = [{}]\n\n", list.join(", ")));
    }
    out.push_str("[[audit]]\nid = \"no-anomaly\"\nanomalies = 0\ncheckpoints_min = 1\n");
    out
}
