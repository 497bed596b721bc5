//! `count_tokens`, which agents of Anthropic's format ask before long calls. Must never call a model for it: an upstream
//! of another format has no such question, and then the answer is an estimate.

use super::errors::Told;
use super::flow::BoxBody;
use super::plan::Plan;
use super::record::{CallContext, CallRecord, Recorder};
use super::{Api, COUNT_PATH, Door, plain};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Bytes of JSON for one token, roughly, over English prose and code.
const BYTES_PER_TOKEN: u64 = 4;

impl Door {
    /// Answers one question. Where the upstream answers it, there is a record as of any call; an estimate has none.
    pub(super) async fn count(
        &self,
        context: CallContext,
        request: Request<Incoming>,
        done: oneshot::Sender<CallRecord>,
    ) -> Result<Response<BoxBody>, Told> {
        let (target, read, call, agent) = self.begin(context, Api::Anthropic, request).await?;
        let plan = Plan::of(&target, Api::Anthropic, read, &agent)?;
        if target.api == Api::Anthropic {
            let recorder = Recorder::start(call, done, Arc::clone(&self.0.blobs));
            return Ok(target.forward(Api::Anthropic, COUNT_PATH, plan, recorder).await);
        }
        let tokens = (plan.body.len() as u64).div_ceil(BYTES_PER_TOKEN);
        Ok(plain(StatusCode::OK, &json!({ "input_tokens": tokens })))
    }
}
