//! The binary `custody`: parse, compose roles, one file per command. The only place where a loop and an adapter are
//! named together, and the only one that prints.

mod args;
mod client;
mod commands;
mod config;
mod config_audit;
mod config_identity;
mod config_queue;
mod config_runtime;
mod config_tools;
mod config_workspaces;
mod error;
mod home;
mod private;
mod render;
mod server;
mod tui;

use clap::Parser;
use error::exit;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap's own texts; help and version go to standard output with 0.
            let _closed = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { 0 });
        }
    };
    let json = cli.global.render().is_json();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            render::notice(format!("no threads can be started: {error}"));
            return ExitCode::from(exit::FAILED);
        }
    };
    let result = runtime.block_on(commands::run(cli));
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !error.silent {
                report(&error, json);
            }
            ExitCode::from(error.exit)
        }
    }
}

fn report(error: &error::CliError, json: bool) {
    use std::io::Write;
    let mut err = std::io::stderr().lock();
    // A closed standard error leaves nobody to tell.
    let _closed = if json {
        writeln!(err, "{}", serde_json::to_string(&error.doc()).unwrap_or_default())
    } else {
        let hint = error.hint.as_ref().map_or_else(String::new, |h| format!("\nnext: {h}"));
        let message = custody_projections::row::plain(&error.message.replace('\n', " | "), 4_000);
        writeln!(err, "error: {message} [{}]{hint}", error.code)
    };
}
