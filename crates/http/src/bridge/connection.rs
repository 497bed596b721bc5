//! One connection: its subscriptions, its commands, its end. The same loop serves the websocket and the event stream.
//! Must never hold a queue that its reader fills: what is not sent yet is a cursor.

use super::commands::{self, Done};
use super::feed::{Feed, Next};
use super::frames::{self, Out};
use super::open::{self, Opened};
use super::topic::Topic;
use super::{SUBS_MAX, WORK_MAX};
use crate::api::{Api, Place};
use crate::auth::Person;
use crate::problem::{Code, Problem};
use custody_contracts::catalogue;
use custody_contracts::once;
use custody_contracts::ws::{ByeReason, ClientFrame, FRAME_BYTES_MAX, GoneReason, NackId};
use futures::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Frames are sent at most so often; what comes between is one frame.
const TICK: Duration = Duration::from_millis(25);
/// How long one frame may wait for its reader.
const STALL_MAX: Duration = Duration::from_secs(10);
/// How long a last word may wait.
const BYE_MAX: Duration = Duration::from_millis(500);
/// Frames of one subscription before the others get their turn.
const TURN_MAX: usize = 8;
/// How long a reader may be behind before it is told.
const LAG_AFTER: Duration = Duration::from_secs(2);
/// When a client that was cut for being slow may come back.
const SLOW_RETRY_MS: u64 = 1_000;
/// When a client of a server that stops may come back.
const SHUTDOWN_RETRY_MS: u64 = 500;

/// What came from the client.
#[derive(Debug)]
pub enum Incoming {
    /// A message.
    Text(String),
    /// Something that is no frame.
    Bad(&'static str),
    /// It went away.
    Closed,
}

/// A way to a client: a websocket or an event stream.
pub trait Wire: Send {
    /// Sends one frame; an error means that the client is gone.
    fn send(&mut self, out: Out) -> BoxFuture<'_, Result<(), ()>>;
    /// The next message; cancelling loses nothing.
    fn recv(&mut self) -> BoxFuture<'_, Incoming>;
    /// Closes in an orderly way.
    fn close(&mut self) -> BoxFuture<'_, ()>;
}

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Lost,
    Bye(ByeReason, u64),
}

enum Work {
    Opened(u64, Result<Opened, Problem>),
    Older(u64, Result<(Vec<std::sync::Arc<super::items::OutputItem>>, u64), Problem>),
    Command(String, Result<Done, Problem>),
}

struct Connection<'a> {
    api: Api,
    person: Person,
    wire: &'a mut dyn Wire,
    feeds: BTreeMap<u64, Feed>,
    /// Subscriptions that are being opened; one that is given up meanwhile is not in here any more.
    opening: BTreeSet<u64>,
    /// Subscriptions whose older output is being read.
    reading: BTreeSet<u64>,
    work: JoinSet<Work>,
    behind_since: Option<Instant>,
    told_lag: Option<Instant>,
}

/// Serves one connection until its end. `first` is what an event stream follows from its beginning.
pub async fn serve(api: Api, person: Person, place: Place, wire: &mut dyn Wire, first: Option<(Topic, Option<u64>)>) {
    let mut connection = Connection {
        api,
        person,
        wire,
        feeds: BTreeMap::new(),
        opening: BTreeSet::new(),
        reading: BTreeSet::new(),
        work: JoinSet::new(),
        behind_since: None,
        told_lag: None,
    };
    let end = match connection.run(first).await {
        Ok(()) => End::Lost,
        Err(end) => end,
    };
    if let End::Bye(reason, retry_ms) = end {
        let bye = frames::bye(reason, retry_ms);
        // A client that does not read cannot be told; it finds its connection closed.
        let _told = tokio::time::timeout(BYE_MAX, connection.wire.send(bye)).await;
        let _closed = tokio::time::timeout(BYE_MAX, connection.wire.close()).await;
    }
    drop(place);
}

