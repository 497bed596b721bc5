//! The state folder of one installation: keys, NATS users, streams, runs, buckets, projections, checkpoints.
//! Everything secret is a file of mode 0600 in a folder of mode 0700.

use crate::error::{CliError, CliResult, exit};
use custody_contracts::canonical::{hex, unhex};
use custody_contracts::events::Role;
use custody_ledger::Sign;
use custody_nats::Seed;
use custody_ports::token_keys::{NewTokenKey, TokenKeyError, TokenKeyStore};
use custody_secrets::SecretStore;
use custody_trust::RoleKey;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The longest path of a Unix socket on Linux.
const SOCKET_PATH_MAX: usize = 107;

/// The folder.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    root: PathBuf,
}

/// What a running installation says of itself, in `up.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpFile {
    /// The process.
    pub(crate) pid: u32,
    /// When the process began, in clock ticks since boot: with the pid it is unique.
    pub(crate) started_ticks: u64,
    /// Where NATS is.
    pub(crate) nats_url: String,
    /// The model's name.
    pub(crate) model: String,
    /// Version of the binary.
    pub(crate) version: String,
    /// The supervised nats-server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) nats_pid: Option<u32>,
    /// Where the web is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) http_url: Option<String>,
}

impl Home {
    /// The folder that the flag, the environment or the default names.
    pub(crate) fn at(flag: Option<&Path>) -> CliResult<Home> {
        let root = match flag {
            Some(path) => path.to_owned(),
            None => default_root()?,
        };
        let root = std::path::absolute(&root)?;
        Ok(Home { root })
    }

    /// A path inside.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.root.join(inside)
    }

    /// The folder itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Makes what is missing. Safe to call again.
    pub(crate) fn prepare(&self) -> CliResult {
        let longest = self.path("runs/d-aaaaaaaaaaaaaaaaaaaa/gw/gw.sock");
        if longest.as_os_str().len() > SOCKET_PATH_MAX {
            let why = format!(
                "the state folder {} is too long: sockets in it would need {} bytes of path, {SOCKET_PATH_MAX} are the most",
                self.root.display(),
                longest.as_os_str().len()
            );
            return Err(
                CliError::new(exit::USAGE, "STATE_PATH_TOO_LONG", why).hint("choose a shorter one with --state")
            );
        }
        for folder in [
            "",
            "keys",
            "users",
            "launchers",
            "tools",
            "nats",
            "runs",
            "buckets",
            "cache",
            "kept",
            "projections",
            "checkpoints",
            "run",
            "api",
        ] {
            let path = self.root.join(folder);
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
            made.map_err(|e| {
                CliError::new(exit::FAILED, "STATE_UNUSABLE", format!("{}: {e}", path.display()))
                    .hint("choose another state folder with --state")
            })?;
        }
        Ok(())
    }

    /// The id of this installation, made at the first call.
    pub(crate) fn instance(&self) -> CliResult<String> {
        let path = self.path("instance");
        if let Ok(text) = fs::read_to_string(&path) {
            return Ok(text.trim().to_owned());
        }
        let id = ["i-", &hex(&random::<6>()?)].concat();
        write_secret(&path, id.as_bytes())?;
        Ok(id)
    }

    /// A role's signing key, made at the first call.
    pub(crate) fn role_key(&self, role: Role) -> CliResult<RoleKey> {
        let path = self.path(&format!("keys/{}.ed25519", role.as_str()));
        let seed: [u8; 32] = match fs::read_to_string(&path) {
            Ok(text) => unhex(text.trim()).and_then(|b| b.try_into().ok()).ok_or_else(|| {
                CliError::new(
                    exit::FAILED,
                    "KEY_UNREADABLE",
                    format!("{} does not hold 64 hexadecimal digits", path.display()),
                )
                .hint("restore it from a backup; without it a new key must be introduced")
            })?,
            Err(_) => {
                let seed = random::<32>()?;
                write_secret(&path, hex(&seed).as_bytes())?;
                seed
            }
        };
        Ok(RoleKey::from_seed(role, &seed))
    }

    /// The secret halves of the keys that sign tokens.
    pub(crate) fn token_keys(&self) -> FileTokenKeys {
        FileTokenKeys(self.path("keys"))
    }

    /// An nkey seed in a file, made at the first call.
    pub(crate) fn seed(&self, inside: &str) -> CliResult<Seed> {
        let path = self.path(inside);
        if let Ok(text) = fs::read_to_string(&path) {
            return Seed::parse(text.trim())
                .map_err(|e| CliError::new(exit::FAILED, "SEED_UNREADABLE", format!("{}: {e}", path.display())));
        }
        let seed = Seed::generate().map_err(|e| CliError::new(exit::FAILED, "SEED", e))?;
        write_secret(&path, seed.expose().as_bytes())?;
        Ok(seed)
    }

    /// An nkey seed that is there.
    pub(crate) fn existing_seed(&self, inside: &str) -> CliResult<Option<Seed>> {
        match fs::read_to_string(self.path(inside)) {
            Ok(text) => {
                Ok(Some(Seed::parse(text.trim()).map_err(|e| CliError::new(exit::FAILED, "SEED_UNREADABLE", e))?))
            }
            Err(_) => Ok(None),
        }
    }

    /// The secrets of upstreams.
    pub(crate) fn secrets(&self) -> SecretStore {
        SecretStore::at(self.path("secrets"), self.path("keys/secrets.age"))
    }

    /// What runs here, if it really does.
    pub(crate) fn up(&self) -> Option<UpFile> {
        let up: UpFile = serde_json::from_slice(&fs::read(self.path("run/up.json")).ok()?).ok()?;
        (process_started(up.pid) == Some(up.started_ticks)).then_some(up)
    }

    /// Says that this process runs here.
    pub(crate) fn write_up(&self, up: &UpFile) -> CliResult {
        let path = self.path("run/up.json");
        let draft = self.path("run/up.json.new");
        fs::write(&draft, serde_json::to_vec_pretty(up)?)?;
        Ok(fs::rename(draft, path)?)
    }

    /// Says that nothing runs here.
    pub(crate) fn clear_up(&self) {
        // A file that is gone is what was wanted.
        let _gone = fs::remove_file(self.path("run/up.json"));
    }
}

