//! `custody launcher`: who may launch. A launcher is a NATS user with a key of its own; the same key signs its messages.
//! Must never print the secret half of a key, only where it is.

use super::Ctx;
use super::dispatch::{Why, many};
use super::run::own_subject;
use crate::client::{Operator, Target, rows};
use crate::error::{CliError, CliResult, exit};
use crate::render::{col, notice, wide};
use custody_contracts::catalogue;
use custody_contracts::events::{LauncherDisabled, LauncherRegistered, LauncherRotated, SignatureRule};
use custody_contracts::ids::{LauncherId, Subject};
use custody_nats::{ConnectOptions, Connection, Credentials, Seed};
use custody_streams::accounts::{UserKey, inbox_prefix};
use serde::Serialize;
use serde_json::{Value, json};
use std::os::unix::fs::DirBuilderExt;
use std::time::Duration;

/// How long the server may take to know a launcher.
const KNOWN_WAIT: Duration = Duration::from_secs(10);
/// Between two tries to connect.
const RETRY: Duration = Duration::from_millis(150);

/// Launchers: register, ls, rotate, disable.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum LauncherCommand {
    /// Let a program launch dispatches
    #[command(
        after_help = "Without --public-key a key is made, and the path of its file is printed: give that file to the program and nobody else.\n\nExamples:\n  custody launcher register web-chat --name 'Web chat' --subject u_jane --subject u_omar\n  custody launcher register nightly --public-key UAXX… --subject '*'\n\nExit codes: 0 done, 6 the launcher has another key already, 7 the server did not know it in time."
    )]
    Register {
        /// Its id, which is also its subject: launch.<ID>.dispatch
        id: String,
        /// What people call it [default: its id]
        #[arg(long)]
        name: Option<String>,
        /// A person it may act for; may be given several times; `*` is everybody [default: u_<your login>]
        #[arg(long = "subject", value_name = "SUBJECT")]
        subjects: Vec<String>,
        /// Every message must be signed; the default
        #[arg(long, overrides_with = "no_must_sign")]
        must_sign: bool,
        /// A message without a signature is taken too
        #[arg(long)]
        no_must_sign: bool,
        /// The public half of its own user nkey
        #[arg(long, value_name = "U…")]
        public_key: Option<String>,
    },
    /// Every launcher, whom it may act for and what became of what it asked
    #[command(visible_alias = "list", after_help = "Examples:\n  custody launcher ls\n  custody launcher ls -o wide")]
    Ls,
    /// Give a launcher a new key; the old one is refused from here on
    #[command(
        after_help = "Safe to run again after a failure: the same new key is used until it is in force.\n\nExamples:\n  custody launcher rotate web-chat\n  custody launcher rotate nightly --public-key UAXX…"
    )]
    Rotate {
        /// Its id
        id: String,
        /// The public half of its own new user nkey
        #[arg(long, value_name = "U…")]
        public_key: Option<String>,
    },
    /// Refuse everything that a launcher asks from here on; register it again to undo
    #[command(
        visible_alias = "rm",
        after_help = "Dispatches that run go on unless --stop-running ends them.\n\nExamples:\n  custody launcher disable web-chat --why 'key lost' --stop-running"
    )]
    Disable {
        /// Its id
        id: String,
        /// Why; recorded
        #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
        why: String,
        /// End what it began and has not ended, too, as revoked
        #[arg(long)]
        stop_running: bool,
    },
}

pub(crate) async fn run(ctx: &Ctx, command: LauncherCommand) -> CliResult {
    let target = ctx.target()?;
    let operator = target.operator().await?;
    match command {
        LauncherCommand::Register { id, name, subjects, must_sign: _, no_must_sign, public_key } => {
            let rule = if no_must_sign { SignatureRule::Optional } else { SignatureRule::Required };
            let launcher = parse(&id)?;
            let asked = Asked { name: name.unwrap_or(id), subjects: checked(subjects)?, rule };
            register(ctx, &target, &operator, launcher, asked, public_key).await
        }
        LauncherCommand::Ls => ls(ctx, &operator).await,
        LauncherCommand::Rotate { id, public_key } => rotate(ctx, &target, &operator, parse(&id)?, public_key).await,
        LauncherCommand::Disable { id, why, stop_running } => {
            let event = LauncherDisabled { launcher: parse(&id)?, by: by(), why };
            let answer = operator.command("launcher.disable", body("LauncherDisabled", &event)?).await?;
            let mut row = json!({ "launcher": id, "state": "disabled" });
            if stop_running {
                let stopped = many(&operator, json!({ "launcher": id }), REVOKED_GRACE_MS, Why::Revoked).await?;
                row["stopped"] = json!(stopped.len());
            }
            done(ctx, row, &answer)
        }
    }
}

