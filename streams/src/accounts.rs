//! The accounts, users and permissions of the server, and its configuration text. Pure. Users are nkeys only, and only
//! their public halves come here. Must never write text into the configuration that was not checked.
//!
//! Four accounts: LOG holds the streams and the administrator, SERVICES our services, EDGE the launchers, SYS the
//! server's own. No permission checks a reply subject: whoever may ask a server anything can have the answer published
//! on any subject of his account. So nobody but the administrator lives where the streams are. The others reach them
//! through service imports, which bring the ack back while the reply subject stays in the asker's account: EDGE for
//! `launch.*.*`, SERVICES for what its roles write, for the JetStream API and for acks. Push consumers deliver to
//! `deliver.<user>.*`, which LOG exports to SERVICES; replies to launchers go from SERVICES to EDGE as `reply.*.*`, and what
//! their dispatches say as `reply.*.*.out`.

use crate::spec::{BLOBS, LAUNCH, LAUNCH_CONSUMER, LEDGER, OUTPUT, WORKSPACES};
use crate::subject::{
    COMMAND_ALL, CONTENT_ALL, HEARD_ALL, IN_ALL, LAUNCH_ALL, LEDGER_ALL, OUT_ALL, QUERY_ALL, REPLY_ALL,
};
use custody_contracts::events::{Kind, Role};
use custody_contracts::ids::LauncherId;
use std::fmt::Write as _;

/// The most launchers in one configuration.
pub const LAUNCHERS_MAX: usize = 10_000;

/// Who a service user is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceUser {
    /// Admission, launchers, keys, checkpoints.
    Authority,
    /// Containers.
    Runtime,
    /// Boxes' sockets, models, output.
    Gateway,
    /// Folds.
    Projector,
    /// The web: sign-in, REST, the bridge. It reads, asks and commands; it appends nothing.
    Api,
    /// The command line of an operator: commands, queries, reads.
    Operator,
    /// Breaks glass: the only one that may make and change streams. Used by `streams apply` and at first start.
    Admin,
}

impl ServiceUser {
    /// Everyone.
    pub const ALL: [ServiceUser; 7] = [
        ServiceUser::Authority,
        ServiceUser::Runtime,
        ServiceUser::Gateway,
        ServiceUser::Projector,
        ServiceUser::Api,
        ServiceUser::Operator,
        ServiceUser::Admin,
    ];

    /// Its word, for example `authority`.
    pub fn as_str(self) -> &'static str {
        match self {
            ServiceUser::Authority => "authority",
            ServiceUser::Runtime => "runtime",
            ServiceUser::Gateway => "gateway",
            ServiceUser::Projector => "projector",
            ServiceUser::Api => "api",
            ServiceUser::Operator => "operator",
            ServiceUser::Admin => "admin",
        }
    }

    /// The user of a word.
    pub fn parse(text: &str) -> Option<ServiceUser> {
        ServiceUser::ALL.into_iter().find(|u| u.as_str() == text)
    }

    /// The first token of its inbox, for example `_INBOX_authority`.
    pub fn inbox_prefix(self) -> String {
        inbox_prefix(self.as_str())
    }

    fn role(self) -> Option<Role> {
        Role::parse(self.as_str())
    }
}

/// The first token of a user's inbox.
pub fn inbox_prefix(name: &str) -> String {
    [INBOX, name].concat()
}

const INBOX: &str = "_INBOX_";
const DELIVER_ALL: &str = "deliver.*.*";
const API_ALL: &str = "$JS.API.>";
/// What services may reach in LOG beside the API, each as far as its own permissions go.
const DOORS: [&str; 7] = [LEDGER_ALL, OUT_ALL, IN_ALL, "$O.blobs.>", "$O.workspaces.>", "$JS.ACK.>", "$JS.FC.>"];

/// What a person may command over the web: their dispatches, their grants, and what waits for them. Launchers and keys are
/// an operator's. And what the web hands on for whoever proves a gateway's key: an exchange of tokens, and the keys to
/// verify them.
const API_COMMANDS: [&str; 5] = [
    "command.dispatch.>",
    "command.grant.>",
    "command.approval.>",
    "command.token.exchange",
    "command.token.published",
];

/// What the push consumers of a user deliver to, before the last token; from its inbox prefix.
pub fn deliver_prefix(inbox_prefix: &str) -> String {
    ["deliver.", inbox_prefix.strip_prefix(INBOX).unwrap_or(inbox_prefix)].concat()
}