/// Keys for tokens, one file each: `token-….ed25519` with 64 hexadecimal digits.
#[derive(Debug, Clone)]
pub(crate) struct FileTokenKeys(PathBuf);

impl FileTokenKeys {
    fn file(&self, kid: &str) -> Result<PathBuf, TokenKeyError> {
        // An id names a file, so it is one of ours or nothing.
        let digits = kid.strip_prefix("token-").filter(|d| d.len() == 16 && d.bytes().all(|b| b.is_ascii_hexdigit()));
        let digits = digits.ok_or_else(|| TokenKeyError(format!("{kid:?} is not an id of a key for tokens")))?;
        Ok(self.0.join(format!("token-{digits}.ed25519")))
    }
}

impl TokenKeyStore for FileTokenKeys {
    fn make(&self) -> Result<NewTokenKey, TokenKeyError> {
        let failed = |e: CliError| TokenKeyError(e.message);
        let seed = random::<32>().map_err(failed)?;
        let key = RoleKey::for_tokens(&seed);
        write_secret(&self.file(key.kid())?, hex(&seed).as_bytes()).map_err(failed)?;
        Ok(NewTokenKey { kid: key.kid().to_owned(), public_key: key.public_hex() })
    }

    fn open(&self, kid: &str) -> Result<Option<Arc<dyn Sign>>, TokenKeyError> {
        let path = self.file(kid)?;
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(TokenKeyError(format!("{}: {error}", path.display()))),
        };
        let seed = unhex(text.trim()).and_then(|b| <[u8; 32]>::try_from(b).ok());
        let key = seed.map(|seed| RoleKey::for_tokens(&seed)).filter(|key| key.kid() == kid);
        let odd = || TokenKeyError(format!("{} does not hold the key that it is named after", path.display()));
        Ok(Some(Arc::new(key.ok_or_else(odd)?)))
    }

    fn forget(&self, kid: &str) -> Result<(), TokenKeyError> {
        let path = self.file(kid)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(TokenKeyError(format!("{}: {error}", path.display())))
            }
            _ => Ok(()),
        }
    }
}

fn default_root() -> CliResult<PathBuf> {
    if let Some(root) = std::env::var_os("CUSTODY_STATE").filter(|v| !v.is_empty()) {
        return Ok(root.into());
    }
    if let Some(state) = std::env::var_os("XDG_STATE_HOME").filter(|v| !v.is_empty()) {
        return Ok(PathBuf::from(state).join("custody"));
    }
    match std::env::var_os("HOME").filter(|v| !v.is_empty()) {
        Some(home) => Ok(PathBuf::from(home).join(".local/state/custody")),
        None => Err(CliError::new(
            exit::USAGE,
            "NO_STATE",
            "neither --state, CUSTODY_STATE, XDG_STATE_HOME nor HOME is set",
        )
        .hint("custody --state DIR …")),
    }
}

/// Random bytes from the kernel.
pub(crate) fn random<const N: usize>() -> CliResult<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| CliError::new(exit::FAILED, "RANDOM", e))?;
    Ok(bytes)
}

/// Writes a file that only its owner may read; never over an existing one, and whole or not at all.
pub(crate) fn write_secret(path: &Path, bytes: &[u8]) -> CliResult {
    let draft = path.with_extension(format!("new{}", std::process::id()));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(fs::rename(draft, path)?)
}

/// When a process began, in clock ticks since boot; `None` if there is none. Source: proc(5), field 22 of stat.
pub(crate) fn process_started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let rest = stat.rsplit_once(')')?.1;
    let mut fields = rest.split_whitespace();
    if fields.next() == Some("Z") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Tells one boot of this machine from the next.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map_or_else(|_| "unknown".into(), |t| t.trim().to_owned())
}
