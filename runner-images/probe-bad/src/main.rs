//! `custody-misbehave [--session PATH] [--resume] -- PROMPT`: an agent for tests that does what its prompt says. Must
//! never be in an image that people use.

mod json;

mod say;

mod sandbox;

mod files;

mod calls;

mod behave;

use std::{path::PathBuf, process::ExitCode};

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    let mut session = None;
    while let Some(word) = words.next() {
        match word.as_str() {
            "--" => break,
            "--session" => session = words.next().map(PathBuf::from),
            "--resume" => {}
            _ => {
                say::error("usage", "usage: custody-misbehave [--session PATH] [--resume] -- PROMPT");
                return ExitCode::from(2);
            }
        }
    }
    let prompt = words.collect::<Vec<_>>().join(" ");
    ExitCode::from(behave::behave(&prompt, session.as_deref()))
}
