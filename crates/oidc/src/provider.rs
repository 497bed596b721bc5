//! The provider over HTTP: what it publishes, and a code for an ID token. Must never send anything twice by itself, wait
//! without an end, or hold more sign-ins at once than there is room for.

use crate::config::{OidcConfig, address};
use crate::jose::{Forged, Key, keys, opened};
use crate::judge::{Wanted, judged};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use custody_outbound::told;
use custody_ports::clock::Clock;
use custody_ports::secrets::Secrets;
use custody_ports::sign_in::{Beginning, Ending, IdentityProvider, SignInFailed, Vouched};
use form_urlencoded::Serializer;
use futures::future::BoxFuture;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, RequestBuilder, StatusCode, Url};
use serde::Deserialize;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, timeout};

/// The longest wait for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// The longest wait for all that one step of a sign-in asks of the provider.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// The largest answer, in bytes.
pub(crate) const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// Steps of sign-ins at once; further ones are sent away.
pub(crate) const RUNNING_MAX: usize = 32;
/// How long what the provider publishes counts as what it publishes now.
const FRESH: Duration = Duration::from_secs(60);
/// What is repeated of an error of the provider's, in characters.
const ERROR_CHARS_MAX: usize = 40;

/// One OpenID provider.
pub struct OidcProvider {
    config: OidcConfig,
    label: String,
    client: Client,
    secrets: Arc<dyn Secrets>,
    clock: Arc<dyn Clock>,
    wait: Duration,
    pub(crate) running: Semaphore,
    told: Mutex<Option<(Instant, Arc<Told>)>>,
}

/// What the provider publishes of itself.
struct Told {
    authorization: Url,
    token: Url,
    /// Whether it takes the client's secret in the body alone.
    secret_in_body: bool,
    /// Whether each of its answers says who it is of.
    says_issuer: bool,
    keys: Vec<Key>,
}

/// Source: OpenID Connect Discovery 1.0, section 3; RFC 9207, section 3. What nothing here needs is passed over.
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

/// A good answer of the token endpoint. The access token is of no use here and is not even read.
#[derive(Deserialize)]
struct Given {
    id_token: String,
}

/// Source: RFC 6749, section 5.2. A description may repeat what was sent, so it is not read.
#[derive(Deserialize)]
struct Said {
    error: String,
}

fn unavailable(what: impl Into<String>) -> SignInFailed {
    SignInFailed::Unavailable(what.into())
}

fn refused(what: impl Into<String>) -> SignInFailed {
    SignInFailed::Refused(what.into())
}

impl OidcProvider {
    /// A provider. Nothing is connected to before somebody signs in.
    ///
    /// # Errors
    /// What is wrong with the configuration, or that there is no HTTP client to be had.
    pub fn new(config: &OidcConfig, secrets: Arc<dyn Secrets>, clock: Arc<dyn Clock>) -> Result<OidcProvider, String> {
        OidcProvider::waiting(config, secrets, clock, WAIT_MAX)
    }

    pub(crate) fn waiting(
        config: &OidcConfig,
        secrets: Arc<dyn Secrets>,
        clock: Arc<dyn Clock>,
        wait: Duration,
    ) -> Result<OidcProvider, String> {
        config.check()?;
        let builder = custody_outbound::builder(&config.issuer, &config.private_networks).connect_timeout(CONNECT_MAX);
        Ok(OidcProvider {
            label: config.called(),
            config: config.clone(),
            client: builder.build().map_err(|e| format!("no client for the identity provider: {e}"))?,
            secrets,
            clock,
            wait,
            running: Semaphore::new(RUNNING_MAX),
            told: Mutex::default(),
        })
    }

    /// One step, within its bounds.
    async fn bounded<T>(&self, step: impl Future<Output = Result<T, SignInFailed>>) -> Result<T, SignInFailed> {
        let Ok(_room) = self.running.try_acquire() else {
            return Err(unavailable("is asked by too many at once; try again"));
        };
        let silent = || unavailable(format!("gave no answer within {} ms", self.wait.as_millis()));
        timeout(self.wait, step).await.map_err(|_| silent())?
    }

