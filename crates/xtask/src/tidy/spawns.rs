//! No agent runs on the host: every place in our source that starts a process stands in a table with what it starts and
//! why. A new one fails, and so does one of the table that is gone. Must never let a loop, a rule or an adapter start
//! an agent: what a dispatch runs is started by the worker, inside a box, and nowhere else.

use super::Outcome;
use crate::source;
use crate::tree::Tree;

/// Ways to start a program, or to have somebody start one.
const STARTS: &[&str] = &[
    "process::Command",
    "Command::new",
    "CommandExt",
    "posix_spawn",
    "execv",
    "execve",
    "fexecve",
    "execvp",
    "create_exec",
    "start_exec",
    "CreateExecOptions",
    "pre_exec",
];

/// Folder whose sources run on the machine of a developer, not where dispatches do.
const CHORES: &str = "crates/xtask/";

/// Who starts what: file, what it starts, why that is no agent on the host.
const ALLOWED: &[(&str, &str, &str)] = &[
    (
        "runner-images/worker/src/agent.rs",
        "the agent",
        "the worker is process 1 of a box: this is the one place where an agent starts",
    ),
    ("runner-images/probe-bad/src/behave.rs", "itself", "a misbehaving agent for tests, inside a box"),
    (
        "runner-images/probe-bad/src/sandbox.rs",
        "itself",
        "measures from inside a box whether a copy of it can be executed",
    ),
    ("crates/nats/src/server/process.rs", "nats-server", "the supervised log of `custody up`"),
    (
        "crates/engine/src/upstream/stdio/process.rs",
        "servers of tools",
        "an MCP server over stdio that the operator's configuration names, and no agent: no dispatch, document or answer says what is started",
    ),
    ("crates/nats/src/server/files.rs", "nats-server --version", "the version of the binary before it is used"),
    (
        "crates/cli/src/server/model.rs",
        "the local model's server",
        "inference for first runs; it gets a socket and no dispatch",
    ),
    ("crates/cli/src/commands/up.rs", "custody itself", "`up --detach` in the background"),
    ("crates/cli/src/private.rs", "custody itself", "`bench` and `runner verify` have an installation of their own"),
    (
        "crates/cli/src/commands/runner/build.rs",
        "the image builder",
        "`custody runner build` runs `xtask image` of the source folder, at a person's terminal",
    ),
    (
        "crates/cli/src/commands/open.rs",
        "the person's browser",
        "`custody open` shows an address to the person at this machine",
    ),
    (
        "crates/cli/src/commands/runner/build.rs",
        "cargo, with the image builder",
        "`runner build` at a person's terminal; it compiles and packs, and runs no agent",
    ),
    (
        "crates/workspaces/src/git.rs",
        "git",
        "plumbing commands on a repository that no box sees, without hooks or configuration",
    ),
    (
        "crates/outside/src/git.rs",
        "git",
        "plumbing commands and a push, on the repository and branch that the operator names for checkpoints",
    ),
    (
        "crates/cli/src/commands/dispatch/again.rs",
        "the operator's editor",
        "`dispatch rerun --edit`, at a person's terminal",
    ),
];

/// No source starts a process that is not in the table.
pub(crate) fn processes(tree: &Tree) -> Outcome {
    let mut outcome = Outcome::new("process-starts");
    let mut seen = Vec::new();
    let files = tree.texts().filter(|(path, _)| path.ends_with(".rs") && !path.starts_with(CHORES));
    for (path, text) in files.filter(|(path, _)| !source::is_test_file(path) && !path.contains("/tests/")) {
        outcome.checked += 1;
        let code = source::without_tests(&source::code(text));
        let found: Vec<(usize, &str)> =
            STARTS.iter().flat_map(|word| source::words(&code, word).map(move |at| (at, *word))).collect();
        let Some((at, word)) = found.iter().min() else { continue };
        if ALLOWED.iter().any(|(file, ..)| file == &path) {
            seen.push(path.to_owned());
        } else {
            let line = source::line_of(&code, *at);
            let why = format!(
                "`{word}` starts a process on the host; an agent runs in a box only. What starts something else gets a row with its reason in tidy/spawns.rs"
            );
            outcome.fail(format!("{path}:{line}"), why);
        }
    }
    for (file, what, _) in ALLOWED {
        if tree.text(file).is_some() && !seen.iter().any(|path| path == file) {
            outcome.fail(*file, format!("does not start {what} any more: take its row out of tidy/spawns.rs"));
        }
    }
    outcome.notes.push(format!("{} places start a process, each with its reason", seen.len()));
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::nothing("crates/engine/src/a.rs", "fn a() {}", true)]
    #[case::a_process("crates/engine/src/a.rs", "fn a() { std::process::Command::new(\"sh\"); }", false)]
    #[case::servers_of_tools("crates/engine/src/upstream/stdio/process.rs", "fn a() { Command::new(program); }", true)]
    #[case::beside_it("crates/engine/src/upstream/stdio/mod.rs", "fn a() { Command::new(program); }", false)]
    #[case::of_tokio("crates/engine/src/a.rs", "use tokio::process::Command;", false)]
    #[case::an_exec_in_a_box("crates/docker/src/a.rs", "docker.create_exec(name, options)", false)]
    #[case::only_in_words(
        "crates/engine/src/a.rs",
        "// std::process::Command is not used\nconst A: &str = \"Command::new\";",
        true
    )]
    #[case::another_command("crates/engine/src/a.rs", "use custody_ledger::Command; let c = Command { id };", true)]
    #[case::in_a_test("crates/engine/src/a.rs", "#[cfg(test)]\nmod tests { fn a() { Command::new(\"sh\"); } }", true)]
    #[case::in_a_test_file("crates/cli/tests/live/a.rs", "fn a() { Command::new(\"sh\"); }", true)]
    #[case::a_chore("crates/xtask/src/a.rs", "fn a() { Command::new(\"cargo\"); }", true)]
    #[case::the_worker("runner-images/worker/src/agent.rs", "fn a() { Command::new(program); }", true)]
    #[case::a_row_without_its_reason("crates/nats/src/server/process.rs", "fn a() {}", false)]
    fn only_what_is_in_the_table_starts_a_process(#[case] path: &str, #[case] text: &str, #[case] passes: bool) {
        let outcome = processes(&Tree::of(&[(path, text), ("crates/engine/src/other.rs", "fn b() {}")]));
        assert!(outcome.checked > 0);
        assert_eq!(outcome.passed(), passes, "{}", outcome.report());
    }

    #[test]
    fn every_row_says_what_and_why() {
        assert!(ALLOWED.iter().all(|(file, what, why)| file.ends_with(".rs") && !what.is_empty() && why.len() > 20));
        let agents = ALLOWED.iter().filter(|(_, what, _)| *what == "the agent").count();
        assert_eq!(agents, 1, "one place starts an agent, and it is in a box");
    }
}
