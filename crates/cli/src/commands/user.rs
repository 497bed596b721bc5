//! `custody user`: who may sign in at the web of this machine. A key is printed once and stored as a hash; a running
//! server sees the change within a second, and ends the streams of who may no longer come in.

use super::Ctx;
use crate::error::{CliError, CliResult, exit};
use crate::render::{col, line, notice, wide};
use crate::server::clock::now_ms;
use crate::server::web::{folder, new_key, unreadable};
use custody_contracts::ids::Subject;
use custody_http::auth::hash;
use custody_http::auth::users::{User, Users};
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
    /// Let nobody in with this user's key, and end their sessions
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
        UserCommand::Add { subject, name, admin } => {
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
                added_at: now_ms(),
            };
            users.put(user).map_err(|e| CliError::new(exit::USAGE, "TOO_MANY_USERS", e))?;
            save(&users, &folder)?;
            tell(ctx, &subject, Some(&key))
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

fn change(users: &mut Users, folder: &Path, subject: &str, edit: impl FnOnce(&mut User)) -> CliResult {
    let mut user = users.get(subject).cloned().ok_or_else(|| {
        CliError::new(exit::NOT_FOUND, "NOT_FOUND", format!("there is no user {subject:?}")).hint("custody user ls")
    })?;
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
            })
        })
        .collect();
    let columns = [
        col("SUBJECT", "subject"),
        col("NAME", "name"),
        col("ROLE", "role"),
        col("STATE", "state"),
        wide("ADDED", "added_at"),
    ];
    ctx.render.list("user.v1", "subject", &columns, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(subject: &str, admin: bool, disabled: bool) -> User {
        User { subject: subject.into(), name: String::new(), admin, key_hash: String::new(), disabled, added_at: 0 }
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
