//! What a self-test showed of a runner: each capability as pass or fail, with what was seen. Pure. Must never pass what
//! nobody saw; what a runner's document does not claim is `not declared`, which is neither.

use super::model::Heard;
use super::script::{Plan, is_of_the_door};
use custody_contracts::box_protocol::{FrameBody, Network};
use custody_contracts::runner::Runner;
use custody_contracts::workspace::{CommitOutcome, RunCommit};
use serde::Serialize;
use serde_json::Value;

/// What became of one capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Status {
    /// It was seen.
    Pass,
    /// It was not, or it was seen to be otherwise.
    Fail,
    /// The document does not claim it.
    NotDeclared,
}

/// One capability.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    /// Its stable name.
    pub(super) check: &'static str,
    /// The same for people.
    pub(super) capability: &'static str,
    /// What became of it.
    pub(super) status: Status,
    /// What was seen.
    pub(super) detail: String,
}

/// One dispatch of a self-test, as the platform recorded it.
#[derive(Debug, Clone, Default)]
pub(super) struct Turn {
    /// Its row in the projection.
    pub(super) row: Value,
    /// Its output.
    pub(super) frames: Vec<FrameBody>,
    /// What became of its changes.
    pub(super) commits: Vec<RunCommit>,
    /// Calls of the MCP door that are in the ledger and succeeded.
    pub(super) door_calls: u32,
    /// What the model saw and did.
    pub(super) heard: Heard,
}

/// The dispatches of a self-test; one that was not reached is `None`.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub(super) first: Option<Turn>,
    pub(super) second: Option<Turn>,
    pub(super) refused: Option<Turn>,
    pub(super) watched: Option<Turn>,
}

impl Check {
    pub(super) fn new(check: &'static str, capability: &'static str, seen: Result<String, String>) -> Check {
        let (status, detail) = match seen {
            Ok(detail) => (Status::Pass, detail),
            Err(detail) => (Status::Fail, detail),
        };
        Check { check, capability, status, detail }
    }

    fn not_declared(check: &'static str, capability: &'static str, detail: &str) -> Check {
        Check { check, capability, status: Status::NotDeclared, detail: detail.to_owned() }
    }
}

/// Every capability, in the order in which people read them.
pub(super) fn checks(runner: &Runner, plan: &Plan, seen: &Seen) -> Vec<Check> {
    let none = Turn::default();
    let turn = |turn: &Option<Turn>| turn.clone().unwrap_or_else(|| none.clone());
    let (first, second, refused, watched) =
        (turn(&seen.first), turn(&seen.second), turn(&seen.refused), turn(&seen.watched));
    let resumes = !runner.session.resume_argv.is_empty();
    let mut all = vec![
        Check::new("turn", "non-interactive turn", completed(&first)),
        Check::new("text", "text frames", text(&first, plan)),
        Check::new("tool_call", "tool call frames", tool_call(&first, plan)),
        Check::new("tool_result", "tool result frames", tool_result(&first)),
    ];
    all.push(match &runner.mcp {
        Some(_) => Check::new("mcp", "tools through MCP", mcp(&first)),
        None => Check::not_declared("mcp", "tools through MCP", "the document names no MCP configuration"),
    });
    all.push(Check::new("usage", "usage frames", usage(&first)));
    all.push(Check::new("error", "error frame", error(&refused)));
    if resumes {
        all.push(Check::new("session", "session kept", kept(&first)));
        all.push(Check::new("resume", "second turn resumed in another container", resumed(&first, &second)));
    } else {
        let why = "the document has no resume_argv";
        all.push(Check::not_declared("session", "session kept", why));
        all.push(Check::not_declared("resume", "second turn resumed in another container", why));
    }
    all.push(Check::new("workspace", "workspace change landed", landed(&first, &second, plan, resumes)));
    let ordinary: Vec<&Turn> = [&seen.first, &seen.second, &seen.refused].into_iter().flatten().collect();
    all.push(Check::new("packets", "no packet but to the socket", silent(&ordinary)));
    let watched = completed(&watched).and_then(|_| silent(&[&watched]));
    all.push(Check::new("lookups", "no lookup or connect tried", watched));
    all
}

