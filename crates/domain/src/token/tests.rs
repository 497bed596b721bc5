//! What a token may say: never more than what it comes from. Tables of given, when, then.

use super::{
    Asked, Audience, Audiences, Behind, Given, Issuer, Token, TokenAgain, TokenCommand, approved_call,
    assertion_claims, dispatch_claims, may_be_issued, tool_claims,
};
use crate::approval::ApprovalState;
use crate::effect::{Effect, EffectState};
use crate::events::{OfEffect, OfToken};
use crate::tests::{check, documents, golden};
use custody_contracts::approval::ToolAwaiting;
use custody_contracts::events::{DispatchAdmitted, DispatchEvent, EffectEvent, GrantCheck, GrantUse, LedgerEvent};
use custody_contracts::grant::Grant;
use custody_contracts::ids::UnixMillis;
use custody_contracts::token::{Detail, DispatchClaims, TokenEvent, TokenIssued, TokenKeyState, TokenType};
use custody_contracts::unit::InputTrust;
use custody_ledger::Decider;
use custody_trust::issued::Names;
use rstest::rstest;
use serde_json::json;

fn names() -> Names {
    Names::of("https://custody.test")
}

fn grant() -> Grant {
    let (_, value) = documents("grant.v1/golden").into_iter().find(|(name, _)| name == "Grant.full.json").unwrap();
    serde_json::from_value(value).unwrap()
}

fn admitted() -> DispatchAdmitted {
    let LedgerEvent::Dispatch(DispatchEvent::Admitted(mut admitted)) = golden("DispatchAdmitted", &[]) else {
        panic!()
    };
    admitted.unit.tools = ["mail__send", "mail__read", "workspace_list", "files__drop"].map(str::to_owned).to_vec();
    *admitted
}

/// A moment before the grant's end.
fn before_end(secs: u64) -> UnixMillis {
    UnixMillis((grant().ends().0 / 1_000 - secs) * 1_000)
}

fn at(now: UnixMillis) -> DispatchClaims {
    let names = names();
    dispatch_claims(
        &admitted(),
        &grant(),
        &"j".repeat(43),
        None,
        Given { names: &names, jti: "tk-0123456789abcdef", now },
    )
    .unwrap()
}

#[test]
fn a_dispatch_token_says_what_the_unit_says_and_ends_with_the_grant() {
    let claims = at(before_end(10_000));
    assert_eq!(claims.exp - claims.iat, 900);
    let tools = "tool:mail__send tool:mail__read tool:workspace_list tool:files__drop";
    assert!(claims.scope.starts_with("agent:run ws:") && claims.scope.ends_with(tools), "{}", claims.scope);
    assert_eq!(claims.sub, admitted().unit.identity.subject);
    assert_eq!(claims.act.act.sub, claims.launcher);
    assert_eq!(claims.input_trust, admitted().unit.trigger.input_trust());
    let near = at(before_end(60));
    assert_eq!(near.exp - near.iat, 60, "never beyond the grant");
    let names = names();
    let given = Given { names: &names, jti: "tk-0123456789abcdef", now: before_end(0) };
    assert_eq!(dispatch_claims(&admitted(), &grant(), "", None, given).unwrap_err().code, "TOKEN_ENDED");
}

fn servers() -> Audiences {
    [("mail", "https://mail.test/mcp"), ("files", "https://files.test/mcp"), ("empty", "https://empty.test/mcp")]
        .map(|(name, audience)| (name.to_owned(), Audience::Server(audience.to_owned())))
        .into()
}

