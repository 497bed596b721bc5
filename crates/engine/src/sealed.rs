//! A person's content under that person's key: blobs that are sealed before they are put, admissions whose words are sealed
//! before they are signed, and a log that is read with both opened again. What is signed, hashed and stored is what was
//! sealed: destroying a key changes no byte of the ledger. Must never take what cannot be opened for a failure: it is
//! shown as erased.

#[cfg(test)]
pub(crate) mod tests;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use custody_contracts::canonical::{canonical, digest};
use custody_contracts::events::{DispatchAdmitted, Kind};
use custody_contracts::ids::Subject;
use custody_contracts::launch::FollowUp;
use custody_contracts::sealed::{SEALED, SealAlg, Sealed, about_start, from_inline, set_words, words};
use custody_domain::admission::UNIT_BYTES_MAX;
use custody_ledger::{Append, AppendError, Entity, Log, LogError, Seq, Stored};
use custody_ports::blobs::{BLOB_BYTES_MAX, BlobError, Blobs};
use custody_ports::output::{Output, OutputError, StoredChunk};
use custody_ports::pages::{LogPages, OutputPages};
use custody_ports::subjects::{SubjectKeyError, SubjectKeys};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use serde_json::Value;
use std::sync::Arc;

/// How a sealed blob begins; then the key's id, the person, and a line's end.
const MAGIC: &[u8] = b"custody sealed v1 ";
/// The longest first line: the magic, a key's id, a person's, two signs.
const HEAD_BYTES_MAX: usize = 18 + 19 + 1 + 128 + 1;
/// The longest sealed words that stand in an event. Source: contract ledger.v2, `Sealed`.
const TEXT_BYTES_MAX: usize = 49_152;
/// What an admission with sealed words has beside them and its unit.
const AROUND_BYTES: usize = 256;

/// Blobs under the keys of their persons. One from before there were keys is read as it is.
#[derive(Clone)]
pub struct SealedBlobs {
    inner: Arc<dyn Blobs>,
    keys: Arc<dyn SubjectKeys>,
}

impl SealedBlobs {
    /// Seals before `inner`.
    pub fn new(inner: Arc<dyn Blobs>, keys: Arc<dyn SubjectKeys>) -> SealedBlobs {
        SealedBlobs { inner, keys }
    }
}

fn of_key(error: SubjectKeyError) -> BlobError {
    match error {
        SubjectKeyError::Erased(subject) => BlobError::Erased(subject.to_string()),
        SubjectKeyError::Unavailable(why) => BlobError::Unavailable(why),
    }
}

impl Blobs for SealedBlobs {
    fn put<'a>(&'a self, of: &'a Subject, bytes: Vec<u8>) -> BoxFuture<'a, Result<String, BlobError>> {
        Box::pin(async move {
            let size = bytes.len() as u64;
            if size > BLOB_BYTES_MAX {
                return Err(BlobError::TooLarge { bytes: size, max: BLOB_BYTES_MAX });
            }
            self.inner.put(of, self.seal(of, bytes)?).await
        })
    }

    fn get<'a>(&'a self, digest: &'a str) -> BoxFuture<'a, Result<Vec<u8>, BlobError>> {
        Box::pin(async move { self.open(self.inner.get(digest).await?) })
    }

    fn seal(&self, of: &Subject, bytes: Vec<u8>) -> Result<Vec<u8>, BlobError> {
        let key = self.keys.ensure(of).map_err(of_key)?;
        let head = [MAGIC, key.kid().as_bytes(), b" ", of.as_str().as_bytes(), b"\n"].concat();
        let sealed = key.seal(&head, &bytes);
        Ok([head, sealed].concat())
    }

    fn open(&self, kept: Vec<u8>) -> Result<Vec<u8>, BlobError> {
        if !kept.starts_with(MAGIC) {
            return Ok(kept);
        }
        let corrupt = || BlobError::Corrupt("a sealed blob".to_owned());
        let end = kept.iter().take(HEAD_BYTES_MAX).position(|byte| *byte == b'\n').ok_or_else(corrupt)?;
        let (head, sealed) = kept.split_at(end + 1);
        let named = std::str::from_utf8(&head[MAGIC.len()..end]).ok().and_then(|text| text.split_once(' '));
        let (kid, subject) = named.ok_or_else(corrupt)?;
        let subject = Subject::parse(subject).map_err(|_| corrupt())?;
        let key = self.keys.find(&subject).map_err(of_key)?.filter(|key| key.kid() == kid);
        let key = key.ok_or_else(|| BlobError::Erased(subject.to_string()))?;
        key.open(head, sealed).map_err(|_| corrupt())
    }
}

