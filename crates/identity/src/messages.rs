//! The Workload API's messages, as far as they are answered here. Must never differ from `workload.proto` in a number.
//!
//! Source: `workload.proto` of the SPIFFE Workload API standard, package-less, service `SpiffeWorkloadAPI`. Written by
//! hand: six fields need no compiler of protocol buffers at build time.

use bytes::Bytes;
use std::collections::HashMap;

/// The service's name in a request's path.
pub(crate) const SERVICE: &str = "/SpiffeWorkloadAPI/";

/// X509SVIDRequest and X509BundlesRequest: nothing is asked.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Empty {}

/// X509SVIDResponse. CRLs (2) and bundles of foreign trust domains (3) are never sent: this authority has neither.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct X509SvidResponse {
    #[prost(message, repeated, tag = "1")]
    pub(crate) svids: Vec<X509Svid>,
}

/// X509SVID, without a hint (5).
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct X509Svid {
    #[prost(string, tag = "1")]
    pub(crate) spiffe_id: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) x509_svid: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) x509_svid_key: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) bundle: Bytes,
}

/// X509BundlesResponse, without CRLs (1).
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct X509BundlesResponse {
    #[prost(map = "string, bytes", tag = "2")]
    pub(crate) bundles: HashMap<String, Bytes>,
}