/// T17: nothing is exchanged for more than it is; beside each of them the honest one.
#[rstest]
#[case::one_tool("https://mail.test/mcp", Some("tool:mail__send"), None, Ok("tool:mail__send"))]
#[case::two_tools(
    "https://mail.test/mcp",
    Some("tool:mail__send tool:mail__read"),
    None,
    Ok("tool:mail__read tool:mail__send")
)]
#[case::all_of_the_server("https://mail.test/mcp", None, None, Ok("tool:mail__read tool:mail__send"))]
#[case::for_one_call("https://mail.test/mcp", Some("tool:mail__send"), Some("d-7f3a-t12"), Ok("tool:mail__send"))]
#[case::a_tool_that_the_dispatch_has_not("https://mail.test/mcp", Some("tool:mail__drop"), None, Err("TOKEN_SCOPE"))]
#[case::one_of_two_too_many("https://mail.test/mcp", Some("tool:mail__send tool:mail__drop"), None, Err("TOKEN_SCOPE"))]
#[case::another_servers_tool("https://mail.test/mcp", Some("tool:files__drop"), None, Err("TOKEN_SCOPE"))]
#[case::a_tool_of_the_gateway("https://mail.test/mcp", Some("tool:workspace_list"), None, Err("TOKEN_SCOPE"))]
#[case::a_workspace("https://mail.test/mcp", Some("agent:run"), None, Err("TOKEN_SCOPE"))]
#[case::a_prefix_of_a_tool("https://mail.test/mcp", Some("tool:mail__"), None, Err("TOKEN_SCOPE"))]
#[case::everything("https://mail.test/mcp", Some("*"), None, Err("TOKEN_SCOPE"))]
#[case::an_empty_scope("https://mail.test/mcp", Some(""), None, Err("TOKEN_SCOPE"))]
#[case::two_spaces("https://mail.test/mcp", Some("tool:mail__send  tool:mail__read"), None, Err("TOKEN_SCOPE"))]
#[case::no_tool_of_it("https://empty.test/mcp", None, None, Err("TOKEN_SCOPE"))]
#[case::unknown_audience("https://evil.test/mcp", Some("tool:mail__send"), None, Err("TOKEN_TARGET"))]
#[case::longer_audience("https://mail.test/mcp/", Some("tool:mail__send"), None, Err("TOKEN_TARGET"))]
#[case::other_case("https://MAIL.test/mcp", Some("tool:mail__send"), None, Err("TOKEN_TARGET"))]
#[case::no_audience("", Some("tool:mail__send"), None, Err("TOKEN_TARGET"))]
#[case::another_dispatchs_call("https://mail.test/mcp", Some("tool:mail__send"), Some("d-other-t1"), Err("TOKEN_TXN"))]
#[case::no_call("https://mail.test/mcp", Some("tool:mail__send"), Some("d-7f3a"), Err("TOKEN_TXN"))]
#[case::a_model_call("https://mail.test/mcp", Some("tool:mail__send"), Some("d-7f3a-m1"), Err("TOKEN_TXN"))]
fn an_exchange_only_shrinks(
    #[case] audience: &str,
    #[case] scope: Option<&str>,
    #[case] txn: Option<&str>,
    #[case] expected: Result<&str, &str>,
) {
    let now = before_end(10_000);
    let mut dispatch = at(now);
    dispatch.dispatch_id = custody_contracts::ids::DispatchId::parse("d-7f3a").unwrap();
    let owned = |text: Option<&str>| text.map(str::to_owned);
    let asked = Asked { audience: audience.into(), scope: owned(scope), txn: owned(txn) };
    let names = names();
    let claims = tool_claims(&dispatch, &asked, &servers(), Given { names: &names, jti: "tk-0123456789abcdef", now });
    match claims {
        Ok(claims) => {
            assert_eq!(Ok(claims.scope.as_str()), expected);
            assert_eq!((claims.exp - claims.iat, claims.aud.as_str()), (120, audience));
            assert_eq!((&claims.sub, &claims.act.act), (&dispatch.sub, &dispatch.act), "the person never changes");
            let [Detail::Mcp { server, tools, args }] = claims.authorization_details.as_slice() else { panic!() };
            assert_eq!((server.as_str(), tools.len()), ("mail", claims.scope.split(' ').count()));
            assert_eq!(*args, grant().constraints, "the grant's conditions go with it");
        }
        Err(no) => assert_eq!(Err(no.code), expected, "{no}"),
    }
}