impl Connection<'_> {
    async fn run(&mut self, first: Option<(Topic, Option<u64>)>) -> Result<(), End> {
        let (mut heads, mut chunks) = (self.api.hub.heads(), self.api.hub.chunks());
        let (mut rights, mut health) = (self.api.auth.changes(), self.api.health.changes());
        let settings = &self.api.settings;
        let beat = settings.heartbeat;
        let hb_ms = u64::try_from(beat.as_millis()).unwrap_or(crate::settings::HEARTBEAT_MS);
        let hello =
            frames::hello(self.api.auth.now(), self.api.hub.head(), &settings.contracts, &settings.version, hb_ms);
        self.send(hello).await?;
        if let Some((topic, after)) = first {
            self.subscribe(1, topic, after);
        }
        let mut beats = tokio::time::interval_at(Instant::now() + beat, beat);
        let cancel = self.api.cancel.clone();
        let (mut due, mut sent) = (false, Instant::now());
        loop {
            let lives = Duration::from_millis(self.person.expires_at.saturating_sub(self.api.auth.now()));
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(End::Bye(ByeReason::Shutdown, SHUTDOWN_RETRY_MS)),
                () = tokio::time::sleep(lives.min(Duration::from_secs(3_600))) => self.check_rights().await?,
                Ok(()) = rights.changed() => self.check_rights().await?,
                _ = beats.tick() => {
                    self.check_rights().await?;
                    self.send(frames::hb(self.api.auth.now(), self.api.hub.head())).await?;
                }
                () = tokio::time::sleep_until(sent + TICK), if due => {
                    due = self.flush().await?;
                    sent = Instant::now();
                }
                incoming = self.wire.recv() => self.take(incoming).await?,
                Some(done) = self.work.join_next(), if !self.work.is_empty() => {
                    if let Ok(work) = done {
                        self.finish(work).await?;
                    }
                    due = true;
                }
                Ok(()) = health.changed() => {
                    let look = health.borrow_and_update().clone();
                    self.send_health(&look).await?;
                }
                Ok(()) = heads.changed(), if !due => due = true,
                Ok(()) = chunks.changed(), if !due => due = true,
            }
        }
    }

    async fn send(&mut self, out: Out) -> Result<(), End> {
        match tokio::time::timeout(STALL_MAX, self.wire.send(out)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(())) => Err(End::Lost),
            Err(_) => Err(End::Bye(ByeReason::Slow, SLOW_RETRY_MS)),
        }
    }

    /// Sends what every subscription has next; true when there is more.
    async fn flush(&mut self) -> Result<bool, End> {
        let mut more = false;
        let ids: Vec<u64> = self.feeds.keys().copied().collect();
        for id in ids.into_iter().filter(|id| !self.reading.contains(id)).collect::<Vec<_>>() {
            let mut turns = 0;
            while let Some(feed) = self.feeds.get_mut(&id) {
                match feed.next(&self.api.hub, &self.person) {
                    Next::Frame(out) => {
                        turns += 1;
                        self.send(out).await?;
                        if turns >= TURN_MAX {
                            more = true;
                            break;
                        }
                    }
                    Next::Nothing => break,
                    Next::Gone => {
                        self.begin_anew(id).await?;
                        break;
                    }
                }
            }
        }
        self.tell_lag(more).await?;
        Ok(more)
    }

    /// A reader that is behind for long is told; it is cut when the ledger's ring leaves it behind.
    async fn tell_lag(&mut self, behind: bool) -> Result<(), End> {
        if !behind {
            self.behind_since = None;
            return Ok(());
        }
        let since = *self.behind_since.get_or_insert_with(Instant::now);
        let told = self.told_lag.is_some_and(|at| at.elapsed() < LAG_AFTER);
        if since.elapsed() < LAG_AFTER || told {
            return Ok(());
        }
        self.told_lag = Some(Instant::now());
        let lags: Vec<(u64, u64)> = self.feeds.values().map(|f| (f.id, f.behind(&self.api.hub))).collect();
        for (id, behind) in lags.into_iter().filter(|(_, behind)| *behind > 0) {
            self.send(frames::lag(id, behind)).await?;
        }
        Ok(())
    }

    /// What comes after the cursor is not held any more. Output is read from its stream. A ledger topic that was live
    /// belongs to a reader that did not keep up: it is cut, and comes back with its cursor.
    async fn begin_anew(&mut self, id: u64) -> Result<(), End> {
        let Some(feed) = self.feeds.get(&id) else { return Ok(()) };
        let Topic::Output(dispatch) = &feed.topic else {
            self.send(frames::lag(id, feed.behind(&self.api.hub))).await?;
            return Err(End::Bye(ByeReason::Slow, SLOW_RETRY_MS));
        };
        let (api, dispatch, after) = (self.api.clone(), dispatch.to_string(), feed.cursor());
        self.reading.insert(id);
        self.work.spawn(async move { Work::Older(id, open::older_output(&api, &dispatch, after).await) });
        Ok(())
    }

    async fn take(&mut self, incoming: Incoming) -> Result<(), End> {
        let protocol = End::Bye(ByeReason::Protocol, SLOW_RETRY_MS);
        match incoming {
            Incoming::Closed => Err(End::Lost),
            Incoming::Bad(_) => Err(protocol),
            Incoming::Text(text) if text.len() > FRAME_BYTES_MAX => Err(protocol),
            Incoming::Text(text) => match read(&text) {
                Ok(frame) => self.obey(frame).await,
                Err(Bad::Frame) => Err(protocol),
                Err(Bad::Command(id, problem)) => self.send(frames::nack(NackId::Cmd(id), &problem)).await,
                Err(Bad::Subscription(id, problem)) => self.send(frames::nack(NackId::Sub(id), &problem)).await,
            },
        }
    }

    async fn obey(&mut self, frame: ClientFrame) -> Result<(), End> {
        match frame {
            ClientFrame::Unsub { id } => {
                self.feeds.remove(&id);
                self.opening.remove(&id);
                Ok(())
            }
            ClientFrame::Sub { id, topic, after } => {
                let known = self.feeds.contains_key(&id) || self.opening.contains(&id);
                let refused = if known {
                    Some(Problem::new(Code::Conflict, "this number is in use").code("SUB_IN_USE"))
                } else if self.feeds.len() + self.opening.len() >= SUBS_MAX || self.work.len() >= WORK_MAX {
                    Some(Problem::new(Code::TooMany, "too many subscriptions at once").code("TOO_MANY_SUBS"))
                } else {
                    None
                };
                match (refused, Topic::parse(&topic)) {
                    (Some(problem), _) => self.send(frames::nack(NackId::Sub(id), &problem)).await,
                    (None, None) => self.send(frames::nack(NackId::Sub(id), &Problem::not_found())).await,
                    (None, Some(topic)) => {
                        self.subscribe(id, topic, after);
                        Ok(())
                    }
                }
            }
            ClientFrame::Cmd(cmd) => {
                if self.work.len() >= WORK_MAX {
                    let problem = Problem::new(Code::TooMany, "too many commands at once");
                    return self.send(frames::nack(NackId::Cmd(cmd.id), &problem)).await;
                }
                let (api, person) = (self.api.clone(), self.person.clone());
                self.work.spawn(async move {
                    let done = commands::carry_out(&api, &person, &cmd.id, cmd.command).await;
                    Work::Command(cmd.id, done)
                });
                Ok(())
            }
        }
    }

    fn subscribe(&mut self, id: u64, topic: Topic, after: Option<u64>) {
        let (api, person) = (self.api.clone(), self.person.clone());
        self.opening.insert(id);
        self.work.spawn(async move { Work::Opened(id, open::open(&api, &person, id, topic, after).await) });
    }

    async fn finish(&mut self, work: Work) -> Result<(), End> {
        match work {
            Work::Opened(id, _) if !self.opening.remove(&id) => Ok(()),
            Work::Opened(id, Ok(opened)) => {
                if !opened.feed.may(&self.person) {
                    return self.send(frames::nack(NackId::Sub(id), &Problem::not_found())).await;
                }
                for out in opened.frames {
                    self.send(out).await?;
                }
                let health = opened.feed.topic == Topic::Health;
                self.feeds.insert(id, opened.feed);
                if health { self.send(frames::caught(id, 0)).await } else { Ok(()) }
            }
            Work::Opened(id, Err(problem)) => self.send(frames::nack(NackId::Sub(id), &problem)).await,
            Work::Older(id, result) => {
                self.reading.remove(&id);
                match (result, self.feeds.get_mut(&id)) {
                    (Ok((items, read_to)), Some(feed)) => {
                        feed.put_backlog(items, read_to);
                        Ok(())
                    }
                    (Ok(_), None) => Ok(()),
                    // The stream does not answer: the client comes back with its cursor.
                    (Err(_), _) => Err(End::Bye(ByeReason::Shutdown, SLOW_RETRY_MS)),
                }
            }
            Work::Command(id, Ok(done)) => self.send(frames::ack(&id, done.seq, Some(done.dispatch))).await,
            Work::Command(id, Err(problem)) => self.send(frames::nack(NackId::Cmd(id), &problem)).await,
        }
    }

    /// Rights are read again: a session that ended ends the connection, a thing that is no longer theirs its topic, and
    /// a list that shows less begins anew.
    async fn check_rights(&mut self) -> Result<(), End> {
        let Some(person) = self.api.auth.still(&self.person.session) else {
            let expired = self.api.auth.now() >= self.person.expires_at;
            return Err(End::Bye(if expired { ByeReason::Expired } else { ByeReason::SignedOut }, 0));
        };
        if person == self.person {
            return Ok(());
        }
        let less = self.person.admin && !person.admin;
        self.person = person;
        let lost: Vec<u64> = self.feeds.values().filter(|f| !f.may(&self.person)).map(|f| f.id).collect();
        for id in lost {
            self.feeds.remove(&id);
            self.send(frames::gone(id, GoneReason::Forbidden)).await?;
        }
        let lists: Vec<(u64, Topic)> = self.feeds.values().map(|f| (f.id, f.topic.clone())).collect();
        for (id, topic) in lists.into_iter().filter(|(_, t)| less && is_list(t)) {
            self.feeds.remove(&id);
            self.send(frames::gone(id, GoneReason::Forbidden)).await?;
            self.subscribe(id, topic, None);
        }
        Ok(())
    }

    async fn send_health(&mut self, look: &serde_json::Value) -> Result<(), End> {
        let ids: Vec<u64> = self.feeds.values().filter(|f| f.topic == Topic::Health).map(|f| f.id).collect();
        for id in ids {
            self.send(frames::snap(id, 0, &frames::state(look))).await?;
        }
        Ok(())
    }
}