/// Between TERM and KILL for what a disabled launcher began.
const REVOKED_GRACE_MS: u64 = 2_000;

/// What `register` says beside id and key.
struct Asked {
    name: String,
    subjects: Vec<String>,
    rule: SignatureRule,
}

fn parse(id: &str) -> CliResult<LauncherId> {
    LauncherId::parse(id).map_err(|e| CliError::new(exit::USAGE, "LAUNCHER_INVALID", e))
}

/// The persons that were named, or the one at the keyboard.
fn checked(subjects: Vec<String>) -> CliResult<Vec<String>> {
    let subjects = if subjects.is_empty() { vec![own_subject()] } else { subjects };
    for subject in subjects.iter().filter(|s| *s != "*") {
        Subject::parse(subject).map_err(|e| CliError::new(exit::USAGE, "SUBJECT_INVALID", e))?;
    }
    Ok(subjects)
}

/// The person at the keyboard, as the record names them.
fn by() -> String {
    own_subject()
}

/// A command's body, checked against its contract before anybody is asked.
fn body(shape: &str, event: &impl Serialize) -> CliResult<Value> {
    let value = serde_json::to_value(event)?;
    catalogue::check("ledger.v2", shape, &value).map_err(|e| CliError::new(exit::USAGE, "COMMAND_INVALID", e))?;
    Ok(value)
}

fn public(launcher: &LauncherId, text: &str) -> CliResult<String> {
    // Somebody may have given the seed by mistake: the text is not repeated.
    let key = UserKey::parse(launcher.as_str(), text).map_err(|_| {
        CliError::new(
            exit::USAGE,
            "KEY_INVALID",
            "--public-key is not the public half of a user nkey: U and 55 of [A-Z2-7]",
        )
        .hint("nk -inkey FILE -pubout prints it")
    })?;
    Ok(key.as_str().to_owned())
}

fn seed_file(launcher: &LauncherId) -> String {
    ["launchers/", launcher.as_str(), ".nk"].concat()
}

async fn register(
    ctx: &Ctx,
    target: &Target,
    operator: &Operator,
    launcher: LauncherId,
    asked: Asked,
    public_key: Option<String>,
) -> CliResult {
    let inside = seed_file(&launcher);
    let path = target.home.path(&inside);
    let was_there = path.exists();
    let seed = match &public_key {
        Some(_) => None,
        None => {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(target.home.path("launchers"))?;
            Some(target.home.seed(&inside)?)
        }
    };
    let key = match (&public_key, &seed) {
        (Some(text), _) => public(&launcher, text)?,
        (None, Some(seed)) => seed.public_key(),
        (None, None) => String::new(),
    };
    let event = LauncherRegistered {
        launcher: launcher.clone(),
        public_key: key.clone(),
        name: asked.name,
        signature: asked.rule,
        subjects: asked.subjects,
        by: by(),
    };
    let answer = match body("LauncherRegistered", &event) {
        Ok(body) => operator.command("launcher.register", body).await,
        Err(error) => Err(error),
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            // An answer that did not come may still be a yes: only a clear no makes the new key worthless.
            if seed.is_some() && !was_there && matches!(error.exit, exit::CONFLICT | exit::USAGE) {
                std::fs::remove_file(&path)?;
            }
            return Err(error);
        }
    };
    let mut row = json!({ "launcher": launcher.as_str(), "state": "registered", "public_key": key });
    if seed.is_some() {
        row["seed_file"] = json!(path);
    }
    done(ctx, row, &answer)?;
    known(target, &launcher, seed.as_ref()).await
}

async fn rotate(
    ctx: &Ctx,
    target: &Target,
    operator: &Operator,
    launcher: LauncherId,
    public_key: Option<String>,
) -> CliResult {
    // The new seed is on disk before anybody is told of it, and takes its place only when it is in force.
    let next = [&seed_file(&launcher), ".next"].concat();
    let seed = match &public_key {
        Some(_) => None,
        None => {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(target.home.path("launchers"))?;
            Some(target.home.seed(&next)?)
        }
    };
    let key = match (&public_key, &seed) {
        (Some(text), _) => public(&launcher, text)?,
        (None, Some(seed)) => seed.public_key(),
        (None, None) => String::new(),
    };
    let event = LauncherRotated { launcher: launcher.clone(), public_key: key.clone(), by: by() };
    let body = body("LauncherRotated", &event)?;
    let answer = match operator.command("launcher.rotate", body).await {
        Ok(answer) => answer,
        Err(error) => {
            if seed.is_some() && error.exit == exit::CONFLICT {
                std::fs::remove_file(target.home.path(&next))?;
            }
            return Err(error);
        }
    };
    let mut row = json!({ "launcher": launcher.as_str(), "state": "rotated", "public_key": key });
    if seed.is_some() {
        let path = target.home.path(&seed_file(&launcher));
        std::fs::rename(target.home.path(&next), &path)?;
        row["seed_file"] = json!(path);
    }
    done(ctx, row, &answer)?;
    known(target, &launcher, seed.as_ref()).await
}