#[test]
fn a_tool_token_never_outlives_its_dispatch_token() {
    let now = before_end(10_000);
    let mut dispatch = at(now);
    let asked = Asked { audience: "https://mail.test/mcp".into(), ..Asked::default() };
    let names = names();
    let given = Given { names: &names, jti: "tk-0123456789abcdef", now };
    dispatch.exp = dispatch.iat + 30;
    dispatch.input_trust = InputTrust::Untrusted;
    let claims = tool_claims(&dispatch, &asked, &servers(), given).unwrap();
    assert_eq!((claims.exp, claims.input_trust), (dispatch.exp, InputTrust::Untrusted));
    dispatch.exp = dispatch.iat;
    assert_eq!(tool_claims(&dispatch, &asked, &servers(), given).unwrap_err().code, "TOKEN_ENDED");
}

const REALM: &str = "https://id.test/realms/acme";

/// Two servers behind one authorization server, which knows Jane by another id; one that takes our own tokens.
fn behind_issuers(users: Option<&[(&str, &str)]>) -> Audiences {
    let users = users.map(|all| all.iter().map(|(person, id)| ((*person).to_owned(), (*id).to_owned())).collect());
    let issuer = Issuer { id: REALM.into(), users };
    let mut all = servers();
    all.insert("mail".into(), Audience::Issuer(issuer.clone()));
    all.insert("crm".into(), Audience::Issuer(issuer));
    all
}

/// An assertion is for one call of one tool, addressed to the authorization server of its server, in the name that the
/// person has there.
#[rstest]
#[case::honest(REALM, Some("tool:mail__send"), None, None, Ok("u_jane"))]
#[case::for_one_call(REALM, Some("tool:mail__send"), Some("d-7f3a-t12"), None, Ok("u_jane"))]
#[case::by_another_id(REALM, Some("tool:mail__send"), None, Some(&[("u_jane", "7b0e2c1a")][..]), Ok("7b0e2c1a"))]
#[case::nobody_there(REALM, Some("tool:mail__send"), None, Some(&[("u_bob", "7b0e2c1a")][..]), Err("TOKEN_SUBJECT"))]
#[case::nobody_at_all(REALM, Some("tool:mail__send"), None, Some(&[][..]), Err("TOKEN_SUBJECT"))]
#[case::two_tools(REALM, Some("tool:mail__send tool:mail__read"), None, None, Err("TOKEN_SCOPE"))]
#[case::every_tool(REALM, None, None, None, Err("TOKEN_SCOPE"))]
#[case::no_tool(REALM, Some("agent:run"), None, None, Err("TOKEN_SCOPE"))]
#[case::t17_a_tool_that_the_dispatch_has_not(REALM, Some("tool:crm__read"), None, None, Err("TOKEN_SCOPE"))]
#[case::t20_another_audience("https://evil.test/realms/acme", Some("tool:mail__send"), None, None, Err("TOKEN_TARGET"))]
#[case::its_token_endpoint(
    "https://id.test/realms/acme/token",
    Some("tool:mail__send"),
    None,
    None,
    Err("TOKEN_TARGET")
)]
#[case::a_server_of_our_own_tokens("https://files.test/mcp", Some("tool:files__drop"), None, None, Err("TOKEN_TARGET"))]
#[case::that_server_at_the_realm(REALM, Some("tool:files__drop"), None, None, Err("TOKEN_TARGET"))]
#[case::another_dispatchs_call(REALM, Some("tool:mail__send"), Some("d-other-t1"), None, Err("TOKEN_TXN"))]
fn an_assertion_says_who_one_call_is_for(
    #[case] audience: &str,
    #[case] scope: Option<&str>,
    #[case] txn: Option<&str>,
    #[case] users: Option<&[(&str, &str)]>,
    #[case] expected: Result<&str, &str>,
) {
    let now = before_end(10_000);
    let mut dispatch = at(now);
    dispatch.dispatch_id = custody_contracts::ids::DispatchId::parse("d-7f3a").unwrap();
    let owned = |text: Option<&str>| text.map(str::to_owned);
    let asked = Asked { audience: audience.into(), scope: owned(scope), txn: owned(txn) };
    let names = names();
    let given = Given { names: &names, jti: "tk-0123456789abcdef", now };
    match assertion_claims(&dispatch, &asked, &behind_issuers(users), given) {
        Ok(claims) => {
            assert_eq!((Ok(claims.sub.as_str()), claims.aud.as_str()), (expected, REALM));
            assert_eq!((claims.exp - claims.iat, claims.nbf, claims.iss), (120, claims.iat, names.sts()));
            assert_eq!((&claims.act.act, claims.txn.as_deref()), (&dispatch.act, txn), "who acts never changes");
        }
        Err(no) => assert_eq!(Err(no.code), expected, "{no}"),
    }
    // Neither is the other: what a server takes of ours is no assertion, and a realm takes no tool token.
    let x = Asked { audience: REALM.into(), ..asked.clone() };
    assert_eq!(tool_claims(&dispatch, &x, &behind_issuers(users), given).unwrap_err().code, "TOKEN_TARGET");
    dispatch.exp = dispatch.iat + 30;
    if let Ok(claims) = assertion_claims(&dispatch, &asked, &behind_issuers(users), given) {
        assert_eq!(claims.exp, dispatch.exp, "never beyond the dispatch token");
    }
}

