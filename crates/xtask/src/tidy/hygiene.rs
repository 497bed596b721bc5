//! Files stay short, name no machine and no registry, and scripts stop at the first error.

use super::Outcome;
use crate::tree::Tree;

/// Lines from which a reader is told.
const LONG: usize = 400;
/// Lines from which a reason must stand in the file.
const TOO_LONG: usize = 800;
/// Where a checkout of somebody lives, without its slashes.
const MACHINE_FOLDERS: &[&str] = &["work", "root"];
/// The user inside every box: a path in an image, not on a machine.
const BOX_HOME: &str = "/home/agent/";

/// Hosts of package and image registries, and marks of a mirror of one. In two halves, so that this file does not
/// name one itself.
const REGISTRIES: &[(&str, &str)] = &[
    ("pypi", ".org"),
    ("pythonhosted", ".org"),
    ("registry.npmjs", ".org"),
    ("index.crates", ".io"),
    ("static.crates", ".io"),
    ("proxy.golang", ".org"),
    ("ghcr", ".io"),
    ("gcr", ".io/"),
    ("quay", ".io"),
    ("docker", ".io/"),
    ("registry-1.docker", ".io"),
    ("registry.k8s", ".io"),
    ("mcr.microsoft", ".com"),
    ("deb.debian", ".org"),
    ("security.debian", ".org"),
    ("/artifactory", "/"),
    ("/api/", "pypi/"),
    ("/api/", "npm/"),
];

/// A file has one subject. Code and scripts only: a lock file or a golden is as long as it must be.
pub(crate) fn long_files(tree: &Tree) -> Outcome {
    let mut outcome = Outcome::new("long-files");
    for (path, text) in tree.texts().filter(|(path, text)| is_code(path, text)) {
        outcome.checked += 1;
        let lines = text.lines().count();
        let reason = text.lines().any(|line| {
            let words = line.strip_prefix("//! Long because").or_else(|| line.strip_prefix("# Long because"));
            words.is_some_and(|words| !words.trim().is_empty())
        });
        if lines > TOO_LONG && !reason {
            outcome.fail(path, format!("has {lines} lines, more than {TOO_LONG}, and no line `//! Long because …`"));
        } else if lines > LONG {
            outcome.warn(path, format!("has {lines} lines, more than {LONG}"));
        }
    }
    outcome
}

fn is_code(path: &str, text: &str) -> bool {
    let extensions = [".rs", ".py", ".sh", ".ts", ".svelte", ".js", ".css"];
    extensions.iter().any(|extension| path.ends_with(extension)) || text.starts_with("#!")
}

/// No absolute path of the machine on which a file was written.
pub(crate) fn machine_paths(tree: &Tree) -> Outcome {
    let mut outcome = Outcome::new("machine-paths");
    for (path, text) in tree.texts() {
        outcome.checked += 1;
        for (number, line) in text.lines().enumerate() {
            if let Some(found) = machine_path(line) {
                outcome.fail(format!("{path}:{}", number + 1), format!("names a path of one machine: {found}"));
            }
        }
    }
    outcome
}

/// The first absolute path in a line that begins with a checkout's or a person's folder.
fn machine_path(line: &str) -> Option<String> {
    for (at, _) in line.match_indices('/') {
        // In the middle of a longer path or of a URL it is another folder.
        let inside = |c: char| c.is_alphanumeric() || "._-}~*".contains(c);
        if line[..at].chars().next_back().is_some_and(inside) {
            continue;
        }
        let rest = &line[at..];
        let mut parts = rest[1..].splitn(3, '/');
        let (first, second) = (parts.next().unwrap_or_default(), parts.next());
        let machine = second.is_some() && MACHINE_FOLDERS.contains(&first);
        let name =
            |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        let home = first == "home" && second.is_some_and(name) && parts.next().is_some() && !rest.starts_with(BOX_HOME);
        if machine || home {
            return Some(rest.chars().take_while(|c| !c.is_whitespace() && !"\"'`),;".contains(*c)).take(80).collect());
        }
    }
    None
}

/// No host of a registry: which one serves a package is the business of the machine that builds.
pub(crate) fn registries(tree: &Tree) -> Outcome {
    let mut outcome = Outcome::new("registry-hosts");
    for (path, text) in tree.texts() {
        outcome.checked += 1;
        for (number, line) in text.lines().enumerate() {
            for host in REGISTRIES.iter().map(|(a, b)| [*a, *b].concat()).filter(|host| line.contains(host.as_str())) {
                outcome.fail(format!("{path}:{}", number + 1), format!("names a registry: {host}"));
            }
        }
    }
    outcome
}

