//! What every log must do: named checks over the port alone, run on the log in memory and on JetStream, so that a rule
//! proven on the first holds on the second. Must never know which log it runs on.

use custody_contracts::envelope::MESSAGE_BYTES_MAX;
use custody_contracts::events::Kind;
use custody_ledger::{Append, AppendError, Entity, Expected, Log, LogError, Seq, Stored};
use futures::StreamExt;
use futures::future::{BoxFuture, join_all};
use std::time::Duration;

/// How long one check may take.
pub const CHECK_MAX: Duration = Duration::from_secs(60);
const RACERS: usize = 50;
const CROWD: usize = 600;

/// What came of the checks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Names of the checks that held, in order.
    pub passed: Vec<&'static str>,
    /// Names of those that did not, and how.
    pub failed: Vec<(&'static str, String)>,
}

type Check = for<'a> fn(&'a dyn Log) -> BoxFuture<'a, Result<(), String>>;

/// Every check, by name.
pub const CHECKS: [(&str, Check); 18] = [
    ("an entity that nobody wrote is empty", |log| Box::pin(empty(log))),
    ("what was appended comes back byte for byte", |log| Box::pin(exact(log))),
    ("a second first append is refused and says what is there", |log| Box::pin(second_first(log))),
    ("a stale expectation is refused", |log| Box::pin(stale(log))),
    ("an expectation on a new entity is refused", |log| Box::pin(ahead(log))),
    ("a chain of appends holds its order", |log| Box::pin(chain(log))),
    ("the same append again gives the same sequence", |log| Box::pin(again(log))),
    ("the same append again gives the same sequence after others moved the entity", |log| Box::pin(again_later(log))),
    ("an entity does not see another", |log| Box::pin(apart(log))),
    ("of many racing first appends one wins", |log| Box::pin(race(log))),
    ("many appends of different entities at once all land once", |log| Box::pin(crowd(log))),
    ("one stale append among many fails alone", |log| Box::pin(one_stale(log))),
    ("many appends of one entity at once give one winner for each place", |log| Box::pin(crowd_of_one(log))),
    ("the largest message fits and one byte more does not", |log| Box::pin(largest(log))),
    ("reading gives every sequence once and ends", |log| Box::pin(read(log))),
    ("reading past the end gives nothing", |log| Box::pin(read_past(log))),
    ("a tail gives what is there and then what comes", |log| Box::pin(tail(log))),
    ("a tail from the next sequence gives only what comes", |log| Box::pin(tail_from_next(log))),
];

/// Runs every check on one log, which may hold messages already but must have no other writer meanwhile.
pub async fn log_conformance(log: &dyn Log) -> Report {
    let mut report = Report::default();
    for (name, check) in CHECKS {
        match tokio::time::timeout(CHECK_MAX, check(log)).await {
            Ok(Ok(())) => report.passed.push(name),
            Ok(Err(why)) => report.failed.push((name, why)),
            Err(_) => report.failed.push((name, format!("took longer than {} s", CHECK_MAX.as_secs()))),
        }
    }
    report
}

/// An entity of its own for every check: the log may be shared.
fn entity(check: &str, n: usize) -> Result<Entity, String> {
    let id = format!("{check}-{n}");
    Entity::new(Kind::Dispatch, &id).ok_or(id)
}

fn one(entity: &Entity, expected: Expected, id: &str, bytes: &[u8]) -> Append {
    let message_id = [&entity.id, "/", id].concat();
    Append { entity: entity.clone(), expected, message_id, bytes: bytes.to_vec() }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn ensure(holds: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why()) }
}

async fn put(log: &dyn Log, append: Append) -> Result<Seq, String> {
    log.append(append).await.map_err(text)
}

async fn load(log: &dyn Log, entity: &Entity) -> Result<Vec<Stored>, String> {
    log.load(entity).await.map_err(text)
}

