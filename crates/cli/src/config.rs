//! The configuration file. Every option has its line in `ops/custody.toml`; unknown keys are refused. What the command
//! line says wins over the environment, that over the file, that over the default.

use crate::config_audit::AuditConfig;
use crate::config_identity::IdentityConfig;
use crate::config_queue::QueueSection;
use crate::config_runtime::{BackendKind, RuntimeSection};
use crate::config_tools::ToolsConfig;
use crate::config_workspaces::WorkspacesConfig;
use crate::error::{CliError, CliResult, exit};
use crate::home::Home;
use custody_contracts::isolation::Isolation;
use custody_engine::gateway::Budgets;
use custody_engine::inference::{ModelConfig, Models, RunnerModels};
use custody_engine::runtime::POOL_SIZE_MAX;
use custody_oidc::OidcConfig;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// What `[model]` is called where a model is named.
pub(crate) const DEFAULT_MODEL: &str = "default";

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// The state folder.
    pub(crate) state: Option<PathBuf>,
    /// NATS.
    pub(crate) nats: NatsConfig,
    /// The model that every runner gets which has none of its own; its name in `[runners.*]` is `default`.
    pub(crate) model: Option<ModelConfig>,
    /// Further models, by name.
    pub(crate) models: BTreeMap<String, ModelConfig>,
    /// The local model, used when no `[model]` is there.
    pub(crate) local_model: LocalModelConfig,
    /// Containers.
    pub(crate) runtime: RuntimeSection,
    /// Who may have how many boxes, and how much may wait.
    pub(crate) queue: QueueSection,
    /// Runner documents.
    pub(crate) runners: RunnersConfig,
    /// What dispatches, persons and launchers may use.
    pub(crate) budgets: Budgets,
    /// Workspaces.
    pub(crate) workspaces: WorkspacesConfig,
    /// The keys of persons.
    pub(crate) subjects: SubjectsConfig,
    /// Tools that are not the gateway's own, and the policy over all.
    pub(crate) tools: ToolsConfig,
    /// Checkpoints.
    pub(crate) audit: AuditConfig,
    /// The web: sign-in, REST, the bridge, the UI.
    pub(crate) http: HttpConfig,
    /// Boxes on other machines, and decisions for others than them.
    pub(crate) gateway: GatewayConfig,
    /// Workload identity.
    pub(crate) identity: IdentityConfig,
    /// Metrics and traces.
    pub(crate) telemetry: TelemetryConfig,
}

/// The web.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct HttpConfig {
    /// Where it listens; port 0 takes a free one at the first start and keeps it.
    pub(crate) listen: std::net::SocketAddr,
    /// Other origins under which people reach it.
    pub(crate) origins: Vec<String>,
    /// How long a session lasts, in seconds.
    pub(crate) session_s: u64,
    /// A folder with a built UI that is served instead of the embedded one.
    pub(crate) ui: Option<PathBuf>,
    /// The launcher that chat messages are launched through.
    pub(crate) launcher: String,
    /// An OpenID provider where people may sign in besides; none unless it is there.
    pub(crate) oidc: Option<OidcConfig>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        HttpConfig {
            listen: std::net::SocketAddr::from(([127, 0, 0, 1], 0)),
            origins: Vec::new(),
            session_s: 43_200,
            ui: None,
            launcher: "web-chat".into(),
            oidc: None,
        }
    }
}

/// Boxes on other machines: where their links connect to, all three or none. And where others ask for decisions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct GatewayConfig {
    /// Where links connect to.
    pub(crate) link_listen: Option<SocketAddr>,
    /// The certificate, PEM.
    pub(crate) link_certificate: Option<PathBuf>,
    /// Its key, PEM.
    pub(crate) link_key: Option<PathBuf>,
    /// Where Envoy and others ask whether a tool call may pass.
    pub(crate) decisions_listen: Option<SocketAddr>,
}

/// Where the keys of persons are: one place for all roles of an installation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SubjectsConfig {
    /// The folder with one age file a person; without it `subjects` in the state folder.
    pub(crate) folder: Option<PathBuf>,
    /// The age identity that opens them; without it `keys/subjects.age` in the state folder.
    pub(crate) identity: Option<PathBuf>,
}

/// Metrics and traces; both off unless said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TelemetryConfig {
    /// Where `/metrics` is served.
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// Where traces go, OTLP over http/protobuf.
    pub(crate) otlp_endpoint: Option<String>,
}

