//! A tool call through the gateway, beside the same call without it and two durable appends: what the records that a call
//! must leave cost at the least. Both are paced alike, below the rate that a dispatch may call with.

use super::drive::{Pair, TRIES_MAX, paced};
use super::install::{Installation, Launched, Wanted, in_a_place};
use super::peers::{Client, Server, TOOL};
use super::{Place, Target, failed, round, row, show};
use crate::commands::Ctx;
use crate::commands::run::own_subject;
use crate::error::CliResult;
use crate::render::notice;
use bytes::Bytes;
use custody_contracts::events::Kind;
use custody_ledger::{Entity, Log};
use custody_streams::accounts::{ServiceUser, SyncInterval};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};

/// The stream of the bare appends.
const BARE_STREAM: &str = "BENCH";
/// Between two calls: 40 a second, where a dispatch may make 50.
const EVERY: Duration = Duration::from_millis(25);
/// Calls that find files, connections and tokens; not measured.
const WARM_UP: u64 = 20;

/// What `bench tool` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct ToolArgs {
    /// Calls of each run
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u64).range(20..=3_000))]
    calls: u64,
    /// The installed runner whose image is started
    #[arg(long, default_value = "custody-agent")]
    runner: String,
    /// Where the private state folder is made; on a memory file system nothing is ever synced [default: the temporary folder]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) async fn run(ctx: &Ctx, runners: &Path, args: ToolArgs) -> CliResult {
    let measure = async |place: &Place| Box::pin(measure(place, runners, &args)).await;
    let (pair, direct) = in_a_place("tool", args.dir.clone(), measure).await?;
    let at = |what: &str, quantile: f64, target: Target| {
        let what = format!("a tool call, {what}");
        row(&what, "ms", pair.ours.quantile_ms(quantile), pair.bare_ms(quantile), target, Some(&pair))
    };
    let rows = [
        at("p50", 0.5, Target::AtMost(1.3)),
        at("p99", 0.99, Target::None),
        json!({ "measure": "the same call alone, p50", "unit": "ms", "ours": round(direct) }),
    ];
    show(&ctx.render, &json!({ "calls": args.calls }), &rows)
}

async fn measure(place: &Place, runners: &Path, args: &ToolArgs) -> CliResult<(Pair, f64)> {
    let server = Server::start().await?;
    let more = server.configuration();
    let wanted = Wanted { name: "t", runners, runner: &args.runner, pool: 0, running: 0, more: &more };
    let at = Installation::start(place, wanted).await?;
    let result = Box::pin(Bench::new(&at, &server, place)).await;
    let result = match result {
        Ok(mut bench) => bench.all(args.calls).await,
        Err(error) => Err(error),
    };
    at.stop().await?;
    result
}

/// Everything that a run needs.
struct Bench {
    boxed: Client<UnixStream>,
    direct: Client<TcpStream>,
    stream: async_nats::jetstream::Context,
    /// What one call's two records hold.
    records: [Bytes; 2],
    /// Calls so far: no two have the same arguments.
    made: u64,
}

/// Offers the tool and lets a person use it.
pub(super) async fn offer(at: &Installation) -> CliResult {
    let file = at.folder.join("tool.json");
    std::fs::write(&file, Server::document().to_string())?;
    at.custody(&["tool", "add", &file.display().to_string()]).await?;
    at.custody(&["tool", "accept", TOOL]).await.map(drop)
}

/// Gives a grant that covers the tool, and says its id.
pub(super) async fn granted(at: &Installation, subject: &str) -> CliResult<String> {
    let issue = ["grant", "issue", "--as", subject, "--launcher", "cli", "--workspace", "default:ro", "--tool", TOOL];
    let given = at.custody(&[&issue[..], &["--dispatches", "1000", "--yes", "-o", "json"]].concat()).await?;
    let id = given.get("grant").and_then(Value::as_str).map(str::to_owned);
    id.ok_or_else(|| failed(format!("no grant: {given}")))
}

impl Bench {
    async fn new(at: &Installation, server: &Server, place: &Place) -> CliResult<Bench> {
        offer(at).await?;
        let subject = own_subject();
        granted(at, &subject).await?;
        let launched = at.stays(&subject, &[TOOL]).await?;
        let mut boxed = Client::boxed(&at.socket(&launched)).await?;
        for n in 1..=WARM_UP {
            boxed.called(TOOL, n).await?;
        }
        let records = records(at, &launched).await?;
        // A nats-server of its own on the same disk: that of the installation has given all its room to its own streams.
        let bare = place.server("bare", &[], SyncInterval::Always).await?;
        let admin = bare.connect(ServiceUser::Admin).await.map_err(failed)?;
        let stream = async_nats::jetstream::new(admin.client().clone());
        let config = async_nats::jetstream::stream::Config {
            name: BARE_STREAM.to_owned(),
            subjects: vec!["bench.>".to_owned()],
            ..Default::default()
        };
        stream.create_stream(config).await.map_err(failed)?;
        let direct = Client::direct(&server.address).await?;
        Ok(Bench { boxed, direct, stream, records, made: WARM_UP })
    }

    /// Bare, ours, bare, until the two bare runs agree; and the median of the call alone, in milliseconds.
    async fn all(&mut self, calls: u64) -> CliResult<(Pair, f64)> {
        let direct = {
            let Bench { direct, .. } = self;
            paced(calls, EVERY, async |n| direct.called("echo", n).await).await?
        };
        let mut tries = 1;
        loop {
            notice(format!("{calls} calls: bare, ours, bare"));
            let before = self.bare(calls).await?;
            let ours = {
                let (boxed, made) = (&mut self.boxed, &mut self.made);
                paced(calls, EVERY, async |_| {
                    *made += 1;
                    boxed.called(TOOL, *made).await
                })
                .await?
            };
            let pair = Pair { before, ours, after: self.bare(calls).await? };
            if !pair.void() || tries >= TRIES_MAX {
                return Ok((pair, direct.quantile_ms(0.5)));
            }
            tries += 1;
        }
    }

    async fn bare(&mut self, calls: u64) -> CliResult<super::drive::Measured> {
        let Bench { direct, stream, records: [intent, outcome], .. } = self;
        paced(calls, EVERY, async |n| {
            append(stream, intent).await?;
            direct.called("echo", n).await?;
            append(stream, outcome).await
        })
        .await
    }
}

/// One message, on disk when this returns.
async fn append(stream: &async_nats::jetstream::Context, bytes: &Bytes) -> CliResult {
    let ack = stream.publish("bench.record", bytes.clone()).await.map_err(failed)?;
    ack.await.map_err(failed)?;
    Ok(())
}

/// Intent and outcome of a dispatch's first call, as they are stored.
async fn records(at: &Installation, launched: &Launched) -> CliResult<[Bytes; 2]> {
    let log = at.operator.log().await?;
    let entity = Entity::new(Kind::Effect, &[&launched.dispatch, "-t1"].concat());
    let history = log.load(&entity.ok_or_else(|| failed("no entity"))?).await.map_err(failed)?;
    let both: Vec<Bytes> = history.into_iter().map(|stored| stored.bytes.into()).collect();
    both.try_into().map_err(|_| failed("the first call has not its two records"))
}
