//! The configuration file. Every option has its line in `ops/custody.toml`; unknown keys are refused. What the command
//! line says wins over the environment, that over the file, that over the default.

use crate::error::{CliError, CliResult, exit};
use crate::home::Home;
use custody_engine::inference::ModelConfig;
use custody_engine::runtime::RuntimeLimits;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// The state folder.
    pub(crate) state: Option<PathBuf>,
    /// NATS.
    pub(crate) nats: NatsConfig,
    /// The model.
    pub(crate) model: Option<ModelConfig>,
    /// The local model, used when no `[model]` is there.
    pub(crate) local_model: LocalModelConfig,
    /// Containers.
    pub(crate) runtime: RuntimeSection,
    /// Runner documents.
    pub(crate) runners: RunnersConfig,
    /// Checkpoints.
    pub(crate) audit: AuditConfig,
}

/// NATS: our own server, or somebody's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NatsConfig {
    /// An outside server; without it `custody up` runs its own.
    pub(crate) url: Option<String>,
    /// Folder with one credentials file per user of the outside server: `<user>.nk` (a seed) or `<user>.creds`.
    pub(crate) credentials: Option<PathBuf>,
    /// Says that the outside server has `sync_interval: always` when it cannot be asked.
    pub(crate) assume_sync_always: bool,
    /// Our own server: the executable.
    pub(crate) server: Option<PathBuf>,
    /// Our own server: the port; 0 takes a free one and keeps it.
    pub(crate) port: u16,
    /// Our own server: the most that the ledger may hold, in bytes. A full ledger refuses; it never forgets.
    pub(crate) ledger_bytes_max: i64,
}

impl Default for NatsConfig {
    fn default() -> Self {
        NatsConfig {
            url: None,
            credentials: None,
            assume_sync_always: false,
            server: None,
            port: 0,
            ledger_bytes_max: 8 << 30,
        }
    }
}

/// The local model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LocalModelConfig {
    /// Whether it is started when no `[model]` is configured.
    pub(crate) enabled: bool,
    /// Its program; it is called with `--socket PATH --exit-with-stdin`.
    pub(crate) program: Option<PathBuf>,
    /// The model's name.
    pub(crate) name: String,
}

impl Default for LocalModelConfig {
    fn default() -> Self {
        LocalModelConfig { enabled: true, program: None, name: "smollm2-135m-instruct".into() }
    }
}

/// Containers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RuntimeSection {
    /// How many boxes run at once.
    pub(crate) running_max: usize,
    /// Another OCI runtime that the engine knows, for example `runsc`.
    pub(crate) oci_runtime: Option<String>,
    /// Milliseconds from start to a forced end.
    pub(crate) wall_ms: u64,
    /// Milliseconds without output.
    pub(crate) idle_ms: u64,
    /// Milliseconds between TERM and KILL.
    pub(crate) grace_ms: u64,
    /// Bytes of memory of a box; it has no swap.
    pub(crate) memory_bytes: u64,
    /// Processors of a box.
    pub(crate) cpus: f64,
    /// Processes of a box.
    pub(crate) pids: u64,
    /// Bytes of output that are kept.
    pub(crate) output_bytes: u64,
    /// The largest session file.
    pub(crate) session_bytes: u64,
}

impl Default for RuntimeSection {
    fn default() -> Self {
        RuntimeSection {
            running_max: 8,
            oci_runtime: None,
            wall_ms: 3_600_000,
            idle_ms: 600_000,
            grace_ms: 10_000,
            memory_bytes: 512 << 20,
            cpus: 1.0,
            pids: 128,
            output_bytes: 16 << 20,
            session_bytes: 16 << 20,
        }
    }
}

impl RuntimeSection {
    /// As the runtime loop takes them.
    pub(crate) fn limits(&self) -> RuntimeLimits {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to lie between 0.01 and 1024 when the file was read"
        )]
        let nano_cpus = (self.cpus * 1e9) as u64;
        RuntimeLimits {
            wall_ms: self.wall_ms,
            idle_ms: self.idle_ms,
            grace_ms: self.grace_ms,
            memory_bytes: self.memory_bytes,
            nano_cpus,
            pids: self.pids,
            output_bytes: self.output_bytes,
            session_bytes: self.session_bytes,
        }
    }
}

/// Runner documents.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RunnersConfig {
    /// Folder with one agent-runner.v1 document a runner.
    pub(crate) folder: Option<PathBuf>,
}

/// Checkpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AuditConfig {
    /// The log's name in checkpoints (C2SP origin).
    pub(crate) origin: String,
    /// Files to which every checkpoint is appended, best on another disk. The state folder always has one.
    pub(crate) copies: Vec<PathBuf>,
}