impl TelemetryConfig {
    /// Whether there is anything to do.
    pub(crate) fn wanted(&self) -> bool {
        self.metrics_listen.is_some() || self.otlp_endpoint.is_some()
    }
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

/// Runner documents, and what runners get. Whatever is no option of its own is a runner's table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RunnersConfig {
    /// Folder with one agent-runner.v2 document a runner.
    pub(crate) folder: Option<PathBuf>,
    /// Which models each runner gets, by the runner's name.
    #[serde(flatten)]
    pub(crate) by_name: BTreeMap<String, RunnerModels>,
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
        if runtime.pool.size > POOL_SIZE_MAX {
            return Err(format!("runtime.pool.size {} is more than {POOL_SIZE_MAX}", runtime.pool.size));
        }
        if runtime.classes.contains_key(&Isolation::Userns) {
            return Err("runtime.classes.userns is no runtime: the engine's userns-remap gives it to every box".into());
        }
        if runtime.memory_bytes < 16 << 20 {
            return Err("runtime.memory_bytes is less than 16 MiB: no agent starts in that".into());
        }
        if !(1_000..=86_400_000).contains(&runtime.wall_ms) || runtime.idle_ms < 1_000 {
            return Err("runtime.wall_ms must lie between 1 s and 24 h, runtime.idle_ms above 1 s".into());
        }
        self.budgets.check()?;
        if self.model.is_some() && self.models.contains_key(DEFAULT_MODEL) {
            return Err("[model] and [models.default] are the same model; leave one out".into());
        }
        self.queue.check()?;
        if self.nats.url.is_some() != self.nats.credentials.is_some() {
            return Err("nats.url and nats.credentials belong together".into());
        }
        if !(1..=2_592_000).contains(&self.http.session_s) {
            return Err("http.session_s must lie between 1 s and 30 days".into());
        }
        let origin = |o: &String| {
            let rest = o.strip_prefix("https://").or_else(|| o.strip_prefix("http://"));
            rest.is_some_and(|host| !host.is_empty() && !host.contains(['/', ' ', '"', ';', '*']))
        };
        if !self.http.origins.iter().all(origin) {
            return Err("http.origins are of the form https://host or https://host:port, without a path".into());
        }
        if let Some(oidc) = &self.http.oidc {
            oidc.check()?;
        }
        if (runtime.backend == BackendKind::Kubernetes) != runtime.kubernetes.is_some() {
            return Err("runtime.backend \"kubernetes\" and the table [runtime.kubernetes] belong together".into());
        }
        let link = &self.gateway;
        let given = [link.link_listen.is_some(), link.link_certificate.is_some(), link.link_key.is_some()];
        if given.contains(&true) && given.contains(&false) {
            return Err("gateway.link_listen, link_certificate and link_key belong together".into());
        }
        if link.decisions_listen.is_some_and(|at| !at.ip().is_loopback()) {
            return Err("gateway.decisions_listen is no loopback address: tokens come there without TLS".into());
        }
        self.identity.check()?;
        self.tools.check()?;
        self.audit.check()?;
        self.workspaces.check()
    }

    /// Every model, with this one for runners that have none of their own. `None` when there is none at all.
    pub(crate) fn models(&self, default: Option<ModelConfig>) -> Option<Models> {
        let mut upstreams = self.models.clone();
        if let Some(default) = default {
            upstreams.insert(DEFAULT_MODEL.to_owned(), default);
        }
        let runners = self.runners.by_name.clone();
        (!upstreams.is_empty()).then(|| Models { upstreams, default: DEFAULT_MODEL.to_owned(), runners })
    }

    /// The configured model for everybody, under either of its two spellings.
    pub(crate) fn default_model(&self) -> Option<&ModelConfig> {
        self.model.as_ref().or_else(|| self.models.get(DEFAULT_MODEL))
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
    #[case::pool("[runtime.pool]\nsize = 65", "pool.size")]
    #[case::workload_api("[identity]\nworkload_api = \"/run/api.sock\"", "unix:/path")]
    #[case::workload_api_over_tcp("[identity]\nworkload_api = \"tcp:127.0.0.1:1\"", "unix:/path")]
    #[case::two_authorities("[identity]\nworkload_api = \"unix:/a\"\nworkloads.files = 7", "somebody else's")]
    #[case::identity_listen("[identity]\nlisten = \"api.sock\"", "absolute")]
    #[case::svid_s("[identity]\nsvid_s = 9", "svid_s")]
    #[case::class("[runtime]\nisolation = \"strong\"", "unknown variant")]
    #[case::userns_is_no_runtime("[runtime.classes]\nuserns = \"x\"", "userns-remap")]
    #[case::half_of_nats("[nats]\nurl = \"nats://h:4222\"", "belong together")]
    #[case::window("[budgets.subject]\ntokens = 1\nwindow_ms = 1", "window_ms")]
    #[case::unknown_budget("[budgets]\nteam = { tokens = 1 }", "unknown field")]
    #[case::two_defaults(
        "[model]\nname=\"a\"\nurl=\"http://a\"\nmodel=\"a\"\n[models.default]\nname=\"b\"\nurl=\"http://b\"\nmodel=\"b\"",
        "leave one out"
    )]
    #[case::unknown_of_a_runner("[runners.pi]\nnonsense = 1", "unknown field")]
    #[case::unknown_of_runners("[runners]\nfoldr = \"x\"", "RunnerModels")]
    #[case::unknown_of_a_price(
        "[models.a]\nname=\"a\"\nurl=\"http://a\"\nmodel=\"a\"\nprice = { input = 1, output = 1, tax = 1 }",
        "unknown field"
    )]
    #[case::backend("[runtime]\nbackend = \"process\"", "unknown variant")]
    #[case::no_cluster("[runtime]\nbackend = \"kubernetes\"", "belong together")]
    #[case::half_a_cluster(
        "[runtime]\nbackend = \"kubernetes\"\n[runtime.kubernetes]\nnamespace = \"x\"",
        "missing field"
    )]
    #[case::face_nowhere("[runtime.http]\n", "missing field")]
    #[case::half_a_link("[gateway]\nlink_listen = \"127.0.0.1:7443\"", "belong together")]
    #[case::decisions_for_everybody("[gateway]\ndecisions_listen = \"0.0.0.0:7072\"", "loopback")]
    #[case::metrics("[telemetry]\nmetrics_listen = \"everywhere\"", "socket address")]
    #[case::bucket("[workspaces]\nbucket = \"https://x\"", "bucket")]
    #[case::secret_as_recipient("[workspaces]\nrecipients = [\"AGE-SECRET-KEY-1QQQQQQQ\"]", "no age recipient")]
    #[case::limits("[workspaces]\ntotal_bytes = 1", "total_bytes")]
    #[case::server("[tools.servers.mail]\nurl = \"mail\"", "https://host/path")]
    #[case::server_at_a_clouds_metadata(
        "[tools.servers.mail]\nurl = \"http://169.254.169.254/mcp\"",
        "never connected to"
    )]
    #[case::networks_of_a_process(
        "[tools.servers.mail]\ncommand = [\"/bin/cat\"]\nprivate_networks = [\"10.0.0.0/8\"]",
        "private_networks"
    )]
    #[case::command_and_url("[tools.servers.files]\nurl = \"https://files\"\ncommand = [\"/bin/cat\"]", "either a url")]
    #[case::neither("[tools.servers.files]\ntimeout_ms = 5", "either a url")]
    #[case::command_in_path("[tools.servers.files]\ncommand = [\"cat\"]", "absolute path")]
    #[case::approval("[tools]\napproval_ms = 0", "approval_ms")]
    #[case::server_name("[tools.servers.a__b]\nurl = \"https://mail\"", "two underscores")]
    #[case::secret_by_value("[tools.servers.mail]\nurl = \"https://mail\"\ncred_ref = \"sk-1\"", "secret://")]
    #[case::server_key("[tools.servers.mail]\nurl = \"https://mail\"\nkey = \"sk-1\"", "unknown field")]
    #[case::origin("[audit]\norigin = \"a b\"", "origin")]
    #[case::session("[http]\nsession_s = 0", "session_s")]
    #[case::web_origin("[http]\norigins = [\"https://a.test/x\"]", "origins")]
    #[case::provider_without_a_client("[http.oidc]\nissuer = \"https://id.test\"", "client_id")]
    #[case::provider_without_tls("[http.oidc]\nissuer = \"http://id.test\"\nclient_id = \"web\"", "oidc.issuer")]
    #[case::provider_secret_by_value(
        "[http.oidc]\nissuer = \"https://id.test\"\nclient_id = \"web\"\nclient_secret = \"x\"",
        "unknown field"
    )]
    #[case::web_wildcard("[http]\norigins = [\"*\"]", "origins")]
    fn a_wrong_file_is_refused_with_its_cause(#[case] text: &str, #[case] part: &str) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        std::fs::write(&path, text).unwrap();
        let error = Config::read(Some(&path)).unwrap_err();
        assert_eq!((error.code.as_str(), error.exit), ("CONFIG_INVALID", exit::USAGE));
        assert!(error.message.contains(part), "{}", error.message);
    }

    #[test]
    fn runners_get_the_models_that_are_named_for_them() {
        let text = r#"
            [model]
            name = "house"
            url = "http://house"
            model = "small"
            [models.big]
            name = "outside"
            url = "https://api.anthropic.com"
            model = "large"
            price = { input = 3_000_000, output = 15_000_000, cached = 300_000 }
            [runners]
            folder = "/r"
            [runners.claude-code]
            model = "big"
            names = { "haiku" = "default" }
        "#;
        let config: Config = toml::from_str(text).unwrap();
        assert_eq!(config.runners.folder.as_deref(), Some(Path::new("/r")));
        let models = config.models(config.default_model().cloned()).unwrap();
        models.check().unwrap();
        assert_eq!(models.model_of("claude-code"), "large");
        assert_eq!(models.alias("claude-code", Some("haiku")), "default");
        assert_eq!(models.alias("claude-code", Some("opus")), "big");
        assert_eq!(models.model_of("pi"), "small");
    }

    #[test]
    fn the_explained_file_is_the_default() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ops/custody.toml");
        assert_eq!(Config::read(Some(&path)).unwrap(), Config::default());
    }
}