/// Why no configuration can be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountsError {
    /// Not the public half of a user nkey.
    #[error("{text:?} of {user} is not a public user nkey (U and 55 of [A-Z2-7])")]
    BadKey {
        /// Whose.
        user: String,
        /// The text, cut to 80 characters.
        text: String,
    },
    /// Two users have the same key.
    #[error("{first} and {second} have the same key")]
    SameKey {
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// Too many launchers.
    #[error("{0} launchers are more than {LAUNCHERS_MAX}")]
    TooMany(usize),
    /// A path or name with a quote, a backslash or a control character.
    #[error("{what} {text:?} cannot be written into the server's configuration")]
    BadText {
        /// What it is.
        what: &'static str,
        /// The text, cut to 200 characters.
        text: String,
    },
}

/// The public half of a user nkey: `U` and 55 more base-32 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UserKey(String);

impl UserKey {
    /// Checks and wraps a text.
    ///
    /// # Errors
    /// [`AccountsError::BadKey`].
    pub fn parse(user: &str, text: &str) -> Result<UserKey, AccountsError> {
        let base32 = |b: u8| b.is_ascii_uppercase() || (b'2'..=b'7').contains(&b);
        if text.len() == 56 && text.starts_with('U') && text.bytes().all(base32) {
            return Ok(UserKey(text.to_owned()));
        }
        Err(AccountsError::BadKey { user: user.to_owned(), text: text.chars().take(80).collect() })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One launcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launcher {
    /// Its token.
    pub id: LauncherId,
    /// Its key.
    pub key: UserKey,
}

/// Everybody who may connect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    /// Our services. The same user may have several keys, one for each instance.
    pub services: Vec<(ServiceUser, UserKey)>,
    /// The launchers that are not disabled.
    pub launchers: Vec<Launcher>,
    /// Who may ask the server about itself and reload it.
    pub system: Vec<UserKey>,
}

impl Default for UserKey {
    fn default() -> Self {
        UserKey(["U", &"A".repeat(55)].concat())
    }
}

/// Publish and subscribe rights of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    /// Subjects it may publish.
    pub publish: Vec<String>,
    /// Subjects it may subscribe.
    pub subscribe: Vec<String>,
    /// Whether it may answer requests it received, once each.
    pub answers: bool,
}

fn list(items: &[&str]) -> Vec<String> {
    items.iter().map(|s| (*s).to_owned()).collect()
}

/// What reading a stream needs: leader and direct reads, and ephemeral ordered consumers of its own.
fn reads(stream: &str) -> Vec<String> {
    let api = |verb: &str| ["$JS.API.", verb, ".", stream].concat();
    vec![
        api("STREAM.INFO"),
        api("STREAM.MSG.GET"),
        api("DIRECT.GET"),
        [&api("DIRECT.GET"), ".>"].concat(),
        [&api("CONSUMER.CREATE"), ".>"].concat(),
        [&api("CONSUMER.INFO"), ".*"].concat(),
        [&api("CONSUMER.DELETE"), ".*"].concat(),
    ]
}

/// What looking at single messages of a stream needs, without any right over its consumers.
fn looks(stream: &str) -> Vec<String> {
    reads(stream).into_iter().filter(|s| !s.contains(".CONSUMER.")).collect()
}

/// Reading and writing the workspaces that are kept in NATS, and purging what a rotation of keys left behind there.
fn keeps_workspaces() -> Vec<String> {
    let mut rights = reads(WORKSPACES);
    rights.push("$O.workspaces.>".to_owned());
    rights.push(["$JS.API.STREAM.PURGE.", WORKSPACES].concat());
    rights
}

