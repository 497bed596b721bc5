//! Connections as they come, for the listeners whose connections each have a task of their own. Must never hold more of them
//! than there is room for, spin when the system has none to give, or let one outlive what serves it.

use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// From a connection that could not be accepted to the next try: what is missing, such as a descriptor, is not there at once.
const PAUSE: Duration = Duration::from_millis(100);

/// What connections come from.
pub trait Listener: Send + Sync {
    /// A connection.
    type Stream: Send + 'static;
    /// The next one.
    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;
    async fn next(&self) -> io::Result<TcpStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

impl Listener for UnixListener {
    type Stream = UnixStream;
    async fn next(&self) -> io::Result<UnixStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

/// Serves connections until cancelled, at most `most` at once; further ones wait to be accepted. What is being served ends
/// with `cancel` too. `what` is what the log calls them.
pub async fn accept<L: Listener, F>(
    what: &'static str,
    listener: &L,
    most: usize,
    cancel: &CancellationToken,
    serve: impl Fn(L::Stream) -> F + Send,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(most));
    // The room is never closed.
    while let Ok(place) = room.clone().acquire_owned().await {
        let next = tokio::select! {
            () = cancel.cancelled() => return,
            next = listener.next() => next,
        };
        let stream = match next {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, what, "a connection was not accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (served, cancel) = (serve(stream), cancel.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = served => {}
            }
            drop(place);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::io::AsyncReadExt;
    use tokio::sync::mpsc;

    /// As often as whatever can go on without a client has gone on.
    async fn settle() {
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn there_is_a_most_whoever_is_beyond_it_waits_and_all_end_when_it_is_cancelled() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let cancel = CancellationToken::new();
        let (begun, mut begins) = mpsc::unbounded_channel();
        let stop = cancel.clone();
        let serving = tokio::spawn(async move {
            accept("a test", &listener, 2, &stop, |mut stream| {
                let begun = begun.clone();
                async move {
                    begun.send(()).unwrap();
                    // Until its client goes.
                    let _gone = stream.read_u8().await;
                }
            })
            .await;
        });
        let first = TcpStream::connect(at).await.unwrap();
        let second = TcpStream::connect(at).await.unwrap();
        let third = TcpStream::connect(at).await.unwrap();
        begins.recv().await.unwrap();
        begins.recv().await.unwrap();
        settle().await;
        assert!(begins.try_recv().is_err(), "a third is served beside two");
        drop(first);
        begins.recv().await.unwrap();
        cancel.cancel();
        serving.await.unwrap();
        // Nothing is left that could say that it began.
        assert_eq!(begins.recv().await, None);
        drop((second, third));
    }

    /// Has no connection to give at first, as when there are no descriptors.
    struct Poor(TcpListener, AtomicBool);

    impl Listener for Poor {
        type Stream = TcpStream;
        async fn next(&self) -> io::Result<TcpStream> {
            match self.1.swap(true, Ordering::SeqCst) {
                true => self.0.next().await,
                false => Err(io::Error::other("no descriptor is left")),
            }
        }
    }

    #[tokio::test]
    async fn a_connection_that_was_not_accepted_ends_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let poor = Poor(listener, AtomicBool::new(false));
        let (cancel, done) = (CancellationToken::new(), CancellationToken::new());
        let _client = TcpStream::connect(at).await.unwrap();
        let serve = |_: TcpStream| {
            let done = done.clone();
            async move { done.cancel() }
        };
        tokio::select! {
            () = accept("a test", &poor, 1, &cancel, serve) => panic!("it ended"),
            () = done.cancelled() => {}
        }
        assert!(poor.1.load(Ordering::SeqCst));
    }
}
