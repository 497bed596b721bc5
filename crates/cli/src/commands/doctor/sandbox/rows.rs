//! From what the probe measured and what the engine set to one line for each control. Pure. Must never call a control
//! good that only one of the two says: a line of the probe that is missing is a failure.

use super::Probed;
use crate::config_runtime::RuntimeSection;
use custody_contracts::isolation::{Isolation, Sockets};
use custody_docker::seccomp;
use custody_engine::runtime::Classes;
use custody_ports::containers::EngineFacts;
use serde::Serialize;
use serde_json::{Value, json};

/// Lines that the probe must have, whatever the host: fewer mean that it ended early.
const LINES_MIN: usize = 80;
/// Rows of the probe's own.
const MEASURED: [&str; 25] = [
    "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "13", "14", "15", "16", "17", "18", "19", "20", "21",
    "22", "23", "24", "28", "4.2",
];
/// What the engine was asked for, by the row that measures it: JSON pointers into its inspect answer.
const SET: &[(&str, &[&str])] = &[
    ("1", &["/Config/User"]),
    ("2", &["/HostConfig/SecurityOpt/0"]),
    ("3", &["/HostConfig/CapDrop", "/HostConfig/CapAdd"]),
    ("5", &["/HostConfig/ReadonlyRootfs"]),
    ("6", &["/HostConfig/Tmpfs"]),
    ("7", &["/Mounts/0/Propagation", "/Mounts/0/Destination", "/Mounts/1/Destination", "/Mounts/2/Destination"]),
    ("8", &["/HostConfig/Memory", "/HostConfig/MemorySwap", "/HostConfig/OomScoreAdj"]),
    ("9", &["/HostConfig/PidsLimit"]),
    ("10", &["/HostConfig/NanoCpus", "/HostConfig/CpuShares"]),
    ("11", &["/HostConfig/Ulimits"]),
    ("13", &["/Config/NetworkDisabled", "/HostConfig/NetworkMode"]),
    ("17", &["/HostConfig/MaskedPaths", "/HostConfig/ReadonlyPaths"]),
    ("18", &["/HostConfig/IpcMode", "/HostConfig/PidMode", "/HostConfig/UTSMode", "/HostConfig/CgroupnsMode"]),
    ("19", &["/HostConfig/UsernsMode"]),
    ("20", &["/AppArmorProfile"]),
    ("21", &["/Path", "/HostConfig/Init"]),
    ("22", &["/Config/Env"]),
    ("23", &["/HostConfig/Devices"]),
    ("28", &["/HostConfig/Runtime"]),
];

/// How a control came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// Set, and measured from inside.
    Ok,
    /// This host cannot have it.
    Skip,
    /// Not as promised.
    Fail,
}

/// One control.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) control: String,
    pub(super) status: Status,
    pub(super) set: String,
    pub(super) measured: String,
    pub(super) profile: &'static str,
}

impl Row {
    pub(super) fn new(id: &str, control: &str, status: Status) -> Row {
        let (set, measured) = (String::new(), String::new());
        Row { id: id.to_owned(), control: control.to_owned(), status, set, measured, profile: "" }
    }

    pub(super) fn set(self, set: impl Into<String>) -> Row {
        Row { set: cut(set.into()), ..self }
    }

    pub(super) fn measured(self, measured: impl Into<String>) -> Row {
        Row { measured: cut(measured.into()), ..self }
    }

    pub(super) fn value(&self) -> Value {
        json!({ "row": self.id, "control": self.control, "status": self.status, "set": self.set,
                "measured": self.measured, "profile": self.profile })
    }
}

fn cut(text: String) -> String {
    text.chars().take(300).collect()
}

