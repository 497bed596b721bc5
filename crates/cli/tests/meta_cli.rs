//! The program about itself: help with examples for every command, completions, manual pages, versions, exit codes that
//! need no server.

mod support;

use rstest::rstest;
use std::fmt::Write as _;
use std::path::Path;
use support::{code, command, custody, err, error, home, json, out};

/// The subcommands that a help text lists.
fn subcommands(help: &str) -> Vec<String> {
    let after = help.lines().skip_while(|l| *l != "Commands:").skip(1).take_while(|l| !l.is_empty());
    // A wrapped description is indented further than the names.
    after
        .filter(|l| l.starts_with("  ") && !l.starts_with("   "))
        .filter_map(|l| Some(l.split_whitespace().next()?.to_owned()))
        .collect()
}

/// Every command with its long help, depth first.
fn all_help(home: &Path) -> Vec<(Vec<String>, String)> {
    let mut waiting = vec![Vec::new()];
    let mut found = Vec::new();
    while let Some(words) = waiting.pop() {
        let mut arguments = vec!["help".to_owned()];
        arguments.extend(words.iter().cloned());
        let output = custody(home, &arguments);
        assert_eq!(code(&output), 0, "{words:?}: {}", err(&output));
        let help = out(&output);
        for name in subcommands(&help).into_iter().rev() {
            waiting.push([words.clone(), vec![name]].concat());
        }
        found.push((words, help));
    }
    found
}

#[test]
fn every_command_has_examples_of_itself() {
    let home = home();
    let all = all_help(home.path());
    assert!(all.len() > 50, "only {} commands were found", all.len());
    let leaves = all.iter().filter(|(_, help)| subcommands(help).is_empty());
    let without: Vec<String> = leaves
        .filter(|(words, help)| {
            let own = ["  custody ", &words.join(" ")].concat();
            let examples = help.split("Examples:").nth(1).unwrap_or_default();
            !examples.contains(own.trim_start())
        })
        .map(|(words, _)| words.join(" "))
        .collect();
    assert!(without.is_empty(), "no example of itself in the help of: {}", without.join(", "));
}