/// Content by its digest: from the event that holds it, or from the store.
///
/// # Errors
/// [`BlobError`]; [`BlobError::Corrupt`] when the event holds something else than its digest names.
pub(crate) async fn content(blobs: &dyn Blobs, held: Option<&str>, named: &str) -> Result<Vec<u8>, BlobError> {
    match held {
        Some(text) => blobs.open(from_inline(text, named).ok_or_else(|| BlobError::Corrupt(named.to_owned()))?),
        None => blobs.get(named).await,
    }
}

/// Seals the words of an admission that is about to be recorded. Many words go into a blob first: an event must not name
/// what is not stored. Safe to call again: the same words are the same bytes.
///
/// # Errors
/// [`BlobError`]; nothing may be admitted then.
pub(crate) async fn seal_start(
    mut admitted: DispatchAdmitted,
    keys: &dyn SubjectKeys,
    blobs: &dyn Blobs,
) -> Result<DispatchAdmitted, BlobError> {
    let Some(said) = words(&admitted.unit.start).map(str::to_owned) else { return Ok(admitted) };
    let subject = admitted.unit.identity.subject.clone();
    let key = keys.ensure(&subject).map_err(of_key)?;
    set_words(&mut admitted.unit.start, SEALED.to_owned());
    let text = B64.encode(key.seal(about_start(&admitted).as_bytes(), said.as_bytes()));
    let unit = serde_json::to_value(&admitted.unit).map_err(|e| BlobError::Unavailable(e.to_string()))?;
    let fits = text.len() <= TEXT_BYTES_MAX && canonical(&unit).len() + text.len() + AROUND_BYTES <= UNIT_BYTES_MAX;
    let (kid, alg) = (key.kid().to_owned(), SealAlg::XChaCha20Poly1305);
    admitted.sealed = Some(if fits {
        Sealed { key: kid, alg, text: Some(text), blob: None }
    } else {
        Sealed { key: kid, alg, text: None, blob: Some(blobs.put(&subject, said.into_bytes()).await?) }
    });
    Ok(admitted)
}

/// The words of a follow-up from what is kept of it, when they are those that were accepted: sealed, they have the digest as
/// they are kept; from before, they have it themselves.
pub fn said_words(blobs: &dyn Blobs, kept: Vec<u8>, accepted: &str) -> Option<String> {
    if digest(&kept) == accepted {
        return String::from_utf8(blobs.open(kept).ok()?).ok();
    }
    let plain: FollowUp = serde_json::from_slice(&kept).ok()?;
    (digest(plain.text.as_bytes()) == accepted).then_some(plain.text)
}

/// Puts words that were sealed back where they stood.
#[derive(Clone)]
pub struct Opener {
    keys: Arc<dyn SubjectKeys>,
    blobs: Arc<dyn Blobs>,
}

impl Opener {
    /// Opens with these keys; `blobs` open what they give.
    pub fn new(keys: Arc<dyn SubjectKeys>, blobs: Arc<dyn Blobs>) -> Opener {
        Opener { keys, blobs }
    }

    /// A stored message with its words, as far as their key is there: else it is left as it is stored. What comes out is to
    /// be folded and shown; its signature and its hash are those of what is stored.
    ///
    /// # Errors
    /// [`LogError::Unavailable`] when a key or a blob cannot be read now.
    pub async fn open(&self, mut stored: Stored) -> Result<Stored, LogError> {
        let of_dispatch = Entity::parse(&stored.log_subject).is_some_and(|entity| entity.kind == Kind::Dispatch);
        if !of_dispatch || !stored.bytes.windows(SEALED.len()).any(|part| part == SEALED.as_bytes()) {
            return Ok(stored);
        }
        let Ok(mut message) = serde_json::from_slice::<Value>(&stored.bytes) else { return Ok(stored) };
        let events = match &mut message {
            Value::Array(several) => several.iter_mut().collect(),
            one => vec![one],
        };
        let mut opened = false;
        for event in events {
            let data = event.get_mut("data").filter(|data| data.get("sealed").is_some());
            let Some(data) = data else { continue };
            // What is no admission has no such field, or is refused by whoever reads it.
            let Ok(mut admitted) = serde_json::from_value::<DispatchAdmitted>(data.clone()) else { continue };
            if self.open_start(&mut admitted).await?
                && let Ok(whole) = serde_json::to_value(&admitted)
            {
                *data = whole;
                opened = true;
            }
        }
        if opened {
            stored.bytes = canonical(&message).into_bytes();
        }
        Ok(stored)
    }

