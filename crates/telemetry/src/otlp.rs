//! Spans over OTLP, `http/protobuf`: to one endpoint that an operator named, in bounded batches, tried again a bounded
//! number of times. Must never follow a redirect, and never send to an address that nobody configured.

use crate::spans::{Kind, Span as Made, Value};
use custody_outbound::Networks;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;
use std::time::Duration;

/// Tries of one batch.
const TRIES_MAX: u32 = 5;
/// For one try, the answer included.
const TRY_MAX: Duration = Duration::from_secs(10);
/// The first pause between two tries, each next one twice as long.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(8);

/// Why spans cannot be sent anywhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OtlpError {
    /// The endpoint is not an address.
    #[error("telemetry.otlp_endpoint {0:?} is not http(s)://host[:port][/path]")]
    Endpoint(String),
    /// The client cannot be made.
    #[error("no client for traces: {0}")]
    Client(String),
    /// The collector did not take them.
    #[error("the collector did not take the traces: {0}")]
    Refused(String),
}

/// One collector.
#[derive(Debug, Clone)]
pub struct Collector {
    client: reqwest::Client,
    url: reqwest::Url,
    resource: Vec<KeyValue>,
    /// The first pause between two tries.
    pause: Duration,
}

impl Collector {
    /// A collector at an endpoint; `/v1/traces` is added to a path that does not end in it. Source: OTLP 1.x,
    /// "OTLP/HTTP Request".
    ///
    /// # Errors
    /// [`OtlpError`] when the endpoint is no http address, or TLS cannot be set up.
    pub fn new(endpoint: &str, instance: &str, version: &str) -> Result<Collector, OtlpError> {
        let bad = || OtlpError::Endpoint(endpoint.to_owned());
        let text = if endpoint.ends_with("/v1/traces") {
            endpoint.to_owned()
        } else {
            [endpoint.trim_end_matches('/'), "/v1/traces"].concat()
        };
        let url = reqwest::Url::parse(&text).map_err(|_| bad())?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !url.username().is_empty() {
            return Err(bad());
        }
        custody_outbound::written(url.as_str()).map_err(|_| bad())?;
        // A collector is the house's own, in any network of it.
        let client = custody_outbound::builder(url.as_str(), &Networks::any())
            .timeout(TRY_MAX)
            .no_proxy()
            .build()
            .map_err(|e| OtlpError::Client(e.to_string()))?;
        let resource = [("service.name", "custody"), ("service.version", version), ("service.instance.id", instance)];
        let resource = resource.map(|(key, value)| pair(key, &Value::Text(value.to_owned()))).into();
        Ok(Collector { client, url, resource, pause: PAUSE })
    }

    /// Sends the spans of some traces, once for each that gets through: ids are functions of the dispatch, so a second
    /// sending of the same is the same.
    ///
    /// # Errors
    /// [`OtlpError::Refused`] after the last try, or at once when trying again could not help.
    pub async fn send(&self, spans: &[Made]) -> Result<(), OtlpError> {
        let body = encode(&self.resource, spans);
        let mut pause = self.pause;
        let mut why = String::new();
        for left in (0..TRIES_MAX).rev() {
            let request = self.client.post(self.url.clone()).header("content-type", "application/x-protobuf");
            match request.body(body.clone()).send().await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                // Source: OTLP, "Retryable Response Codes".
                Ok(answer) if matches!(answer.status().as_u16(), 429 | 502 | 503 | 504) => {
                    why = format!("status {}", answer.status().as_u16());
                }
                Ok(answer) => return Err(OtlpError::Refused(format!("status {}", answer.status().as_u16()))),
                Err(error) => why = error.without_url().to_string(),
            }
            if left > 0 {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
        Err(OtlpError::Refused(why))
    }
}

fn pair(key: &str, value: &Value) -> KeyValue {
    let value = match value {
        Value::Text(text) => any_value::Value::StringValue(text.clone()),
        Value::Int(number) => any_value::Value::IntValue(i64::try_from(*number).unwrap_or(i64::MAX)),
    };
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// The request's bytes.
fn encode(resource: &[KeyValue], spans: &[Made]) -> Vec<u8> {
    let scope = InstrumentationScope { name: "custody".into(), ..InstrumentationScope::default() };
    let scoped = ScopeSpans { scope: Some(scope), spans: spans.iter().map(proto).collect(), ..ScopeSpans::default() };
    let of = Resource { attributes: resource.to_vec(), ..Resource::default() };
    let all = ResourceSpans { resource: Some(of), scope_spans: vec![scoped], ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![all] }.encode_to_vec()
}

fn proto(made: &Made) -> Span {
    let kind = match made.kind {
        Kind::Internal => SpanKind::Internal,
        Kind::Client => SpanKind::Client,
        Kind::Consumer => SpanKind::Consumer,
    };
    let status = made.error.as_ref().map(|why| Status { code: StatusCode::Error.into(), message: why.clone() });
    Span {
        trace_id: made.trace.to_vec(),
        span_id: made.id.to_vec(),
        parent_span_id: made.parent.map(|p| p.to_vec()).unwrap_or_default(),
        name: made.name.clone(),
        kind: kind.into(),
        start_time_unix_nano: made.start_ms.saturating_mul(1_000_000),
        end_time_unix_nano: made.end_ms.saturating_mul(1_000_000),
        attributes: made.attributes.iter().map(|(key, value)| pair(key, value)).collect(),
        status,
        ..Span::default()
    }
}

#[cfg(test)]
mod tests;