fn event(shape: &str) -> OfToken {
    match golden(shape, &[]) {
        LedgerEvent::Token(event) => OfToken(event),
        other => panic!("{other:?}"),
    }
}

fn to(event: OfToken) -> TokenCommand {
    match event.0 {
        TokenEvent::Issued(e) => TokenCommand::Issue(e),
        TokenEvent::Refused(e) => TokenCommand::Refuse(e),
    }
}

/// T11: the same proof is never two tokens.
#[rstest]
#[case::issue(&[], "TokenIssued", Ok(vec![event("TokenIssued")]))]
#[case::refuse(&[], "TokenRefused", Ok(vec![event("TokenRefused")]))]
#[case::replayed(&["TokenIssued"], "TokenIssued", Err(TokenAgain::Replayed))]
#[case::replayed_after_a_refusal(&["TokenRefused"], "TokenIssued", Err(TokenAgain::Replayed))]
fn decide(#[case] history: &[&str], #[case] command: &str, #[case] expected: Result<Vec<OfToken>, TokenAgain>) {
    let history: Vec<OfToken> = history.iter().map(|shape| event(shape)).collect();
    check::<Token>(&history, to(event(command)), expected);
}

const AT: UnixMillis = UnixMillis(1_795_381_200_000);

fn behind(admitted: &DispatchAdmitted) -> Behind<'_> {
    Behind {
        admitted: Some(admitted),
        running: true,
        grant_ends: Some(UnixMillis(AT.0 + 3_600_000)),
        key: Some(TokenKeyState::Active),
        from: None,
        approved: None,
        now: AT,
    }
}

fn granted() -> DispatchAdmitted {
    let mut admitted = admitted();
    let id = custody_contracts::ids::GrantId::parse("g-91c2").unwrap();
    admitted.grant = GrantCheck::Checked(GrantUse { id, seq: 7 });
    admitted
}

fn d_token() -> TokenIssued {
    let TokenCommand::Issue(mut token) = to(event("TokenIssued")) else { panic!() };
    token.expires_at = UnixMillis(AT.0 + 900_000);
    token.scope = super::claims::scope_of(&granted().unit, None);
    *token
}

