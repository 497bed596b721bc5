//! What a container really has, compared with what was asked for. Pure. Must never accept a limit or a protection
//! that the engine dropped without a word, which some do (rootless podman 4.3 on cgroup v1 ignores limits).

use crate::spec::{Profile, create_body, propagation, sorted_json};
use bollard::models::{ContainerInspectResponse, HostConfig, MountPoint};
use custody_ports::containers::BoxSpec;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt;

/// One thing that is not as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where, for example `HostConfig.PidsLimit`.
    pub field: String,
    /// What was asked for, as JSON, cut to 200 characters.
    pub wanted: String,
    /// What is there, as JSON, cut to 200 characters.
    pub found: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {} instead of {}", self.field, self.found, self.wanted)
    }
}

/// Everything in which a container differs from the box that was asked for: each option of the request, and what
/// may not be there at all. Empty when it is that box. Values of variables are not shown.
pub fn verify(found: &ContainerInspectResponse, spec: &BoxSpec, profile: &Profile) -> Vec<Difference> {
    let mut out = Differences(Vec::new());
    let wanted = create_body(spec, profile);
    out.subset("HostConfig", &json(&wanted.host_config), &json(&found.host_config));

    let config = found.config.clone().unwrap_or_default();
    out.same("Config.User", &json(&wanted.user), &json(&config.user));
    out.same("Config.NetworkDisabled", &json(&wanted.network_disabled), &json(&config.network_disabled));
    out.same("Config.StopSignal", &json(&wanted.stop_signal), &json(&config.stop_signal));
    out.subset("Config.Healthcheck", &json(&wanted.healthcheck), &json(&config.healthcheck));
    out.subset("Config.Labels", &json(&wanted.labels), &json(&config.labels));
    let has: BTreeSet<&String> = config.env.iter().flatten().collect();
    for pair in wanted.env.iter().flatten().filter(|pair| !has.contains(pair)) {
        let name = pair.split('=').next().unwrap_or_default();
        out.note(&format!("Config.Env.{name}"), "its value", "another");
    }
    out.same("Image", &json(&spec.image), &json(&found.image));
    out.mounts(found.mounts.as_deref().unwrap_or_default(), spec);
    out.engine_defaults(found.host_config.as_ref());
    out.0
}

struct Differences(Vec<Difference>);

impl Differences {
    fn note(&mut self, field: &str, wanted: impl fmt::Display, found: impl fmt::Display) {
        let cut = |text: String| text.chars().take(200).collect();
        let (wanted, found) = (cut(wanted.to_string()), cut(found.to_string()));
        self.0.push(Difference { field: field.to_owned(), wanted, found });
    }

    fn same(&mut self, field: &str, wanted: &Value, found: &Value) {
        if wanted != found && !(is_empty(wanted) && is_empty(found)) {
            self.note(field, wanted, found);
        }
    }

    /// Every key of `wanted` is in `found`; lists have the same length. The engine may add keys of its own.
    fn subset(&mut self, field: &str, wanted: &Value, found: &Value) {
        match (wanted, found) {
            (Value::Object(want), Value::Object(have)) => {
                for (key, value) in want {
                    self.subset(&format!("{field}.{key}"), value, have.get(key).unwrap_or(&Value::Null));
                }
            }
            (Value::Array(want), Value::Array(have)) if want.len() == have.len() => {
                for (i, (value, other)) in want.iter().zip(have).enumerate() {
                    self.subset(&format!("{field}.{i}"), value, other);
                }
            }
            _ => self.same(field, wanted, found),
        }
    }

    /// Exactly our mounts: an image with a VOLUME line brings writable space of its own.
    fn mounts(&mut self, found: &[MountPoint], spec: &BoxSpec) {
        let place = |mount: &MountPoint| mount.destination.clone().unwrap_or_default();
        for mount in &spec.mounts {
            let Some(have) = found.iter().find(|have| place(have) == mount.target) else {
                self.note("Mounts", &mount.target, "nothing");
                continue;
            };
            self.same(&format!("Mounts.{}.Source", mount.target), &json(&mount.source), &json(&have.source));
            self.same(&format!("Mounts.{}.RW", mount.target), &json(&!mount.read_only), &json(&have.rw));
            self.same(
                &format!("Mounts.{}.Propagation", mount.target),
                &json(&propagation(spec.slots)),
                &json(&have.propagation),
            );
        }
        for extra in found.iter().filter(|have| spec.mounts.iter().all(|mount| mount.target != place(have))) {
            self.note("Mounts", "nothing", place(extra));
        }
    }

    /// What is left to the engine must be there: the masked and the read-only parts of /proc and /sys.
    fn engine_defaults(&mut self, host: Option<&HostConfig>) {
        for (field, paths, must) in [
            ("HostConfig.MaskedPaths", host.and_then(|h| h.masked_paths.as_ref()), "/proc/kcore"),
            ("HostConfig.ReadonlyPaths", host.and_then(|h| h.readonly_paths.as_ref()), "/proc/sysrq-trigger"),
        ] {
            if !paths.is_some_and(|paths| paths.iter().any(|path| path == must)) {
                self.note(field, format!("a list with {must}"), json(&paths));
            }
        }
    }
}

/// What the engine writes for "not set" differs by field and version: null, "", 0, false, an empty list or map.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

fn json<T: serde::Serialize>(value: &T) -> Value {
    sorted_json(value).unwrap_or_default()
}

#[cfg(test)]
mod tests;