fn field<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap_or_default()
}

fn completed(turn: &Turn) -> Result<String, String> {
    let row = &turn.row;
    if row.is_null() {
        return Err("not reached".to_owned());
    }
    let wall = row["usage"]["wall_ms"].as_u64().unwrap_or(0);
    let said = format!("{} {} after {wall} ms", field(row, "dispatch"), field(row, "reason"));
    match (field(row, "status"), row["terminal_events"].as_u64()) {
        ("completed", Some(1)) => Ok(said),
        ("completed", ends) => Err(format!("{said}, with {} terminal events", ends.unwrap_or(0))),
        _ => {
            let why = field(row, "detail");
            let agent = turn.frames.iter().rev().find_map(|frame| match frame {
                FrameBody::Error { code, message } => Some(format!("; the agent: {code}: {message}")),
                _ => None,
            });
            let log = || {
                let said = turn.frames.iter().rev().find_map(|frame| match frame {
                    FrameBody::Log { text, .. } if !text.trim().is_empty() => Some(text.trim()),
                    _ => None,
                });
                said.map(|text| format!("; the agent: {text}"))
            };
            Err(cut(&format!("{said}: {why}{}", agent.or_else(log).unwrap_or_default())))
        }
    }
}

/// A sentence of somebody else's, short enough for a table.
fn cut(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(400).collect()
}

fn text(turn: &Turn, plan: &Plan) -> Result<String, String> {
    let texts: Vec<&str> = turn
        .frames
        .iter()
        .filter_map(|f| if let FrameBody::Text { text } = f { Some(text.as_str()) } else { None })
        .collect();
    let all = texts.concat();
    if !all.contains(&plan.word) {
        return Err(format!("the model's words are not in the {} text frames", texts.len()));
    }
    let how = if turn.heard.as_it_is_made { "as it is made" } else { "whole" };
    Ok(format!("{how}, {} frames", texts.len()))
}

fn tool_call(turn: &Turn, plan: &Plan) -> Result<String, String> {
    let Some(called) = &turn.heard.called else {
        return Err(format!("the model was offered {} tools, none of which writes a file", turn.heard.tools));
    };
    let found = turn.frames.iter().find_map(|frame| match frame {
        FrameBody::ToolCall { name, args, .. } if args.to_string().contains(&plan.file()) => Some(name),
        _ => None,
    });
    match found {
        Some(name) if called.ends_with(name.as_str()) => Ok(name.clone()),
        Some(name) => Err(format!("the model called {called}, and the frame says {name}")),
        None => Err(format!("no frame tells of the call of {called}")),
    }
}

fn tool_result(turn: &Turn) -> Result<String, String> {
    let found = turn.frames.iter().find_map(|frame| match frame {
        FrameBody::ToolResult { ok, text, .. } => Some((*ok, text)),
        _ => None,
    });
    match found {
        Some((true, text)) if !text.is_empty() => Ok(cut(text)),
        Some((true, _)) => Err("its text is empty".to_owned()),
        Some((false, text)) => Err(cut(&format!("the tool failed: {text}"))),
        None => Err("there is none".to_owned()),
    }
}

fn mcp(turn: &Turn) -> Result<String, String> {
    match (&turn.heard.called, turn.door_calls, &turn.heard.result) {
        (Some(called), _, _) if !is_of_the_door(called) => {
            Err(format!("the agent offers {called} and no tool of the door"))
        }
        (None, ..) => Err("no tool was called".to_owned()),
        (Some(called), 0, _) => Err(format!("{called} was called, and no such call succeeded in the ledger")),
        (Some(called), _, None) => Err(format!("the model never got the result of {called}")),
        (Some(called), calls, Some(_)) => Ok(format!("{called}, {calls} in the ledger")),
    }
}

