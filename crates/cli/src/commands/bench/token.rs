//! Minting, verifying and deciding, beside the bare Ed25519 signature that each rests on, over the same bytes, in one
//! thread. Nothing here waits for a disk or a network.

use super::drive::{Measured, Pair, TRIES_MAX};
use super::events::Maker;
use super::{Target, failed, row, show};
use crate::commands::Ctx;
use crate::error::CliResult;
use crate::home::random;
use crate::render::notice;
use custody_contracts::canonical::{canonical, digest};
use custody_contracts::events::{DispatchAdmitted, DispatchEvent, LedgerEvent};
use custody_contracts::ids::UnixMillis;
use custody_contracts::token::{DispatchClaims, TokenKeyChanged, TokenKeyState, TokenType};
use custody_domain::tool::{Judged, ToolAsked, Tools, judge};
use custody_ledger::{Recorded, Seq, Sign, Stored};
use custody_policy::CedarPolicy;
use custody_trust::RoleKey;
use custody_trust::issued::{Names, bound, mint, verify_dispatch};
use custody_trust::key::{parse_public, thumbprint, verify_hex};
use custody_trust::token_keys::TokenKeys;
use serde_json::{Value, json};
use std::hint::black_box;
use std::time::Instant;

/// When every token of a measurement is signed: 2026-11-22T00:00:00Z.
const NOW: u64 = 1_795_305_600;

/// What `bench token` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct TokenArgs {
    /// Operations of each run
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(100..=10_000_000))]
    rounds: u64,
}

pub(super) async fn run(ctx: &Ctx, args: TokenArgs) -> CliResult {
    if cfg!(debug_assertions) {
        notice("this is a debug build: cargo run --release -p custody-cli -- bench token");
    }
    let rounds = args.rounds;
    let measuring = tokio::task::spawn_blocking(move || measure(rounds));
    let rows = measuring.await.map_err(failed)??;
    show(&ctx.render, &json!({ "rounds": rounds }), &rows)
}

/// One dispatch's token, and one call of a tool of it.
struct Sample {
    key: RoleKey,
    keys: TokenKeys,
    names: Names,
    claims: DispatchClaims,
    token: String,
    jkt: String,
    admitted: DispatchAdmitted,
    tools: Tools,
    policy: CedarPolicy,
}

impl Sample {
    fn new() -> CliResult<Sample> {
        let (key, gateway) = (RoleKey::for_tokens(&random()?), RoleKey::for_tokens(&random()?));
        let mut keys = TokenKeys::default();
        for state in [TokenKeyState::Next, TokenKeyState::Active] {
            let (by, why) = ("custody-bench".to_owned(), "a measurement".to_owned());
            let changed = TokenKeyChanged { kid: key.kid().to_owned(), state, public_key: key.public_hex(), by, why };
            keys.take_in(&changed, UnixMillis(NOW * 1_000));
        }
        let names = Names::of("https://custody.bench");
        let jkt = thumbprint(parse_public(&gateway.public_hex()).ok_or_else(|| failed("no key"))?.as_bytes());
        let admitted = admitted()?;
        let launcher = admitted.unit.identity.launcher.to_string();
        let claims: DispatchClaims = serde_json::from_value(json!({
            "iss": names.identity(), "sub": admitted.unit.identity.subject, "aud": names.gateway(),
            "act": { "sub": names.dispatch_actor(admitted.dispatch.as_str()), "act": { "sub": launcher } },
            "launcher": launcher, "scope": "agent:run ws:notes:rw tool:workspace_read",
            "authorization_details": [{ "type": "workspace", "id": "notes", "mode": "rw" }],
            "cnf": { "jkt": jkt }, "jti": "dt-0000000000000000000000aa", "dispatch_id": admitted.dispatch,
            "grant": "g-bench", "input_trust": "trusted", "dsh": custody_contracts::canonical::digest(b"unit"),
            "iat": NOW, "nbf": NOW, "exp": NOW + 900,
        }))?;
        let token = mint(&key, TokenType::Dispatch, &claims).map_err(failed)?.token;
        let policy = CedarPolicy::read(None).map_err(failed)?;
        Ok(Sample { key, keys, names, claims, token, jkt, admitted, tools: Tools::builtin(), policy })
    }

    fn minted(&self) -> CliResult {
        black_box(mint(&self.key, TokenType::Dispatch, black_box(&self.claims)).map_err(failed)?);
        Ok(())
    }