/// The rights of a service.
pub fn service_permissions(user: ServiceUser) -> Permissions {
    let inbox = [&user.inbox_prefix(), ".>"].concat();
    let deliver = [&deliver_prefix(&user.inbox_prefix()), ".*"].concat();
    if user == ServiceUser::Admin {
        return Permissions { publish: list(&[">"]), subscribe: list(&[">"]), answers: false };
    }
    // $JS.FC answers the flow control of push consumers; $JS.ACK ends with tokens that changed in 2.15.
    let mut publish = list(&["$JS.API.INFO", "$JS.FC.>"]);
    publish.extend(reads(LEDGER));
    if let Some(role) = user.role() {
        let kinds = Kind::ALL.into_iter().filter(|kind| kind.writer() == role);
        publish.extend(kinds.map(|kind| ["ledger.", kind.as_str(), ".*"].concat()));
    }
    let mut subscribe = vec![inbox, deliver];
    let mut answers = false;
    match user {
        ServiceUser::Authority => {
            publish.extend(list(&[REPLY_ALL, IN_ALL]));
            publish.extend(looks(LAUNCH));
            // What a person edits of a call that waits: kept by digest, as the arguments of every call are.
            publish.extend(reads(BLOBS));
            publish.push("$O.blobs.>".to_owned());
            for verb in ["CREATE", "INFO", "MSG.NEXT"] {
                publish.push(["$JS.API.CONSUMER.", verb, ".", LAUNCH, ".", LAUNCH_CONSUMER].concat());
            }
            publish.push(["$JS.ACK.", LAUNCH, ".", LAUNCH_CONSUMER, ".>"].concat());
            publish.push("$JS.ACK.>".to_owned());
            subscribe.push(COMMAND_ALL.to_owned());
            answers = true;
        }
        ServiceUser::Runtime => {
            publish.extend(reads(OUTPUT));
            publish.extend(reads(BLOBS));
            publish.push("$O.blobs.>".to_owned());
            // It can end any box anyway; asking authority puts who asked into the ledger.
            publish.push("command.dispatch.stop".to_owned());
            publish.extend(keeps_workspaces());
            // It holds the buckets and their keys, so that the web need not.
            subscribe.push(CONTENT_ALL.to_owned());
            answers = true;
        }
        ServiceUser::Gateway => {
            publish.extend(list(&[OUT_ALL, HEARD_ALL]));
            publish.extend(reads(OUTPUT));
            publish.extend(reads(BLOBS));
            publish.push("$O.blobs.>".to_owned());
            // For a dispatch that it serves it proves with its own key that it asks.
            publish.extend(list(&["command.token.dispatch", "command.token.exchange", "command.token.assert"]));
        }
        ServiceUser::Projector => {
            publish.extend(reads(OUTPUT));
            subscribe.push(QUERY_ALL.to_owned());
            answers = true;
        }
        ServiceUser::Api => {
            publish.extend(API_COMMANDS.map(str::to_owned));
            publish.extend(list(&[QUERY_ALL, CONTENT_ALL]));
            publish.extend(reads(OUTPUT));
            // The arguments of a call that waits: who decides sees exactly what would be done.
            publish.extend(reads(BLOBS));
        }
        ServiceUser::Operator => {
            publish.extend(list(&[COMMAND_ALL, QUERY_ALL]));
            publish.extend(reads(OUTPUT));
            publish.extend(reads(BLOBS));
            publish.extend(looks(LAUNCH));
            publish.extend(keeps_workspaces());
        }
        ServiceUser::Admin => {}
    }
    Permissions { publish, subscribe, answers }
}

/// The rights of a launcher: its own subjects, its own inbox, its own replies and what its own dispatches say.
pub fn launcher_permissions(id: &LauncherId) -> Permissions {
    let id = id.as_str();
    Permissions {
        publish: vec![["launch.", id, ".*"].concat()],
        subscribe: vec![[&inbox_prefix(id), ".>"].concat(), ["reply.", id, ".>"].concat()],
        answers: false,
    }
}

/// How one server runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Its name, which its first line to a client repeats.
    pub server_name: String,
    /// Address to listen on.
    pub host: String,
    /// Port; -1 lets the server choose.
    pub port: i32,
    /// Where streams are stored.
    pub store_dir: String,
    /// Where the server writes its log.
    pub log_file: String,
    /// The most bytes that all streams together may be limited to.
    pub file_bytes_max: i64,
    /// Whether an acknowledged message is on disk. Anything but `always` exists for the guard's own test.
    pub sync_interval: SyncInterval,
    /// Who may connect.
    pub accounts: Accounts,
}

/// When stored messages reach the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncInterval {
    /// Before they are acknowledged.
    Always,
    /// Within two minutes: the server's own default, which the guard refuses.
    ServerDefault,
}

/// The accounts LOG, SERVICES and EDGE alone, to be put into the configuration of a server that somebody else runs.
///
/// # Errors
/// [`AccountsError`] when a key is used twice or there are too many launchers.
pub fn accounts_text(accounts: &Accounts) -> Result<String, AccountsError> {
    check(accounts)?;
    let mut out = String::from("accounts {\n");
    write_accounts(&mut out, accounts);
    out.push_str("}\n");
    Ok(out)
}

/// The whole configuration of a server of ours.
///
/// # Errors
/// [`AccountsError`], also when a path or name cannot be written.
pub fn server_text(config: &ServerConfig) -> Result<String, AccountsError> {
    check(&config.accounts)?;
    let mut out = String::from("# Written by custody; changes are lost at the next start or reload.\n");
    let sync = match config.sync_interval {
        SyncInterval::Always => "  sync_interval: always\n",
        SyncInterval::ServerDefault => "",
    };
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "server_name: {name}\nlisten: {listen}\nmax_payload: 1MB\nwrite_deadline: \"10s\"\nlog_file: {log}\nlogtime: true\n\
         logfile_size_limit: 16MB\nlogfile_max_num: 3\n\
         jetstream {{\n  store_dir: {store}\n{sync}  max_mem: 256MB\n  max_file: {max_file}\n  strict: true\n  \
         limits {{ max_ack_pending: 5000, batch {{ max_inflight_per_stream: 50, max_msgs: 1000, timeout: \"10s\" }} }}\n}}\n",
        name = quoted("server name", &config.server_name)?,
        listen = quoted("address", &[&config.host, ":", &config.port.to_string()].concat())?,
        log = quoted("log file", &config.log_file)?,
        store = quoted("store folder", &config.store_dir)?,
        max_file = config.file_bytes_max,
    );
    out.push_str("accounts {\n");
    write_accounts(&mut out, &config.accounts);
    out.push_str("  SYS {\n    users: [\n");
    for key in &config.accounts.system {
        let _ = writeln!(out, "      {{ nkey: {} }}", key.0);
    }
    out.push_str("    ]\n  }\n}\nsystem_account: SYS\n");
    Ok(out)
}

