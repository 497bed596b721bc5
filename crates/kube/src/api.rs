//! The container port over the Kubernetes API. Every call has a deadline; what the cluster refuses is said in its own
//! words. Must never run a command in a Pod, nor touch a Job that is not named or labelled as ours.

use crate::job::{KubeSettings, LABEL_BOX, job, secret};
use crate::status::{EXIT_CODE, EXIT_OOM, begun, status};
use custody_contracts::ids::UnixMillis;
use custody_ports::clock::Clock;
use custody_ports::containers::{BoxError, BoxSpec, BoxState, BoxStatus, Containers, End, EngineFacts, Listening};
use futures::future::BoxFuture;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::{Api, Client};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// For one question to the API.
const CALL_MAX: Duration = Duration::from_secs(20);
/// From a started Job to its agent's process: a node may have to pull the image.
const START_MAX: Duration = Duration::from_secs(300);
/// Between two looks at something that changes.
const LOOK: Duration = Duration::from_millis(250);
/// Beyond the grace of a stop, until its end is seen.
const STOP_SLACK: Duration = Duration::from_secs(15);
/// The most Jobs that are listed.
const LIST_MAX: u32 = 5_000;

/// What a Pod without a runtime class runs with.
const NODES_OWN: &str = "node";

/// Signs the token of one dispatch's link; the key stays with whoever made this.
pub type SignLink = Arc<dyn Fn(&BoxSpec) -> Result<String, String> + Send + Sync>;

/// A cluster.
#[derive(Clone)]
pub struct Kubernetes {
    client: Client,
    settings: Arc<KubeSettings>,
    sign: SignLink,
    clock: Arc<dyn Clock>,
}

/// What went wrong, as the port says it.
fn failure(error: kube::Error) -> BoxError {
    match error {
        kube::Error::Api(status) if status.code >= 500 || status.code == 429 => {
            BoxError::Unavailable(format!("{} {}", status.code, status.message))
        }
        kube::Error::Api(status) => BoxError::Refused(format!("{} {}: {}", status.code, status.reason, status.message)),
        other => BoxError::Unavailable(other.to_string()),
    }
}

fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// One question, within its time.
async fn within<T>(question: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    let late = || std::io::Error::new(std::io::ErrorKind::TimedOut, "the API did not answer in time");
    tokio::time::timeout(CALL_MAX, question).await.unwrap_or_else(|_| Err(kube::Error::Service(late().into())))
}

impl Kubernetes {
    /// The cluster that this process runs in, or the one of the user's kubeconfig.
    ///
    /// # Errors
    /// [`BoxError::Unavailable`] when neither is there.
    pub async fn connect(settings: KubeSettings, sign: SignLink, clock: Arc<dyn Clock>) -> Result<Self, BoxError> {
        let client = Client::try_default().await.map_err(failure)?;
        Ok(Kubernetes::over(client, settings, sign, clock))
    }

    /// A cluster over a client that is there.
    pub fn over(client: Client, settings: KubeSettings, sign: SignLink, clock: Arc<dyn Clock>) -> Self {
        Kubernetes { client, settings: Arc::new(settings), sign, clock }
    }

