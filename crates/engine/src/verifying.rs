//! Verification of a whole log on every core: what must be done in order is, and the signatures of many messages are looked
//! at side by side. Must never give another answer than one message after the other does.

use custody_ledger::Stored;
use custody_trust::verify::{Finding, Pending, Verifier};

/// Messages whose signatures are looked at together.
pub const TOGETHER_MAX: usize = 2_048;
/// The most threads.
const THREADS_MAX: usize = 16;

/// Takes messages and verifies them in groups.
#[derive(Debug)]
pub struct InGroups {
    verifier: Verifier,
    waiting: Vec<Stored>,
    threads: usize,
}

impl InGroups {
    /// Around a verifier.
    pub fn new(verifier: Verifier) -> InGroups {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(THREADS_MAX));
        InGroups { verifier, waiting: Vec::with_capacity(TOGETHER_MAX), threads }
    }

    /// Takes the next message.
    ///
    /// # Errors
    /// The first finding among the messages so far, at the latest [`TOGETHER_MAX`] messages after it.
    pub fn push(&mut self, stored: Stored) -> Result<(), Finding> {
        self.waiting.push(stored);
        if self.waiting.len() < TOGETHER_MAX { Ok(()) } else { self.flush() }
    }

    /// Verifies what waits and gives the verifier back.
    ///
    /// # Errors
    /// The first finding.
    pub fn end(mut self) -> Result<Verifier, Finding> {
        self.flush()?;
        Ok(self.verifier)
    }

    fn flush(&mut self) -> Result<(), Finding> {
        let threads = self.threads;
        let result = self.verifier.push_all(&self.waiting, |pending| all_good(pending, threads));
        self.waiting.clear();
        result
    }
}

/// Whether all of them are good, looked at by so many threads.
fn all_good(pending: &[Pending], threads: usize) -> bool {
    let share = pending.len().div_ceil(threads.max(1)).max(1);
    std::thread::scope(|scope| {
        let workers: Vec<_> =
            pending.chunks(share).map(|part| scope.spawn(|| part.iter().all(Pending::good))).collect();
        // A thread that died has not found them good.
        workers.into_iter().all(|worker| worker.join().unwrap_or(false))
    })
}
