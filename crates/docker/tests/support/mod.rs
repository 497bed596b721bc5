//! A live engine for a test: an image of its own, folders of its own, and nothing left behind when it ends, whatever
//! its outcome. Must never touch a container or image that it did not make.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail as tests do")]

use bollard::query_parameters::{
    ImportImageOptions, ListContainersOptions, RemoveContainerOptions, RemoveImageOptions,
};
use custody_contracts::canonical::digest;
use custody_contracts::isolation::Sockets;
use custody_docker::{Docker, Profile};
use custody_ports::containers::{BoxMount, BoxSpec, BoxState, BoxStatus, Containers, End};
use futures::StreamExt;
use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Label of everything that one test makes.
const RUN: &str = "custody.test-run";
/// Longest life of one box in a test, on a busy machine.
const LIFE_MAX: Duration = Duration::from_secs(60);

pub struct Live {
    pub docker: Docker,
    pub image: String,
    pub run: String,
    folder: tempfile::TempDir,
}

impl Live {
    /// Fails, and says how to get one, when there is no engine.
    pub async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("custody-box").rand_bytes(12).tempdir().unwrap();
        let run = folder.path().file_name().unwrap().to_string_lossy().to_lowercase();
        let profile = Profile { mount_roots: vec![folder.path().to_path_buf()], runtime: None };
        let docker = Docker::from_env(profile).unwrap();
        if let Err(error) = docker.facts().await {
            panic!("this test needs a container engine (start one, or set DOCKER_HOST): {error}");
        }
        let image = load_image(&raw(&docker), &run).await;
        Self { docker, image, run, folder }
    }

    /// A writable folder for the box.
    pub fn folder(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
        folder
    }

    pub fn spec(&self, name: &str, mode: &str) -> BoxSpec {
        let out = BoxMount { source: self.folder(&format!("out-{name}")), target: "/out".to_owned(), read_only: false };
        BoxSpec {
            name: format!("{}-{name}", self.run),
            image: self.image.clone(),
            labels: BTreeMap::from([(RUN.to_owned(), self.run.clone()), ("box".to_owned(), name.to_owned())]),
            env: BTreeMap::from([("BOX_MODE".to_owned(), mode.to_owned())]),
            mounts: vec![out],
            memory_bytes: 64 << 20,
            nano_cpus: 1_000_000_000,
            pids: 32,
            tmp_bytes: custody_ports::containers::SCRATCH_BYTES,
            home_bytes: custody_ports::containers::SCRATCH_BYTES,
            sockets: Sockets::Unix,
            runtime: None,
            slots: false,
        }
    }

    pub fn labels(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(RUN.to_owned(), self.run.clone())])
    }

    /// What the box wrote to `/out/report`.
    pub fn report(&self, name: &str) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(self.folder.path().join(format!("out-{name}")).join("report")).unwrap();
        let line = |line: &str| line.split_once(' ').map(|(key, value)| (key.to_owned(), value.to_owned())).unwrap();
        text.lines().map(line).collect()
    }

    /// Creates, starts and waits for the end.
    pub async fn run_to_end(&self, spec: &BoxSpec) -> BoxStatus {
        self.docker.create(spec).await.unwrap();
        self.docker.start(&spec.name).await.unwrap();
        self.ended(&spec.name).await
    }

    pub async fn ended(&self, name: &str) -> BoxStatus {
        let begin = Instant::now();
        loop {
            let ended = self.docker.listen(name, End::Any).await.unwrap();
            let _late = tokio::time::timeout(LIFE_MAX, ended).await;
            let status = self.docker.inspect(name).await.unwrap().unwrap();
            if matches!(status.state, BoxState::Exited { .. }) {
                return status;
            }
            assert!(begin.elapsed() < LIFE_MAX, "{name} has not ended: {status:?}");
        }
    }
}

/// The engine without the adapter, for what the adapter cannot do on purpose.
pub fn raw(docker: &Docker) -> bollard::Docker {
    bollard::Docker::connect_with_host(docker.host()).unwrap()
}

impl Drop for Live {
    fn drop(&mut self) {
        let (client, run, image) = (raw(&self.docker), self.run.clone(), self.image.clone());
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let filters = Some(HashMap::from([("label".to_owned(), vec![format!("{RUN}={run}")])]));
                let all = ListContainersOptions { all: true, filters, ..Default::default() };
                for found in client.list_containers(Some(all)).await.unwrap_or_default() {
                    let options = RemoveContainerOptions { force: true, v: true, link: false };
                    // Another removal of the same box may be under way; the image's removal below would show it.
                    let _ = client.remove_container(&found.id.unwrap_or_default(), Some(options)).await;
                }
                client.remove_image(&image, None::<RemoveImageOptions>, None).await
            })
        };
        // A thread of its own: a drop may happen inside a runtime, which cannot block.
        let outcome = std::thread::spawn(work).join();
        if !std::thread::panicking() {
            assert!(matches!(outcome, Ok(Ok(_))), "the test left something behind: {outcome:?}");
        }
    }
}

/// A `docker save` archive with one layer, whose image id is ours alone because the run is in its labels.
async fn load_image(client: &bollard::Docker, run: &str) -> String {
    let layer = archive(&[("inside", 0o755, payload())]);
    let config = serde_json::json!({
        "architecture": match std::env::consts::ARCH { "aarch64" => "arm64", _ => "amd64" }, "os": "linux",
        "config": { "Entrypoint": ["/inside"], "Env": ["PATH=/bin"], "Labels": { "of-the-image": run } },
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
    })
    .to_string()
    .into_bytes();
    let id = digest(&config);
    let manifest = serde_json::json!([{ "Config": "config.json", "RepoTags": null, "Layers": ["layer.tar"] }]);
    let image = archive(&[
        ("layer.tar", 0o644, layer),
        ("config.json", 0o644, config),
        ("manifest.json", 0o644, manifest.to_string().into_bytes()),
    ]);
    let mut answers =
        Box::pin(client.import_image(ImportImageOptions::default(), bollard::body_full(image.into()), None));
    while let Some(answer) = answers.next().await {
        answer.unwrap();
    }
    id
}

fn archive(files: &[(&str, u32, Vec<u8>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, mode, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(*mode);
        tar.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    tar.into_inner().unwrap()
}

/// The program of the image, built once for each test binary by the C compiler that also links Rust.
fn payload() -> Vec<u8> {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES
        .get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            let program = folder.path().join("inside");
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/inside/inside.c");
            let outcome = Command::new("cc")
                .args(["-static", "-O1", "-Wall", "-Werror", "-o"])
                .arg(&program)
                .arg(source)
                .output()
                .expect("cc, the C compiler that links Rust programs, is needed");
            assert!(outcome.status.success(), "{}", String::from_utf8_lossy(&outcome.stderr));
            std::fs::read(program).unwrap()
        })
        .clone()
}