/// What people see changes only on purpose: `UPDATE_GOLDEN=1` writes the file anew.
#[test]
fn help_is_what_it_was() {
    let home = home();
    let mut text = String::new();
    for (words, help) in all_help(home.path()) {
        writeln!(
            text,
            "$ custody {}--help\n{}\n",
            words.iter().map(|w| format!("{w} ")).collect::<String>(),
            help.trim_end()
        )
        .unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/help.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    let differing = golden.lines().zip(text.lines()).position(|(a, b)| a != b);
    assert!(
        golden == text,
        "help differs from {} (first at line {differing:?}); read it, then UPDATE_GOLDEN=1",
        path.display()
    );
}

#[test]
fn the_long_help_of_a_command_is_its_help() {
    let home = home();
    assert_eq!(
        out(&custody(home.path(), &["help", "contract", "ls"])).trim(),
        out(&custody(home.path(), &["contract", "ls", "--help"])).trim()
    );
}

#[rstest]
#[case("bash", "complete -F")]
#[case("zsh", "#compdef custody")]
#[case("fish", "complete -c custody")]
#[case("elvish", "edit:completion")]
#[case("powershell", "Register-ArgumentCompleter")]
fn completions(#[case] shell: &str, #[case] part: &str) {
    let home = home();
    let output = custody(home.path(), &["completion", shell]);
    assert_eq!(code(&output), 0);
    assert!(out(&output).contains(part) && out(&output).contains("validate"), "{shell}");
}

#[test]
fn one_manual_page_a_command() {
    let home = home();
    assert_eq!(code(&custody(home.path(), &["man", "pages"])), 0);
    let mut pages: Vec<String> = std::fs::read_dir(home.path().join("pages"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    pages.sort();
    let mut wanted: Vec<String> = all_help(home.path())
        .into_iter()
        .map(|(words, _)| [vec!["custody".to_owned()], words].concat().join("-") + ".1")
        .collect();
    wanted.sort();
    assert_eq!(pages, wanted);
    let page = std::fs::read_to_string(home.path().join("pages/custody-contract-validate.1")).unwrap();
    assert!(page.contains(".TH") && page.contains("Examples"), "{page}");
}

#[rstest]
#[case("environment", "CUSTODY_STATE")]
#[case("exit-codes", "130")]
#[case("formatting", "jsonl")]
#[case("subjects", "launch.<launcher>.dispatch")]
#[case("accessibility", "NO_COLOR")]
fn topics(#[case] topic: &str, #[case] part: &str) {
    let home = home();
    let output = custody(home.path(), &["help", topic]);
    assert_eq!(code(&output), 0);
    assert!(out(&output).contains(part), "{}", out(&output));
}

#[test]
fn the_environment_topic_names_every_variable_that_flags_have() {
    let home = home();
    let topic = out(&custody(home.path(), &["help", "environment"]));
    let all: String = all_help(home.path()).into_iter().map(|(_, help)| help).collect();
    let mut variables: Vec<&str> = all.split("[env: ").skip(1).filter_map(|rest| rest.split('=').next()).collect();
    variables.sort_unstable();
    variables.dedup();
    assert!(!variables.is_empty());
    let missing: Vec<&&str> = variables.iter().filter(|v| !topic.contains(**v)).collect();
    assert!(missing.is_empty(), "custody help environment does not name {missing:?}");
}

#[test]
fn the_version_says_what_is_sent_home() {
    let home = home();
    let output = custody(home.path(), &["version", "-o", "json"]);
    let version = json(&output);
    assert_eq!((version["schema"].as_str(), version["telemetry"].as_str()), (Some("version.v1"), Some("none")));
    assert_eq!(version["server"]["state"], "down");
    assert!(version["contracts"].as_str().unwrap().starts_with("sha256:"));
    assert!(out(&custody(home.path(), &["version"])).contains("telemetry  none"));
}

#[rstest]
#[case::done(&["version"], 0, "")]
#[case::unknown_flag(&["version", "--nonsense"], 2, "unexpected argument")]
#[case::unknown_command(&["nonsense"], 2, "unrecognized subcommand")]
#[case::unknown_form(&["contract", "ls", "-o", "yaml"], 2, "one of table, wide")]
#[case::no_help(&["help", "nonsense"], 3, "NO_SUCH_HELP")]
#[case::no_runner(&["runner", "get", "nonsense"], 3, "RUNNER_UNKNOWN")]
#[case::no_evals(&["eval", "ls"], 3, "NO_EVALS")]
#[case::nothing_runs(&["projection", "ls"], 8, "NOT_RUNNING")]
#[case::nothing_runs_here(&["session", "ls"], 8, "NOT_RUNNING")]
#[case::nothing_to_register_at(&["launcher", "register", "web"], 8, "NOT_RUNNING")]
fn exit_codes(#[case] arguments: &[&str], #[case] exit: i32, #[case] part: &str) {
    let home = home();
    let output = custody(home.path(), arguments);
    assert_eq!(code(&output), exit, "{}", err(&output));
    assert!(err(&output).contains(part), "{}", err(&output));
    assert!(exit == 0 || output.stdout.is_empty(), "an error has no data: {}", out(&output));
}

#[test]
fn no_credentials_are_exit_4() {
    let home = home();
    let config = home.path().join("custody.toml");
    std::fs::write(&config, "[nats]\nurl = \"nats://127.0.0.1:9\"\ncredentials = \"users\"\n").unwrap();
    let output =
        command(home.path()).arg("--config").arg(&config).args(["session", "ls", "-o", "json"]).output().unwrap();
    assert_eq!(code(&output), 4, "{}", err(&output));
    assert_eq!(error(&output)["code"], "NO_CREDENTIALS");
}

#[test]
fn a_runner_that_fails_its_checks_is_exit_10() {
    let home = home();
    std::fs::create_dir(home.path().join("runners")).unwrap();
    std::fs::write(home.path().join("runners/mine.json"), "{\"name\":\"mine\"}").unwrap();
    let output = custody(home.path(), &["runner", "verify", "mine", "-o", "json"]);
    assert_eq!(code(&output), 10, "{}", err(&output));
    let checks = &json(&output)["checks"];
    assert_eq!((checks[0]["check"].as_str(), checks[0]["status"].as_str()), (Some("document"), Some("fail")));
}

#[test]
fn a_runner_is_listed_when_no_engine_can_say_whether_its_image_is_here() {
    let home = home();
    std::fs::create_dir(home.path().join("runners")).unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contracts/agent-runner.v2/golden");
    let first = std::fs::read_dir(golden).unwrap().next().unwrap().unwrap().path();
    std::fs::copy(first, home.path().join("runners/one.json")).unwrap();
    let output = custody(home.path(), &["runner", "ls", "-o", "json"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert_eq!(json(&output)[0]["image_present"], "unknown");
    assert!(err(&output).contains("images cannot be looked for"), "{}", err(&output));
}

#[test]
fn evals_run_without_a_server_and_pass() {
    let home = home();
    let evals = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../evals");
    let run = |more: &[&str]| {
        command(home.path())
            .env("CUSTODY_EVALS", &evals)
            .args(["eval", "run", "1-stranger-refused"])
            .args(more)
            .output()
            .unwrap()
    };
    let output = run(&["-o", "json", "--junit", "evals.xml", "--summary", "evals.json", "--markdown", "evals.md"]);
    assert_eq!(code(&output), 0, "{}{}", out(&output), err(&output));
    assert_eq!(json(&output)["schema"], "eval-summary.v1");
    for (file, part) in [("evals.xml", "<testsuites>"), ("evals.json", "eval-summary.v1"), ("evals.md", "### Evals")] {
        assert!(std::fs::read_to_string(home.path().join(file)).unwrap().contains(part), "{file}");
    }
    let unknown = command(home.path()).env("CUSTODY_EVALS", &evals).args(["eval", "run", "nonsense"]).output().unwrap();
    assert_eq!(code(&unknown), 2, "{}", err(&unknown));
    let blessing = command(home.path())
        .env("CUSTODY_EVALS", &evals)
        .env("CI", "true")
        .args(["eval", "run", "--bless"])
        .output()
        .unwrap();
    assert_eq!(code(&blessing), 2, "{}", err(&blessing));
    assert!(err(&blessing).contains("CI machine"), "{}", err(&blessing));
}
