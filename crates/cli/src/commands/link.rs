//! `custody link`: the container beside a box in a cluster that holds its connection to the gateway. Must never do
//! anything but carry bytes between one socket and one address.

use super::Ctx;
use crate::error::{CliError, CliResult, exit};
use custody_engine::gateway::link::LinkClient;
use std::path::PathBuf;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Offer a box's socket and carry its connections to the gateway.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The Kubernetes back end starts this beside every box; people have no use for it.\n\nExamples:\n  custody link --listen /run/gw/gw.sock --connect 10.0.0.7:7443 --server-name custody-gateway \\\n    --ca /run/link-ca/ca.crt --token-file /run/link/token\n  custody link --check /run/gw/gw.sock\n\nExit codes: 0 ended by a signal or, with --check, the socket answers; 8 it does not."
)]
pub(crate) struct LinkArgs {
    /// The socket to offer
    #[arg(long, value_name = "PATH", requires_all = ["connect", "server_name", "ca", "token_file"])]
    listen: Option<PathBuf>,
    /// The gateway's link listener, as ADDRESS:PORT
    #[arg(long, value_name = "ADDRESS")]
    connect: Option<String>,
    /// The name in its certificate
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// The authority that signed it, PEM
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The file with this dispatch's token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Only say whether this socket answers
    #[arg(long, value_name = "PATH", conflicts_with = "listen", required_unless_present = "listen")]
    check: Option<PathBuf>,
}

pub(crate) async fn run(_ctx: &Ctx, args: LinkArgs) -> CliResult {
    if let Some(socket) = args.check {
        return match tokio::net::UnixStream::connect(&socket).await {
            Ok(_) => Ok(()),
            Err(error) => {
                Err(CliError::new(exit::UNREACHABLE, "LINK_NOT_READY", format!("{}: {error}", socket.display())))
            }
        };
    }
    let (Some(listen), Some(connect), Some(name), Some(ca), Some(token)) =
        (args.listen, args.connect, args.server_name, args.ca, args.token_file)
    else {
        return Err(CliError::new(exit::USAGE, "LINK_INCOMPLETE", "a link needs all of its arguments"));
    };
    super::up::init_tracing();
    let bad = |e: custody_engine::gateway::link::LinkClientError| CliError::new(exit::USAGE, "LINK_INVALID", e);
    let link = LinkClient::new(&connect, &name, &ca, &token).map_err(bad)?;
    let cancel = CancellationToken::new();
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    tokio::select! {
        served = link.serve(&listen, cancel) => served.map_err(bad),
        _ = term.recv() => Ok(()),
        _ = int.recv() => Ok(()),
    }
}
