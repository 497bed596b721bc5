//! The port over a live engine. Every call has a deadline of its own, and what a call left open is settled by one
//! look. Must never pull, attach, read a log or run a second process in a box, and never wait without an end.

use crate::check::{check, is_image_name, is_name};
use crate::failure::{Failure, words};
use crate::host::sources_are_real;
use crate::spec::{Profile, create_body};
use crate::status::status;
use crate::verify::verify;
use crate::wait::listen;
use bollard::ClientVersion;
use bollard::errors::Error as Bollard;
use bollard::models::{ContainerInspectResponse, SystemInfoCgroupVersionEnum};
use bollard::query_parameters::{
    CreateContainerOptions, InspectContainerOptions, ListContainersOptions, RemoveContainerOptions,
    StartContainerOptions, StopContainerOptions,
};
use custody_ports::containers::{BoxError, BoxSpec, BoxState, BoxStatus, Containers, End, EngineFacts, Listening};
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;
use tokio::sync::OnceCell;

/// Where the engine is when nobody says.
const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";
/// The oldest API with everything a request says (Docker 20.10, Debian's).
const API_OLDEST: ClientVersion = ClientVersion { major_version: 1, minor_version: 41 };
/// The client's own timeout: longer than any wait here, because it starts at the head of an answer and cannot say
/// which call it ended. Ours end first.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(2 * 86_400);
/// Longest grace between TERM and KILL.
const GRACE_MAX_S: u64 = 3_600;
/// Inspect calls at one time while listing.
const INSPECTS_AT_ONCE: usize = 4;

/// How long the engine may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// Any call that only asks, and a removal. Also what a stop may take beyond its grace.
    pub control: Duration,
    /// Create and start.
    pub change: Duration,
    /// All tries of one removal together.
    pub removal: Duration,
    /// Between two tries of a removal.
    pub removal_pause: Duration,
}

impl Deadlines {
    /// 20 s, 60 s, 20 s, 0.25 s: several times what a busy engine on two cores was seen to take.
    pub const fn standard() -> Self {
        Self {
            control: Duration::from_secs(20),
            change: Duration::from_secs(60),
            removal: Duration::from_secs(20),
            removal_pause: Duration::from_millis(250),
        }
    }
}

/// The engine at one address. Cheap to make: it is reached, and the API version agreed, at the first call; a failed
/// first call leaves nothing behind and the next one tries again.
#[derive(Debug)]
pub struct Docker {
    host: String,
    profile: Profile,
    deadlines: Deadlines,
    clients: OnceCell<Clients>,
}

/// One client for each class of call, so that open waits cannot starve the calls that end them.
#[derive(Debug)]
struct Clients {
    control: bollard::Docker,
    waiting: bollard::Docker,
}

impl Docker {
    /// The engine at `DOCKER_HOST`, or at its default socket.
    ///
    /// # Errors
    /// As [`Docker::at`].
    pub fn from_env(profile: Profile) -> Result<Self, BoxError> {
        let host = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
        Self::at(host.as_deref().unwrap_or(DEFAULT_HOST), profile, Deadlines::standard())
    }

    /// The engine at an address: `unix:///path/of.sock` or `tcp://127.0.0.1:2375`. It must see the same files as this
    /// process, because boxes mount folders.
    ///
    /// # Errors
    /// [`BoxError::Refused`] for any other kind of address.
    pub fn at(host: &str, profile: Profile, deadlines: Deadlines) -> Result<Self, BoxError> {
        if !host.starts_with("unix:///") && !host.starts_with("tcp://") {
            return Err(BoxError::Refused(format!("DOCKER_HOST {host:?} is neither unix:///path nor tcp://host:port")));
        }
        Ok(Self { host: host.to_owned(), profile, deadlines, clients: OnceCell::new() })
    }

