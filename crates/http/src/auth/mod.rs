//! Who asks: users, sessions, and how a credential becomes one. Must never store a key or a session token, only what
//! they hash to, and never answer faster or slower for a key that is nearly right.

pub mod cookie;
pub mod pending;
pub mod person;
pub mod rate;
pub mod sessions;
pub mod users;

use crate::problem::{Code, Problem};
use custody_contracts::canonical::hex;
use custody_ports::clock::Clock;
use custody_ports::sign_in::{Beginning, Vouched};
use pending::{Pending, SignIns};
use rate::Rate;
use serde::{Deserialize, Serialize};
use sessions::{Session, Sessions};
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use users::{User, Users};

/// Who vouches for a person. A session says which one did, so that each can be ended with its provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// A key of this installation, made by `custody up` or `custody user add`.
    AccessKey,
    /// An OpenID provider.
    Oidc,
}

/// What somebody comes with.
#[derive(Debug)]
pub enum Credential<'a> {
    /// A key as it was printed.
    AccessKey(&'a str),
    /// What an identity provider said just now.
    Vouched(&'a Vouched),
}

impl Credential<'_> {
    fn provider(&self) -> Provider {
        match self {
            Credential::AccessKey(_) => Provider::AccessKey,
            Credential::Vouched(_) => Provider::Oidc,
        }
    }

    fn user(&self, users: &Users) -> Option<User> {
        match self {
            Credential::AccessKey(key) => users.by_key(key),
            Credential::Vouched(vouched) => users.by_link(&vouched.issuer, &vouched.id),
        }
    }

    fn refused(&self) -> Problem {
        match self {
            Credential::AccessKey(_) => Problem::new(Code::KeyRefused, "this key is not one of this installation")
                .hint("an administrator prints a new one with custody user reset-key"),
            Credential::Vouched(_) => {
                Problem::new(Code::PersonUnknown, "the identity provider knows you, and nobody here is linked to that")
                    .hint("an administrator runs custody user link; the server's log has the id")
            }
        }
    }
}

/// A sign-in at an identity provider that has just begun.
pub struct Begun {
    /// For the provider.
    pub beginning: Beginning,
    /// For the cookie of the browser that begins it.
    pub browser: String,
}

/// Who is signed in, as a route sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The person.
    pub subject: String,
    /// What people call them.
    pub name: String,
    /// Whether they see everybody's.
    pub admin: bool,
    /// Which session, by the hash of its token.
    pub session: String,
    /// Who vouched.
    pub provider: Provider,
    /// When the session ends.
    pub expires_at: u64,
}

impl Person {
    /// Whether a row of this subject is theirs to see.
    pub fn may_see(&self, subject: Option<&str>) -> bool {
        self.admin || subject == Some(self.subject.as_str())
    }
}

/// A key or token of 256 random bits; what is stored is its hash, which needs no salt and no stretching.
pub fn hash(secret: &str) -> String {
    hex(&Sha256::digest(secret.as_bytes()))
}

/// Equal in constant time for texts of one length.
pub(crate) fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |differs, (x, y)| differs | (x ^ y)) == 0
}

/// 256 random bits as text.
///
/// # Errors
/// When the kernel gives no random bytes.
pub fn secret(prefix: &str) -> Result<String, Problem> {
    use base64::Engine;
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).map_err(|_| Problem::new(Code::Internal, "no random bytes"))?;
    Ok([prefix, &base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)].concat())
}

/// Users, sessions, and the count of failed tries. Clones share them.
#[derive(Clone)]
pub struct Auth {
    state: Arc<Mutex<State>>,
    clock: Arc<dyn Clock>,
    lasts: Duration,
    changed: watch::Sender<u64>,
    folder: PathBuf,
}

struct State {
    users: Users,
    sessions: Sessions,
    rate: Rate,
    pending: SignIns,
    /// When a provider that is down was last written about.
    told_at: Option<u64>,
}

/// The shortest time between two lines of the log about a provider that is down, in milliseconds.
const TELLS_EVERY_MS: u64 = 1_000;