fn check(accounts: &Accounts) -> Result<(), AccountsError> {
    if accounts.launchers.len() > LAUNCHERS_MAX {
        return Err(AccountsError::TooMany(accounts.launchers.len()));
    }
    let services = accounts.services.iter().map(|(user, key)| (key, user.as_str().to_owned()));
    let launchers = accounts.launchers.iter().map(|l| (&l.key, ["launcher ", l.id.as_str()].concat()));
    let system = accounts.system.iter().map(|key| (key, "system".to_owned()));
    let mut seen = std::collections::BTreeMap::new();
    for (key, user) in services.chain(launchers).chain(system) {
        if let Some(first) = seen.insert(key, user.clone()) {
            return Err(AccountsError::SameKey { first, second: user });
        }
    }
    Ok(())
}

fn quoted(what: &'static str, text: &str) -> Result<String, AccountsError> {
    if text.is_empty() || text.chars().any(|c| c.is_control() || c == '"' || c == '\\') {
        return Err(AccountsError::BadText { what, text: text.chars().take(200).collect() });
    }
    Ok(["\"", text, "\""].concat())
}

fn write_accounts(out: &mut String, accounts: &Accounts) {
    let (administrators, services): (Vec<_>, Vec<_>) =
        accounts.services.iter().partition(|(user, _)| *user == ServiceUser::Admin);
    let mut line = |text: &str| {
        out.push_str(text);
        out.push('\n');
    };
    let user = |(user, key): &(ServiceUser, UserKey)| user_line(key, &service_permissions(*user));

    line("  LOG {\n    jetstream: enabled\n    users: [");
    administrators.into_iter().for_each(|admin| line(&user(admin)));
    line("    ]\n    exports: [");
    line(&format!("      {{ service: \"{LAUNCH_ALL}\", accounts: [EDGE] }}"));
    for subject in DOORS {
        line(&format!("      {{ service: \"{subject}\", accounts: [SERVICES] }}"));
    }
    // One request may have many answers: batched reads and pulls.
    line(&format!("      {{ service: \"{API_ALL}\", response: stream, accounts: [SERVICES] }}"));
    line(&format!("      {{ stream: \"{DELIVER_ALL}\", accounts: [SERVICES] }}"));

    line("    ]\n  }\n  SERVICES {\n    users: [");
    services.into_iter().for_each(|service| line(&user(service)));
    line("    ]\n    imports: [");
    for subject in DOORS.into_iter().chain([API_ALL]) {
        line(&format!("      {{ service: {{ account: LOG, subject: \"{subject}\" }} }}"));
    }
    line(&format!("      {{ stream: {{ account: LOG, subject: \"{DELIVER_ALL}\" }} }}"));
    line("    ]\n    exports: [");
    for subject in [REPLY_ALL, HEARD_ALL] {
        line(&format!("      {{ stream: \"{subject}\", accounts: [EDGE] }}"));
    }

    line("    ]\n  }\n  EDGE {\n    users: [");
    for launcher in &accounts.launchers {
        line(&user_line(&launcher.key, &launcher_permissions(&launcher.id)));
    }
    line("    ]\n    imports: [");
    line(&format!("      {{ service: {{ account: LOG, subject: \"{LAUNCH_ALL}\" }} }}"));
    for subject in [REPLY_ALL, HEARD_ALL] {
        line(&format!("      {{ stream: {{ account: SERVICES, subject: \"{subject}\" }} }}"));
    }
    line("    ]\n  }");
}

fn user_line(key: &UserKey, permissions: &Permissions) -> String {
    let subjects = |items: &[String]| items.iter().map(|s| ["\"", s, "\""].concat()).collect::<Vec<_>>().join(", ");
    let answers = if permissions.answers { ", allow_responses: { max: 1, expires: \"1m\" }" } else { "" };
    format!(
        "      {{ nkey: {}, permissions: {{ publish: {{ allow: [{}] }}, subscribe: {{ allow: [{}] }}{answers} }} }}",
        key.0,
        subjects(&permissions.publish),
        subjects(&permissions.subscribe),
    )
}
