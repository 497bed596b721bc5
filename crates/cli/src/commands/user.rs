//! `custody user`: who may sign in at the web of this machine. A key is printed once and stored as a hash; a running
//! server sees the change within a second, and ends the streams of who may no longer come in.

use super::Ctx;
use crate::config::Config;
use crate::error::{CliError, CliResult, exit};
use crate::render::{col, line, notice, wide};
use crate::server::clock::now_ms;
use crate::server::web::{folder, new_key, unreadable};
use custody_contracts::ids::Subject;
use custody_http::auth::hash;
use custody_http::auth::users::{Linked, User, Users};
use custody_ports::sign_in::{PERSON_BYTES_MAX, is_person};
use serde_json::json;
use std::path::Path;

/// Users of the web.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum UserCommand {
    /// List users
    #[command(visible_alias = "list", after_help = "Examples:\n  custody user ls -o json")]
    Ls,
    /// Add a user and print their key, once
    #[command(after_help = "Examples:\n  custody user add u_jane --name Jane\n  custody user add u_ops --admin")]
    Add {
        /// The person, as dispatches name them, for example u_jane; never an e-mail address
        subject: String,
        /// What people call them [default: the subject without u_]
        #[arg(long)]
        name: Option<String>,
        /// Sees everybody's dispatches
        #[arg(long)]
        admin: bool,
        /// Who they are at the identity provider of [http.oidc], who then may sign in there
        #[arg(long, value_name = "ID")]
        link: Option<String>,
    },
    /// Print a new key for a user, once; the old one is refused from then on
    #[command(
        after_help = "Open sessions go on; `custody user disable` ends them.\n\nExamples:\n  custody user reset-key u_jane"
    )]
    ResetKey {
        /// The person
        subject: String,
    },
    /// Make or unmake an administrator
    #[command(after_help = "Examples:\n  custody user admin u_jane\n  custody user admin u_jane --revoke")]
    Admin {
        /// The person
        subject: String,
        /// Unmake
        #[arg(long)]
        revoke: bool,
    },
    /// Let a user sign in at the identity provider of [http.oidc], as whom it knows them
    #[command(
        after_help = "A refused sign-in stands in the server's log with the id. An id is one user's.\n\nExamples:\n  custody user link u_jane 5f2c7a9e-3d41-4c8b-9a67-0e1b2d3c4f50\n  custody user link u_jane --remove"
    )]
    Link {
        /// The person
        subject: String,
        /// Their id there: the ID token's claim that [http.oidc] names, sub unless said
        #[arg(required_unless_present = "remove")]
        id: Option<String>,
        /// Not any more; sessions that began there end
        #[arg(long, conflicts_with = "id")]
        remove: bool,
    },
    /// Let a user in no more, by key or from elsewhere, and end their sessions
    #[command(after_help = "Examples:\n  custody user disable u_jane")]
    Disable {
        /// The person
        subject: String,
    },
    /// Let them in again
    #[command(after_help = "Examples:\n  custody user enable u_jane")]
    Enable {
        /// The person
        subject: String,
    },
}

pub(crate) async fn run(ctx: &Ctx, command: UserCommand) -> CliResult {
    let target = ctx.target()?;
    target.home.prepare()?;
    let folder = folder(&target);
    let mut users = Users::read(&folder).map_err(unreadable)?;
    match command {
        UserCommand::Ls => ls(ctx, &users),
        UserCommand::Add { subject, name, admin, link } => {
            let subject = Subject::parse(&subject)
                .map_err(|e| CliError::new(exit::USAGE, "SUBJECT_INVALID", e).hint("an opaque id such as u_jane"))?
                .to_string();
            if users.get(&subject).is_some() {
                return Err(CliError::new(exit::CONFLICT, "USER_EXISTS", format!("there is a user {subject} already"))
                    .hint(format!("custody user reset-key {subject}")));
            }
            let key = new_key()?;
            let name = name.unwrap_or_else(|| subject.trim_start_matches("u_").to_owned());
            let user = User {
                subject: subject.clone(),
                name,
                admin,
                key_hash: hash(&key),
                disabled: false,
                linked: None,
                added_at: now_ms(),
            };
            users.put(user).map_err(|e| CliError::new(exit::USAGE, "TOO_MANY_USERS", e))?;
            if let Some(id) = link {
                relink(&mut users, &subject, Some(linked(&target.config, id)?))?;
            }
            save(&users, &folder)?;
            tell(ctx, &subject, Some(&key))
        }
        UserCommand::Link { subject, id, .. } => {
            exists(&users, &subject)?;
            let link = id.map(|id| linked(&target.config, id)).transpose()?;
            relink(&mut users, &subject, link)?;
            save(&users, &folder)?;
            tell(ctx, &subject, None)
        }
        UserCommand::ResetKey { subject } => {
            let key = new_key()?;
            change(&mut users, &folder, &subject, |user| user.key_hash = hash(&key))?;
            tell(ctx, &subject, Some(&key))
        }
        UserCommand::Admin { subject, revoke } => {
            keep_one_admin(&users, &subject, !revoke)?;
            change(&mut users, &folder, &subject, |user| user.admin = !revoke)?;
            tell(ctx, &subject, None)
        }
        UserCommand::Disable { subject } => {
            keep_one_admin(&users, &subject, false)?;
            change(&mut users, &folder, &subject, |user| user.disabled = true)?;
            tell(ctx, &subject, None)
        }
        UserCommand::Enable { subject } => {
            change(&mut users, &folder, &subject, |user| user.disabled = false)?;
            tell(ctx, &subject, None)
        }
    }
}