    fn verified(&self) -> CliResult {
        let claims = verify_dispatch(&self.keys, black_box(&self.token), &self.names, NOW).map_err(failed)?;
        bound(&claims, self.admitted.dispatch.as_str(), &self.jkt).map_err(failed)
    }

    fn decided(&self, args: &Value) -> CliResult {
        let asked = ToolAsked {
            admitted: &self.admitted,
            n: 1,
            tool: "workspace_read",
            args: black_box(args),
            args_digest: &digest(canonical(args).as_bytes()),
            tools: &self.tools,
            policy: &self.policy,
            expires_at: UnixMillis((NOW + 900) * 1_000),
            approval: None,
            grant: None,
        };
        match judge(asked).map_err(|refusal| failed(refusal.detail))? {
            Judged::Permit(permit) => {
                black_box(permit);
                Ok(())
            }
            Judged::Waits(_) => Err(failed("the sample waits for a person")),
        }
    }
}

/// A dispatch that may read its workspace.
fn admitted() -> CliResult<DispatchAdmitted> {
    let message = Maker::new()?.dispatch(0)?.into_iter().next().ok_or_else(|| failed("no message"))?;
    let stored = Stored { seq: Seq(1), log_subject: message.subject, message_id: None, bytes: message.bytes };
    let recorded = Recorded::read(&stored).map_err(failed)?.into_iter().next();
    let Some(LedgerEvent::Dispatch(DispatchEvent::Admitted(mut admitted))) = recorded.and_then(|r| r.event) else {
        return Err(failed("the first message of a dispatch is no admission"));
    };
    admitted.unit.tools = vec!["workspace_read".to_owned()];
    Ok(*admitted)
}

fn timed(rounds: u64, one: impl Fn() -> CliResult) -> CliResult<Measured> {
    let started = Instant::now();
    for _ in 0..rounds {
        one()?;
    }
    Ok(Measured::bulk(rounds, started.elapsed()))
}

/// Bare, ours, bare, until the two bare runs agree.
fn pair(rounds: u64, bare: impl Fn() -> CliResult, ours: impl Fn() -> CliResult) -> CliResult<Pair> {
    let mut tries = 1;
    loop {
        let before = timed(rounds, &bare)?;
        let ours = timed(rounds, &ours)?;
        let pair = Pair { before, ours, after: timed(rounds, &bare)? };
        if !pair.void() || tries >= TRIES_MAX {
            return Ok(pair);
        }
        tries += 1;
    }
}

fn measure(rounds: u64) -> CliResult<Vec<Value>> {
    let sample = Sample::new()?;
    let signed = sample.token.rsplit_once('.').map(|(signed, _)| signed.as_bytes().to_vec());
    let signed = signed.ok_or_else(|| failed("the token has no signature"))?;
    let (public, signature) = (parse_public(&sample.key.public_hex()), sample.key.sign_hex(&signed));
    let public = public.ok_or_else(|| failed("no key"))?;
    let sign = || {
        black_box(sample.key.sign_hex(black_box(&signed)));
        Ok(())
    };
    let verify = || match verify_hex(&public, black_box(&signed), &signature) {
        true => Ok(()),
        false => Err(failed("a good signature was refused")),
    };
    let args = json!({ "path": "notes/week-47.md" });
    let bytes = signed.len();
    let minted = pair(rounds, sign, || sample.minted())?;
    let verified = pair(rounds, verify, || sample.verified())?;
    let decided = pair(rounds, verify, || sample.decided(&args))?;
    let micros = |measured: f64| if measured > 0.0 { 1_000_000.0 / measured } else { 0.0 };
    let each = |what: &str, pair: &Pair| {
        row(what, "µs", micros(pair.ours.rate()), micros(pair.bare_rate()), Target::None, Some(pair))
    };
    Ok(vec![
        each(&format!("mint a dispatch token, against signing {bytes} bytes"), &minted),
        each(&format!("verify one and its binding, against verifying {bytes} bytes"), &verified),
        each("decide one call by Cedar and every rule, against verifying", &decided),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is measured is the honest token and a call that is let through; a token for another gateway is neither.
    #[test]
    fn what_is_measured_is_what_is_let_through() {
        let mut sample = Sample::new().unwrap();
        sample.minted().unwrap();
        sample.verified().unwrap();
        sample.decided(&json!({ "path": "a.md" })).unwrap();
        assert!(sample.decided(&json!({ "path": "../a.md" })).is_err());
        sample.jkt = "another".to_owned();
        assert!(sample.verified().is_err());
        assert_eq!(measure(100).unwrap().len(), 3);
    }
}
