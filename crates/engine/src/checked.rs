//! The door of the ledger: what is appended is checked against ledger.v2 first, byte for byte as it will be stored. A
//! rule that makes an event the contract does not know is a bug, and must not reach the log.

use custody_contracts::catalogue;
use custody_contracts::envelope::Envelope;
use custody_ledger::{Append, AppendError, Entity, Log, LogError, Seq, Stored};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use std::sync::Arc;

/// A log that takes only what ledger.v2 allows. Reads are passed on.
#[derive(Clone)]
pub struct CheckedLog(Arc<dyn Log>);

impl CheckedLog {
    /// Puts the door before a log.
    pub fn new(log: Arc<dyn Log>) -> Self {
        CheckedLog(log)
    }
}

/// Whether these bytes are events of ledger.v2.
fn check(bytes: &[u8]) -> Result<(), AppendError> {
    let refused = |why: String| AppendError::Refused(why);
    for envelope in Envelope::read(bytes).map_err(|e| refused(e.to_string()))? {
        let event = envelope.event().map_err(|e| refused(e.to_string()))?;
        let data: serde_json::Value = serde_json::from_str(envelope.data.get()).map_err(|e| refused(e.to_string()))?;
        let (_, shape) = event.names();
        catalogue::check("ledger.v2", shape, &data).map_err(|e| refused(format!("{shape} breaks ledger.v2: {e}")))?;
    }
    Ok(())
}

impl Log for CheckedLog {
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Seq, AppendError>> {
        match check(&append.bytes) {
            Ok(()) => self.0.append(append),
            Err(error) => Box::pin(async move { Err(error) }),
        }
    }
    fn load<'a>(&'a self, entity: &'a Entity) -> BoxFuture<'a, Result<Vec<Stored>, LogError>> {
        self.0.load(entity)
    }
    fn read(&self, from: Seq) -> BoxFuture<'_, Result<BoxStream<'static, Result<Stored, LogError>>, LogError>> {
        self.0.read(from)
    }
    fn tail(&self, from: Seq) -> BoxFuture<'_, Result<BoxStream<'static, Result<Stored, LogError>>, LogError>> {
        self.0.tail(from)
    }
    fn last_seq(&self) -> BoxFuture<'_, Result<Seq, LogError>> {
        self.0.last_seq()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use custody_contracts::envelope::Meta;
    use custody_contracts::events::{KeyEvent, KeyRetired, Kind, LedgerEvent, Role};
    use custody_ledger::recorded::encode;
    use custody_ledger::{Expected, MemoryLog};
    use custody_trust::RoleKey;
    use rstest::rstest;

    #[rstest]
    #[case::good("k-runtime-0123456789abcdef", "rotated", true)]
    #[case::id_of_no_key("not a key id", "rotated", false)]
    #[tokio::test]
    async fn only_what_the_contract_allows_is_appended(#[case] kid: &str, #[case] why: &str, #[case] taken: bool) {
        let inner = MemoryLog::new();
        let log = CheckedLog::new(Arc::new(inner.clone()));
        let key = RoleKey::from_seed(Role::Authority, &[1; 32]);
        let event = LedgerEvent::Key(KeyEvent::Retired(KeyRetired { kid: kid.into(), why: why.into() }));
        let meta = Meta { time: "2026-11-22T21:00:00.000Z".into(), ..Meta::default() };
        let bytes = encode(&key, "c", &[event], &meta).unwrap();
        let entity = Entity::new(Kind::Key, "k-1").unwrap();
        let result = log.append(Append { entity, expected: Expected::NEW, message_id: "m".into(), bytes }).await;
        assert_eq!(result.is_ok(), taken, "{result:?}");
        assert_eq!(inner.messages().len(), usize::from(taken));
    }
}
