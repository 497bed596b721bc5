//! `custody top`: dispatches and the tail on one screen.

use super::Ctx;
use crate::error::CliResult;
use crate::tui::{App, Mode, run as show};

/// Dispatches and the log, live on the whole screen; read-only.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Keys: ? shows them, q quits.\n\nExamples:\n  custody top\n  custody top --no-alt-screen      what was shown stays on the terminal"
)]
pub(crate) struct TopArgs {
    /// Stay on the terminal's own screen, for recording
    #[arg(long)]
    no_alt_screen: bool,
}

pub(crate) async fn run(ctx: &Ctx, args: TopArgs) -> CliResult {
    let operator = ctx.target()?.operator().await?;
    show(&operator, App::new(Mode::Top, ctx.render.color), !args.no_alt_screen, None).await
}