/// Scripts can be run, and stop at the first error. A `.sh` file without `#!` is sourced, and must not be runnable.
pub(crate) fn scripts(tree: &Tree) -> Outcome {
    let mut outcome = Outcome::new("scripts");
    for (path, file) in tree.iter() {
        let Some(text) = tree.text(path) else { continue };
        let first = text.lines().next().unwrap_or_default();
        let interpreter = first.strip_prefix("#!").unwrap_or_default();
        let is_shell = interpreter.split(['/', ' ']).any(|part| ["sh", "bash", "dash", "zsh"].contains(&part));
        if is_shell {
            outcome.checked += 1;
            if !file.executable {
                outcome.fail(path, "is a script and cannot be executed: chmod +x");
            }
            let command = text.lines().find(|line| !line.trim().is_empty() && !line.starts_with('#'));
            if command.map(str::trim_end) != Some("set -euo pipefail") {
                outcome.fail(path, "does not begin with `set -euo pipefail`");
            }
        } else if path.ends_with(".sh") {
            outcome.checked += 1;
            if file.executable {
                outcome.fail(path, "can be executed but has no `#!` line: chmod -x if it is sourced");
            }
        } else if file.executable && interpreter.is_empty() {
            outcome.checked += 1;
            outcome.fail(path, "can be executed but is no script: chmod -x");
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::short(400, "", 0, true)]
    #[case::long(401, "", 1, true)]
    #[case::at_the_limit(800, "", 1, true)]
    #[case::too_long(801, "", 1, false)]
    #[case::with_a_reason(801, "//! Long because one table is.", 1, true)]
    #[case::with_an_empty_reason(801, "//! Long because", 1, false)]
    fn long_files_need_a_reason(#[case] lines: usize, #[case] first: &str, #[case] told: usize, #[case] passes: bool) {
        let text = format!("{first}\n{}", "x\n".repeat(lines - 1));
        let outcome = long_files(&Tree::of(&[("crates/a/src/b.rs", &text), ("Cargo.lock", &text)]));
        assert_eq!((outcome.checked, outcome.passed()), (1, passes));
        assert_eq!(outcome.warnings.len() + outcome.failures.len(), told);
    }

    #[rstest]
    #[case::checkout(&["see /wo", "rk/main/x"], false)]
    #[case::superuser(&["\"/ro", "ot/.cargo\""], false)]
    #[case::person(&["cd /ho", "me/jane/custody"], false)]
    #[case::url_of_a_file(&["file://", "/ho", "me/jane/x"], false)]
    #[case::the_box(&["\"/home/agent/", ".mcp.json\""], true)]
    #[case::workspace(&["/workspace/", "notes"], true)]
    #[case::inside_another_path(&["/srv/wo", "rk/x and ../ro", "ot/x and $HOME/wo", "rk/x"], true)]
    #[case::folder_alone(&["the folder /ro", "ot of the box"], true)]
    fn machine_paths_are_refused(#[case] parts: &[&str], #[case] passes: bool) {
        let outcome = machine_paths(&Tree::of(&[("a.md", &format!("one\n{}\n", parts.concat()))]));
        assert_eq!(outcome.passed(), passes, "{:?}", outcome.failures);
        assert!(passes || outcome.failures[0].path == "a.md:2");
    }

    #[test]
    fn registries_are_refused() {
        for (a, b) in REGISTRIES {
            let text = format!("fetch https://x.{a}{b}x");
            assert!(!registries(&Tree::of(&[("a.md", &text)])).passed(), "{text}");
        }
        let fine = "apt-get install docker.io\nregistry+https://github.com/rust-lang/crates.io-index\n";
        assert!(registries(&Tree::of(&[("a.md", fine)])).passed());
    }

    #[rstest]
    #[case::good("ops/up", "#!/usr/bin/env bash\n# Words.\n\nset -euo pipefail\nx\n", true, true)]
    #[case::not_executable("ops/up", "#!/usr/bin/env bash\nset -euo pipefail\n", false, false)]
    #[case::goes_on_after_errors("ops/up", "#!/bin/bash\nx\nset -euo pipefail\n", true, false)]
    #[case::weaker("ops/up", "#!/bin/sh\nset -eu\n", true, false)]
    #[case::sourced("ops/lib.sh", "# Sourced.\nx() { :; }\n", false, true)]
    #[case::sourced_but_runnable("ops/lib.sh", "# Sourced.\n", true, false)]
    #[case::runnable_page("README.md", "words\n", true, false)]
    #[case::another_language("ops/a.py", "#!/usr/bin/env python3\n", true, true)]
    fn scripts_run_and_stop(#[case] path: &str, #[case] text: &str, #[case] executable: bool, #[case] passes: bool) {
        let mut tree = Tree::default();
        tree.put("ops/other", "#!/bin/bash\nset -euo pipefail\n", true);
        tree.put(path, text, executable);
        assert_eq!(scripts(&tree).passed(), passes);
    }
}