    /// What it publishes, read again when it was read longer ago than this.
    async fn told(&self, age_max: Duration) -> Result<Arc<Told>, SignInFailed> {
        let mut last = self.told.lock().await;
        if let Some((at, told)) = last.as_ref()
            && at.elapsed() < age_max
        {
            return Ok(told.clone());
        }
        let told = Arc::new(self.read().await?);
        *last = Some((Instant::now(), told.clone()));
        Ok(told)
    }

    async fn read(&self) -> Result<Told, SignInFailed> {
        let odd = |what: &str| unavailable(format!("publishes {what}"));
        let at = [self.config.issuer.trim_end_matches('/'), "/.well-known/openid-configuration"].concat();
        let metadata: Metadata = serde_json::from_slice(&self.published(&at).await?)
            .map_err(|_| odd("no metadata at /.well-known/openid-configuration"))?;
        // Who publishes for another would be believed for another (OpenID Connect Discovery 1.0, section 4.3).
        if metadata.issuer != self.config.issuer {
            return Err(odd("another issuer than the one that is configured"));
        }
        let safe = |text: &str| address(text, self.config.is_local()).ok_or_else(|| odd("an address without TLS"));
        // What is asked from here may lead nowhere but where the issuer itself may; people go to theirs by themselves.
        let ours = |text: &str| {
            let url = safe(text)?;
            match told(&url, &self.config.issuer, &self.config.private_networks) {
                Ok(()) => Ok(url),
                Err(why) => Err(odd(&format!("an address that is not asked: {why}"))),
            }
        };
        let (authorization, token) = (safe(&metadata.authorization_endpoint)?, ours(&metadata.token_endpoint)?);
        let set = self.published(ours(&metadata.jwks_uri)?.as_str()).await?;
        let methods = metadata.token_endpoint_auth_methods_supported.unwrap_or_default();
        let takes = |name: &str| methods.iter().any(|method| method == name);
        Ok(Told {
            authorization,
            token,
            secret_in_body: takes("client_secret_post") && !takes("client_secret_basic"),
            says_issuer: metadata.authorization_response_iss_parameter_supported,
            keys: keys(&set).ok_or_else(|| odd("no keys"))?,
        })
    }

    async fn published(&self, at: &str) -> Result<Vec<u8>, SignInFailed> {
        let (status, answer) = self.ask(self.client.get(at)).await?;
        match status {
            StatusCode::OK => Ok(answer),
            other => Err(unavailable(format!("answered {}", other.as_u16()))),
        }
    }

    async fn ask(&self, request: RequestBuilder) -> Result<(StatusCode, Vec<u8>), SignInFailed> {
        let broke = |why: reqwest::Error| {
            let what = if why.is_connect() { "cannot be connected to" } else { "broke off" };
            unavailable(what)
        };
        let mut response = request.header(ACCEPT, "application/json").send().await.map_err(broke)?;
        let mut answer = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(broke)? {
            if answer.len().saturating_add(piece.len()) > ANSWER_BYTES_MAX {
                return Err(unavailable(format!("answered with more than {ANSWER_BYTES_MAX} bytes")));
            }
            answer.extend_from_slice(&piece);
        }
        Ok((response.status(), answer))
    }

