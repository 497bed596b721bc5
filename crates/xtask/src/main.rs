//! `cargo xtask`: every chore of the project in Rust. Checks go to standard output, an image's id is all that `image`
//! prints there. Uses no crate of ours, so that it can judge them, and still builds when they do not.

mod ci;
mod graph;
mod image;
mod seal;
mod source;
mod tidy;
mod tree;

use anyhow::{Context, Result, bail};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  tidy                            the rules that no compiler checks: edges, purity, seals, pages, paths
  seal [--check]                  whether every sealed schema is as it was sealed
  seal --add NAME.vN…             seal contracts; what is sealed never changes again
  image NAME [--out FILE.tar] [--load]
                                  build runner-images/NAME, print the image's id
  ci                              fmt, clippy, tidy, deny

tidy, seal and ci leave with 1 when something is wrong with the project, 2 when they could not find out.
";

#[derive(Debug, PartialEq, Eq)]
enum Task {
    Help,
    Tidy,
    /// Empty: check.
    Seal(Vec<String>),
    Image(image::Request),
    Ci,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match parse(&arguments).and_then(run) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            let _ = say(&format!("error: {error:#}\n")); // there is nowhere else to say it
            ExitCode::from(2)
        }
    }
}

fn parse(arguments: &[String]) -> Result<Task> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Ok(match words.as_slice() {
        [] | ["help" | "--help" | "-h"] => Task::Help,
        ["tidy"] => Task::Tidy,
        ["ci"] => Task::Ci,
        ["seal"] | ["seal", "--check"] => Task::Seal(Vec::new()),
        ["seal", "--add", names @ ..] if !names.is_empty() => {
            Task::Seal(names.iter().map(|name| (*name).to_owned()).collect())
        }
        ["image", rest @ ..] => Task::Image(image_request(rest)?),
        other => bail!("unknown command {:?}\n\n{USAGE}", other.join(" ")),
    })
}

fn image_request(words: &[&str]) -> Result<image::Request> {
    let mut request = image::Request::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--load" => request.load = true,
            "--out" => request.out = Some(PathBuf::from(words.next().context("--out needs a file")?)),
            name if !name.starts_with('-') && request.name.is_empty() => request.name = name.to_owned(),
            other => bail!("image does not know {other:?}\n\n{USAGE}"),
        }
    }
    if request.name.is_empty() {
        bail!("image needs the name of a runner\n\n{USAGE}");
    }
    Ok(request)
}

fn run(task: Task) -> Result<bool> {
    let root = root()?;
    match task {
        Task::Help => out(USAGE).map(|()| true),
        Task::Tidy => tidy::run(&root),
        Task::Seal(names) => seal::run(&root, &names),
        Task::Image(request) => image::run(&root, &request).map(|()| true),
        Task::Ci => ci::run(&root),
    }
}

/// The project's root: two folders above this crate, wherever the command was given.
fn root() -> Result<PathBuf> {
    // Cargo sets it to where the crate is now; the compiled-in value is for a binary that is run directly.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let root = PathBuf::from(here).join("../..");
    root.canonicalize().with_context(|| format!("finding the project's root at {}", root.display()))
}

/// To standard output: what was asked for.
fn out(text: &str) -> Result<()> {
    std::io::stdout().lock().write_all(text.as_bytes()).context("writing to standard output")
}

/// To standard error: what happens on the way.
fn say(text: &str) -> Result<()> {
    std::io::stderr().lock().write_all(text.as_bytes()).context("writing to standard error")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Task> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn parse_knows_every_command() {
        let image = |out: Option<&str>, load| {
            Task::Image(image::Request { name: "a".into(), out: out.map(PathBuf::from), load })
        };
        for (line, task) in [
            ("", Task::Help),
            ("--help", Task::Help),
            ("tidy", Task::Tidy),
            ("ci", Task::Ci),
            ("seal", Task::Seal(Vec::new())),
            ("seal --check", Task::Seal(Vec::new())),
            ("seal --add a.v1 b.v2", Task::Seal(vec!["a.v1".into(), "b.v2".into()])),
            ("image a", image(None, false)),
            ("image --load a --out b.tar", image(Some("b.tar"), true)),
        ] {
            assert_eq!(parsed(line).unwrap(), task, "{line}");
        }
    }

    #[test]
    fn parse_refuses_the_rest() {
        for line in
            ["tidy now", "seal --add", "seal a.v1", "image", "image a b", "image a --out", "image a --force", "x"]
        {
            assert!(parsed(line).is_err(), "{line}");
        }
    }

    #[test]
    fn root_is_the_workspace() {
        assert!(root().unwrap().join("crates/xtask/Cargo.toml").is_file());
    }
}