impl Auth {
    /// From the role's folder; a file that is not there is empty.
    ///
    /// # Errors
    /// When a file cannot be read or is not of its form.
    pub fn open(folder: PathBuf, clock: Arc<dyn Clock>, lasts: Duration) -> std::io::Result<Auth> {
        let users = Users::read(&folder)?;
        let sessions = Sessions::read(&folder, clock.now().0)?;
        let state = Arc::new(Mutex::new(State {
            users,
            sessions,
            rate: Rate::default(),
            pending: SignIns::default(),
            told_at: None,
        }));
        Ok(Auth { state, clock, lasts, changed: watch::channel(0).0, folder })
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Told whenever somebody's rights may have changed: a sign-out, a changed user, an ended session.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Exchanges a credential for a session's token.
    ///
    /// # Errors
    /// `TOO_MANY` after too many failures from one address, `KEY_REFUSED` or `PERSON_UNKNOWN` for what is nobody's here.
    pub fn sign_in(&self, credential: &Credential<'_>, from: IpAddr) -> Result<(String, Person), Problem> {
        let now = self.clock.now().0;
        let token = secret("")?;
        // Somebody who was added a moment ago is not told to be nobody. A guesser meets the rate before the file.
        let look_again = self.with(|state| state.rate.allows(from, now) && credential.user(&state.users).is_none());
        if look_again && let Err(error) = self.refresh() {
            tracing::warn!(%error, "users cannot be read; they stay as they were");
        }
        self.with(|state| {
            if !state.rate.allows(from, now) {
                return Err(too_many());
            }
            let Some(user) = credential.user(&state.users) else {
                state.rate.failed(from, now);
                return Err(credential.refused());
            };
            let session = Session {
                subject: user.subject.clone(),
                provider: credential.provider(),
                began_at: now,
                expires_at: now.saturating_add(u64::try_from(self.lasts.as_millis()).unwrap_or(u64::MAX)),
            };
            let id = hash(&token);
            let person = person(&user, &id, &session);
            state.sessions.add(id, session, now);
            state.sessions.write(&self.folder).map_err(|e| Problem::new(Code::Unavailable, e.kind()))?;
            Ok((token, person))
        })
    }

    /// Begins a sign-in at an identity provider. `to` is where the person was going.
    ///
    /// # Errors
    /// When the kernel gives no random bytes.
    pub fn begin(&self, redirect_uri: String, to: String) -> Result<Begun, Problem> {
        use base64::Engine;
        let (state, nonce, verifier, browser) = (secret("")?, secret("")?, secret("")?, secret("")?);
        let challenge = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
        let pending = Pending {
            began_at: self.clock.now().0,
            browser: hash(&browser),
            nonce: nonce.clone(),
            verifier,
            redirect_uri: redirect_uri.clone(),
            to,
        };
        self.with(|all| all.pending.add(hash(&state), pending));
        Ok(Begun { beginning: Beginning { redirect_uri, state, nonce, challenge }, browser })
    }

    /// The sign-in that a browser came back from, once. `browser` is its cookie.
    ///
    /// # Errors
    /// `TOO_MANY` after too many failures from one address, `SIGN_IN_OVER` for one that is not this browser's, was used
    /// already, took too long or never was.
    pub fn returned(&self, state: &str, browser: Option<&str>, from: IpAddr) -> Result<Pending, Problem> {
        let now = self.clock.now().0;
        self.with(|all| {
            if !all.rate.allows(from, now) {
                return Err(too_many());
            }
            all.pending.take(&hash(state), browser.map(hash).as_deref(), now).ok_or_else(|| {
                all.rate.failed(from, now);
                Problem::new(Code::SignInOver, "it was used already, took too long, or was begun in another browser")
                    .hint("begin again at /login")
            })
        })
    }

    /// Counts a failure at an identity provider, as a wrong key is counted.
    pub fn failed(&self, from: IpAddr) {
        let now = self.clock.now().0;
        self.with(|state| state.rate.failed(from, now));
    }

    /// Whether a line about a provider that is down is due: whoever begins a sign-in is a stranger, and may do so often.
    pub fn tells_of_silence(&self) -> bool {
        let now = self.clock.now().0;
        self.with(|state| {
            let due = state.told_at.is_none_or(|at| now.saturating_sub(at) >= TELLS_EVERY_MS);
            if due {
                state.told_at = Some(now);
            }
            due
        })
    }

    /// Who a token stands for, if its session lives and its user may still come in.
    pub fn who(&self, token: &str) -> Option<Person> {
        self.still(&hash(token))
    }

    /// Who a session stands for now: rights are read again at each call.
    pub fn still(&self, session: &str) -> Option<Person> {
        let now = self.clock.now().0;
        self.with(|state| {
            let found = state.sessions.live(session, now)?;
            // Whoever is linked no more does not stay because of a link.
            let may = |user: &&User| !user.disabled && (found.provider != Provider::Oidc || user.linked.is_some());
            let user = state.users.get(&found.subject).filter(may)?;
            Some(person(user, session, found))
        })
    }

    /// Ends a session. Safe to call again.
    ///
    /// # Errors
    /// `UNAVAILABLE` when it cannot be written down.
    pub fn sign_out(&self, session: &str) -> Result<(), Problem> {
        let written = self.with(|state| {
            state.sessions.remove(session);
            state.sessions.write(&self.folder)
        });
        self.changed.send_modify(|n| *n += 1);
        written.map_err(|e| Problem::new(Code::Unavailable, e.kind()))
    }

    /// Reads the users again when their file changed, which `custody user` does. True when it did.
    ///
    /// # Errors
    /// When the file cannot be read: the users stay as they were.
    pub fn refresh(&self) -> std::io::Result<bool> {
        let changed = self.with(|state| {
            let fresh = Users::read(&self.folder)?;
            let differs = fresh != state.users;
            state.users = fresh;
            Ok::<_, std::io::Error>(differs)
        })?;
        if changed {
            self.changed.send_modify(|n| *n += 1);
        }
        Ok(changed)
    }

    /// Milliseconds since the epoch, by the role's clock.
    pub fn now(&self) -> u64 {
        self.clock.now().0
    }
}

fn too_many() -> Problem {
    Problem::new(Code::TooMany, "too many tries were refused from this address")
}

fn person(user: &User, id: &str, session: &Session) -> Person {
    Person {
        subject: user.subject.clone(),
        name: user.name.clone(),
        admin: user.admin,
        session: id.to_owned(),
        provider: session.provider,
        expires_at: session.expires_at,
    }
}

#[cfg(test)]
mod tests;
