//! Checks of this machine: state folder, disk, programs, container engine, model. Must never write: whether a folder can
//! be written is asked of the kernel.

use super::{Check, size};
use crate::client::Target;
use crate::commands::runner::engine as container_engine;
use crate::home::Home;
use custody_contracts::ids::Subject;
use custody_engine::authority::outside::Standing;
use custody_engine::inference::{Door, ModelConfig};
use custody_engine::runners::Runners;
use custody_nats::server::{find_binary, verify_binary};
use custody_ports::blobs::{BlobError, Blobs};
use custody_ports::containers::Containers;
use futures::future::BoxFuture;
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Folders of the state folder whose files are keys.
const SECRET_FOLDERS: [&str; 3] = ["keys", "users", "launchers"];
/// The most files that are looked at.
const FILES_MAX: usize = 20_000;
/// Less free space than this is a failure: a log that is full refuses.
const FREE_FAIL: u64 = 1 << 30;
/// Less than this is a warning.
const FREE_WARN: u64 = 5 << 30;

/// The state folder: there, ours, closed to others.
pub(super) fn state(target: &Target) -> Check {
    let root = target.home.root();
    if !root.exists() {
        return Check::skip("state", format!("{} is not there yet: nothing was started here", root.display()));
    }
    if rustix::fs::access(root, rustix::fs::Access::WRITE_OK).is_err() {
        let fix = format!("chown -R $USER {}", root.display());
        return Check::fail("state", format!("{} cannot be written by this user", root.display()), &fix);
    }
    let open = open_to_others(&target.home);
    match open.first() {
        None => Check::ok("state", format!("{} is writable and closed to others", root.display())),
        Some(first) => {
            let detail =
                format!("{} files or folders of keys can be read by others, the first {}", open.len(), first.display());
            Check::fail("state", detail, &format!("chmod -R go= {}", root.display()))
        }
    }
}

/// What holds keys and is open to somebody else.
fn open_to_others(home: &Home) -> Vec<PathBuf> {
    let mut all = vec![home.root().to_owned()];
    for folder in SECRET_FOLDERS {
        let path = home.path(folder);
        let entries = std::fs::read_dir(&path).into_iter().flatten().flatten();
        all.extend(entries.take(FILES_MAX).map(|e| e.path()));
        all.push(path);
    }
    let open = |path: &PathBuf| std::fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o077 != 0);
    all.into_iter().filter(open).collect()
}