    fn jobs(&self) -> Api<Job> {
        Api::namespaced(self.client.clone(), &self.settings.namespace)
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.settings.namespace)
    }

    /// A Job of ours; somebody else's of the same name is as if it were not there for everything but creating.
    async fn job(&self, name: &str) -> Result<Option<Job>, BoxError> {
        let found = within(self.jobs().get_opt(name)).await.map_err(failure)?;
        Ok(found.filter(|j| j.metadata.labels.as_ref().is_some_and(|l| l.contains_key(LABEL_BOX))))
    }

    /// The Pod of a Job: the newest, when the cluster made more than one.
    async fn pod(&self, name: &str) -> Result<Option<Pod>, BoxError> {
        let selector = ["batch.kubernetes.io/job-name=", name].concat();
        let listed = within(self.pods().list(&ListParams::default().labels(&selector).limit(16))).await;
        let pods = listed.map_err(failure)?.items;
        Ok(pods.into_iter().max_by_key(|p| p.metadata.creation_timestamp.as_ref().map(|t| t.0)))
    }

    async fn make(&self, spec: &BoxSpec) -> Result<String, BoxError> {
        let connect = resolve(&self.settings.link.connect).await?;
        let made =
            job(spec, &self.settings, &connect, self.clock.now()).map_err(|e| BoxError::Refused(e.to_string()))?;
        // Signed before anything is made: a box that could never reach its gateway is not made at all.
        (self.sign)(spec).map_err(BoxError::Refused)?;
        match within(self.jobs().create(&PostParams::default(), &made)).await {
            Ok(job) => {
                let uid = job.metadata.uid.clone().unwrap_or_default();
                self.give_token(&spec.name, &uid, spec).await?;
                Ok(uid)
            }
            Err(error) if code(&error) == Some(409) => {
                // It was made before an answer was lost; its token may not have been.
                if let Some(job) = self.job(&spec.name).await? {
                    self.give_token(&spec.name, &job.metadata.uid.unwrap_or_default(), spec).await?;
                }
                Err(BoxError::NameTaken(spec.name.clone()))
            }
            Err(error) => Err(failure(error)),
        }
    }

    async fn give_token(&self, name: &str, uid: &str, spec: &BoxSpec) -> Result<(), BoxError> {
        let token = (self.sign)(spec).map_err(BoxError::Refused)?;
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.settings.namespace);
        let made = secret(name, &self.settings.namespace, uid, &token);
        match within(secrets.create(&PostParams::default(), &made)).await {
            Ok(_) => Ok(()),
            Err(error) if code(&error) == Some(409) => Ok(()),
            Err(error) => Err(failure(error)),
        }
    }

    async fn begin(&self, name: &str) -> Result<(), BoxError> {
        let patch = Patch::Merge(json!({ "spec": { "suspend": false } }));
        match within(self.jobs().patch(name, &PatchParams::default(), &patch)).await {
            Ok(_) => {}
            Err(error) if code(&error) == Some(404) => return Err(BoxError::NoSuchBox(name.to_owned())),
            Err(error) => return Err(failure(error)),
        }
        let until = Instant::now() + START_MAX;
        loop {
            let Some(job) = self.job(name).await? else { return Err(BoxError::NoSuchBox(name.to_owned())) };
            let pod = self.pod(name).await?;
            if let Some(pod) = &pod
                && begun(pod).map_err(BoxError::Refused)?
            {
                return Ok(());
            }
            // One that has ended already has begun.
            if let BoxState::Exited { .. } = status(&job, pod.as_ref()).state {
                return Ok(());
            }
            if Instant::now() >= until {
                let seconds = START_MAX.as_secs();
                return Err(BoxError::Refused(format!("no Pod of Job {name} ran within {seconds} s")));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn look(&self, name: &str) -> Result<Option<BoxStatus>, BoxError> {
        let Some(job) = self.job(name).await? else { return Ok(None) };
        let pod = self.pod(name).await?;
        Ok(Some(status(&job, pod.as_ref())))
    }

    async fn end(&self, name: &str, grace_ms: u64) -> Result<(), BoxError> {
        let Some(job) = self.job(name).await? else { return Ok(()) };
        let pod = self.pod(name).await?;
        if matches!(status(&job, pod.as_ref()).state, BoxState::Exited { .. }) {
            return Ok(());
        }
        let Some(pod) = pod else { return self.never_to_start(name).await };
        let pod_name = pod.metadata.name.unwrap_or_default();
        let grace = u32::try_from(grace_ms.div_ceil(1_000)).unwrap_or(60).min(60);
        match within(self.pods().delete(&pod_name, &DeleteParams::default().grace_period(grace))).await {
            Ok(_) => {}
            Err(error) if code(&error) == Some(404) => return Ok(()),
            Err(error) => return Err(failure(error)),
        }
        // The Pod's last words are kept at its Job, or they would go with it.
        let until = Instant::now() + Duration::from_secs(grace.into()) + STOP_SLACK;
        while Instant::now() < until {
            let Some(pod) = self.pod(name).await? else { return Ok(()) };
            if let BoxState::Exited { code, oom, .. } = status(&job, Some(&pod)).state {
                return self.keep_code(name, code, oom).await;
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(BoxError::Unavailable(format!("Pod {pod_name} was told to end and has not")))
    }

    /// A Job without a Pod is told to make none.
    async fn never_to_start(&self, name: &str) -> Result<(), BoxError> {
        self.keep_code(name, 143, false).await?;
        let patch = Patch::Merge(json!({ "spec": { "suspend": true } }));
        within(self.jobs().patch(name, &PatchParams::default(), &patch)).await.map(|_| ()).map_err(failure)
    }

    async fn keep_code(&self, name: &str, code: i64, oom: bool) -> Result<(), BoxError> {
        let annotations = json!({ EXIT_CODE: code.to_string(), EXIT_OOM: oom.to_string() });
        let patch = Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
        within(self.jobs().patch(name, &PatchParams::default(), &patch)).await.map(|_| ()).map_err(failure)
    }

    async fn gone(&self, name: &str) -> Result<(), BoxError> {
        if self.job(name).await?.is_none() {
            return Ok(());
        }
        let all = DeleteParams { propagation_policy: Some(PropagationPolicy::Background), ..DeleteParams::default() };
        match within(self.jobs().delete(name, &all.grace_period(0))).await {
            Ok(_) => Ok(()),
            Err(error) if code(&error) == Some(404) => Ok(()),
            Err(error) => Err(failure(error)),
        }
    }

    async fn every(&self, labels: &BTreeMap<String, String>) -> Result<Vec<BoxStatus>, BoxError> {
        let mut selector: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        selector.push([LABEL_BOX, "=true"].concat());
        let wanted = ListParams::default().labels(&selector.join(",")).limit(LIST_MAX);
        let jobs = within(self.jobs().list(&wanted)).await.map_err(failure)?;
        let pods = within(self.pods().list(&wanted)).await.map_err(failure)?;
        let mut of: BTreeMap<String, Pod> = BTreeMap::new();
        for pod in pods {
            let job = pod.metadata.labels.as_ref().and_then(|l| l.get("batch.kubernetes.io/job-name")).cloned();
            of.insert(job.unwrap_or_default(), pod);
        }
        let name = |job: &Job| job.metadata.name.clone().unwrap_or_default();
        Ok(jobs.iter().map(|job| status(job, of.get(&name(job)))).collect())
    }

    /// The cluster's facts, and the one thing that must be there before any box: the policy that shuts boxes in.
    async fn ask(&self) -> Result<EngineFacts, BoxError> {
        let version = within(self.client.apiserver_version()).await.map_err(failure)?;
        let policies: Api<NetworkPolicy> = Api::namespaced(self.client.clone(), &self.settings.namespace);
        let name = &self.settings.network_policy;
        let policy = within(policies.get_opt(name)).await.map_err(failure)?;
        let policy = policy.ok_or_else(|| {
            BoxError::Refused(format!(
                "NETWORK_POLICY_MISSING: namespace {} has no NetworkPolicy {name}; the chart in ops/helm makes it",
                self.settings.namespace
            ))
        })?;
        shuts_in(&policy).map_err(|why| BoxError::Refused(format!("NETWORK_POLICY_OPEN: {name}: {why}")))?;
        let mut security = vec![
            ["name=seccomp,profile=localhost/", &self.settings.seccomp_profile].concat(),
            ["name=networkpolicy,policy=", name].concat(),
        ];
        if self.settings.user_namespaces {
            security.push("name=userns".into());
        }
        let class = self.settings.runtime_class.clone();
        Ok(EngineFacts {
            version: version.git_version,
            api_version: "batch/v1".into(),
            cgroup_version: "the node's".into(),
            live_restore: true,
            security,
            runtimes: class.iter().cloned().collect(),
            default_runtime: class.unwrap_or_else(|| NODES_OWN.into()),
            uid_offset: 0,
        })
    }
}

/// Whether a policy selects every box, lets nothing in, and out only to named peers on named ports.
fn shuts_in(policy: &NetworkPolicy) -> Result<(), String> {
    let spec = policy.spec.as_ref().ok_or("it says nothing")?;
    let selector = spec.pod_selector.as_ref();
    let labels = selector.and_then(|s| s.match_labels.clone()).unwrap_or_default();
    let expressions = selector.and_then(|s| s.match_expressions.as_ref()).is_some_and(|e| !e.is_empty());
    let selects = !expressions && labels.iter().all(|(key, value)| key == LABEL_BOX && value == "true");
    if !selects {
        return Err("it does not select every box".into());
    }
    let kinds = spec.policy_types.clone().unwrap_or_default();
    if !["Ingress", "Egress"].iter().all(|kind| kinds.iter().any(|k| k == kind)) {
        return Err("it is not for both directions".into());
    }
    if spec.ingress.as_ref().is_some_and(|rules| !rules.is_empty()) {
        return Err("it lets something in".into());
    }
    for rule in spec.egress.iter().flatten() {
        let peers = rule.to.as_ref().is_some_and(|to| !to.is_empty());
        let ports = rule.ports.as_ref().is_some_and(|p| !p.is_empty() && p.iter().all(|p| p.port.is_some()));
        if !peers || !ports {
            return Err("it lets boxes out to anybody, or on any port".into());
        }
    }
    Ok(())
}

/// The gateway's address now.
async fn resolve(host: &str) -> Result<String, BoxError> {
    let found = tokio::time::timeout(CALL_MAX, tokio::net::lookup_host(host)).await;
    let mut found = found
        .map_err(|_| BoxError::Unavailable(format!("{host} was not resolved in time")))?
        .map_err(|e| BoxError::Unavailable(format!("{host} cannot be resolved: {e}")))?;
    found.next().map(|a| a.to_string()).ok_or_else(|| BoxError::Unavailable(format!("{host} has no address")))
}

impl Containers for Kubernetes {
    fn has_image<'a>(&'a self, image: &'a str) -> BoxFuture<'a, Result<bool, BoxError>> {
        Box::pin(async move { Ok(self.settings.images.contains_key(image)) })
    }
    fn resolve_image<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<String>, BoxError>> {
        let found = self.settings.images.iter().find(|(id, reference)| *id == name || *reference == name);
        Box::pin(async move { Ok(found.map(|(id, _)| id.clone())) })
    }
    fn create<'a>(&'a self, spec: &'a BoxSpec) -> BoxFuture<'a, Result<String, BoxError>> {
        Box::pin(self.make(spec))
    }
    fn start<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), BoxError>> {
        Box::pin(self.begin(name))
    }
    fn inspect<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<BoxStatus>, BoxError>> {
        Box::pin(self.look(name))
    }
    fn list<'a>(&'a self, labels: &'a BTreeMap<String, String>) -> BoxFuture<'a, Result<Vec<BoxStatus>, BoxError>> {
        Box::pin(self.every(labels))
    }
    /// By looking again and again: a Job that was not started is waited for like one that runs.
    fn listen<'a>(&'a self, name: &'a str, _: End) -> BoxFuture<'a, Result<Listening<'a>, BoxError>> {
        Box::pin(async move {
            let listening: Listening<'a> = Box::pin(async move {
                loop {
                    let look = self.look(name).await;
                    if !matches!(look, Ok(Some(BoxStatus { state: BoxState::Created | BoxState::Running, .. }))) {
                        return;
                    }
                    tokio::time::sleep(LOOK).await;
                }
            });
            Ok(listening)
        })
    }
    fn stop<'a>(&'a self, name: &'a str, grace_ms: u64) -> BoxFuture<'a, Result<(), BoxError>> {
        Box::pin(self.end(name, grace_ms))
    }
    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), BoxError>> {
        Box::pin(self.gone(name))
    }
    fn facts(&self) -> BoxFuture<'_, Result<EngineFacts, BoxError>> {
        Box::pin(self.ask())
    }
}

/// Milliseconds until a box must have ended, for the life of its link's token.
pub fn deadline(spec: &BoxSpec) -> Option<UnixMillis> {
    spec.labels.get("custody.deadline")?.parse().ok().map(UnixMillis)
}

#[cfg(test)]
mod tests;
