//! `custody-worker`: takes no argument; its job comes over the gateway's socket. Must never read anything else from its
//! environment than what is named here.

use custody_worker::{
    link::LinkConfig,
    protocol::SOCKET_IN_BOX,
    supervise::{Config, run},
    verdict::EXIT_BAD_JOB,
};
use std::{env, io::Write, path::PathBuf, process::ExitCode, time::Duration};

/// How long the gateway may stay away. Source: box.v2.
const LOST_AFTER_MAX: Duration = Duration::from_secs(60);
/// How long a blank worker waits for its job.
const JOB_WAIT_MAX: Duration = Duration::from_secs(3_600);

fn main() -> ExitCode {
    let shorter = |name: &str, most: Duration| {
        let set = env::var(name).ok().and_then(|text| text.parse().ok());
        set.map_or(most, Duration::from_millis).min(most)
    };
    let config = Config {
        link: LinkConfig {
            socket: env::var_os("CUSTODY_GW_SOCK").map_or_else(|| PathBuf::from(SOCKET_IN_BOX), PathBuf::from),
            lost_after: shorter("CUSTODY_GW_LOST_MS", LOST_AFTER_MAX),
            job_wait: shorter("CUSTODY_JOB_WAIT_MS", JOB_WAIT_MAX),
        },
        home: env::var_os("HOME").map(PathBuf::from),
        inherited: ["PATH", "HOME"]
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), env::var(name).ok()?)))
            .collect(),
    };
    match run(config) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // Nobody is left to tell when this fails too.
            let _ = writeln!(std::io::stderr(), "custody-worker: cannot start: {error}");
            ExitCode::from(EXIT_BAD_JOB)
        }
    }
}