/// What this host can have, before any box is made.
pub(super) fn host(facts: &EngineFacts, classes: &Classes, section: &RuntimeSection) -> Vec<Row> {
    let mut rows = vec![Row::new("host", "engine", Status::Ok).set("").measured(format!(
        "version {}, control groups v{}, runtimes {}, default {}",
        facts.version,
        facts.cgroup_version,
        facts.runtimes.join(" "),
        facts.default_runtime
    ))];
    for class in Isolation::ALL {
        let row = match (classes.present.get(&class), class) {
            (Some(runtime), _) => Row::new("28", "class", Status::Ok)
                .measured(format!("present, by {}", runtime.as_deref().unwrap_or("the engine's own runtime"))),
            (None, Isolation::Standard) if classes.userns => {
                Row::new("28", "class", Status::Ok).measured("every box has more: user ids of its own")
            }
            (None, Isolation::Standard) => Row::new("28", "class", Status::Fail)
                .measured("the runtime that [runtime.classes] names for it is not registered with the engine"),
            (None, Isolation::Userns) => Row::new("28", "class", Status::Skip)
                .measured("the engine runs without userns-remap: dockerd --userns-remap=default gives it to every box"),
            (None, Isolation::Gvisor) => Row::new("28", "class", Status::Skip)
                .measured("no runtime runsc is registered with the engine (package runsc)"),
            (None, Isolation::Kata) => Row::new("28", "class", Status::Skip)
                .measured("no runtime of Kata Containers is registered with the engine"),
        };
        rows.push(Row { control: format!("isolation {}", class.as_str()), ..row });
    }
    let minimum = match classes.choose(None) {
        Ok(class) => Row::new("28", "isolation of every box", Status::Ok).measured(class.isolation.as_str()),
        Err(missing) => Row::new("28", "isolation of every box", Status::Fail).measured(missing.to_string()),
    };
    rows.push(minimum.set(format!("at least {}", classes.minimum.as_str())));
    rows.push(pool(section));
    rows
}

/// Whether warm boxes can be had.
fn pool(section: &RuntimeSection) -> Row {
    let row = Row::new("host", "warm boxes", Status::Skip).set(format!("{} of each kind", section.pool.size));
    if section.pool.size == 0 {
        return row.measured("switched off: [runtime.pool] size is 0");
    }
    if !rustix::process::geteuid().is_root() {
        return row.measured("none: binding a claimed workspace into a running box needs root");
    }
    Row { status: Status::Ok, ..row }.measured("this process may mount")
}

/// Every control of one probe.
pub(super) fn of(probed: &Probed, sockets: Sockets) -> Vec<Row> {
    let mut rows: Vec<Row> = probed.lines.iter().map(|line| measured(line, &probed.inspect)).collect();
    if probed.lines.len() < LINES_MIN {
        let why = format!(
            "{} lines, at least {LINES_MIN} are a whole report; it ended as {}",
            probed.lines.len(),
            probed.row["reason"]
        );
        rows.push(Row::new("probe", "the whole report", Status::Fail).measured(why));
    }
    let has = |id: &str| rows.iter().any(|row| row.id == id);
    let missing: Vec<Row> = MEASURED
        .into_iter()
        .filter(|id| !has(id))
        .map(|id| Row::new(id, "not measured", Status::Fail).measured("the probe has no line for it"))
        .collect();
    rows.extend(missing);
    if probed.inspect.is_null() {
        rows.push(Row::new("25", "from outside", Status::Fail).measured("the engine was not asked in time"));
    } else {
        rows.extend(from_outside(probed));
    }
    rows.push(record(probed, sockets));
    for row in &mut rows {
        row.profile = sockets.as_str();
    }
    rows
}