fn usage(turn: &Turn) -> Result<String, String> {
    let frames = turn.frames.iter().filter_map(|frame| match frame {
        FrameBody::Usage { input_tokens, output_tokens } => Some((*input_tokens, *output_tokens)),
        _ => None,
    });
    let all: Vec<_> = frames.collect();
    match all.last() {
        Some((input, output)) if *input > 0 && *output > 0 => {
            Ok(format!("{input}+{output} tokens in the last of {}", all.len()))
        }
        Some((input, output)) => Err(format!("{input}+{output} tokens")),
        None => Err("there is none".to_owned()),
    }
}

fn error(turn: &Turn) -> Result<String, String> {
    if turn.row.is_null() {
        return Err("not reached".to_owned());
    }
    if field(&turn.row, "status") == "completed" {
        return Err("the model refused, and the run completed all the same".to_owned());
    }
    let found = turn.frames.iter().find_map(|frame| match frame {
        FrameBody::Error { code, message } if !message.is_empty() => Some(cut(&format!("{code}: {message}"))),
        _ => None,
    });
    found.ok_or_else(|| format!("there is none; the run ended as {}", field(&turn.row, "reason")))
}

fn kept(turn: &Turn) -> Result<String, String> {
    match field(&turn.row, "session_digest") {
        "" => Err("the run left no session".to_owned()),
        digest => Ok(digest.to_owned()),
    }
}

fn resumed(first: &Turn, second: &Turn) -> Result<String, String> {
    completed(second)?;
    let (before, after) = (field(&first.row, "container"), field(&second.row, "container"));
    if after.len() != 64 || before == after {
        return Err(format!("it ran in container {after:?} after {before:?}"));
    }
    let (left, from) = (field(&first.row, "session_digest"), field(&second.row, "resume_digest"));
    if from.is_empty() || from != left {
        return Err(format!("it resumed from {from:?}, and the first turn left {left:?}"));
    }
    if !second.heard.knows_word {
        return Err("the model did not see what was said in the first turn".to_owned());
    }
    Ok(format!("container {}, after {}", after.get(..12).unwrap_or(after), before.get(..12).unwrap_or(before)))
}

fn landed(first: &Turn, second: &Turn, plan: &Plan, resumes: bool) -> Result<String, String> {
    let landed = first.commits.iter().find(|c| matches!(c.outcome, CommitOutcome::Landed | CommitOutcome::Merged));
    let Some(commit) = landed else {
        let found: Vec<&str> = first.commits.iter().map(|c| c.outcome.as_str()).collect();
        return Err(format!("no commit landed, the run has {found:?}"));
    };
    let read_again = second.heard.result.as_ref().is_some_and(|text| text.contains(&plan.text));
    if resumes && !read_again {
        return Err("the second turn did not find the file with its text".to_owned());
    }
    let commit: String = commit.commit.as_deref().unwrap_or_default().chars().take(12).collect();
    Ok(format!("commit {commit}{}", if read_again { ", read again in the second turn" } else { "" }))
}

/// What the kernel counted in the boxes' own namespaces.
fn silent(turns: &[&Turn]) -> Result<String, String> {
    let counted = |turn: &Turn| -> Vec<Option<Network>> {
        let of = |f: &FrameBody| if let FrameBody::Turn { network, .. } = f { Some(*network) } else { None };
        turn.frames.iter().filter_map(of).collect()
    };
    let mut sum = Network::default();
    for turn in turns {
        let all = counted(turn);
        if all.is_empty() || all.iter().any(Option::is_none) {
            return Err(format!("{}: nobody counted", field(&turn.row, "dispatch")));
        }
        for one in all.into_iter().flatten() {
            sum.opened += one.opened;
            sum.relayed += one.relayed;
            sum.failed += one.failed;
            sum.no_route += one.no_route;
            sum.datagrams += one.datagrams;
        }
    }
    let Network { opened, relayed, failed, no_route, datagrams } = sum;
    let said = format!(
        "{opened} connections, {relayed} to the relay; {failed} failed, {no_route} without a route, {datagrams} datagrams"
    );
    let quiet = opened == relayed && failed + no_route + datagrams == 0 && !turns.is_empty();
    if quiet { Ok(said) } else { Err(said) }
}

#[cfg(test)]
mod tests;
