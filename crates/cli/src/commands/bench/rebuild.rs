//! Rebuilding every projection from the first event, beside a bare ordered reader of the same stream. The server syncs
//! lazily here: a million synced writes would take minutes, and reading is what is measured.

use super::drive::{Measured, Pair, TRIES_MAX};
use super::events::{Maker, Message, PER_DISPATCH};
use super::{Place, failed};
use crate::error::CliResult;
use crate::render::notice;
use custody_engine::follow::read_or_note;
use custody_ledger::{Log, Projection, Seq};
use custody_nats::{Connection, JetLog};
use custody_projections::{Audit, Dispatches, Sessions};
use custody_streams::accounts::{ServiceUser, SyncInterval};
use custody_streams::spec::{LEDGER, StreamOptions, all};
use futures::StreamExt;
use std::collections::VecDeque;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Publishes whose acks are awaited at one time. async-nats stops at 5000 of its own.
const ACKS_MAX: usize = 2_000;
/// Messages made ahead of the publisher.
const AHEAD: usize = 4_096;
/// Messages between two lines about progress.
const TELL_EVERY: u64 = 250_000;

/// What was measured.
pub(super) struct Rebuilt {
    /// Ours between two bare readers.
    pub(super) pair: Pair,
    /// Peak of this process's memory while it folded; `None` where the kernel does not tell.
    pub(super) peak_mib: Option<f64>,
}

/// Writes about `events` events and reads them both ways.
pub(super) async fn measure(place: &Place, events: u64) -> CliResult<Rebuilt> {
    let server = place.server("rebuild", &[], SyncInterval::ServerDefault).await?;
    server.apply(&all(&StreamOptions::one_machine())).await.map_err(failed)?;
    let admin = server.connect(ServiceUser::Admin).await.map_err(failed)?;
    let dispatches = events.div_ceil(PER_DISPATCH);
    let written = write(&admin, dispatches).await?;
    let projector = server.connect(ServiceUser::Projector).await.map_err(failed)?;
    let mut tries = 1;
    let rebuilt = loop {
        notice(format!("rebuild of {written} events: bare reader, ours, bare reader"));
        let before = bare(&admin, written).await?;
        forget_peak();
        let ours = fold(&projector, written, dispatches).await?;
        let peak_mib = peak_mib();
        let after = bare(&admin, written).await?;
        let pair = Pair { before, ours, after };
        if !pair.void() || tries >= TRIES_MAX {
            break Rebuilt { pair, peak_mib };
        }
        tries += 1;
    };
    projector.close().await;
    admin.close().await;
    server.server.stop().await;
    Ok(rebuilt)
}

/// Writes the events of so many dispatches and returns how many there are.
async fn write(admin: &Connection, dispatches: u64) -> CliResult<u64> {
    let (sender, mut messages) = mpsc::channel::<Message>(AHEAD);
    let making = tokio::task::spawn_blocking(move || {
        let maker = Maker::new()?;
        // A send fails only after an error of the publisher's own, which is the one that is told.
        let send = |message| sender.blocking_send(message).is_ok();
        let mut more = send(maker.opening()?);
        for number in 0..dispatches {
            for message in maker.dispatch(number)? {
                more = more && send(message);
            }
            if !more {
                break;
            }
        }
        Ok::<_, crate::error::CliError>(())
    });
    let context = async_nats::jetstream::new(admin.client().clone());
    let started = Instant::now();
    let mut acks = VecDeque::with_capacity(ACKS_MAX);
    let mut written = 0u64;
    while let Some(message) = messages.recv().await {
        acks.push_back(context.publish(message.subject, message.bytes.into()).await.map_err(failed)?);
        if acks.len() >= ACKS_MAX
            && let Some(oldest) = acks.pop_front()
        {
            oldest.await.map_err(failed)?;
        }
        written += 1;
        if written.is_multiple_of(TELL_EVERY) {
            notice(format!("{written} events written in {} s", started.elapsed().as_secs()));
        }
    }
    for ack in acks {
        ack.await.map_err(failed)?;
    }
    making.await.map_err(failed)??;
    Ok(written)
}

/// The fastest reader that the client has: an ordered push consumer, its messages counted.
async fn bare(connection: &Connection, count: u64) -> CliResult<Measured> {
    let context = async_nats::jetstream::new(connection.client().clone());
    let stream = context.get_stream_no_info(LEDGER).await.map_err(failed)?;
    let config = async_nats::jetstream::consumer::push::OrderedConfig {
        deliver_subject: connection.client().new_inbox(),
        ..Default::default()
    };
    let started = Instant::now();
    let consumer = stream.create_consumer(config).await.map_err(failed)?;
    let mut messages = consumer.messages().await.map_err(failed)?;
    let mut bytes = 0;
    for _ in 0..count {
        let message = messages.next().await.ok_or_else(|| failed("the bare reader ended"))?.map_err(failed)?;
        bytes += message.payload.len();
    }
    let elapsed = started.elapsed();
    if bytes == 0 {
        return Err(failed("the bare reader read nothing"));
    }
    Ok(Measured::bulk(count, elapsed))
}

/// One pass over the log through all three folds, as the projector does it.
async fn fold(connection: &Connection, count: u64, wanted: u64) -> CliResult<Measured> {
    let log = JetLog::open(connection).await.map_err(failed)?;
    let started = Instant::now();
    let (mut dispatches, mut sessions, mut audit) = Default::default();
    let mut reader = log.read(Seq(1)).await.map_err(failed)?;
    let mut folded = 0;
    while let Some(stored) = reader.next().await {
        for recorded in read_or_note(&stored.map_err(failed)?) {
            Dispatches::apply(&mut dispatches, &recorded);
            Sessions::apply(&mut sessions, &recorded);
            Audit::apply(&mut audit, &recorded);
            folded += 1;
        }
    }
    let elapsed = started.elapsed();
    if folded != count || dispatches.len() as u64 != wanted || sessions.is_empty() || audit.is_empty() {
        return Err(failed(format!("{folded} of {count} events were folded into {} dispatches", dispatches.len())));
    }
    Ok(Measured::bulk(count, elapsed))
}

/// Lets the kernel forget the peak so far. Source: proc(5), `clear_refs`, value 5.
fn forget_peak() {
    if std::fs::write("/proc/self/clear_refs", "5").is_err() {
        notice("the peak of memory is of the whole run: this kernel does not let it be reset");
    }
}

/// The peak in MiB. Source: proc(5), `VmHWM` in `status`.
fn peak_mib() -> Option<f64> {
    read_peak(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn read_peak(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1_024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_read_in_mib() {
        assert_eq!(read_peak("Name:\tcustody\nVmHWM:\t  524288 kB\n"), Some(512.0));
        assert_eq!(read_peak("Name:\tcustody\n"), None);
    }

    #[test]
    fn this_process_has_a_peak() {
        assert!(peak_mib().is_some_and(|peak| peak > 1.0));
    }
}