fn done(ctx: &Ctx, mut row: Value, answer: &Value) -> CliResult {
    for field in ["seq", "changed"] {
        row[field] = answer.get(field).cloned().unwrap_or(Value::Null);
    }
    ctx.render.one("launcher-command.v1", "launcher", &row)
}

/// Waits until the server lets the launcher in, where that can be tried.
async fn known(target: &Target, launcher: &LauncherId, seed: Option<&Seed>) -> CliResult {
    let Some(seed) = seed else {
        notice("the server takes the new key within a few seconds");
        return Ok(());
    };
    let outside = target.config.nats.url.is_some();
    let until = tokio::time::Instant::now() + if outside { Duration::ZERO } else { KNOWN_WAIT };
    loop {
        let options = ConnectOptions {
            url: target.url()?,
            name: ["launcher ", launcher.as_str()].concat(),
            inbox_prefix: inbox_prefix(launcher.as_str()),
            credentials: Credentials::Seed(seed.clone()),
            wait: Duration::from_secs(2),
        };
        match Connection::open(&options).await {
            Ok(connection) => {
                connection.close().await;
                return Ok(());
            }
            Err(_) if outside => {
                notice(
                    "the outside server does not know this key yet: put what `custody streams accounts` prints into it",
                );
                return Ok(());
            }
            Err(error) if tokio::time::Instant::now() >= until => {
                let what = format!("launcher {launcher} is recorded, and the server does not let it in yet: {error}");
                return Err(CliError::new(exit::TIMED_OUT, "LAUNCHER_NOT_KNOWN", what).hint("custody doctor"));
            }
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}

async fn ls(ctx: &Ctx, operator: &Operator) -> CliResult {
    let answer = operator.query("launcher.ls", json!({})).await?;
    let mut rows = rows(&answer);
    for row in &mut rows {
        let disabled = row.get("disabled").is_some_and(|d| !d.is_null());
        row["state"] = if disabled { "disabled" } else { "enabled" }.into();
    }
    let columns = [
        col("LAUNCHER", "launcher"),
        col("STATE", "state"),
        col("NAME", "name"),
        col("MUST-SIGN", "must_sign"),
        col("SUBJECTS", "subjects"),
        col("ADMITTED", "admitted"),
        col("REFUSED", "refused"),
        col("REGISTERED", "registered_at"),
        wide("WHY-DISABLED", "disabled"),
        wide("PUBLIC-KEY", "public_key"),
    ];
    ctx.render.list("launcher.v1", "launcher", &columns, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::dots("a.b")]
    #[case::upper("Web")]
    #[case::wildcard("*")]
    #[case::empty("")]
    fn a_launcher_is_one_token(#[case] id: &str) {
        assert_eq!(parse(id).unwrap_err().exit, exit::USAGE);
    }

    #[test]
    fn everybody_and_persons_may_be_named_and_nothing_else() {
        assert_eq!(checked(vec!["*".into(), "u_jane".into()]).unwrap(), ["*", "u_jane"]);
        assert_eq!(checked(vec!["jane@acme.test".into()]).unwrap_err().code, "SUBJECT_INVALID");
        assert_eq!(checked(Vec::new()).unwrap(), [own_subject()]);
    }

    #[rstest]
    #[case::good("key lost", true)]
    #[case::endless(&"x".repeat(100_000), false)]
    fn a_body_keeps_its_contract(#[case] why: &str, #[case] good: bool) {
        let event = LauncherDisabled { launcher: parse("web").unwrap(), by: by(), why: why.to_owned() };
        assert_eq!(body("LauncherDisabled", &event).map_err(|e| e.exit).err(), (!good).then_some(exit::USAGE));
    }

    #[test]
    fn a_seed_is_no_public_key() {
        let seed = Seed::generate().unwrap();
        let launcher = parse("web").unwrap();
        let error = public(&launcher, seed.expose()).unwrap_err();
        assert_eq!((error.code.as_str(), error.exit), ("KEY_INVALID", exit::USAGE));
        assert!(!error.message.contains(seed.expose()));
        assert_eq!(public(&launcher, &seed.public_key()).unwrap(), seed.public_key());
    }
}