impl Default for AuditConfig {
    fn default() -> Self {
        AuditConfig { origin: "custody.local/ledger".into(), copies: Vec::new() }
    }
}

impl Config {
    /// The file that the flag names, or the default one if it is there.
    pub(crate) fn read(flag: Option<&Path>) -> CliResult<Config> {
        let path = match flag {
            Some(path) => Some(path.to_owned()),
            None => default_path().filter(|p| p.exists()),
        };
        let Some(path) = path else { return Ok(Config::default()) };
        let text = std::fs::read_to_string(&path).map_err(|e| bad(&path, e))?;
        let config: Config = toml::from_str(&text).map_err(|e| bad(&path, e))?;
        config.check().map_err(|why| bad(&path, why))?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        let runtime = &self.runtime;
        if !(0.01..=1024.0).contains(&runtime.cpus) {
            return Err(format!("runtime.cpus {} is not between 0.01 and 1024", runtime.cpus));
        }
        if runtime.running_max == 0 || runtime.running_max > 10_000 {
            return Err(format!("runtime.running_max {} is not between 1 and 10000", runtime.running_max));
        }
        if runtime.memory_bytes < 16 << 20 {
            return Err("runtime.memory_bytes is less than 16 MiB: no agent starts in that".into());
        }
        if !(1_000..=86_400_000).contains(&runtime.wall_ms) || runtime.idle_ms < 1_000 {
            return Err("runtime.wall_ms must lie between 1 s and 24 h, runtime.idle_ms above 1 s".into());
        }
        if self.nats.url.is_some() != self.nats.credentials.is_some() {
            return Err("nats.url and nats.credentials belong together".into());
        }
        if self.audit.origin.is_empty()
            || self.audit.origin.contains(char::is_whitespace)
            || self.audit.origin.contains('+')
        {
            return Err("audit.origin must not be empty or hold white space or plus signs (C2SP)".into());
        }
        Ok(())
    }

    /// The state folder, by flag, environment, file, default.
    pub(crate) fn home(&self, flag: Option<&Path>) -> CliResult<Home> {
        let from_file = self.state.as_deref().filter(|_| std::env::var_os("CUSTODY_STATE").is_none());
        Home::at(flag.or(from_file))
    }

    /// The folder of runner documents.
    pub(crate) fn runners_folder(&self) -> PathBuf {
        self.runners
            .folder
            .clone()
            .or_else(|| std::env::var_os("CUSTODY_RUNNERS").map(PathBuf::from))
            .unwrap_or_else(|| cache_folder().join("runners"))
    }

    /// The local model's program, if it is there.
    pub(crate) fn local_model(&self) -> Option<PathBuf> {
        let named =
            self.local_model.program.clone().or_else(|| std::env::var_os("CUSTODY_LOCAL_MODEL").map(PathBuf::from));
        Some(named.unwrap_or_else(|| cache_folder().join("bin/custody-local-model"))).filter(|p| p.is_file())
    }
}

/// The user's cache folder for this project.
pub(crate) fn cache_folder() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("CUSTODY_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|p| p.join("custody")))
        .or_else(|| set("HOME").map(|p| p.join(".cache/custody")))
        .unwrap_or_else(|| PathBuf::from(".custody-cache"))
}

fn default_path() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("CUSTODY_CONFIG")
        .or_else(|| set("XDG_CONFIG_HOME").map(|p| p.join("custody/config.toml")))
        .or_else(|| set("HOME").map(|p| p.join(".config/custody/config.toml")))
}

fn bad(path: &Path, why: impl std::fmt::Display) -> CliError {
    CliError::new(exit::USAGE, "CONFIG_INVALID", format!("{}: {why}", path.display()))
        .hint("ops/custody.toml explains every option")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::unknown_key("nonsense = 1", "unknown field")]
    #[case::unknown_inner("[runtime]\nnonsense = 1", "unknown field")]
    #[case::cpus("[runtime]\ncpus = 0.0", "cpus")]
    #[case::running("[runtime]\nrunning_max = 0", "running_max")]
    #[case::half_of_nats("[nats]\nurl = \"nats://h:4222\"", "belong together")]
    #[case::origin("[audit]\norigin = \"a b\"", "origin")]
    fn a_wrong_file_is_refused_with_its_cause(#[case] text: &str, #[case] part: &str) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        std::fs::write(&path, text).unwrap();
        let error = Config::read(Some(&path)).unwrap_err();
        assert_eq!((error.code.as_str(), error.exit), ("CONFIG_INVALID", exit::USAGE));
        assert!(error.message.contains(part), "{}", error.message);
    }

    #[test]
    fn the_explained_file_is_the_default() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ops/custody.toml");
        assert_eq!(Config::read(Some(&path)).unwrap(), Config::default());
    }
}
