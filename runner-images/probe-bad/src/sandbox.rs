//! What this process's box is made of, measured from inside. Every attempt is harmless where it is allowed, and only
//! says how it ended. Must never print what it reads of others: names of variables, not their values.

use crate::json::Json;
use std::{
    env, fs, io,
    net::{SocketAddr, TcpStream, UdpSocket},
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

const SOCKET: &str = "/run/gw/gw.sock";

/// The whole report.
pub(crate) fn report() -> Json {
    Json::Object(vec![
        ("status", status()),
        ("uid_map", words_of("/proc/self/uid_map")),
        ("pid1", first_line("/proc/1/comm")),
        ("pid", Json::Number(i64::from(std::process::id()))),
        ("root_writable", tried(&write_in("/"))),
        ("tmp_writable", tried(&write_in("/tmp"))),
        ("tmp_exec", tried(&execute_in("/tmp"))),
        (
            "home_exec",
            tried(&env::var("HOME").map_or_else(|_| Err(io::ErrorKind::NotFound.into()), |home| execute_in(&home))),
        ),
        ("workspace_writable", tried(&write_in("/workspace"))),
        ("cgroup_writable", tried(&write_in("/sys/fs/cgroup"))),
        (
            "core_pattern_writable",
            tried(&fs::OpenOptions::new().write(true).open("/proc/sys/kernel/core_pattern").map(drop)),
        ),
        ("interfaces", interfaces()),
        ("tcp_loopback", tried(&connect("127.0.0.1:9"))),
        ("tcp_outside", tried(&connect("192.0.2.1:80"))),
        ("udp_bind", tried(&UdpSocket::bind("127.0.0.1:0").map(drop))),
        ("gateway_connect", tried(&UnixStream::connect(SOCKET).map(drop))),
        ("gateway_folder_writable", tried(&write_in("/run/gw"))),
        (
            "docker_socket",
            Json::Bool(["/var/run/docker.sock", "/run/docker.sock"].iter().any(|path| Path::new(path).exists())),
        ),
        ("masked", masked()),
        ("devices", listed("/dev")),
        (
            "environment",
            Json::from(env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).collect::<Vec<_>>()),
        ),
        ("limits", limits()),
        ("mounts", mounts()),
    ])
}

/// What an agent does that wants to tell somebody something: a look-up of a name, and a connection.
pub(crate) fn call_home() -> Json {
    let asked = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(b"?", "127.0.0.1:53"));
    Json::Object(vec![("lookup", tried(&asked)), ("connect", tried(&connect("192.0.2.1:443")))])
}

/// How an attempt ended: `ok`, or the number of the error, which names the control that stopped it.
fn tried<T>(attempt: &io::Result<T>) -> Json {
    match attempt {
        Ok(_) => "ok".into(),
        Err(error) => match error.raw_os_error() {
            Some(number) => format!("errno {number}").into(),
            None => format!("{:?}", error.kind()).into(),
        },
    }
}

/// The lines of /proc/self/status that say who this is and what it may.
fn status() -> Json {
    const KEYS: [(&str, &str); 10] = [
        ("uid", "Uid"),
        ("gid", "Gid"),
        ("groups", "Groups"),
        ("cap_inh", "CapInh"),
        ("cap_prm", "CapPrm"),
        ("cap_eff", "CapEff"),
        ("cap_bnd", "CapBnd"),
        ("cap_amb", "CapAmb"),
        ("no_new_privs", "NoNewPrivs"),
        ("seccomp", "Seccomp"),
    ];
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.map(|value| value.split_ascii_whitespace().collect::<Vec<_>>().join(" ")).unwrap_or_default()
    };
    Json::Object(KEYS.iter().map(|(name, key)| (*name, value(key).into())).collect())
}

fn write_in(folder: &str) -> io::Result<()> {
    let path = Path::new(folder).join(format!(".custody-probe-{}", std::process::id()));
    fs::OpenOptions::new().write(true).create_new(true).open(&path)?;
    fs::remove_file(&path)
}

/// Copies this program into the folder and starts it there. The copy is small: tmpfs is.
fn execute_in(folder: &str) -> io::Result<()> {
    let path = Path::new(folder).join(format!(".custody-probe-exec-{}", std::process::id()));
    let copied = env::current_exe().and_then(|me| fs::copy(me, &path));
    let ran = copied.and_then(|_| Command::new(&path).args(["--", "exit-zero"]).stdout(Stdio::null()).status());
    // It was not copied, or the box and its tmpfs go away anyway.
    let _ = fs::remove_file(&path);
    match ran?.success() {
        true => Ok(()),
        false => Err(io::ErrorKind::Other.into()),
    }
}

fn connect(address: &str) -> io::Result<()> {
    let address: SocketAddr = address.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).map(drop)
}

fn interfaces() -> Json {
    let text = fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let names = text.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()));
    names.collect::<Vec<_>>().into()
}

/// Files that an engine hides: whether anything can be read from them.
fn masked() -> Json {
    const PATHS: [&str; 5] = ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sysrq-trigger", "/sys/firmware"];
    let readable = |path: &str| match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some()),
        Ok(_) => fs::File::open(path)
            .and_then(|mut file| io::Read::read(&mut file, &mut [0; 16]))
            .is_ok_and(|count| count > 0),
        Err(_) => false,
    };
    let open: Vec<String> = PATHS.iter().filter(|path| readable(path)).map(|path| (*path).to_owned()).collect();
    Json::Object(vec![("readable", open.into())])
}

fn listed(folder: &str) -> Json {
    let mut names: Vec<String> = fs::read_dir(folder)
        .map(|entries| entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
        .unwrap_or_default();
    names.sort();
    names.truncate(256);
    names.into()
}

/// Soft and hard limits, as the kernel writes them.
fn limits() -> Json {
    const NAMES: [(&str, &str); 4] = [
        ("open_files", "Max open files"),
        ("core", "Max core file size"),
        ("file_size", "Max file size"),
        ("processes", "Max processes"),
    ];
    let text = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("");
        line.split_ascii_whitespace().take(2).collect::<Vec<_>>().join(" ")
    };
    Json::Object(NAMES.iter().map(|(name, key)| (*name, value(key).into())).collect())
}

/// `point options type propagation`, one text for each mount. Source: proc_pid_mountinfo(5).
fn mounts() -> Json {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mount = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let fields: Vec<&str> = left.split(' ').collect();
        let [_, _, _, _, point, options, optional @ ..] = fields.as_slice() else { return None };
        let kind = right.split(' ').next()?;
        Some(format!("{point} {options} {kind} {}", optional.join(",")).trim_end().to_owned())
    };
    text.lines().filter_map(mount).take(256).collect::<Vec<_>>().into()
}

fn first_line(path: &str) -> Json {
    fs::read_to_string(path).unwrap_or_default().lines().next().unwrap_or("").into()
}

fn words_of(path: &str) -> Json {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().into()
}
