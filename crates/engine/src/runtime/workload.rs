//! What a workload that was posted to the runtime's HTTP face adds to its box: variables for the worker and lower
//! ceilings. They are in the specification that the unit names by digest, so the ledger says what they were. Must never
//! raise a ceiling, nor let a variable through that says what to run: that is the unit's.

use super::Runtime;
use custody_contracts::events::DispatchAdmitted;
use custody_contracts::workload::{LAUNCHER, SAYING, WorkloadSpec, is_uri};
use custody_ports::containers::BoxSpec;

/// The digest of the specification that a dispatch was posted with.
pub(super) fn posted(admitted: &DispatchAdmitted) -> Option<&str> {
    let reference = admitted.unit.context.as_ref()?.reference.as_ref()?;
    let ours = admitted.launch.launcher.as_str() == LAUNCHER && is_uri(&reference.uri);
    reference.etag.as_deref().filter(|_| ours)
}

/// Applies it to the box of a dispatch; a dispatch that was not posted is left as it is.
///
/// # Errors
/// Why the specification cannot be read, in a sentence.
pub(super) async fn apply(runtime: &Runtime, admitted: &DispatchAdmitted, spec: &mut BoxSpec) -> Result<(), String> {
    let Some(digest) = posted(admitted) else { return Ok(()) };
    let bytes = runtime.blobs.get(digest).await.map_err(|e| format!("SPEC_MISSING: the posted specification: {e}"))?;
    let posted = serde_json::from_slice(&bytes).map_err(|e| format!("SPEC_INVALID: the posted specification: {e}"))?;
    lower(spec, posted);
    Ok(())
}

/// Pure: variables in, ceilings down.
fn lower(spec: &mut BoxSpec, posted: WorkloadSpec) {
    spec.env.extend(posted.env.into_iter().filter(|(name, _)| !SAYING.contains(&name.as_str())));
    let asked = posted.resources.unwrap_or_default();
    if let Some(megabytes) = asked.memory_mb {
        spec.memory_bytes = spec.memory_bytes.min(megabytes.saturating_mul(1 << 20));
    }
    if let Some(pids) = asked.pids {
        spec.pids = spec.pids.min(pids);
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "runtime.v1 says 0.01 to 256, and a negative or huge number only ends at a bound of its type"
    )]
    if let Some(cores) = asked.cpu {
        spec.nano_cpus = spec.nano_cpus.min((cores * 1e9) as u64).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::lower;
    use custody_ports::containers::BoxSpec;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn lowered(resources: Value, env: Value) -> BoxSpec {
        let mut spec = BoxSpec {
            name: "custody-d-1".into(),
            image: "sha256:00".into(),
            labels: Default::default(),
            env: [("FIXED".to_owned(), "1".to_owned())].into(),
            mounts: Vec::new(),
            memory_bytes: 512 << 20,
            nano_cpus: 1_000_000_000,
            pids: 128,
            tmp_bytes: custody_ports::containers::SCRATCH_BYTES,
            home_bytes: custody_ports::containers::SCRATCH_BYTES,
            sockets: Default::default(),
            runtime: None,
            slots: false,
        };
        let posted = json!({ "workloadId": "w", "profile": "p", "env": env, "resources": resources });
        lower(&mut spec, serde_json::from_value(posted).unwrap());
        spec
    }

    #[rstest]
    #[case::nothing(json!({}), (512 << 20, 1_000_000_000, 128))]
    #[case::less(json!({ "memoryMb": 64, "cpu": 0.25, "pids": 16 }), (64 << 20, 250_000_000, 16))]
    #[case::more_is_not_given(json!({ "memoryMb": 4096, "cpu": 8.0, "pids": 4096 }), (512 << 20, 1_000_000_000, 128))]
    #[case::one(json!({ "pids": 1 }), (512 << 20, 1_000_000_000, 1))]
    fn ceilings_only_go_down(#[case] resources: Value, #[case] expected: (u64, u64, u64)) {
        let spec = lowered(resources, json!({}));
        assert_eq!((spec.memory_bytes, spec.nano_cpus, spec.pids), expected);
    }

    #[test]
    fn variables_reach_the_worker_and_what_says_what_to_run_does_not() {
        let env =
            json!({ "CUSTODY_PROMPT": "hello", "CUSTODY_WORKSPACES": "a:rw", "CUSTODY_LOG": "debug", "EMPTY": "" });
        let spec = lowered(json!({}), env);
        let named: Vec<_> = spec.env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(named, [("CUSTODY_LOG", "debug"), ("EMPTY", ""), ("FIXED", "1")]);
    }
}
