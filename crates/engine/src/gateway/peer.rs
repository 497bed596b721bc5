//! Who is at the other end of a dispatch's socket, as the kernel says it. The folder around the socket keeps everybody else
//! out; this is for the day that it does not. Must never take a box for another one where the kernel tells them apart.
//!
//! The kernel keeps the user and the process of whoever connected (`SO_PEERCRED`, unix(7)), and a process's control groups
//! name the container that it is in. The second can be seen where this process sees the other one: not from inside a PID
//! namespace of its own, and not where `/proc` is mounted with `hidepid`. There the user alone decides. A process that
//! ends between its connection and the look leaves its number to another one; to be taken for the box it would have to be
//! in the box.

use tokio::net::UnixStream;
use tokio::sync::watch;

/// The user of every box. Source: `custody_docker::spec::USER`.
const BOX_USER: u32 = 65_532;
/// Digits of the id that a container engine gives.
const ID_DIGITS: usize = 64;

/// One that connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Peer {
    user: u32,
    /// The container that its control groups name.
    container: Option<String>,
}

/// What is known of it at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// The box, or somebody who holds this gateway's keys anyway.
    Own,
    /// In this container: its own when the box of the dispatch is that one.
    In(String),
    /// Neither; in words.
    Stranger(String),
}

impl Peer {
    /// Asks the kernel.
    pub(super) fn of(stream: &UnixStream) -> std::io::Result<Peer> {
        let said = stream.peer_cred()?;
        let groups = said.pid().filter(|pid| *pid > 0).and_then(|pid| {
            // One that cannot be read is one that cannot be seen from here.
            std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()
        });
        Ok(Peer { user: said.uid(), container: groups.as_deref().and_then(container) })
    }

    /// `own` is the user that this gateway runs as. A container counts whatever its user: an engine with user namespaces
    /// gives its boxes other ids on the host.
    pub(super) fn known(&self, own: u32) -> Known {
        match &self.container {
            _ if self.user == own => Known::Own,
            Some(id) => Known::In(id.clone()),
            None if self.user == BOX_USER => Known::Own,
            None => Known::Stranger(format!("user {}", self.user)),
        }
    }
}

/// The innermost container that a process's control groups name. Source: cgroups(7), `/proc/[pid]/cgroup`; `docker/<id>` and
/// `docker-<id>.scope` as Docker's two cgroup drivers write them.
fn container(groups: &str) -> Option<String> {
    let id = |part: &str| {
        let part = part.strip_suffix(".scope").unwrap_or(part);
        let id = part.rsplit('-').next().unwrap_or(part);
        let hex = id.len() == ID_DIGITS && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        hex.then(|| id.to_owned())
    };
    let path = |line: &str| line.splitn(3, ':').nth(2).and_then(|path| path.rsplit('/').find_map(id));
    groups.lines().find_map(path)
}

/// Waits until the box of the dispatch is known, and says in words when it is not the container of the one who connected.
pub(super) async fn stranger(peer: &Known, mut started: watch::Receiver<Option<String>>) -> Option<String> {
    match peer {
        Known::Own => None,
        Known::Stranger(who) => Some(who.clone()),
        Known::In(id) => match started.wait_for(Option::is_some).await.map(|own| own.as_deref() == Some(id.as_str())) {
            Ok(true) => None,
            Ok(false) => Some(format!("container {id}")),
            // The dispatch has ended.
            Err(_) => Some(format!("container {id}, of a dispatch that has ended")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const A: &str = "1de9a4a0a8a04fc3d3b1b6f1d9a2c85e5d7c3f9b6a1e4d2c8f7b0a9e6d5c4b3a";
    const B: &str = "2de9a4a0a8a04fc3d3b1b6f1d9a2c85e5d7c3f9b6a1e4d2c8f7b0a9e6d5c4b3a";

    #[rstest]
    #[case::cgroupfs("0::/docker/ID\n", Some(A))]
    #[case::systemd("0::/system.slice/docker-ID.scope\n", Some(A))]
    #[case::version_1("9:name=systemd:/docker/ID\n8:pids:/docker/ID\n0::/\n", Some(A))]
    #[case::another_namespace("0::/../docker-ID.scope\n", Some(A))]
    #[case::within("0::/docker/OTHER/docker/ID\n", Some(A))]
    #[case::below("0::/docker/ID/init\n", Some(A))]
    #[case::no_container("0::/user.slice/user-1000.slice/session-3.scope\n", None)]
    #[case::too_short("0::/docker/1de9a4a0a8a0\n", None)]
    #[case::no_path("nothing\n", None)]
    fn control_groups_name_a_container(#[case] groups: &str, #[case] expected: Option<&str>) {
        assert_eq!(container(&groups.replace("ID", A).replace("OTHER", B)).as_deref(), expected);
    }

    fn peer(user: u32, container: Option<&str>) -> Peer {
        Peer { user, container: container.map(str::to_owned) }
    }

    /// The box's container is A, and the gateway runs as 1000.
    #[rstest]
    #[case::the_box(65_532, Some(A), None)]
    #[case::the_box_under_mapped_ids(231_072, Some(A), None)]
    #[case::the_box_where_nothing_can_be_seen(65_532, None, None)]
    #[case::the_link(1_000, None, None)]
    #[case::t16_another_box(65_532, Some(B), Some("container 2de9"))]
    #[case::t16_another_user(1_001, None, Some("user 1001"))]
    #[case::t16_another_user_in_a_container(1_001, Some(B), Some("container 2de9"))]
    #[tokio::test]
    async fn t16_only_the_dispatchs_own_box_is_let_in(
        #[case] user: u32,
        #[case] container: Option<&str>,
        #[case] refused: Option<&str>,
    ) {
        let known = peer(user, container).known(1_000);
        let started = watch::channel(Some(A.to_owned()));
        let said = stranger(&known, started.1).await;
        assert_eq!(said.is_some(), refused.is_some(), "{said:?}");
        assert!(said.unwrap_or_default().starts_with(refused.unwrap_or_default()));
    }

    /// Before the box is known its container is waited for, and nobody is taken for it.
    #[tokio::test]
    async fn t16_before_its_start_is_recorded_a_box_is_not_known_yet() {
        let (starts, started) = watch::channel(None);
        let known = peer(BOX_USER, Some(A)).known(0);
        let waiting = tokio::spawn(async move { stranger(&known, started).await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        starts.send_replace(Some(B.to_owned()));
        assert!(waiting.await.unwrap().is_some());
    }

    /// What the kernel says of a connection within one process: its own user.
    #[tokio::test]
    async fn the_kernel_is_asked() {
        let (one, _other) = UnixStream::pair().unwrap();
        let said = Peer::of(&one).unwrap();
        assert_eq!(said.known(said.user), Known::Own);
        assert_eq!(said.user, rustix::process::geteuid().as_raw());
    }
}