    /// Where it is.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The whole inspect answer, for [`verify`] and for a diagnosis; `None` if there is no such container.
    ///
    /// # Errors
    /// [`BoxError::Unavailable`] without an answer, [`BoxError::Refused`] for a name that is none.
    pub async fn inspect_answer(&self, name: &str) -> Result<Option<ContainerInspectResponse>, BoxError> {
        known_name(name)?;
        self.look(name).await
    }

    /// By a checked name, or by an id that the engine gave.
    async fn look(&self, container: &str) -> Result<Option<ContainerInspectResponse>, BoxError> {
        let client = &self.clients().await?.control;
        let call = client.inspect_container(container, None::<InspectContainerOptions>);
        absent_is_none(self.within("inspect", self.deadlines.control, call).await)
    }

    async fn clients(&self) -> Result<&Clients, BoxError> {
        self.clients.get_or_try_init(|| self.connect()).await
    }

    /// Agrees on a version to refuse an engine that is too old. It is not more than that: bollard 0.21.1 writes no
    /// version into the path of a call, so every engine answers in its own newest (the fake engine of the tests sees it).
    async fn connect(&self) -> Result<Clients, BoxError> {
        let first = self.client(bollard::API_DEFAULT_VERSION);
        let agree = async { first?.negotiate_version().await };
        let control = self.within("connect", self.deadlines.control, agree).await.map_err(Failure::into_box_error)?;
        let version = control.client_version();
        if version < API_OLDEST {
            return Err(BoxError::Refused(format!("its API {version} is older than {API_OLDEST} (Docker 20.10)")));
        }
        let waiting = self.client(&version).map_err(|error| Failure::from(error).into_box_error())?;
        tracing::debug!(host = %self.host, api = %version, "container engine reached");
        Ok(Clients { control, waiting })
    }

    fn client(&self, version: &ClientVersion) -> Result<bollard::Docker, Bollard> {
        let seconds = CLIENT_TIMEOUT.as_secs();
        if self.host.starts_with("unix://") {
            bollard::Docker::connect_with_unix(&self.host, seconds, version)
        } else {
            bollard::Docker::connect_with_http(&self.host, seconds, version)
        }
    }

    /// One call under its deadline. Without an answer the text says where and which call.
    async fn within<T>(
        &self,
        call: &'static str,
        deadline: Duration,
        future: impl Future<Output = Result<T, Bollard>> + Send,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(deadline, future).await {
            Ok(answer) => answer.map_err(|error| match Failure::from(error) {
                Failure::Unknown(why) => Failure::Unknown(format!("{call} at {}: {why}", self.host)),
                status => status,
            }),
            Err(_) => {
                Err(Failure::Unknown(format!("{call} at {}: no answer in {} ms", self.host, deadline.as_millis())))
            }
        }
    }

    async fn image_id(&self, name: &str) -> Result<Option<String>, BoxError> {
        if !is_image_name(name) {
            return Err(BoxError::Refused(format!("image name {:?} is not one", words(name))));
        }
        let client = &self.clients().await?.control;
        let answer = self.within("inspect image", self.deadlines.control, client.inspect_image(name)).await;
        match absent_is_none(answer)? {
            None => Ok(None),
            Some(image) => image.id.map(Some).ok_or_else(|| BoxError::Unavailable(format!("image {name} has no id"))),
        }
    }

    /// The create call alone, of the same box, without reading it back: what a measurement compares with. Nothing
    /// that is made so runs for anybody.
    ///
    /// # Errors
    /// As [`Containers::create`].
    pub async fn create_unread(&self, spec: &BoxSpec) -> Result<String, BoxError> {
        self.make(spec).await
    }

    async fn create_box(&self, spec: &BoxSpec) -> Result<String, BoxError> {
        let id = self.make(spec).await?;
        self.read_back(&id, spec).await?;
        Ok(id)
    }

