//! The command line. Must never read the environment: what an agent is told is on its command line, so that it is in
//! the log.

use crate::{http::Endpoint, mcp::Address};
use std::path::PathBuf;

/// How to call it; printed for a command line that cannot be read.
pub const USAGE: &str = "usage: custody-agent --session PATH --workspace DIR [--workspace-mode auto|ro|rw|propose] \
--inference unix:PATH|http://127.0.0.1:PORT --model NAME [--mcp unix:PATH#PATH|http://127.0.0.1:PORT/PATH] [--resume] [--max-turns N] -- PROMPT";

/// The most model calls in one run.
const TURNS_MAX: u32 = 64;

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Args {
    /// The session file.
    pub session: PathBuf,
    /// The workspace; `None` for a run without one.
    pub workspace: Option<PathBuf>,
    /// What may be done in it.
    pub mode: Mode,
    /// Where the model is.
    pub inference: Endpoint,
    /// Its name.
    pub model: String,
    /// Where the gateway's tools are; `None` for a run without them.
    pub mcp: Option<Address>,
    /// Whether the session goes on.
    pub resume: bool,
    /// How often the model may be called.
    pub turns_max: u32,
    /// The words.
    pub prompt: String,
}

/// What may be done in a workspace. The mount is the boundary; this only says what to offer to the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Write if the mount allows it.
    Auto,
    /// Only read.
    ReadOnly,
    /// Read and write: `rw`, and `propose`, whose writes somebody reviews later.
    Write,
}

/// Reads the command line, without the program's name.
///
/// Errors: a sentence for the first thing that is wrong.
pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Args, String> {
    let mut words = words.into_iter();
    let (mut session, mut workspace, mut inference, mut model) = (None, None, None, None);
    let (mut mode, mut resume, mut turns_max, mut mcp) = (Mode::Auto, false, 8, None);
    loop {
        let word = words.next().ok_or("the prompt is missing: it follows --")?;
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--" => break,
            "--session" => session = Some(PathBuf::from(value()?)),
            "--workspace" => workspace = Some(value()?),
            "--workspace-mode" => mode = parse_mode(&value()?)?,
            "--inference" => inference = Some(value()?.parse::<Endpoint>()?),
            "--model" => model = Some(value()?),
            "--mcp" => mcp = Some(value()?).filter(|text| !text.is_empty()).map(|text| text.parse()).transpose()?,
            "--resume" => resume = true,
            "--max-turns" => turns_max = parse_turns(&value()?)?,
            _ => return Err(format!("unknown argument {word}")),
        }
    }
    let prompt = words.collect::<Vec<_>>().join(" ");
    if prompt.trim().is_empty() {
        return Err("the prompt is empty".to_owned());
    }
    Ok(Args {
        session: session.ok_or("--session is missing")?,
        workspace: workspace.filter(|path| !path.is_empty()).map(PathBuf::from),
        mode,
        inference: inference.ok_or("--inference is missing")?,
        model: model.ok_or("--model is missing")?,
        mcp,
        resume,
        turns_max,
        prompt,
    })
}

fn parse_mode(text: &str) -> Result<Mode, String> {
    match text {
        "auto" => Ok(Mode::Auto),
        "ro" => Ok(Mode::ReadOnly),
        "rw" | "propose" => Ok(Mode::Write),
        _ => Err(format!("--workspace-mode is auto, ro, rw or propose, not {text}")),
    }
}

fn parse_turns(text: &str) -> Result<u32, String> {
    let turns = text.parse().ok().filter(|turns| (1..=TURNS_MAX).contains(turns));
    turns.ok_or_else(|| format!("--max-turns is a number from 1 to {TURNS_MAX}, not {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const WHOLE: &str = "--session /s --workspace /w --inference unix:/g --model m -- do it";

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn reads_everything() {
        let args =
            parse(words(&WHOLE.replace("-- do", "--workspace-mode ro --resume --max-turns 3 -- do --resume"))).unwrap();
        assert_eq!(args.session, PathBuf::from("/s"));
        assert_eq!(args.workspace, Some(PathBuf::from("/w")));
        assert_eq!((args.mode, args.resume, args.turns_max), (Mode::ReadOnly, true, 3));
        assert_eq!(args.prompt, "do --resume it");
    }

    #[test]
    fn no_workspace_is_an_empty_word() {
        let mut words = words(WHOLE);
        words[3] = String::new();
        assert_eq!(parse(words).unwrap().workspace, None);
    }

    #[rstest]
    #[case::no_prompt("--session /s --inference unix:/g --model m", "the prompt is missing: it follows --")]
    #[case::empty_prompt("--session /s --inference unix:/g --model m --", "the prompt is empty")]
    #[case::no_session("--inference unix:/g --model m -- x", "--session is missing")]
    #[case::no_inference("--session /s --model m -- x", "--inference is missing")]
    #[case::no_model("--session /s --inference unix:/g -- x", "--model is missing")]
    #[case::unknown("--token t -- x", "unknown argument --token")]
    #[case::mcp("--mcp unix:/g -- x", "--mcp is unix:/PATH#/PATH or http://127.0.0.1:PORT/PATH, not unix:/g")]
    #[case::no_value("--model", "--model needs a value")]
    #[case::mode("--workspace-mode all -- x", "--workspace-mode is auto, ro, rw or propose, not all")]
    #[case::turns("--max-turns 0 -- x", "--max-turns is a number from 1 to 64, not 0")]
    fn refuses(#[case] line: &str, #[case] message: &str) {
        assert_eq!(parse(words(line)).unwrap_err(), message);
    }
}
