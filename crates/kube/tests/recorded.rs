//! The back end against a real API server's answers. The recording was made from kube-apiserver 1.34.4, built from
//! its Go modules, with nothing behind it: no kubelet and no controllers, whose part the test plays. Without
//! `CUSTODY_KUBE_RECORD` the recording answers, and every request must be the recorded one, byte for byte.
//!
//! To record anew: `ops/kube/apiserver start DIR`, apply the rendered chart, then
//! `CUSTODY_KUBE_RECORD=1 KUBECONFIG=DIR/kubeconfig cargo test -p custody-kube --test recorded`.

#![cfg(test)]

use bytes::Bytes;
use custody_contracts::ids::UnixMillis;
use custody_kube::{KubeSettings, Kubernetes, LinkSettings};
use custody_ports::clock::Clock;
use custody_ports::containers::{BoxError, BoxMount, BoxSpec, BoxState, Containers};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

const NAMESPACE: &str = "custody-boxes";

/// One question and its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Exchange {
    method: String,
    path: String,
    body: Value,
    status: u16,
    answer: Value,
}

/// What stands between the back end and the API server.
struct Server {
    /// The real one, when it is recorded.
    real: Option<Client>,
    exchanges: Mutex<VecDeque<Exchange>>,
    wrong: Mutex<Vec<String>>,
}

fn file() -> PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recording.json")
}

/// Who changed which field last: most of an answer's bytes, and read by nobody here.
fn without_managed_fields(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.remove("managedFields");
            map.values_mut().for_each(without_managed_fields);
        }
        Value::Array(items) => items.iter_mut().for_each(without_managed_fields),
        _ => {}
    }
}

fn json_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or(Value::Null)
}

impl Server {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let path = head.uri.path_and_query().unwrap().to_string();
        let (method, body) = (head.method.to_string(), json_of(&bytes));
        let (status, answer) = match &self.real {
            Some(real) => {
                let mut forward = Request::builder().method(head.method.clone()).uri(&path);
                for name in ["content-type", "accept"] {
                    if let Some(value) = head.headers.get(name) {
                        forward = forward.header(name, value);
                    }
                }
                let forward = forward.body(kube::client::Body::from(bytes.to_vec())).unwrap();
                let answer = real.send(forward).await.unwrap();
                let status = answer.status().as_u16();
                let mut answer = json_of(&answer.into_body().collect().await.unwrap().to_bytes());
                without_managed_fields(&mut answer);
                let exchange = Exchange { method, path, body, status, answer: answer.clone() };
                self.exchanges.lock().unwrap().push_back(exchange);
                (status, answer)
            }
            None => match self.exchanges.lock().unwrap().pop_front() {
                Some(next) if (&next.method, &next.path, &next.body) == (&method, &path, &body) => {
                    (next.status, next.answer)
                }
                other => {
                    let wanted = other.map(|o| (o.method, o.path, o.body));
                    self.wrong.lock().unwrap().push(format!("{method} {path} {body}\n  instead of {wanted:?}"));
                    (418, json!({ "kind": "Status", "status": "Failure", "code": 418, "message": "not recorded" }))
                }
            },
        };
        let response = Response::builder().status(status).header("content-type", "application/json");
        response.body(Full::new(Bytes::from(answer.to_string()))).unwrap()
    }

    async fn start() -> (Arc<Server>, Client) {
        let recorded = std::env::var_os("CUSTODY_KUBE_RECORD").is_some();
        let real = if recorded { Some(Client::try_default().await.unwrap()) } else { None };
        let exchanges = match recorded {
            true => VecDeque::new(),
            false => serde_json::from_str(&std::fs::read_to_string(file()).unwrap()).unwrap(),
        };
        let server = Arc::new(Server { real, exchanges: Mutex::new(exchanges), wrong: Mutex::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = serving.clone();
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(move |request| {
                        let server = server.clone();
                        async move { Ok::<_, std::convert::Infallible>(server.answer(request).await) }
                    });
                    let http = hyper::server::conn::http1::Builder::new();
                    let _closed = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        let client = Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap();
        (server, client)
    }

    /// Writes what was recorded, or says what was not as recorded.
    fn finish(&self) {
        let left: Vec<Exchange> = self.exchanges.lock().unwrap().iter().cloned().collect();
        if self.real.is_some() {
            std::fs::write(file(), serde_json::to_string_pretty(&left).unwrap() + "\n").unwrap();
            return;
        }
        assert!(self.wrong.lock().unwrap().is_empty(), "{:#?}", self.wrong.lock().unwrap());
        assert!(left.is_empty(), "never asked: {left:#?}");
    }
}

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> UnixMillis {
        UnixMillis(1_795_381_200_000)
    }
}