    async fn make(&self, spec: &BoxSpec) -> Result<String, BoxError> {
        check(spec, &self.profile).map_err(|bad| BoxError::Refused(bad.to_string()))?;
        sources_are_real(spec, &self.profile).await?;
        let client = &self.clients().await?.control;
        let options = CreateContainerOptions { name: Some(spec.name.clone()), ..CreateContainerOptions::default() };
        let call = client.create_container(Some(options), create_body(spec, &self.profile));
        let made = match self.within("create", self.deadlines.change, call).await {
            Ok(made) => made,
            Err(failure) => return Err(self.settle_create(spec, failure).await),
        };
        for warning in made.warnings {
            tracing::warn!(container = %spec.name, warning = %words(&warning), "the container engine warns");
        }
        Ok(made.id)
    }

    /// What a failed create means. A 5xx with no container of that name afterwards is the engine's no, for example
    /// of a full disk; with one, somebody has to look whose it is.
    async fn settle_create(&self, spec: &BoxSpec, failure: Failure) -> BoxError {
        match failure.status() {
            Some(404) => BoxError::ImageMissing(spec.image.clone()),
            Some(409) => BoxError::NameTaken(spec.name.clone()),
            Some(500) => match self.look(&spec.name).await {
                Ok(None) => match failure {
                    Failure::Status(_, words) | Failure::Unknown(words) => BoxError::Refused(words),
                },
                Ok(Some(_)) | Err(_) => failure.into_box_error(),
            },
            _ => failure.into_box_error(),
        }
    }

    /// A box is only used if it is what was asked for; another one is removed. By id: the name may be somebody
    /// else's by now.
    async fn read_back(&self, id: &str, spec: &BoxSpec) -> Result<(), BoxError> {
        let outcome = match self.look(id).await {
            Ok(Some(found)) => {
                let differences = verify(&found, spec, &self.profile);
                if differences.is_empty() {
                    return Ok(());
                }
                let list: Vec<String> = differences.iter().map(ToString::to_string).collect();
                BoxError::Refused(words(&format!("it made another box than asked: {}", list.join("; "))))
            }
            Ok(None) => BoxError::Unavailable(format!("{} was gone right after its creation", spec.name)),
            Err(error) => error,
        };
        if let Err(error) = self.remove_container(id).await {
            tracing::warn!(container = %spec.name, %error, "a box that is not as asked could not be removed");
        }
        Err(outcome)
    }

    async fn start_box(&self, name: &str) -> Result<(), BoxError> {
        known_name(name)?;
        let client = &self.clients().await?.control;
        let call = client.start_container(name, None::<StartContainerOptions>);
        match self.within("start", self.deadlines.change, call).await {
            Ok(()) => Ok(()),
            Err(failure) if failure.status() == Some(404) => Err(BoxError::NoSuchBox(name.to_owned())),
            Err(failure) if failure.status() == Some(500) => self.settle_start(name, failure).await,
            Err(failure) => Err(failure.into_box_error()),
        }
    }

    /// The engine says 500 both for its own faults and for a box that cannot run. In the second case it keeps its
    /// words in the container's state.
    async fn settle_start(&self, name: &str, failure: Failure) -> Result<(), BoxError> {
        let Ok(Some(answer)) = self.look(name).await else { return Err(failure.into_box_error()) };
        let error = answer.state.as_ref().and_then(|state| state.error.clone()).filter(|text| !text.is_empty());
        match (status(answer)?.state, error) {
            (BoxState::Created, Some(error)) => Err(BoxError::Refused(words(&error))),
            (BoxState::Created, None) => Err(failure.into_box_error()),
            (BoxState::Running | BoxState::Exited { .. }, _) => Ok(()),
        }
    }