fn is_list(topic: &Topic) -> bool {
    matches!(topic, Topic::Dispatches | Topic::Sessions | Topic::Audit)
}

enum Bad {
    Frame,
    Command(String, Problem),
    Subscription(u64, Problem),
}

/// A frame of ws.v1. What is wrong with a command or a subscription that says its id is answered; anything else ends
/// the connection.
fn read(text: &str) -> Result<ClientFrame, Bad> {
    let value = once::value(text.as_bytes()).map_err(|_| Bad::Frame)?;
    let invalid = |why: &dyn std::fmt::Display| Problem::new(Code::Invalid, why);
    let bad = |problem: Problem| match (value.get("t").and_then(|t| t.as_str()), value.get("id")) {
        (Some("cmd"), Some(serde_json::Value::String(id))) if !id.is_empty() && id.len() <= 128 => {
            Bad::Command(id.clone(), problem)
        }
        (Some("sub"), Some(serde_json::Value::Number(id))) => match id.as_u64() {
            Some(id) if id > 0 => Bad::Subscription(id, problem),
            _ => Bad::Frame,
        },
        _ => Bad::Frame,
    };
    catalogue::check("ws.v1", "ClientFrame", &value).map_err(|e| bad(invalid(&e)))?;
    serde_json::from_str(text).map_err(|e| bad(invalid(&e)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::sub(r#"{"t":"sub","id":1,"topic":"dispatches"}"#, "ok")]
    #[case::unsub(r#"{"t":"unsub","id":1}"#, "ok")]
    #[case::stop(r#"{"t":"cmd","id":"m-1","name":"dispatch.stop","args":{"dispatch":"d-1"}}"#, "ok")]
    #[case::unknown_field(r#"{"t":"sub","id":1,"topic":"dispatches","x":1}"#, "sub")]
    #[case::wildcard(r#"{"t":"sub","id":1,"topic":"dispatch/*"}"#, "sub")]
    #[case::unknown_command(r#"{"t":"cmd","id":"m-1","name":"ledger.write","args":{}}"#, "cmd")]
    #[case::not_json("{", "frame")]
    #[case::t26_twice(r#"{"t":"sub","id":1,"id":2,"topic":"dispatches"}"#, "frame")]
    #[case::t26_twice_below(
        r#"{"t":"cmd","id":"m-1","name":"dispatch.stop","args":{"dispatch":"d-1","dispatch":"d-2"}}"#,
        "frame"
    )]
    #[case::t26_twice_by_an_escape(
        r#"{"t":"cmd","id":"m-1","name":"dispatch.stop","args":{"dispatch":"d-1","d\u0069spatch":"d-2"}}"#,
        "frame"
    )]
    #[case::t26_a_batch(r#"[{"t":"unsub","id":1}]"#, "frame")]
    #[case::t26_a_second_document(r#"{"t":"unsub","id":1}{"t":"unsub","id":2}"#, "frame")]
    #[case::t26_a_byte_order_mark("\u{feff}{\"t\":\"unsub\",\"id\":1}", "frame")]
    #[case::no_id(r#"{"t":"cmd","name":"dispatch.stop"}"#, "frame")]
    #[case::a_servers_frame(r#"{"t":"hb","now":1,"head":1}"#, "frame")]
    fn a_frame_is_read_or_refused_where_it_can_be_answered(#[case] text: &str, #[case] wanted: &str) {
        let found = match read(text) {
            Ok(_) => "ok",
            Err(Bad::Frame) => "frame",
            Err(Bad::Command(..)) => "cmd",
            Err(Bad::Subscription(..)) => "sub",
        };
        assert_eq!(found, wanted);
    }
}