fn spec() -> BoxSpec {
    let labels = [
        ("custody.instance", "i-0123456789ab"),
        ("custody.dispatch", "d-0123456789abcdefghij"),
        ("custody.attempt", "1"),
        ("custody.deadline", "1795381260000"),
    ];
    BoxSpec {
        name: "custody-d-0123456789abcdefghij".into(),
        image: format!("sha256:{}", "0123456789abcdef".repeat(4)),
        labels: labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        env: [("CUSTODY_LOG".to_owned(), "info".to_owned())].into(),
        mounts: vec![
            BoxMount { source: "/var/lib/custody/runs/d-1/gw".into(), target: "/run/gw".into(), read_only: true },
            BoxMount {
                source: "/var/lib/custody/runs/d-1/session".into(),
                target: "/session".into(),
                read_only: false,
            },
        ],
        memory_bytes: 512 << 20,
        nano_cpus: 500_000_000,
        pids: 128,
        tmp_bytes: custody_ports::containers::SCRATCH_BYTES,
        home_bytes: custody_ports::containers::SCRATCH_BYTES,
        sockets: custody_contracts::isolation::Sockets::Unix,
        runtime: None,
        slots: false,
    }
}

fn settings(network_policy: &str) -> KubeSettings {
    KubeSettings {
        namespace: NAMESPACE.into(),
        images: [(spec().image, format!("registry.example.org/custody/agent@sha256:{}", "ab".repeat(32)))].into(),
        service_account: "custody-box".into(),
        seccomp_profile: "custody/box.json".into(),
        network_policy: network_policy.into(),
        data_claim: "custody-data".into(),
        data_root: "/var/lib/custody".into(),
        runtime_class: None,
        user_namespaces: false,
        link: LinkSettings {
            image: format!("registry.example.org/custody/custody@sha256:{}", "cd".repeat(32)),
            connect: "127.0.0.1:7443".into(),
            server_name: "custody-gateway".into(),
            ca_secret: "custody-link-ca".into(),
        },
    }
}

fn kubernetes(client: &Client, network_policy: &str) -> Kubernetes {
    let sign = Arc::new(|spec: &BoxSpec| Ok(format!("token-of-{}", spec.name)));
    Kubernetes::over(client.clone(), settings(network_policy), sign, Arc::new(Fixed))
}

/// The controllers' and the kubelet's part, played while recording.
#[derive(Clone)]
struct Hands(Option<Client>);

impl Hands {
    fn pods(&self) -> Option<Api<Pod>> {
        self.0.clone().map(|client| Api::namespaced(client, NAMESPACE))
    }

    /// Makes the Pod of the Job, as the Job controller would, on a node of the name `node-1`. The API server's own Pod
    /// security admission looks at it: the namespace is `restricted`.
    async fn make_pod(&self) {
        let Some(pods) = self.pods() else { return };
        let jobs: Api<Job> = Api::namespaced(self.0.clone().unwrap(), NAMESPACE);
        let job = jobs.get(&spec().name).await.unwrap();
        let template = job.spec.unwrap().template;
        let mut pod = Pod { metadata: template.metadata.unwrap(), spec: template.spec, ..Pod::default() };
        pod.metadata.name = Some([&spec().name, "-x7k2p"].concat());
        let labels = pod.metadata.labels.as_mut().unwrap();
        labels.insert("batch.kubernetes.io/job-name".into(), spec().name);
        pod.spec.as_mut().unwrap().node_name = Some("node-1".into());
        pods.create(&PostParams::default(), &pod).await.unwrap();
    }

    async fn say(&self, state: Value) {
        let Some(pods) = self.pods() else { return };
        let status = json!({ "status": { "containerStatuses": [{
            "name": "agent", "image": "x", "imageID": "x", "ready": false, "restartCount": 0, "state": state,
        }] } });
        let name = [&spec().name, "-x7k2p"].concat();
        pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    }

