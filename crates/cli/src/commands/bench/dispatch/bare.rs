//! The bare part: the same box by the same engine API, and nothing around it. Its first byte is what its worker writes
//! into the socket in the folder that it mounts. Must never be given anything that a dispatch's box has not.

use super::failed;
use crate::error::CliResult;
use custody_contracts::isolation::Sockets;
use custody_docker::{Deadlines, Docker, Profile};
use custody_engine::runtime::RuntimeLimits;
use custody_ports::containers::{BoxMount, BoxSpec, Containers};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::UnixListener;

/// The longest wait for one box's first byte.
const FIRST_BYTE_MAX: Duration = Duration::from_secs(120);

/// Bare boxes of one image.
pub(super) struct Bare {
    docker: Docker,
    image: String,
    folder: PathBuf,
    run: String,
    limits: RuntimeLimits,
    made: AtomicU64,
}

impl Bare {
    /// Boxes below a folder.
    pub(super) fn new(folder: &Path, image: &str, limits: RuntimeLimits) -> CliResult<Bare> {
        let folder = folder.join("bare");
        std::fs::create_dir_all(&folder)?;
        let profile = Profile { mount_roots: vec![folder.clone()], runtime: None };
        let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".into());
        let docker = Docker::at(&host, profile, Deadlines::standard()).map_err(failed)?;
        let run = crate::home::random::<4>().map(|bytes| custody_contracts::canonical::hex(&bytes))?;
        Ok(Bare { docker, image: image.to_owned(), folder, run, limits, made: AtomicU64::new(0) })
    }

    fn spec(&self) -> CliResult<(BoxSpec, PathBuf)> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let folder = self.folder.join(number.to_string());
        let mut mounts = Vec::new();
        for (name, target, read_only) in
            [("gw", "/run/gw", true), ("session", "/session", false), ("workspace", "/workspace", false)]
        {
            let source = folder.join(name);
            std::fs::create_dir_all(&source)?;
            mounts.push(BoxMount { source, target: target.to_owned(), read_only });
        }
        let spec = BoxSpec {
            name: format!("custody-bench-{}-{number}", self.run),
            image: self.image.clone(),
            labels: BTreeMap::from([("custody.bench".to_owned(), self.run.clone())]),
            env: BTreeMap::new(),
            mounts,
            memory_bytes: self.limits.memory_bytes,
            nano_cpus: self.limits.nano_cpus,
            pids: self.limits.pids,
            tmp_bytes: custody_ports::containers::SCRATCH_BYTES,
            home_bytes: custody_ports::containers::SCRATCH_BYTES,
            sockets: Sockets::Unix,
            runtime: None,
            slots: false,
        };
        Ok((spec, folder))
    }

    /// One box: milliseconds from the create call to its first byte. It is gone when this returns.
    pub(super) async fn one(&self) -> CliResult<f64> {
        let (spec, folder) = self.spec()?;
        let took = self.first_byte(&spec, &folder).await;
        self.docker.remove(&spec.name).await.map_err(failed)?;
        std::fs::remove_dir_all(&folder)?;
        took
    }

    async fn first_byte(&self, spec: &BoxSpec, folder: &Path) -> CliResult<f64> {
        let socket = folder.join("gw/gw.sock");
        let listener = UnixListener::bind(&socket)?;
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666))?;
        let begun = Instant::now();
        let first = async {
            let (mut stream, _) = listener.accept().await?;
            stream.read_u8().await
        };
        let start = async {
            self.docker.create_unread(spec).await?;
            self.docker.start(&spec.name).await
        };
        // The box speaks before the engine's start call returns.
        let (first, started) = tokio::join!(
            async {
                let first = tokio::time::timeout(FIRST_BYTE_MAX, first).await;
                (first, begun.elapsed())
            },
            start
        );
        started.map_err(failed)?;
        match first {
            (Ok(Ok(_)), took) => Ok(took.as_secs_f64() * 1_000.0),
            (Ok(Err(error)), _) => Err(failed(error)),
            (Err(_), _) => Err(failed("a bare box said nothing")),
        }
    }
}