/// Free space where the state folder is or will be.
pub(super) fn disk(target: &Target) -> Check {
    let root = target.home.root();
    let Some(there) = root.ancestors().find(|p| p.exists()) else {
        return Check::skip("disk", "no folder to ask about");
    };
    let Ok(stat) = rustix::fs::statvfs(there) else {
        return Check::warn("disk", format!("{} cannot be asked for its free space", there.display()), "df -h");
    };
    free_space(there, stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn free_space(place: &Path, free: u64) -> Check {
    let detail = format!("{} free at {}", size(free), place.display());
    match free {
        _ if free < FREE_FAIL => Check::fail("disk", detail, "free some space: a full ledger refuses everything"),
        _ if free < FREE_WARN => Check::warn("disk", detail, "free some space, or move the state folder with --state"),
        _ => Check::ok("disk", detail),
    }
}

/// The nats-server executable, where we run our own.
pub(super) async fn nats_binary(target: &Target) -> Check {
    if target.config.nats.url.is_some() {
        return Check::skip("nats-server", "an outside server is configured");
    }
    let binary = match target.config.nats.server.clone().map_or_else(find_binary, Ok) {
        Ok(binary) => binary,
        Err(error) => return Check::fail("nats-server", error.to_string(), "ops/setup"),
    };
    match verify_binary(&binary).await {
        Ok(version) => Check::ok("nats-server", format!("{version} at {}", binary.display())),
        Err(error) => Check::fail("nats-server", error.to_string(), "ops/setup"),
    }
}

/// The container engine.
pub(super) async fn engine() -> Check {
    let facts = match container_engine() {
        Ok(engine) => engine.facts().await,
        Err(error) => Err(error),
    };
    match facts {
        Err(error) => Check::fail("engine", error.to_string(), "ops/docker start"),
        Ok(facts) => {
            let detail = format!(
                "version {}, API {}, cgroup v{}, live restore {}",
                facts.version,
                facts.api_version,
                facts.cgroup_version,
                if facts.live_restore { "on" } else { "off" }
            );
            match facts.live_restore {
                true => Check::ok("engine", detail),
                false => Check::warn(
                    "engine",
                    format!("{detail}: a restart of the engine ends every running dispatch"),
                    "set \"live-restore\": true in the engine's daemon.json",
                ),
            }
        }
    }
}

/// Runner documents, and the images that they pin.
pub(super) async fn runners(target: &Target) -> Check {
    let folder = target.config.runners_folder();
    let runners = match Runners::read(&folder) {
        Ok(runners) => runners.all(),
        Err(error) => {
            return Check::fail("runners", error.to_string(), "custody contract validate agent-runner.v2 FILE");
        }
    };
    if runners.is_empty() {
        return Check::warn("runners", format!("none in {}", folder.display()), "ops/up");
    }
    let engine = match container_engine() {
        Ok(engine) => engine,
        Err(error) => return Check::skip("runners", error.to_string()),
    };
    let mut missing = Vec::new();
    for runner in &runners {
        match engine.has_image(&runner.image).await {
            Ok(true) => {}
            Ok(false) => missing.push(runner.name.to_string()),
            Err(error) => return Check::skip("runners", format!("{} installed; {error}", runners.len())),
        }
    }
    match missing.first() {
        None => Check::ok("runners", format!("{} installed, every pinned image is here", runners.len())),
        Some(first) => {
            let detail = format!("the pinned image is missing of: {}", missing.join(", "));
            Check::fail("runners", detail, &format!("cargo xtask image {first} --load"))
        }
    }
}

/// The model: whether it answers.
pub(super) async fn model(target: &Target) -> Check {
    let log = target.home.path("run/model.log");
    let config = match (target.config.default_model(), target.home.up()) {
        (Some(model), _) => model.clone(),
        (None, None) if target.config.nats.url.is_some() => {
            return Check::skip("model", "the configuration of the process that runs gateway names it");
        }
        (None, None) => return local_model(target),
        (None, Some(up)) if up.model == "none" => {
            return Check::warn("model", "Custody runs without a model: agents that call one are told so", "ops/setup");
        }
        (None, Some(up)) if up.model != target.config.local_model.name => {
            return Check::skip(
                "model",
                format!("{} was given by --model-url: only that process knows its address", up.model),
            );
        }
        (None, Some(_)) => match local_config(target) {
            Ok(config) => config,
            Err(error) => return Check::fail("model", error.to_string(), "ops/setup"),
        },
    };
    let Some(models) = target.config.models(Some(config)) else { return local_model(target) };
    let door = match Door::new(models, Arc::new(NoBlobs)) {
        Ok(door) => door,
        Err(error) => return Check::fail("model", error.to_string(), "ops/custody.toml explains [model]"),
    };
    let each = door.formats().into_iter().map(|(name, api)| format!("{name} answers, it speaks {}", api.as_str()));
    let said = each.collect::<Vec<_>>().join("; ");
    match door.probe().await {
        Ok(()) => Check::ok("model", said),
        Err(why) => Check::fail("model", format!("it does not answer: {why}"), &format!("see {}", log.display())),
    }
}

fn local_config(target: &Target) -> serde_json::Result<ModelConfig> {
    let socket = target.home.path("run/model.sock");
    serde_json::from_value(json!({
        "name": "local", "url": format!("unix:{}", socket.display()), "api": "openai-chat",
        "model": target.config.local_model.name,
    }))
}

/// The local model while nothing runs.
fn local_model(target: &Target) -> Check {
    if !target.config.local_model.enabled {
        return Check::warn(
            "model",
            "none is configured and the local one is switched off",
            "ops/custody.toml explains [model]",
        );
    }
    match target.config.local_model() {
        Some(program) => Check::ok("model", format!("{} is there; `custody up` starts it", program.display())),
        None => Check::warn("model", "none is configured and the local one is not installed", "ops/setup"),
    }
}

/// The probe stores nothing; if it tried, this is the answer.
struct NoBlobs;

impl Blobs for NoBlobs {
    fn put<'a>(&'a self, _: &'a Subject, _: Vec<u8>) -> BoxFuture<'a, Result<String, BlobError>> {
        Box::pin(std::future::ready(Err(BlobError::Unavailable("doctor stores nothing".into()))))
    }
    fn get<'a>(&'a self, digest: &'a str) -> BoxFuture<'a, Result<Vec<u8>, BlobError>> {
        Box::pin(std::future::ready(Err(BlobError::Missing(digest.to_owned()))))
    }
}

/// Whether checkpoints leave the box, as this state folder's authority wrote it down.
pub(super) fn checkpoints(target: &Target) -> Check {
    let standings = crate::server::outside::standings(&target.home);
    let configured = target.config.audit
        != crate::config_audit::AuditConfig { origin: target.config.audit.origin.clone(), ..Default::default() };
    leave(&standings, configured)
}

fn leave(standings: &[Standing], configured: bool) -> Check {
    const NAME: &str = "checkpoints";
    if standings.is_empty() {
        let (detail, fix) = if configured {
            ("[audit] names places, and the authority has not written down how they stand", "custody status")
        } else {
            (
                "they stay in the state folder: whoever holds this machine can replace the log and them",
                "[audit] copies, syslog, git or witnesses in the configuration",
            )
        };
        return Check::warn(NAME, detail, fix);
    }
    let told: Vec<String> = standings.iter().map(told).collect();
    let detail = told.join("; ");
    if standings.iter().any(|s| s.refused > 0 && s.error.is_some()) {
        return Check::fail(NAME, detail, "custody audit verify; then ask who keeps the other copy what they have");
    }
    if standings.iter().any(|s| s.error.is_some() || s.dropped > 0) {
        return Check::warn(NAME, detail, "make the place reachable; the next checkpoint covers what it missed");
    }
    Check::ok(NAME, detail)
}

/// How one place stands, in words.
fn told(standing: &Standing) -> String {
    let Standing { name, sent, failed, dropped, refused, size, error, .. } = standing;
    let why = error.as_ref().map_or_else(String::new, |e| format!(": {e}"));
    format!("{name} {sent} sent up to {size}, {failed} failed, {dropped} dropped, {refused} refused{why}")
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;
    use crate::config::Config;
    use rstest::rstest;
    use std::time::Duration;

    fn target(root: &Path) -> Target {
        let home = Home::at(Some(root)).unwrap();
        Target { home, config: Config::default(), timeout: Duration::from_secs(1) }
    }

    #[rstest]
    #[case::kept_here_alone(&[], false, Status::Warn, "whoever holds this machine")]
    #[case::configured_and_not_told(&[], true, Status::Warn, "has not written down")]
    #[case::good(&[(3, 0, 0, 0, None)], true, Status::Ok, "3 sent up to 9")]
    #[case::good_again_after_failures(&[(3, 2, 0, 0, None)], true, Status::Ok, "2 failed")]
    #[case::gone(&[(3, 0, 0, 0, None), (3, 1, 0, 0, Some("gone"))], true, Status::Warn, "gone")]
    #[case::given_up(&[(3, 4, 1, 0, None)], true, Status::Warn, "1 dropped")]
    #[case::refused(&[(3, 0, 0, 1, Some("WITNESS_AHEAD"))], true, Status::Fail, "WITNESS_AHEAD")]
    fn how_checkpoints_leave_is_told(
        #[case] places: &[(u64, u64, u64, u64, Option<&str>)],
        #[case] configured: bool,
        #[case] status: Status,
        #[case] part: &str,
    ) {
        let standing = |(sent, failed, dropped, refused, error): &(u64, u64, u64, u64, Option<&str>)| Standing {
            name: "file /mnt/notes".into(),
            sent: *sent,
            failed: *failed,
            dropped: *dropped,
            refused: *refused,
            size: 9,
            at: None,
            error: error.map(str::to_owned),
        };
        let standings: Vec<Standing> = places.iter().map(standing).collect();
        let check = leave(&standings, configured);
        assert_eq!(check.status, status, "{}", check.detail);
        assert!(check.detail.contains(part), "{}", check.detail);
    }

    #[test]
    fn a_key_that_others_can_read_is_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o700)).unwrap();
        let target = target(folder.path());
        target.home.prepare().unwrap();
        target.home.seed("users/operator.nk").unwrap();
        assert_eq!(state(&target).status, Status::Ok);
        let key = target.home.path("users/operator.nk");
        std::fs::set_permissions(&key, PermissionsExt::from_mode(0o640)).unwrap();
        let check = state(&target);
        assert_eq!(check.status, Status::Fail);
        assert!(check.detail.contains("operator.nk") && check.fix.unwrap().starts_with("chmod"), "{}", check.detail);
    }

    #[test]
    fn a_folder_that_is_not_there_yet_is_nothing_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let target = target(&folder.path().join("none"));
        assert_eq!(state(&target).status, Status::Skip);
        assert_ne!(disk(&target).status, Status::Skip);
    }

    #[rstest]
    #[case(10 << 30, Status::Ok)]
    #[case(2 << 30, Status::Warn)]
    #[case(1 << 20, Status::Fail)]
    fn free_space_has_two_limits(#[case] free: u64, #[case] status: Status) {
        assert_eq!(free_space(Path::new("/x"), free).status, status);
    }

    #[tokio::test]
    async fn a_model_that_does_not_answer_is_a_failure_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut target = target(folder.path());
        let socket = folder.path().join("none.sock");
        target.config.model = serde_json::from_value(json!({
            "name": "house", "url": format!("unix:{}", socket.display()), "model": "m",
        }))
        .unwrap();
        let check = model(&target).await;
        assert_eq!(check.status, Status::Fail);
        assert!(check.detail.contains("does not answer") && check.detail.contains("\"house\""), "{}", check.detail);
    }
}