    /// Whether an admission's words could be put back.
    ///
    /// # Errors
    /// As [`Opener::open`].
    pub async fn open_start(&self, admitted: &mut DispatchAdmitted) -> Result<bool, LogError> {
        let Some(sealed) = admitted.sealed.clone() else { return Ok(false) };
        let unavailable = |why: &dyn std::fmt::Display| LogError::Unavailable(why.to_string());
        let key = match self.keys.find(&admitted.unit.identity.subject) {
            Ok(key) => key.filter(|key| key.kid() == sealed.key),
            Err(SubjectKeyError::Erased(_)) => None,
            Err(error @ SubjectKeyError::Unavailable(_)) => return Err(unavailable(&error)),
        };
        let Some(key) = key else { return Ok(false) };
        let about = about_start(admitted);
        let said = match (&sealed.text, &sealed.blob) {
            (Some(text), _) => B64.decode(text).ok().and_then(|bytes| key.open(about.as_bytes(), &bytes).ok()),
            (None, Some(blob)) => match self.blobs.get(blob).await {
                Ok(bytes) => Some(bytes),
                Err(error @ BlobError::Unavailable(_)) => return Err(unavailable(&error)),
                Err(
                    BlobError::Erased(_) | BlobError::Missing(_) | BlobError::Corrupt(_) | BlobError::TooLarge { .. },
                ) => None,
            },
            (None, None) => None,
        };
        let Some(said) = said.and_then(|bytes| String::from_utf8(bytes).ok()) else {
            tracing::error!(dispatch = %admitted.dispatch, "sealed words do not open with their own key");
            return Ok(false);
        };
        set_words(&mut admitted.unit.start, said);
        admitted.sealed = None;
        Ok(true)
    }
}

/// Output whose chunks are read opened; those of whoever was erased are left out.
#[derive(Clone)]
pub struct OpenedOutput<O> {
    inner: O,
    blobs: Arc<dyn Blobs>,
}

impl<O> OpenedOutput<O> {
    /// Opens what `inner` gives.
    pub fn new(inner: O, blobs: Arc<dyn Blobs>) -> OpenedOutput<O> {
        OpenedOutput { inner, blobs }
    }
}

fn opened_chunk(blobs: &dyn Blobs, stored: StoredChunk) -> Result<Option<StoredChunk>, OutputError> {
    match blobs.open(stored.bytes) {
        Ok(bytes) => Ok(Some(StoredChunk { seq: stored.seq, bytes })),
        Err(BlobError::Unavailable(why)) => Err(OutputError::Unavailable(why)),
        Err(BlobError::Erased(_) | BlobError::Missing(_) | BlobError::Corrupt(_) | BlobError::TooLarge { .. }) => {
            Ok(None)
        }
    }
}

fn opened_chunks(blobs: &dyn Blobs, stored: Vec<StoredChunk>) -> Result<Vec<StoredChunk>, OutputError> {
    stored.into_iter().filter_map(|chunk| opened_chunk(blobs, chunk).transpose()).collect()
}

impl<O: Output> Output for OpenedOutput<O> {
    fn append<'a>(
        &'a self,
        dispatch: &'a str,
        last_seq: u64,
        message_id: &'a str,
        bytes: Vec<u8>,
    ) -> BoxFuture<'a, Result<u64, OutputError>> {
        self.inner.append(dispatch, last_seq, message_id, bytes)
    }
    fn tell<'a>(
        &'a self,
        launcher: &'a str,
        dispatch: &'a str,
        bytes: Vec<u8>,
    ) -> BoxFuture<'a, Result<(), OutputError>> {
        self.inner.tell(launcher, dispatch, bytes)
    }
    fn last<'a>(&'a self, dispatch: &'a str) -> BoxFuture<'a, Result<Option<StoredChunk>, OutputError>> {
        Box::pin(async move {
            let last = self.inner.last(dispatch).await?;
            last.map_or(Ok(None), |chunk| opened_chunk(self.blobs.as_ref(), chunk))
        })
    }
    fn all<'a>(&'a self, dispatch: &'a str) -> BoxFuture<'a, Result<Vec<StoredChunk>, OutputError>> {
        Box::pin(async move { opened_chunks(self.blobs.as_ref(), self.inner.all(dispatch).await?) })
    }
    fn follow<'a>(
        &'a self,
        dispatch: &'a str,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<StoredChunk, OutputError>>, OutputError>> {
        Box::pin(async move {
            let blobs = self.blobs.clone();
            let open = move |chunk: Result<StoredChunk, OutputError>| {
                let opened = chunk.and_then(|chunk| opened_chunk(blobs.as_ref(), chunk)).transpose();
                futures::future::ready(opened)
            };
            Ok(self.inner.follow(dispatch).await?.filter_map(open).boxed())
        })
    }
}