    /// Waits until somebody asked for the Pod's end, as the kubelet does.
    async fn told_to_end(&self) {
        let Some(pods) = self.pods() else { return };
        let name = [&spec().name, "-x7k2p"].concat();
        while pods.get(&name).await.unwrap().metadata.deletion_timestamp.is_none() {
            tokio::task::yield_now().await;
        }
    }

    async fn forget_pod(&self) {
        let Some(pods) = self.pods() else { return };
        let name = [&spec().name, "-x7k2p"].concat();
        pods.delete(&name, &DeleteParams::default().grace_period(0)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_box_from_creation_to_removal() {
    let (server, client) = Server::start().await;
    let kube = kubernetes(&client, "custody-boxes");
    let hands = Hands(server.real.clone());
    let spec = spec();

    let missing = kubernetes(&client, "nothing-of-this-name").facts().await.unwrap_err();
    assert!(matches!(&missing, BoxError::Refused(why) if why.contains("NETWORK_POLICY_MISSING")), "{missing:?}");
    let facts = kube.facts().await.unwrap();
    assert!(facts.security.iter().any(|s| s.contains("custody/box.json")) && !facts.version.is_empty());

    assert!(kube.has_image(&spec.image).await.unwrap());
    assert!(!kube.has_image("sha256:00").await.unwrap());
    assert_eq!(kube.inspect(&spec.name).await.unwrap(), None);
    let id = kube.create(&spec).await.unwrap();
    assert_eq!(id.len(), 36, "{id}");
    assert_eq!(kube.create(&spec).await, Err(BoxError::NameTaken(spec.name.clone())));
    let made = kube.inspect(&spec.name).await.unwrap().unwrap();
    assert_eq!((made.state, made.id, &made.name), (BoxState::Created, id, &spec.name));
    assert!(spec.labels.iter().all(|(k, v)| made.labels.get(k) == Some(v)));

    hands.make_pod().await;
    hands.say(json!({ "running": { "startedAt": "2026-11-22T21:00:01Z" } })).await;
    kube.start(&spec.name).await.unwrap();
    let runs = kube.inspect(&spec.name).await.unwrap().unwrap();
    assert_eq!((runs.state, runs.started_at), (BoxState::Running, Some(UnixMillis(1_795_381_201_000))));
    let ours = [("custody.instance".to_owned(), "i-0123456789ab".to_owned())].into();
    let listed = kube.list(&ours).await.unwrap();
    assert_eq!(
        listed.iter().map(|s| (s.name.as_str(), &s.state)).collect::<Vec<_>>(),
        [(&*spec.name, &BoxState::Running)]
    );
    let others = [("custody.instance".to_owned(), "i-other".to_owned())].into();
    assert!(kube.list(&others).await.unwrap().is_empty());

    let stopping = {
        let (kube, name) = (kube.clone(), spec.name.clone());
        tokio::spawn(async move { kube.stop(&name, 2_000).await })
    };
    hands.told_to_end().await;
    hands
        .say(json!({ "terminated": { "exitCode": 143, "reason": "Error", "finishedAt": "2026-11-22T21:00:09Z" } }))
        .await;
    stopping.await.unwrap().unwrap();
    hands.forget_pod().await;
    // The Pod is gone, and its exit code is not.
    let ended = kube.inspect(&spec.name).await.unwrap().unwrap();
    assert_eq!(ended.state, BoxState::Exited { code: 143, oom: false, error: None });
    kube.stop(&spec.name, 2_000).await.unwrap();

    kube.remove(&spec.name).await.unwrap();
    kube.remove(&spec.name).await.unwrap();
    assert_eq!(kube.inspect(&spec.name).await.unwrap(), None);
    assert_eq!(kube.start(&spec.name).await, Err(BoxError::NoSuchBox(spec.name.clone())));
    kube.stop(&spec.name, 0).await.unwrap();
    server.finish();
}

#[tokio::test]
async fn an_api_that_is_away_is_unavailable_and_not_a_refusal() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap();
    let kube = kubernetes(&client, "custody-boxes");
    assert!(matches!(kube.inspect("custody-d-1").await, Err(BoxError::Unavailable(_))));
    assert!(matches!(kube.create(&spec()).await, Err(BoxError::Unavailable(_))));
    assert!(matches!(kube.facts().await, Err(BoxError::Unavailable(_))));
}