fn conflict(result: &Result<Seq, AppendError>, actual: Seq) -> Result<(), String> {
    match result {
        Err(AppendError::Conflict { actual: Some(found), .. }) if *found == actual.0 => Ok(()),
        other => Err(format!("wanted a conflict with {actual}, got {other:?}")),
    }
}

async fn empty(log: &dyn Log) -> Result<(), String> {
    let history = load(log, &entity("empty", 0)?).await?;
    ensure(history.is_empty(), || format!("{history:?}"))
}

async fn exact(log: &dyn Log) -> Result<(), String> {
    let entity = entity("exact", 0)?;
    let bytes: Vec<u8> = (0..=255).chain([b'\r', b'\n', 0, 0xff]).collect();
    let append = one(&entity, Expected::NEW, "a", &bytes);
    let seq = put(log, append.clone()).await?;
    let wanted =
        Stored { seq, log_subject: entity.log_subject(), message_id: Some(append.message_id), bytes: append.bytes };
    let history = load(log, &entity).await?;
    ensure(history == [wanted.clone()], || format!("load gave {history:?}"))?;
    let found = collect(log, seq).await?;
    ensure(found.first() == Some(&wanted), || format!("read gave {:?}", found.first()))
}

async fn second_first(log: &dyn Log) -> Result<(), String> {
    let entity = entity("second-first", 0)?;
    let first = put(log, one(&entity, Expected::NEW, "a", b"1")).await?;
    let second = log.append(one(&entity, Expected::NEW, "b", b"2")).await;
    conflict(&second, first)?;
    let history = load(log, &entity).await?;
    ensure(history.len() == 1, || format!("{} messages", history.len()))
}

async fn stale(log: &dyn Log) -> Result<(), String> {
    let entity = entity("stale", 0)?;
    let first = put(log, one(&entity, Expected::NEW, "a", b"1")).await?;
    let second = put(log, one(&entity, Expected::at(first), "b", b"2")).await?;
    conflict(&log.append(one(&entity, Expected::at(first), "c", b"3")).await, second)
}

async fn ahead(log: &dyn Log) -> Result<(), String> {
    let entity = entity("ahead", 0)?;
    conflict(&log.append(one(&entity, Expected::at(Seq(7)), "a", b"1")).await, Seq(0))
}

async fn chain(log: &dyn Log) -> Result<(), String> {
    let entity = entity("chain", 0)?;
    let mut seqs = Vec::new();
    for n in 0..20u8 {
        let expected = seqs.last().map_or(Expected::NEW, |seq| Expected::at(*seq));
        seqs.push(put(log, one(&entity, expected, &n.to_string(), &[n])).await?);
    }
    let history = load(log, &entity).await?;
    let found: Vec<(Seq, Vec<u8>)> = history.into_iter().map(|s| (s.seq, s.bytes)).collect();
    let wanted: Vec<(Seq, Vec<u8>)> = seqs.into_iter().zip((0..20u8).map(|n| vec![n])).collect();
    ensure(found == wanted, || format!("{found:?}"))
}

async fn again(log: &dyn Log) -> Result<(), String> {
    let entity = entity("again", 0)?;
    let append = one(&entity, Expected::NEW, "a", b"1");
    let first = put(log, append.clone()).await?;
    let second = put(log, append).await?;
    ensure(first == second, || format!("{first} and {second}"))?;
    ensure(load(log, &entity).await?.len() == 1, || "stored twice".to_owned())
}

async fn again_later(log: &dyn Log) -> Result<(), String> {
    let entity = entity("again-later", 0)?;
    let append = one(&entity, Expected::NEW, "a", b"1");
    let first = put(log, append.clone()).await?;
    let mut last = first;
    for n in 0..3u8 {
        last = put(log, one(&entity, Expected::at(last), &n.to_string(), &[n])).await?;
    }
    let second = put(log, append).await?;
    ensure(first == second, || format!("{first} and {second}"))?;
    ensure(load(log, &entity).await?.len() == 4, || "stored twice".to_owned())
}