    /// An ID token for a code. Source: RFC 6749, sections 2.3.1 and 4.1.3; RFC 7636, section 4.5.
    async fn redeemed(&self, told: &Told, ending: &Ending) -> Result<String, SignInFailed> {
        let client_id = &self.config.client_id;
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", &ending.code),
            ("redirect_uri", &ending.redirect_uri),
            ("code_verifier", &ending.verifier),
        ];
        let mut request = self.client.post(told.token.clone());
        let secret = match &self.config.client_secret_ref {
            Some(reference) => {
                Some(self.secrets.get(reference).map_err(|e| unavailable(format!("needs a secret: {e}")))?)
            }
            None => None,
        };
        match &secret {
            Some(secret) if !told.secret_in_body => {
                let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
                let pair = [encoded(client_id), encoded(secret.expose())].join(":");
                let mut own = HeaderValue::from_str(&["Basic ", &STANDARD.encode(pair)].concat())
                    .map_err(|_| unavailable("needs a secret that a header may carry"))?;
                own.set_sensitive(true);
                request = request.header(AUTHORIZATION, own);
            }
            Some(secret) => form.extend([("client_id", client_id.as_str()), ("client_secret", secret.expose())]),
            None => form.push(("client_id", client_id)),
        }
        let body = Serializer::new(String::new()).extend_pairs(form).finish();
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body);
        let (status, answer) = self.ask(request).await?;
        match status {
            StatusCode::OK => {
                let given: Given =
                    serde_json::from_slice(&answer).map_err(|_| refused("the provider gave no ID token"))?;
                Ok(given.id_token)
            }
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED => {
                let said: Option<Said> = serde_json::from_slice(&answer).ok();
                let word = |said: &Said| {
                    said.error.len() <= ERROR_CHARS_MAX
                        && said.error.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
                };
                let error = said.filter(word).map_or_else(|| status.as_u16().to_string(), |said| said.error);
                Err(refused(format!("the provider gives nothing for this code: {error}")))
            }
            // A redirect is an answer like any other that is none: code and secret go to one address only.
            other => Err(unavailable(format!("answered {}", other.as_u16()))),
        }
    }

    async fn opened(&self, told: &Told, token: &str) -> Result<Vec<u8>, SignInFailed> {
        let first = opened(token, &told.keys);
        let last = match first {
            // It may have a new key since. The token came from its own endpoint, so no stranger makes it be read again.
            Err(Forged::Key) => opened(token, &self.told(Duration::ZERO).await?.keys),
            other => other,
        };
        last.map_err(|why| {
            refused(match why {
                Forged::Form => "the provider's ID token is none",
                Forged::Algorithm => "the provider's ID token is signed by an algorithm that is not taken",
                Forged::Key => "the provider's ID token is signed with a key that it does not publish",
                Forged::Signature => "the signature of the provider's ID token is not good",
            })
        })
    }

    async fn vouched(&self, ending: &Ending) -> Result<Vouched, SignInFailed> {
        let told = self.told(FRESH).await?;
        // Before the code goes anywhere: an answer of another provider's carries a code that is that one's (RFC 9207).
        match &ending.issuer {
            Some(issuer) if *issuer != self.config.issuer => {
                return Err(refused("the answer is of another identity provider"));
            }
            None if told.says_issuer => {
                return Err(refused("the answer does not say which identity provider it is of"));
            }
            _ => {}
        }
        let token = self.redeemed(&told, ending).await?;
        let said = self.opened(&told, &token).await?;
        let wanted = Wanted {
            issuer: &self.config.issuer,
            client: &self.config.client_id,
            nonce: &ending.nonce,
            claim: &self.config.claim,
        };
        let id = judged(&said, wanted, self.clock.now().0)
            .map_err(|why| refused(format!("the provider's ID token {why}")))?;
        Ok(Vouched { issuer: self.config.issuer.clone(), id })
    }
}

impl IdentityProvider for OidcProvider {
    fn label(&self) -> &str {
        &self.label
    }

    fn begin<'a>(&'a self, beginning: &'a Beginning) -> BoxFuture<'a, Result<String, SignInFailed>> {
        Box::pin(self.bounded(async {
            let mut url = self.told(FRESH).await?.authorization.clone();
            url.query_pairs_mut()
                .append_pair("response_type", "code")
                .append_pair("client_id", &self.config.client_id)
                .append_pair("redirect_uri", &beginning.redirect_uri)
                .append_pair("scope", &self.config.scopes.join(" "))
                .append_pair("state", &beginning.state)
                .append_pair("nonce", &beginning.nonce)
                .append_pair("code_challenge", &beginning.challenge)
                .append_pair("code_challenge_method", "S256");
            Ok(url.into())
        }))
    }

    fn end<'a>(&'a self, ending: &'a Ending) -> BoxFuture<'a, Result<Vouched, SignInFailed>> {
        Box::pin(self.bounded(self.vouched(ending)))
    }
}