    async fn list_boxes(&self, labels: &BTreeMap<String, String>) -> Result<Vec<BoxStatus>, BoxError> {
        if labels.is_empty() {
            return Err(BoxError::Refused("a list without labels would be of everybody's containers".to_owned()));
        }
        let client = &self.clients().await?.control;
        let wanted = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let filters = Some(HashMap::from([("label".to_owned(), wanted)]));
        let options = ListContainersOptions { all: true, filters, ..ListContainersOptions::default() };
        let call = client.list_containers(Some(options));
        let found = self.within("list", self.deadlines.control, call).await.map_err(Failure::into_box_error)?;
        // The list has no exit code and no times; a container that is gone by now is not in the answer.
        let ids: Vec<String> = found.into_iter().filter_map(|summary| summary.id).collect();
        let mut all: Vec<BoxStatus> = futures::stream::iter(ids)
            .map(|id| async move { self.look(&id).await })
            .buffer_unordered(INSPECTS_AT_ONCE)
            .try_filter_map(|answer| async move { answer.map(status).transpose() })
            .try_collect()
            .await?;
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    async fn listen_for(&self, name: &str, end: End) -> Result<Listening<'static>, BoxError> {
        known_name(name)?;
        let deadline = self.deadlines.control;
        let late = |_| {
            let waited = deadline.as_millis();
            Err(BoxError::Unavailable(format!("wait at {}: no answer in {waited} ms", self.host)))
        };
        tokio::time::timeout(deadline, listen(&self.host, name, end)).await.unwrap_or_else(late)
    }

    async fn stop_box(&self, name: &str, grace_ms: u64) -> Result<(), BoxError> {
        known_name(name)?;
        let client = &self.clients().await?.waiting;
        let grace_s = grace_ms.div_ceil(1_000).min(GRACE_MAX_S);
        let options = StopContainerOptions { t: i32::try_from(grace_s).ok(), ..StopContainerOptions::default() };
        let deadline = Duration::from_secs(grace_s) + self.deadlines.control;
        match self.within("stop", deadline, client.stop_container(name, Some(options))).await {
            Ok(()) => Ok(()),
            Err(failure) if failure.status() == Some(404) => Err(BoxError::NoSuchBox(name.to_owned())),
            Err(failure) => Err(failure.into_box_error()),
        }
    }

    async fn remove_box(&self, name: &str) -> Result<(), BoxError> {
        known_name(name)?;
        self.remove_container(name).await
    }

    /// Tries again while the engine says that another removal is under way (409) or that a mount is busy (500).
    async fn remove_container(&self, container: &str) -> Result<(), BoxError> {
        let client = &self.clients().await?.control;
        let end = tokio::time::Instant::now() + self.deadlines.removal;
        loop {
            let options = RemoveContainerOptions { force: true, v: true, link: false };
            let call = client.remove_container(container, Some(options));
            let failure = match self.within("remove", self.deadlines.control, call).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            match failure.status() {
                Some(404) => return Ok(()),
                Some(409 | 500) if tokio::time::Instant::now() < end => {
                    tokio::time::sleep(self.deadlines.removal_pause).await;
                }
                Some(409) => {
                    let (Failure::Status(_, words) | Failure::Unknown(words)) = failure;
                    return Err(BoxError::Unavailable(words));
                }
                _ => return Err(failure.into_box_error()),
            }
        }
    }

    async fn engine_facts(&self) -> Result<EngineFacts, BoxError> {
        let client = &self.clients().await?.control;
        let info = self.within("info", self.deadlines.control, client.info()).await;
        let info = info.map_err(Failure::into_box_error)?;
        Ok(EngineFacts {
            version: info.server_version.unwrap_or_default(),
            api_version: client.client_version().to_string(),
            cgroup_version: match info.cgroup_version {
                Some(SystemInfoCgroupVersionEnum::_2) => "2",
                Some(SystemInfoCgroupVersionEnum::_1) => "1",
                Some(SystemInfoCgroupVersionEnum::EMPTY) | None => "unknown",
            }
            .to_owned(),
            live_restore: info.live_restore_enabled == Some(true),
            security: info.security_options.unwrap_or_default(),
            runtimes: info.runtimes.unwrap_or_default().into_keys().collect::<BTreeSet<_>>().into_iter().collect(),
            default_runtime: info.default_runtime.unwrap_or_default(),
            uid_offset: info.docker_root_dir.as_deref().and_then(remapped_root).unwrap_or(0),
        })
    }
}