async fn apart(log: &dyn Log) -> Result<(), String> {
    let (a, b) = (entity("apart", 1)?, entity("apart", 11)?);
    put(log, one(&a, Expected::NEW, "a", b"a")).await?;
    put(log, one(&b, Expected::NEW, "a", b"b")).await?;
    let (a, b) = (load(log, &a).await?, load(log, &b).await?);
    ensure(a.len() == 1 && b.len() == 1 && a[0].bytes == b"a" && b[0].bytes == b"b", || format!("{a:?} {b:?}"))
}

async fn race(log: &dyn Log) -> Result<(), String> {
    let entity = entity("race", 0)?;
    let racers = (0..RACERS).map(|n| log.append(one(&entity, Expected::NEW, &n.to_string(), n.to_string().as_bytes())));
    let results = join_all(racers).await;
    let history = load(log, &entity).await?;
    let winner = match results.iter().enumerate().filter(|(_, r)| r.is_ok()).collect::<Vec<_>>().as_slice() {
        [(n, Ok(seq))] => (*n, *seq),
        others => return Err(format!("{} winners", others.len())),
    };
    ensure(history.len() == 1 && history[0].seq == winner.1, || format!("{history:?}"))?;
    ensure(history[0].bytes == winner.0.to_string().as_bytes(), || "the loser's bytes".to_owned())?;
    results.iter().filter(|r| r.is_err()).try_for_each(|r| conflict(r, winner.1))
}

async fn crowd(log: &dyn Log) -> Result<(), String> {
    let entities = (0..CROWD).map(|n| entity("crowd", n)).collect::<Result<Vec<_>, _>>()?;
    let before = log.last_seq().await.map_err(text)?;
    let appends = entities.iter().map(|e| log.append(one(e, Expected::NEW, "a", e.id.as_bytes())));
    let results = join_all(appends).await;
    let stored = collect(log, before.next()).await?;
    ensure(stored.len() == CROWD, || format!("{} messages", stored.len()))?;
    for (entity, result) in entities.iter().zip(results) {
        let seq = result.map_err(text)?;
        // Every caller must get the sequence of its own message and not of its neighbour's.
        let index = usize::try_from(seq.0 - before.0 - 1).map_err(text)?;
        let found = stored.get(index).ok_or_else(|| format!("no message at {seq}"))?;
        let mine = found.log_subject == entity.log_subject() && found.bytes == entity.id.as_bytes();
        ensure(mine && found.seq == seq, || format!("{} was told {seq}, where {found:?} is", entity.id))?;
    }
    Ok(())
}

async fn one_stale(log: &dyn Log) -> Result<(), String> {
    let entities = (0..100).map(|n| entity("one-stale", n)).collect::<Result<Vec<_>, _>>()?;
    let moved = put(log, one(&entities[50], Expected::NEW, "first", b"first")).await?;
    let results = join_all(entities.iter().map(|e| log.append(one(e, Expected::NEW, "a", b"1")))).await;
    for (n, (entity, result)) in entities.iter().zip(&results).enumerate() {
        if n == 50 {
            conflict(result, moved)?;
        } else {
            let seq = result.clone().map_err(text)?;
            let history = load(log, entity).await?;
            ensure(history.len() == 1 && history[0].seq == seq, || format!("{seq}: {history:?}"))?;
        }
    }
    Ok(())
}

async fn crowd_of_one(log: &dyn Log) -> Result<(), String> {
    let entity = entity("crowd-of-one", 0)?;
    let mut expected = Expected::NEW;
    for round in 0..5 {
        let bytes = |n: usize| format!("{round}/{n}").into_bytes();
        let id = |n: usize| format!("{round}/{n}");
        let results = join_all((0..20).map(|n| log.append(one(&entity, expected, &id(n), &bytes(n))))).await;
        let winners: Vec<Seq> = results.into_iter().filter_map(Result::ok).collect();
        ensure(winners.len() == 1, || format!("{} winners", winners.len()))?;
        expected = Expected::at(winners[0]);
    }
    let history = load(log, &entity).await?;
    ensure(history.len() == 5, || format!("{} messages", history.len()))
}