impl OutputPages for OpenedOutput<Arc<dyn OutputPages>> {
    fn page<'a>(
        &'a self,
        dispatch: &'a str,
        after: u64,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<StoredChunk>, OutputError>> {
        Box::pin(async move { opened_chunks(self.blobs.as_ref(), self.inner.page(dispatch, after, max).await?) })
    }
    fn said<'a>(
        &'a self,
        dispatch: &'a str,
        after: u64,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<StoredChunk>, OutputError>> {
        // Named by their digests as they are kept: whoever compares them opens them.
        self.inner.said(dispatch, after, max)
    }
    fn last_seq(&self) -> BoxFuture<'_, Result<u64, OutputError>> {
        self.inner.last_seq()
    }
    fn tail(&self, after: u64) -> BoxStream<'static, Result<(String, StoredChunk), OutputError>> {
        let blobs = self.blobs.clone();
        let open = move |next: Result<(String, StoredChunk), OutputError>| {
            let opened = next.and_then(|(of, chunk)| Ok(opened_chunk(blobs.as_ref(), chunk)?.map(|chunk| (of, chunk))));
            futures::future::ready(opened.transpose())
        };
        self.inner.tail(after).filter_map(open).boxed()
    }
}

/// A log whose messages are read opened: for who folds and shows them, never for who verifies, hashes or hands them on.
#[derive(Clone)]
pub struct OpenedLog {
    inner: Arc<dyn Log>,
    opener: Opener,
}

impl OpenedLog {
    /// Opens what `inner` gives.
    pub fn new(inner: Arc<dyn Log>, opener: Opener) -> OpenedLog {
        OpenedLog { inner, opener }
    }

    fn opened(
        &self,
        messages: BoxStream<'static, Result<Stored, LogError>>,
    ) -> BoxStream<'static, Result<Stored, LogError>> {
        let opener = self.opener.clone();
        let open = move |stored: Result<Stored, LogError>| {
            let opener = opener.clone();
            async move { opener.open(stored?).await }
        };
        messages.then(open).boxed()
    }
}

impl Log for OpenedLog {
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Seq, AppendError>> {
        self.inner.append(append)
    }
    fn load<'a>(&'a self, entity: &'a Entity) -> BoxFuture<'a, Result<Vec<Stored>, LogError>> {
        Box::pin(async move {
            let mut history = Vec::new();
            for stored in self.inner.load(entity).await? {
                history.push(self.opener.open(stored).await?);
            }
            Ok(history)
        })
    }
    fn read(&self, from: Seq) -> BoxFuture<'_, Result<BoxStream<'static, Result<Stored, LogError>>, LogError>> {
        Box::pin(async move { Ok(self.opened(self.inner.read(from).await?)) })
    }
    fn tail(&self, from: Seq) -> BoxFuture<'_, Result<BoxStream<'static, Result<Stored, LogError>>, LogError>> {
        Box::pin(async move { Ok(self.opened(self.inner.tail(from).await?)) })
    }
    fn last_seq(&self) -> BoxFuture<'_, Result<Seq, LogError>> {
        self.inner.last_seq()
    }
}

/// Pages of the ledger, read opened likewise.
#[derive(Clone)]
pub struct OpenedPages {
    inner: Arc<dyn LogPages>,
    opener: Opener,
}

impl OpenedPages {
    /// Opens what `inner` gives.
    pub fn new(inner: Arc<dyn LogPages>, opener: Opener) -> OpenedPages {
        OpenedPages { inner, opener }
    }
}

impl LogPages for OpenedPages {
    fn page(&self, from: Seq, max: usize) -> BoxFuture<'_, Result<Vec<Stored>, LogError>> {
        Box::pin(async move {
            let mut page = Vec::new();
            for stored in self.inner.page(from, max).await? {
                page.push(self.opener.open(stored).await?);
            }
            Ok(page)
        })
    }
}