/// The host's user that is root in every box of a remapping engine. The engine says it nowhere else: it keeps the data of
/// each mapping in a folder of its own, named `<uid>.<gid>`. Source: moby, `daemon/daemon_unix.go`, `setupDaemonRoot`.
fn remapped_root(data_root: &str) -> Option<u32> {
    let (uid, gid) = data_root.trim_end_matches('/').rsplit('/').next()?.split_once('.')?;
    gid.parse::<u32>().ok()?;
    uid.parse().ok()
}

/// A name goes into a URL path as it is, so it is checked before every call.
fn known_name(name: &str) -> Result<(), BoxError> {
    if is_name(name) { Ok(()) } else { Err(BoxError::Refused(format!("{:?} is not a container name", words(name)))) }
}

fn absent_is_none<T>(answer: Result<T, Failure>) -> Result<Option<T>, BoxError> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(failure) if failure.status() == Some(404) => Ok(None),
        Err(failure) => Err(failure.into_box_error()),
    }
}

impl Containers for Docker {
    fn has_image<'a>(&'a self, image: &'a str) -> BoxFuture<'a, Result<bool, BoxError>> {
        // The engine finds an image also by the beginning of its id.
        Box::pin(async move { Ok(self.image_id(image).await?.as_deref() == Some(image)) })
    }
    fn resolve_image<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<String>, BoxError>> {
        Box::pin(self.image_id(name))
    }
    fn create<'a>(&'a self, spec: &'a BoxSpec) -> BoxFuture<'a, Result<String, BoxError>> {
        Box::pin(self.create_box(spec))
    }
    fn create_heard<'a>(&'a self, spec: &'a BoxSpec) -> BoxFuture<'a, Result<Option<Listening<'static>>, BoxError>> {
        Box::pin(async move {
            let id = self.make(spec).await?;
            let (as_asked, listening) = tokio::join!(self.read_back(&id, spec), self.listen_for(&spec.name, End::Next));
            as_asked.map(|()| listening.ok())
        })
    }
    fn makes_ahead(&self) -> bool {
        true
    }
    fn start<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), BoxError>> {
        Box::pin(self.start_box(name))
    }
    fn inspect<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<BoxStatus>, BoxError>> {
        Box::pin(async move { self.inspect_answer(name).await?.map(status).transpose() })
    }
    fn list<'a>(&'a self, labels: &'a BTreeMap<String, String>) -> BoxFuture<'a, Result<Vec<BoxStatus>, BoxError>> {
        Box::pin(self.list_boxes(labels))
    }
    fn listen<'a>(&'a self, name: &'a str, end: End) -> BoxFuture<'a, Result<Listening<'a>, BoxError>> {
        Box::pin(async move { self.listen_for(name, end).await.map(|listening| -> Listening<'a> { listening }) })
    }
    fn stop<'a>(&'a self, name: &'a str, grace_ms: u64) -> BoxFuture<'a, Result<(), BoxError>> {
        Box::pin(self.stop_box(name, grace_ms))
    }
    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), BoxError>> {
        Box::pin(self.remove_box(name))
    }
    fn facts(&self) -> BoxFuture<'_, Result<EngineFacts, BoxError>> {
        Box::pin(self.engine_facts())
    }
}

#[cfg(test)]
mod tests {
    use super::remapped_root;
    use rstest::rstest;

    #[rstest]
    #[case::remapped("/var/lib/docker/300000.300000", Some(300_000))]
    #[case::plain("/var/lib/docker", None)]
    #[case::a_dot_that_is_none("/srv/docker.io", None)]
    #[case::half("/srv/300000.x", None)]
    fn the_data_folder_tells_the_mapping(#[case] folder: &str, #[case] uid: Option<u32>) {
        assert_eq!(remapped_root(folder), uid);
    }
}
