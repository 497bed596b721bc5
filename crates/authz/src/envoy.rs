//! `envoy.service.auth.v3.Authorization/Check`. What Envoy says of a request is taken as what was sent, and nothing of it
//! as proven: the token is verified again. Only what Envoy is configured with (`context_extensions`) says for whom tokens
//! are on the request's way. Must never answer with anything but a refusal or an error where it is not sure.
//!
//! Source: Envoy 1.40, `external_auth.proto` and `attribute_context.proto`.

use custody_engine::deciding::{Decisions, Passed, Passing};
use envoy_types::ext_authz::v3::pb::{
    Authorization, CheckRequest, CheckResponse, DeniedHttpResponse, HeaderValue, HeaderValueOption, HttpResponse,
    HttpStatus,
};
use envoy_types::pb::google::rpc;
use http::StatusCode;
use tonic::{Code, Request, Response, Status};

/// The member of `context_extensions` that says for whom tokens are on a route.
const AUDIENCE: &str = "audience";

/// The service.
pub(crate) struct Checks(pub(crate) Decisions);

#[tonic::async_trait]
impl Authorization for Checks {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let request = request.into_inner();
        let passed = self.0.passes(passing(&request)?).await;
        answer(passed).map(Response::new)
    }
}

/// What is asked.
fn passing(request: &CheckRequest) -> Result<Passing<'_>, Status> {
    let attributes = request.attributes.as_ref();
    let http = attributes.and_then(|all| all.request.as_ref()).and_then(|request| request.http.as_ref());
    let (Some(attributes), Some(http)) = (attributes, http) else {
        return Err(Status::invalid_argument("the question is about no HTTP request"));
    };
    let Some(audience) = attributes.context_extensions.get(AUDIENCE) else {
        return Err(Status::failed_precondition("the route has no context extension named audience"));
    };
    // With `pack_as_bytes`, which keeps the bytes as they were, the text is empty.
    let body = if http.raw_body.is_empty() { http.body.as_bytes() } else { &http.raw_body };
    let authorization = http.headers.get("authorization").map(String::as_str);
    Ok(Passing { authorization, audience, method: &http.method, body })
}

/// What Envoy is told.
fn answer(passed: Passed) -> Result<CheckResponse, Status> {
    let status = |code: Code| Some(rpc::Status { code: i32::from(code), ..rpc::Status::default() });
    match passed {
        Passed::On => Ok(CheckResponse { status: status(Code::Ok), ..CheckResponse::default() }),
        Passed::TurnedAway { status: told, body } => {
            let mut headers = vec![header("content-type", "application/json")];
            if told == StatusCode::UNAUTHORIZED {
                headers.push(header("www-authenticate", "Bearer error=\"invalid_token\""));
            }
            let denied =
                DeniedHttpResponse { status: Some(HttpStatus { code: i32::from(told.as_u16()) }), headers, body };
            let http_response = Some(HttpResponse::DeniedResponse(denied));
            Ok(CheckResponse { status: status(Code::PermissionDenied), http_response, ..CheckResponse::default() })
        }
        // Envoy passes on nothing that it has no answer for (`failure_mode_allow: false`).
        Passed::Unavailable(why) => Err(Status::unavailable(why)),
    }
}

fn header(key: &str, value: &str) -> HeaderValueOption {
    let header = HeaderValue { key: key.to_owned(), value: value.to_owned(), ..HeaderValue::default() };
    HeaderValueOption { header: Some(header), ..HeaderValueOption::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_types::pb::envoy::service::auth::v3::AttributeContext;
    use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Request as Asked};
    use rstest::rstest;

    fn honest() -> CheckRequest {
        let http = HttpRequest {
            method: "POST".into(),
            headers: [("authorization".to_owned(), "Bearer x".to_owned())].into(),
            raw_body: b"{}".to_vec(),
            ..HttpRequest::default()
        };
        let attributes = AttributeContext {
            request: Some(Asked { http: Some(http), ..Asked::default() }),
            context_extensions: [(AUDIENCE.to_owned(), "https://mail.test/mcp".to_owned())].into(),
            ..AttributeContext::default()
        };
        CheckRequest { attributes: Some(attributes) }
    }

    #[rstest]
    #[case::honest(|_: &mut CheckRequest| {}, None)]
    #[case::about_nothing(|r: &mut CheckRequest| r.attributes = None, Some(Code::InvalidArgument))]
    #[case::about_no_request(|r: &mut CheckRequest| r.attributes.as_mut().unwrap().request = None, Some(Code::InvalidArgument))]
    #[case::on_a_route_of_nobodys(|r: &mut CheckRequest| r.attributes.as_mut().unwrap().context_extensions.clear(), Some(Code::FailedPrecondition))]
    fn a_question_without_what_decides_is_an_error(
        #[case] change: fn(&mut CheckRequest),
        #[case] expected: Option<Code>,
    ) {
        let mut request = honest();
        change(&mut request);
        assert_eq!(passing(&request).map(|_| ()).err().map(|status| status.code()), expected);
    }

    #[test]
    fn the_request_is_what_was_sent() {
        let request = honest();
        let asked = passing(&request).unwrap();
        assert_eq!((asked.authorization, asked.audience), (Some("Bearer x"), "https://mail.test/mcp"));
        assert_eq!((asked.method, asked.body), ("POST", b"{}".as_slice()));
    }

    #[test]
    fn a_refusal_keeps_its_status_and_body_and_no_answer_is_an_error() {
        assert_eq!(answer(Passed::On).unwrap().status.unwrap().code, 0);
        let turned_away = |status| Passed::TurnedAway { status, body: "{}".into() };
        for (status, headers) in [(StatusCode::OK, 1), (StatusCode::BAD_REQUEST, 1), (StatusCode::UNAUTHORIZED, 2)] {
            let told = answer(turned_away(status)).unwrap();
            assert_ne!(told.status.unwrap().code, 0, "{status}");
            let Some(HttpResponse::DeniedResponse(denied)) = told.http_response else { panic!() };
            assert_eq!(denied.status.unwrap().code, i32::from(status.as_u16()));
            assert_eq!((denied.body.as_str(), denied.headers.len()), ("{}", headers));
        }
        assert_eq!(answer(Passed::Unavailable("x".into())).unwrap_err().code(), Code::Unavailable);
    }
}
