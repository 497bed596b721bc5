//! One file per command. Each takes the parsed arguments, prints data on standard output, and returns an error with its
//! exit code.

pub(crate) mod audit;
pub(crate) mod bench;
pub(crate) mod contract;
pub(crate) mod dispatch;
pub(crate) mod doctor;
pub(crate) mod down;
pub(crate) mod eval;
pub(crate) mod launcher;
pub(crate) mod meta;
pub(crate) mod projection;
pub(crate) mod run;
pub(crate) mod runner;
pub(crate) mod serve;
pub(crate) mod session;
pub(crate) mod status;
pub(crate) mod streams;
pub(crate) mod tail;
pub(crate) mod up;

use crate::args::{Cli, Command, Global};
use crate::client::Target;
use crate::error::CliResult;
use crate::render::Render;

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
        Command::Up(args) => up::run(ctx, args).await,
        Command::Down(args) => down::run(ctx, args).await,
        Command::Serve(args) => serve::run(ctx, args).await,
        Command::Status => status::run(ctx).await,
        Command::Doctor(args) => Box::pin(doctor::run(ctx, args)).await,
        Command::Run(args) => run::run(ctx, args).await,
        Command::Dispatch(command) => dispatch::run(ctx, command).await,
        Command::Tail(args) => tail::run(ctx, args).await,
        Command::Audit(command) => audit::run(ctx, command).await,
        Command::Session(command) => session::run(ctx, command).await,
        Command::Launcher(command) => launcher::run(ctx, command).await,
        Command::Runner(command) => runner::run(ctx, command).await,
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