/// Nobody locks everybody out: the last administrator who may come in stays one.
fn keep_one_admin(users: &Users, subject: &str, stays: bool) -> CliResult {
    let mut others = users.iter().filter(|u| u.admin && !u.disabled && u.subject != subject);
    let is_one = users.get(subject).is_some_and(|u| u.admin && !u.disabled);
    if stays || !is_one || others.next().is_some() {
        return Ok(());
    }
    Err(CliError::new(exit::CONFLICT, "LAST_ADMIN", format!("{subject} is the last administrator"))
        .hint("custody user add u_other --admin"))
}

/// An id at the provider that is configured: an id means something together with it alone.
fn linked(config: &Config, id: String) -> CliResult<Linked> {
    let oidc = config.http.oidc.as_ref().ok_or_else(|| {
        CliError::new(exit::USAGE, "NO_PROVIDER", "no identity provider is configured")
            .hint("[http.oidc] in the configuration")
    })?;
    if !is_person(&id) {
        let most = format!("an id is 1 to {PERSON_BYTES_MAX} bytes on one line");
        return Err(CliError::new(exit::USAGE, "ID_INVALID", most));
    }
    Ok(Linked { issuer: oidc.issuer.clone(), id })
}

fn relink(users: &mut Users, subject: &str, link: Option<Linked>) -> CliResult {
    users
        .link(subject, link)
        .map_err(|why| CliError::new(exit::CONFLICT, "LINKED", why).hint("custody user ls -o wide"))
}

fn exists(users: &Users, subject: &str) -> CliResult<User> {
    users.get(subject).cloned().ok_or_else(|| {
        CliError::new(exit::NOT_FOUND, "NOT_FOUND", format!("there is no user {subject:?}")).hint("custody user ls")
    })
}

fn change(users: &mut Users, folder: &Path, subject: &str, edit: impl FnOnce(&mut User)) -> CliResult {
    let mut user = exists(users, subject)?;
    edit(&mut user);
    users.put(user).map_err(|e| CliError::new(exit::USAGE, "TOO_MANY_USERS", e))?;
    save(users, folder)
}

fn save(users: &Users, folder: &Path) -> CliResult {
    Ok(users.write(folder)?)
}

fn tell(ctx: &Ctx, subject: &str, key: Option<&str>) -> CliResult {
    if ctx.render.format.is_some() {
        return ctx.render.one("user-command.v1", "subject", &json!({ "subject": subject, "key": key }));
    }
    match key {
        Some(key) => {
            notice(format!("the key of {subject}, shown only now:"));
            line(key)
        }
        None => line(format!("{subject} changed")),
    }
}

fn ls(ctx: &Ctx, users: &Users) -> CliResult {
    let rows: Vec<_> = users
        .iter()
        .map(|u| {
            json!({
                "subject": u.subject, "name": u.name, "role": if u.admin { "admin" } else { "user" },
                "state": if u.disabled { "disabled" } else { "enabled" }, "added_at": u.added_at,
                "linked": u.linked.as_ref().map(|link| &link.id),
            })
        })
        .collect();
    let columns = [
        col("SUBJECT", "subject"),
        col("NAME", "name"),
        col("ROLE", "role"),
        col("STATE", "state"),
        wide("ADDED", "added_at"),
        wide("LINKED", "linked"),
    ];
    ctx.render.list("user.v1", "subject", &columns, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(subject: &str, admin: bool, disabled: bool) -> User {
        User {
            subject: subject.into(),
            name: String::new(),
            admin,
            key_hash: String::new(),
            disabled,
            linked: None,
            added_at: 0,
        }
    }

    #[test]
    fn the_last_administrator_stays_one() {
        let mut users = Users::default();
        users.put(user("u_root", true, false)).unwrap();
        users.put(user("u_jane", false, false)).unwrap();
        users.put(user("u_gone", true, true)).unwrap();
        assert_eq!(keep_one_admin(&users, "u_root", false).unwrap_err().code, "LAST_ADMIN");
        assert!(keep_one_admin(&users, "u_jane", false).is_ok() && keep_one_admin(&users, "u_root", true).is_ok());
        users.put(user("u_two", true, false)).unwrap();
        assert!(keep_one_admin(&users, "u_root", false).is_ok());
    }
}
