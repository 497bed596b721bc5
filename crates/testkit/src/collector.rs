//! A collector of traces for tests: a real HTTP server on 127.0.0.1 that takes OTLP over `http/protobuf` and keeps what
//! it was sent. Must never take anything but a good request: a wrong path, type or body is an error of the test.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// A span as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenSpan {
    /// Its trace.
    pub trace: Vec<u8>,
    /// Itself.
    pub id: Vec<u8>,
    /// Its parent; empty for none.
    pub parent: Vec<u8>,
    /// Its name.
    pub name: String,
    /// Nanoseconds since the epoch.
    pub start_ns: u64,
    /// Nanoseconds since the epoch.
    pub end_ns: u64,
    /// Attributes as text.
    pub attributes: BTreeMap<String, String>,
    /// Whether it says that something failed.
    pub failed: bool,
}

/// The running collector. It ends when this is dropped.
#[derive(Debug)]
pub struct Collector {
    url: String,
    shared: Arc<Shared>,
    stop: tokio::task::AbortHandle,
}

#[derive(Debug)]
struct Shared {
    spans: Mutex<Vec<SeenSpan>>,
    bad: Mutex<Vec<String>>,
    /// Requests that are answered with 503 before one is taken.
    busy: Mutex<u32>,
    requests: watch::Sender<usize>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Collector {
    /// Listens on a port that the system chooses. The first `busy` requests are answered with 503.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start(busy: u32) -> io::Result<Collector> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let shared = Arc::new(Shared {
            spans: Mutex::default(),
            bad: Mutex::default(),
            busy: Mutex::new(busy),
            requests: watch::channel(0).0,
        });
        let serving = shared.clone();
        let stop = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = serving.clone();
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(move |request| answer(shared.clone(), request));
                    let _closed = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Ok(Collector { url, shared, stop: stop.abort_handle() })
    }

    /// Its endpoint, as a configuration names it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Every span so far.
    pub fn spans(&self) -> Vec<SeenSpan> {
        locked(&self.shared.spans).clone()
    }

    /// What was wrong with requests so far.
    pub fn bad(&self) -> Vec<String> {
        locked(&self.shared.bad).clone()
    }

    /// How many requests came so far.
    pub fn requests(&self) -> usize {
        *self.shared.requests.borrow()
    }

    /// Waits until there is a span of this name.
    pub async fn has(&self, name: &str) -> SeenSpan {
        let mut requests = self.shared.requests.subscribe();
        loop {
            if let Some(span) = self.spans().into_iter().find(|s| s.name == name) {
                return span;
            }
            if requests.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop.abort();
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let said = |status| {
        let mut response = Response::new(Full::new(Bytes::new()));
        *response.status_mut() = status;
        response
    };
    let (head, body) = request.into_parts();
    let bytes = body.collect().await?.to_bytes();
    let kind = head.headers.get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default();
    let status = if head.method != "POST" || head.uri.path() != "/v1/traces" || kind != "application/x-protobuf" {
        locked(&shared.bad).push(format!("{} {} {kind}", head.method, head.uri));
        StatusCode::BAD_REQUEST
    } else if take_busy(&shared) {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        match ExportTraceServiceRequest::decode(bytes) {
            Ok(request) => {
                let spans = request.resource_spans.into_iter().flat_map(|r| r.scope_spans).flat_map(|s| s.spans);
                locked(&shared.spans).extend(spans.map(seen));
                StatusCode::OK
            }
            Err(error) => {
                locked(&shared.bad).push(error.to_string());
                StatusCode::BAD_REQUEST
            }
        }
    };
    shared.requests.send_modify(|n| *n += 1);
    Ok(said(status))
}

fn take_busy(shared: &Shared) -> bool {
    let mut busy = locked(&shared.busy);
    let was = *busy > 0;
    *busy = busy.saturating_sub(1);
    was
}

fn seen(span: Span) -> SeenSpan {
    let attributes = span.attributes.into_iter().map(|pair| {
        let value = match pair.value.and_then(|v| v.value) {
            Some(any_value::Value::StringValue(text)) => text,
            Some(any_value::Value::IntValue(number)) => number.to_string(),
            other => format!("{other:?}"),
        };
        (pair.key, value)
    });
    SeenSpan {
        trace: span.trace_id,
        id: span.span_id,
        parent: span.parent_span_id,
        name: span.name,
        start_ns: span.start_time_unix_nano,
        end_ns: span.end_time_unix_nano,
        attributes: attributes.collect(),
        failed: span.status.is_some_and(|s| s.code == 2),
    }
}