fn x_token() -> TokenIssued {
    TokenIssued {
        jti: "tk-xxxxxxxxxxxxxxxxxxxx".into(),
        typ: TokenType::Tool,
        aud: "https://mail.test/mcp".into(),
        scope: "tool:mail__send".into(),
        expires_at: UnixMillis(AT.0 + 120_000),
        from: Some(d_token().jti),
        ..d_token()
    }
}

fn told(token: &TokenIssued, behind: Behind<'_>) -> &'static str {
    may_be_issued(token, behind).map_or_else(|no| no.code, |()| "ok")
}

#[rstest]
#[case::honest(|_: &mut TokenIssued, _: &mut Behind<'_>| {}, "ok")]
#[case::t18_a_grant_that_was_taken_back(|_: &mut TokenIssued, b: &mut Behind<'_>| b.grant_ends = None, "TOKEN_GRANT")]
#[case::of_nobodys_dispatch(|_: &mut TokenIssued, b: &mut Behind<'_>| b.admitted = None, "TOKEN_DISPATCH_NOT_RUNNING")]
#[case::of_a_dispatch_that_has_ended(|_: &mut TokenIssued, b: &mut Behind<'_>| b.running = false, "TOKEN_DISPATCH_NOT_RUNNING")]
#[case::of_another_grant(|t: &mut TokenIssued, _: &mut Behind<'_>| t.grant = custody_contracts::ids::GrantId::parse("g-x").unwrap(), "TOKEN_DISPATCH")]
#[case::t46_by_a_key_that_is_next(|_: &mut TokenIssued, b: &mut Behind<'_>| b.key = Some(TokenKeyState::Next), "TOKEN_KEY")]
#[case::t46_by_a_retiring_key(|_: &mut TokenIssued, b: &mut Behind<'_>| b.key = Some(TokenKeyState::Retiring), "TOKEN_KEY")]
#[case::by_no_key(|_: &mut TokenIssued, b: &mut Behind<'_>| b.key = None, "TOKEN_KEY")]
#[case::t06_lives_too_long(|t: &mut TokenIssued, _: &mut Behind<'_>| t.expires_at.0 += 1, "TOKEN_LIFE")]
#[case::has_ended(|t: &mut TokenIssued, _: &mut Behind<'_>| t.expires_at = AT, "TOKEN_LIFE")]
#[case::beyond_the_grant(|_: &mut TokenIssued, b: &mut Behind<'_>| b.grant_ends = Some(UnixMillis(AT.0 + 899_999)), "TOKEN_LIFE")]
#[case::t17_more_than_the_unit(|t: &mut TokenIssued, _: &mut Behind<'_>| t.scope += " tool:files__send", "TOKEN_SCOPE")]
#[case::less_than_the_unit(|t: &mut TokenIssued, _: &mut Behind<'_>| t.scope = "agent:run".into(), "TOKEN_SCOPE")]
fn a_dispatch_token_may_be_issued(#[case] change: fn(&mut TokenIssued, &mut Behind<'_>), #[case] expected: &str) {
    let (admitted, mut token) = (granted(), d_token());
    let mut behind = behind(&admitted);
    change(&mut token, &mut behind);
    assert_eq!(told(&token, behind), expected);
}

#[rstest]
#[case::honest(|_: &mut TokenIssued, _: &mut TokenIssued| {}, "ok")]
#[case::t17_a_tool_that_the_dispatch_has_not(|x: &mut TokenIssued, _: &mut TokenIssued| x.scope = "tool:mail__drop".into(), "TOKEN_SCOPE")]
#[case::t17_no_tool(|x: &mut TokenIssued, _: &mut TokenIssued| x.scope = "agent:run".into(), "TOKEN_SCOPE")]
#[case::t06_lives_too_long(|x: &mut TokenIssued, _: &mut TokenIssued| x.expires_at.0 += 1, "TOKEN_LIFE")]
#[case::outlives_the_dispatch_token(|_: &mut TokenIssued, d: &mut TokenIssued| d.expires_at = UnixMillis(AT.0 + 60_000), "TOKEN_LIFE")]
#[case::of_another_token(|x: &mut TokenIssued, _: &mut TokenIssued| x.from = Some("tk-another-one-0000000".into()), "TOKEN_FROM")]
#[case::t13_by_another_gateway(|x: &mut TokenIssued, _: &mut TokenIssued| x.actor = "k-gateway-other".into(), "TOKEN_BINDING")]
#[case::of_another_dispatch(|_: &mut TokenIssued, d: &mut TokenIssued| d.dispatch = custody_contracts::ids::DispatchId::parse("d-x").unwrap(), "TOKEN_BINDING")]
#[case::t20_exchanged_for_a_tool_token(|_: &mut TokenIssued, d: &mut TokenIssued| d.typ = TokenType::Tool, "TOKEN_FROM")]
fn a_tool_token_may_be_issued(#[case] change: fn(&mut TokenIssued, &mut TokenIssued), #[case] expected: &str) {
    let (admitted, mut x, mut d) = (granted(), x_token(), d_token());
    change(&mut x, &mut d);
    assert_eq!(told(&x, Behind { from: Some(&d), ..behind(&admitted) }), expected);
    assert_eq!(told(&x, behind(&admitted)), "TOKEN_FROM", "never without a dispatch token");
    // An assertion is bound in the same way, and is for one tool besides.
    x.typ = TokenType::Assertion;
    assert_eq!(told(&x, Behind { from: Some(&d), ..behind(&admitted) }), expected);
    assert_eq!(told(&x, behind(&admitted)), "TOKEN_FROM", "never without a dispatch token");
}

#[test]
fn an_assertion_is_recorded_for_one_tool() {
    let (admitted, d) = (granted(), d_token());
    let two = |typ| TokenIssued { typ, scope: "tool:mail__send tool:mail__read".into(), ..x_token() };
    let behind = Behind { from: Some(&d), ..behind(&admitted) };
    assert_eq!(told(&two(TokenType::Tool), behind), "ok");
    assert_eq!(told(&two(TokenType::Assertion), behind), "TOKEN_SCOPE");
}

fn waits() -> ToolAwaiting {
    match golden("ToolAwaiting", &[]) {
        LedgerEvent::Effect(EffectEvent::ToolAwaiting(waits)) => *waits,
        other => panic!("{other:?}"),
    }
}

/// The token of the one call that waits, of a dispatch that has ended, and the tool token that it is exchanged for.
fn of_a_call() -> (TokenIssued, TokenIssued) {
    let d = TokenIssued { scope: "tool:mail__send".into(), txn: Some("d-7f3a-t3".into()), ..d_token() };
    let x = TokenIssued { txn: Some("d-7f3a-t3".into()), ..x_token() };
    (d, x)
}

#[rstest]
#[case::honest(|_: &mut TokenIssued, _: &mut TokenIssued, _: &mut Option<ToolAwaiting>| {}, "ok", "ok")]
#[case::for_no_call(|d: &mut TokenIssued, _: &mut TokenIssued, _: &mut Option<ToolAwaiting>| d.txn = None, "TOKEN_DISPATCH_NOT_RUNNING", "TOKEN_DISPATCH_NOT_RUNNING")]
#[case::nobody_approved_it(|_: &mut TokenIssued, _: &mut TokenIssued, w: &mut Option<ToolAwaiting>| *w = None, "TOKEN_CALL", "TOKEN_CALL")]
#[case::another_call_was_approved(|_: &mut TokenIssued, _: &mut TokenIssued, w: &mut Option<ToolAwaiting>| w.as_mut().unwrap().n = 4, "TOKEN_CALL", "TOKEN_CALL")]
#[case::another_dispatchs_call(|_: &mut TokenIssued, _: &mut TokenIssued, w: &mut Option<ToolAwaiting>| w.as_mut().unwrap().dispatch = custody_contracts::ids::DispatchId::parse("d-x").unwrap(), "TOKEN_CALL", "TOKEN_CALL")]
#[case::t17_the_whole_dispatch(|d: &mut TokenIssued, _: &mut TokenIssued, _: &mut Option<ToolAwaiting>| d.scope = d_token().scope, "TOKEN_SCOPE", "ok")]
#[case::t17_another_tool(|_: &mut TokenIssued, x: &mut TokenIssued, _: &mut Option<ToolAwaiting>| x.scope = "tool:mail__read".into(), "ok", "TOKEN_SCOPE")]
#[case::exchanged_for_another_call(|_: &mut TokenIssued, x: &mut TokenIssued, _: &mut Option<ToolAwaiting>| x.txn = Some("d-7f3a-t4".into()), "ok", "TOKEN_TXN")]
#[case::exchanged_to_ask_for_the_list(|_: &mut TokenIssued, x: &mut TokenIssued, _: &mut Option<ToolAwaiting>| x.txn = None, "ok", "ok")]
fn an_approved_call_has_a_token_of_its_own_also_after_its_dispatch(
    #[case] change: fn(&mut TokenIssued, &mut TokenIssued, &mut Option<ToolAwaiting>),
    #[case] of_d: &str,
    #[case] of_x: &str,
) {
    let (admitted, (mut d, mut x), mut waits) = (granted(), of_a_call(), Some(waits()));
    change(&mut d, &mut x, &mut waits);
    let behind = Behind { running: false, approved: waits.as_ref(), ..behind(&admitted) };
    assert_eq!(told(&d, behind), of_d);
    assert_eq!(told(&x, Behind { from: Some(&d), ..behind }), of_x);
    let taken_back = Behind { grant_ends: None, ..behind };
    assert_ne!(told(&d, taken_back), "ok", "never without the grant");
}

#[test]
fn a_call_counts_as_approved_from_the_yes_to_its_end() {
    let waits = waits();
    let effect = |state: EffectState, shape: &str| match golden(shape, &[]) {
        LedgerEvent::Effect(event) => Effect::evolve(state, &OfEffect(event)),
        other => panic!("{other:?}"),
    };
    let decided = |how: &str| match golden("ApprovalDecided", &[("decision", json!(how))]) {
        LedgerEvent::Approval(event) => ApprovalState::default().after(&event),
        other => panic!("{other:?}"),
    };
    let yes = decided("approve");
    let counts =
        |effect: &EffectState, approval: &ApprovalState| approved_call(Some(&waits), effect, approval).is_some();
    let waiting = effect(EffectState::default(), "ToolAwaiting");
    let intended = effect(waiting.clone(), "ToolIntended");
    assert!(counts(&waiting, &yes) && counts(&intended, &yes));
    assert!(!counts(&waiting, &ApprovalState::default()), "nobody said anything");
    assert!(!counts(&waiting, &decided("reject")) && !counts(&waiting, &decided("defer")));
    assert!(!counts(&effect(intended, "ToolFinished"), &yes), "it was made");
    assert!(!counts(&effect(waiting.clone(), "ToolRefused"), &yes), "it was closed");
    assert!(approved_call(None, &waiting, &yes).is_none(), "nothing waited");
}

#[test]
fn the_token_of_one_call_says_its_tool_and_nothing_else() {
    let names = names();
    let given = Given { names: &names, jti: "tk-0123456789abcdef", now: before_end(10_000) };
    let only = |tool| dispatch_claims(&admitted(), &grant(), "", Some(tool), given);
    let claims = only("mail__send").unwrap();
    assert_eq!(claims.scope, "tool:mail__send");
    let [Detail::Mcp { server, tools, args }] = claims.authorization_details.as_slice() else { panic!() };
    assert_eq!((server.as_str(), tools.as_slice()), ("mail", ["mail__send".to_owned()].as_slice()));
    assert_eq!(*args, grant().constraints);
    assert_eq!(only("mail__drop").unwrap_err().code, "TOKEN_SCOPE");
}