async fn largest(log: &dyn Log) -> Result<(), String> {
    let (fits, too_large) = (entity("largest", 0)?, entity("largest", 1)?);
    put(log, one(&fits, Expected::NEW, "a", &vec![b'x'; MESSAGE_BYTES_MAX])).await?;
    let history = load(log, &fits).await?;
    ensure(history.len() == 1 && history[0].bytes.len() == MESSAGE_BYTES_MAX, || "cut".to_owned())?;
    match log.append(one(&too_large, Expected::NEW, "a", &vec![b'x'; MESSAGE_BYTES_MAX + 1])).await {
        Err(AppendError::TooLarge { bytes, .. }) if bytes == MESSAGE_BYTES_MAX + 1 => {}
        other => return Err(format!("{other:?}")),
    }
    ensure(load(log, &too_large).await?.is_empty(), || "stored".to_owned())
}

async fn collect(log: &dyn Log, from: Seq) -> Result<Vec<Stored>, String> {
    let stream = log.read(from).await.map_err(text)?;
    let all: Vec<Result<Stored, LogError>> = stream.collect().await;
    all.into_iter().collect::<Result<Vec<_>, _>>().map_err(text)
}

async fn read(log: &dyn Log) -> Result<(), String> {
    let entity = entity("read", 0)?;
    let seq = put(log, one(&entity, Expected::NEW, "a", b"1")).await?;
    let last = log.last_seq().await.map_err(text)?;
    ensure(last == seq, || format!("last is {last}, appended {seq}"))?;
    for from in [1, seq.0.div_ceil(2), seq.0] {
        let found: Vec<u64> = collect(log, Seq(from)).await?.into_iter().map(|s| s.seq.0).collect();
        let wanted: Vec<u64> = (from..=seq.0).collect();
        ensure(found == wanted, || format!("from {from} to {seq}: {} messages", found.len()))?;
    }
    Ok(())
}

async fn read_past(log: &dyn Log) -> Result<(), String> {
    let last = log.last_seq().await.map_err(text)?;
    let found = collect(log, last.next()).await?;
    ensure(found.is_empty(), || format!("{found:?}"))
}

async fn tail(log: &dyn Log) -> Result<(), String> {
    let entity = entity("tail", 0)?;
    let first = put(log, one(&entity, Expected::NEW, "a", b"1")).await?;
    let mut tail = log.tail(Seq(1)).await.map_err(text)?;
    let mut next = 1;
    let mut last = first;
    for n in 0..20u8 {
        while next <= last.0 {
            let stored = tail.next().await.ok_or("the tail ended")?.map_err(text)?;
            ensure(stored.seq.0 == next, || format!("{} where {next} should be", stored.seq))?;
            next += 1;
        }
        last = put(log, one(&entity, Expected::at(last), &n.to_string(), &[n])).await?;
    }
    let stored = tail.next().await.ok_or("the tail ended")?.map_err(text)?;
    ensure(stored.seq == last && stored.bytes == [19], || format!("{stored:?}"))
}

async fn tail_from_next(log: &dyn Log) -> Result<(), String> {
    let entity = entity("tail-from-next", 0)?;
    let from = log.last_seq().await.map_err(text)?.next();
    let mut tail = log.tail(from).await.map_err(text)?;
    let seq = put(log, one(&entity, Expected::NEW, "a", b"1")).await?;
    let stored = tail.next().await.ok_or("the tail ended")?.map_err(text)?;
    ensure(seq == from && stored.seq == seq, || format!("{} appended, {} tailed", seq, stored.seq))
}

#[cfg(test)]
mod tests {
    use super::{CHECKS, log_conformance};
    use custody_ledger::MemoryLog;

    #[tokio::test]
    async fn the_log_in_memory_conforms() {
        let report = log_conformance(&MemoryLog::new()).await;
        assert_eq!(report.failed, []);
        assert_eq!(report.passed.len(), CHECKS.len());
    }
}
