//! For agents that insist on TCP: listens on 127.0.0.1 inside the box and copies bytes to and from the gateway's socket.
//! Must never listen on another address, connect to anything but that socket, or look at what passes.

use std::{
    io,
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// Connections at once; one more waits until another ends. Each takes two threads of the box's processes.
pub const CONNECTIONS_MAX: usize = 16;
/// The stack of a thread that only copies.
const STACK_BYTES: usize = 128 * 1024;
/// The pause after an accept that failed, for example for want of a descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// A running relay. It ends with the process.
#[derive(Debug, Clone)]
pub struct Relay {
    /// The port on 127.0.0.1 that the kernel chose.
    pub port: u16,
    taken: Arc<AtomicU64>,
}

impl Relay {
    /// How many connections were taken so far.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::SeqCst)
    }

    /// The URL of what `unix:SOCKET` or `unix:SOCKET#/PATH` means, for programs that know only TCP: the socket becomes
    /// this port.
    pub fn url(&self, address: &str) -> String {
        let path = address.split_once('#').map_or("", |(_, path)| path);
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

/// Starts listening.
///
/// Errors: when the box may not listen or no thread can be started.
pub fn start(socket: PathBuf) -> io::Result<Relay> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let relay = Relay { port: listener.local_addr()?.port(), taken: Arc::default() };
    let taken = Arc::clone(&relay.taken);
    small("relay")?.spawn(move || accept(&listener, &socket, &taken))?;
    Ok(relay)
}

fn small(name: &str) -> io::Result<thread::Builder> {
    Ok(thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES))
}

fn accept(listener: &TcpListener, socket: &Path, taken: &AtomicU64) {
    let room = Arc::new(Room::default());
    loop {
        let place = Room::enter(&room);
        match listener.accept() {
            Ok((tcp, _)) => {
                taken.fetch_add(1, Ordering::SeqCst);
                // A gateway that is away just now, or no thread: the agent sees a closed connection and tries again.
                let _ = carry(tcp, socket, place);
            }
            Err(_) => thread::sleep(ACCEPT_PAUSE),
        }
    }
}

/// Copies both ways until both are at their end.
fn carry(tcp: TcpStream, socket: &Path, place: Place) -> io::Result<()> {
    let unix = UnixStream::connect(socket)?;
    let _ = tcp.set_nodelay(true); // only slower without
    let (tcp_up, unix_up) = (tcp.try_clone()?, unix.try_clone()?);
    let place = Arc::new(place);
    let held = Arc::clone(&place);
    small("relay-up")?.spawn(move || {
        copy(&tcp_up, &unix_up, || unix_up.shutdown(Shutdown::Write));
        drop(held);
    })?;
    small("relay-down")?.spawn(move || {
        copy(&unix, &tcp, || tcp.shutdown(Shutdown::Write));
        // An agent that keeps a connection open whose other end is gone would hold its place.
        let _ = tcp.shutdown(Shutdown::Read);
        drop(place);
    })?;
    Ok(())
}

fn copy(mut from: impl io::Read, mut to: impl io::Write, end: impl Fn() -> io::Result<()>) {
    // Either side may go at any time; then the other one is told, and a side that is gone need not be.
    let _ = io::copy(&mut from, &mut to);
    let _ = end();
}

/// Counts connections.
#[derive(Debug, Default)]
struct Room {
    used: Mutex<usize>,
    changed: Condvar,
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
struct Place(Arc<Room>);

impl Room {
    fn enter(room: &Arc<Self>) -> Place {
        let mut used = room.used.lock().unwrap_or_else(PoisonError::into_inner);
        while *used >= CONNECTIONS_MAX {
            used = room.changed.wait(used).unwrap_or_else(PoisonError::into_inner);
        }
        *used += 1;
        Place(Arc::clone(room))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *self.0.used.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Read, Write},
        os::unix::net::UnixListener,
    };

    const PATIENCE: Duration = Duration::from_secs(30);

    fn listening() -> (tempfile::TempDir, UnixListener, Relay) {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("gw.sock");
        let gateway = UnixListener::bind(&socket).unwrap();
        (folder, gateway, start(socket).unwrap())
    }

    fn connect(relay: &Relay) -> TcpStream {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, relay.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    #[test]
    fn bytes_pass_both_ways_and_the_ends_are_told() {
        let (_folder, gateway, relay) = listening();
        let mut agent = connect(&relay);
        agent.write_all(b"question").unwrap();
        agent.shutdown(Shutdown::Write).unwrap();
        let (mut other, _) = gateway.accept().unwrap();
        let mut text = String::new();
        other.read_to_string(&mut text).unwrap();
        assert_eq!(text, "question");
        other.write_all(b"answer").unwrap();
        drop(other);
        text.clear();
        agent.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), relay.taken()), ("answer", 1));
    }

    #[test]
    fn a_gateway_that_is_away_closes_the_connection_and_the_relay_lives_on() {
        let (folder, gateway, relay) = listening();
        drop(gateway);
        std::fs::remove_file(folder.path().join("gw.sock")).unwrap();
        assert!(matches!(connect(&relay).read(&mut [0; 1]), Ok(0) | Err(_)));
        let gateway = UnixListener::bind(folder.path().join("gw.sock")).unwrap();
        let mut agent = connect(&relay);
        agent.write_all(b"x").unwrap();
        assert_eq!(gateway.accept().unwrap().0.read(&mut [0; 1]).unwrap(), 1);
    }

    #[test]
    fn one_connection_too_many_waits_for_another_to_end() {
        let (_folder, gateway, relay) = listening();
        let mut agents: Vec<_> = (0..=CONNECTIONS_MAX).map(|_| connect(&relay)).collect();
        let mut others: Vec<_> = (0..CONNECTIONS_MAX).map(|_| gateway.accept().unwrap().0).collect();
        gateway.set_nonblocking(true).unwrap();
        assert!(gateway.accept().is_err(), "the last one has no place yet");
        agents.remove(0);
        others.remove(0);
        let deadline = std::time::Instant::now() + PATIENCE;
        while gateway.accept().is_err() {
            assert!(std::time::Instant::now() < deadline, "the place was not given back");
            thread::sleep(Duration::from_millis(2));
        }
    }

    #[rstest::rstest]
    #[case::model("unix:/run/gw/gw.sock", "")]
    #[case::tools("unix:/run/gw/gw.sock#/mcp", "/mcp")]
    fn a_socket_becomes_a_port(#[case] address: &str, #[case] path: &str) {
        let relay = Relay { port: 8080, taken: Arc::default() };
        assert_eq!(relay.url(address), format!("http://127.0.0.1:8080{path}"));
    }
}
