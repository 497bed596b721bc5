//! One file per command. Each takes the parsed arguments, prints data on standard output, and returns an error with its
//! exit code.

pub(crate) mod audit;
pub(crate) mod bench;
pub(crate) mod contract;
pub(crate) mod dispatch;
pub(crate) mod doctor;
pub(crate) mod down;
pub(crate) mod eval;
pub(crate) mod grant;
pub(crate) mod inbox;
pub(crate) mod key;
pub(crate) mod launcher;
pub(crate) mod link;
pub(crate) mod meta;
pub(crate) mod open;
pub(crate) mod projection;
pub(crate) mod replay;
pub(crate) mod run;
pub(crate) mod runner;
pub(crate) mod runtime;
pub(crate) mod secret;
pub(crate) mod serve;
pub(crate) mod session;
pub(crate) mod status;
pub(crate) mod streams;
pub(crate) mod subject;
pub(crate) mod tail;
pub(crate) mod tool;
pub(crate) mod top;
pub(crate) mod up;
pub(crate) mod usage;
pub(crate) mod user;
pub(crate) mod workspace;

use crate::args::{Cli, Command, Global};
use crate::client::Target;
use crate::error::{CliError, CliResult, exit};
use crate::render::Render;
use std::io::{IsTerminal, Write};

/// What every command gets.
#[derive(Debug, Clone)]
pub(crate) struct Ctx {
    /// Global flags.
    pub(crate) global: Global,
    /// How to print.
    pub(crate) render: Render,
}

impl Ctx {
    /// Configuration and state folder.
    pub(crate) fn target(&self) -> CliResult<Target> {
        self.global.target()
    }
}

/// Runs the command that was asked for.
pub(crate) async fn run(cli: Cli) -> CliResult {
    let ctx = Ctx { render: cli.global.render(), global: cli.global };
    let ctx = &ctx;
    match cli.command {
        Command::Up(args) => Box::pin(up::run(ctx, args)).await,
        Command::Down(args) => down::run(ctx, args).await,
        Command::Serve(args) => serve::run(ctx, args).await,
        Command::Status => status::run(ctx).await,
        Command::Doctor(args) => Box::pin(doctor::run(ctx, args)).await,
        Command::Run(args) => run::run(ctx, args).await,
        Command::Replay(args) => replay::run(ctx, args).await,
        Command::Usage(args) => usage::run(ctx, args).await,
        Command::Dispatch(command) => Box::pin(dispatch::run(ctx, command)).await,
        Command::Tail(args) => tail::run(ctx, args).await,
        Command::Top(args) => top::run(ctx, args).await,
        Command::Audit(command) => audit::run(ctx, command).await,
        Command::Session(command) => session::run(ctx, command).await,
        Command::Workspace(command) => Box::pin(workspace::run(ctx, command)).await,
        Command::Launcher(command) => launcher::run(ctx, command).await,
        Command::Grant(command) => Box::pin(grant::run(ctx, command)).await,
        Command::User(command) => user::run(ctx, command).await,
        Command::Open(args) => open::run(ctx, args).await,
        Command::Runner(command) => runner::run(ctx, command).await,
        Command::Inbox(command) => Box::pin(inbox::run(ctx, command)).await,
        Command::Tool(command) => Box::pin(tool::run(ctx, command)).await,
        Command::Secret(command) => secret::run(ctx, command),
        Command::Key(command) => key::run(ctx, command).await,
        Command::Subject(command) => subject::run(ctx, command).await,
        Command::Link(args) => link::run(ctx, args).await,
        Command::Runtime(command) => runtime::run(ctx, command).await,
        Command::Contract(command) => contract::run(ctx, command).await,
        Command::Streams(command) => streams::run(ctx, command).await,
        Command::Projection(command) => projection::run(ctx, command).await,
        Command::Eval(command) => eval::run(ctx, command).await,
        Command::Bench(command) => bench::run(ctx, command).await,
        Command::Completion(args) => meta::completion(ctx, args),
        Command::Man(args) => meta::man(ctx, args),
        Command::Version => meta::version(ctx).await,
        Command::Help(args) => meta::help(ctx, args),
    }
}

/// Asks for a yes; where nobody can be asked, that is an error.
pub(crate) fn confirm(ctx: &Ctx, what: &str) -> CliResult {
    let asked = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if ctx.global.no_input || ctx.render.is_json() || !asked {
        return Err(
            CliError::new(exit::USAGE, "CONFIRMATION_NEEDED", format!("this would {what}")).hint("say so with --yes")
        );
    }
    let mut err = std::io::stderr().lock();
    write!(err, "{what}? Type yes: ")?;
    err.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if answer.trim() == "yes" {
        return Ok(());
    }
    Err(CliError::new(exit::REFUSED, "NOT_CONFIRMED", "nothing was changed"))
}
