//! Runs the binary with an environment of its own: no state, no configuration and no engine of the machine's user.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test file uses a part of this; a test that cannot set up must fail"
)]

use serde_json::Value;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output};

/// A folder that is gone when the test is over.
pub(crate) fn home() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// A command on the binary whose only folder is `home`.
pub(crate) fn command(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_custody"));
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    // The user's cache is not the test's; the server in it is.
    command.envs(custody_nats::server::find_binary().ok().map(|binary| (custody_nats::server::BINARY_ENV, binary)));
    command.env("HOME", home).env("CUSTODY_STATE", home.join("state"));
    command.env("USER", "tester").env("CUSTODY_RUNNERS", home.join("runners"));
    command.env("DOCKER_HOST", format!("unix://{}", home.join("no-engine.sock").display()));
    command.stdin(std::process::Stdio::null()).current_dir(home);
    command
}

/// Runs it to its end.
pub(crate) fn custody(home: &Path, arguments: &[impl AsRef<OsStr>]) -> Output {
    command(home).args(arguments).output().unwrap()
}

/// Exit code.
pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("killed: {output:?}"))
}

/// Standard output as text.
pub(crate) fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Standard error as text.
pub(crate) fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Standard output as one JSON document.
pub(crate) fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

/// The error.v1 that a command with `-o json` left on standard error, checked against its contract.
pub(crate) fn error(output: &Output) -> Value {
    let last = err(output).lines().last().unwrap_or_default().to_owned();
    let document: Value = serde_json::from_str(&last).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    custody_contracts::catalogue::check("error.v1", "Error", &document).unwrap();
    document
}