/// One line of the probe with what was set for it.
fn measured(line: &Value, inspect: &Value) -> Row {
    let text = |name: &str| line.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let status = match line.get("status").and_then(Value::as_str) {
        Some("ok") => Status::Ok,
        Some("skip") => Status::Skip,
        _ => Status::Fail,
    };
    let id = text("row");
    let set = match id.as_str() {
        "4" | "14" | "4.2" => seccomp_of(inspect),
        "15" => "/run/gw, read-only".to_owned(),
        "16" => mounts(inspect),
        "24" => "the engine's read-only mounts".to_owned(),
        other => SET.iter().find(|(row, _)| *row == other).map_or_else(String::new, |(_, pointers)| {
            let values = pointers.iter().filter_map(|pointer| {
                let value = inspect.pointer(pointer)?;
                let name = pointer.rsplit('/').find(|part| part.parse::<usize>().is_err()).unwrap_or_default();
                Some(format!("{name}={}", value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
            });
            values.collect::<Vec<_>>().join(" ")
        }),
    };
    Row::new(&id, &text("control"), status).set(set).measured(text("measured"))
}

/// Which profile of ours the engine holds for this box.
fn seccomp_of(inspect: &Value) -> String {
    let options = inspect.pointer("/HostConfig/SecurityOpt").and_then(Value::as_array);
    let found = options.into_iter().flatten().filter_map(Value::as_str).find_map(|o| o.strip_prefix("seccomp="));
    let name = Sockets::ALL.into_iter().find(|sockets| found == Some(seccomp::compact(*sockets)));
    match (name, found) {
        (Some(sockets), _) => format!("seccomp {} {}", sockets.as_str(), seccomp::digest(sockets)),
        (None, Some(_)) => "a seccomp profile that is not ours".to_owned(),
        (None, None) => "no seccomp profile".to_owned(),
    }
}

fn mounts(inspect: &Value) -> String {
    let all = inspect.pointer("/Mounts").and_then(Value::as_array);
    let places = all.into_iter().flatten().filter_map(|mount| mount.get("Destination").and_then(Value::as_str));
    format!("mounts {}", places.collect::<Vec<_>>().join(" "))
}

/// What only the engine can say.
fn from_outside(probed: &Probed) -> Vec<Row> {
    let at = |pointer: &str| probed.inspect.pointer(pointer).cloned().unwrap_or_default();
    let check = |id: &str, control: &str, right: bool, found: String| {
        Row::new(id, control, if right { Status::Ok } else { Status::Fail })
            .set(found)
            .measured("read back from the engine")
    };
    let log = at("/HostConfig/LogConfig");
    let capped = log["Config"]["max-size"] == "1m" && log["Config"]["max-file"] == "1";
    let (restart, privileged) = (at("/HostConfig/RestartPolicy/Name"), at("/HostConfig/Privileged"));
    let (auto_remove, health) = (at("/HostConfig/AutoRemove"), at("/Config/Healthcheck/Test/0"));
    let execs = at("/ExecIDs");
    let fixed = restart == "no" && privileged == false && auto_remove == false && health == "NONE" && execs.is_null();
    let image = at("/Image");
    let deadline = at("/Config/Labels/custody.deadline");
    let labelled = deadline.as_str().and_then(|text| text.parse::<u64>().ok());
    let warm = probed.claimed.warm == Some(true);
    vec![
        check("12", "log cap", capped, log.to_string()),
        check(
            "25",
            "no restart, no removal by the engine, no privilege, no exec",
            fixed,
            format!(
                "restart {restart}, privileged {privileged}, auto-remove {auto_remove}, health check {health}, execs {execs}"
            ),
        ),
        check(
            "26",
            "image by digest",
            image == probed.claimed.image.as_str(),
            format!("{image}, claimed {}", probed.claimed.image),
        ),
        check(
            "27",
            "deadline",
            warm || labelled == Some(probed.claimed.deadline_at.0),
            if warm { "in the claim: a blank box has none yet".to_owned() } else { format!("label {deadline}") },
        ),
    ]
}

/// Whether the run's record says what the engine says.
fn record(probed: &Probed, sockets: Sockets) -> Row {
    let Some(in_force) = &probed.in_force else {
        return Row::new("record", "profile in the run's record", Status::Fail).measured("the start event has none");
    };
    let number = |pointer: &str| probed.inspect.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    let same = in_force.sockets == sockets
        && in_force.seccomp_digest == seccomp::digest(sockets)
        && in_force.memory_bytes == number("/HostConfig/Memory")
        && in_force.nano_cpus == number("/HostConfig/NanoCpus")
        && in_force.pids == number("/HostConfig/PidsLimit")
        && in_force.warm == (probed.claimed.warm == Some(true));
    let found = serde_json::to_string(in_force).unwrap_or_default();
    Row::new("record", "profile in the run's record", if same { Status::Ok } else { Status::Fail })
        .set(seccomp_of(&probed.inspect))
        .measured(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::good("ok", Status::Ok)]
    #[case::cannot("skip", Status::Skip)]
    #[case::bad("fail", Status::Fail)]
    #[case::nonsense("fine", Status::Fail)]
    fn a_line_is_what_it_says_and_nothing_better(#[case] word: &str, #[case] status: Status) {
        let line = json!({ "row": "9", "control": "pids", "status": word, "measured": "EAGAIN" });
        let row = measured(&line, &json!({ "HostConfig": { "PidsLimit": 128 } }));
        assert_eq!((row.status, row.set.as_str(), row.measured.as_str()), (status, "PidsLimit=128", "EAGAIN"));
    }

    #[test]
    fn every_row_of_the_document_has_a_place() {
        let outside = ["12", "25", "26", "27"];
        for number in 1..=28 {
            let id = number.to_string();
            assert!(MEASURED.contains(&id.as_str()) || outside.contains(&id.as_str()), "row {id} is nobody's");
        }
    }

    #[test]
    fn another_seccomp_profile_is_not_ours() {
        let with = |text: &str| json!({ "HostConfig": { "SecurityOpt": ["no-new-privileges", text] } });
        let ours = with(&format!("seccomp={}", seccomp::compact(Sockets::Loopback)));
        assert!(seccomp_of(&ours).starts_with("seccomp loopback sha256:"));
        assert_eq!(seccomp_of(&with("seccomp=unconfined")), "a seccomp profile that is not ours");
        assert_eq!(seccomp_of(&json!({})), "no seccomp profile");
    }
}
