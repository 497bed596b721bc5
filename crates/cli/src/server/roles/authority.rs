//! Authority's own start: its books and desks, and the loops over them. Must never start admission before what the ledger
//! says of launchers, grants and workspaces was read.

use super::{Authority, Roles, failed, issuer};
use crate::error::{CliError, CliResult};
use crate::server::clock::SystemClock;
use crate::server::{identity, outside, workspaces};
use custody_contracts::events::{KeyIntroduced, Role};
use custody_engine::authority::admission;
use custody_engine::authority::commands::{self, Commands};
use custody_engine::authority::erasing::SubjectDesk;
use custody_engine::authority::issuing::{TokenDesk, TokenParts};
use custody_engine::authority::launchers::Launchers;
use custody_engine::authority::notary::{self, Notary};
use custody_engine::authority::open::OpenDispatches;
use custody_engine::authority::parts::Parts;
use custody_engine::authority::workspaces::WorkspaceBook;
use custody_engine::grants::Grants;
use custody_engine::keys::KeyBook;
use custody_engine::runners::Runners;
use custody_engine::upstream;
use custody_ledger::{Log, LogError, Sign};
use custody_nats::{JetLaunches, JetOutput, NatsRequests};
use custody_ports::clock::Clock;
use custody_streams::accounts::ServiceUser;
use std::sync::Arc;

impl Roles {
    /// Starts authority: introduces keys, then admission, commands, notary.
    pub(crate) async fn authority(&mut self, introduce: &[KeyIntroduced]) -> CliResult<Authority> {
        let (connection, log) = self.log(ServiceUser::Authority).await?;
        let key = self.key(Role::Authority)?;
        let signer: Arc<dyn Sign> = key.clone();
        let clock = Arc::new(SystemClock);
        let launchers = Launchers::default();
        let workspaces = WorkspaceBook::default();
        let open = OpenDispatches::default();
        let grants = Grants::default();
        let parts = Parts {
            log: log.clone(),
            signer: signer.clone(),
            clock: clock.clone(),
            launchers: launchers.clone(),
            workspaces: workspaces.clone(),
            grants: grants.clone(),
            open: open.clone(),
            inputs: Arc::new(JetOutput::new(&connection)),
            blobs: self.blobs(&connection),
            keys: self.keys.clone(),
            base: issuer(&self.target.config.audit.origin),
        };
        let (desk, approvals) = (parts.desk(), parts.approvals());
        let keys = KeyBook::default();
        let subjects = SubjectDesk {
            log: log.clone(),
            signer: signer.clone(),
            clock: clock.clone(),
            keys: self.keys.clone(),
            book: keys.clone(),
            grants: desk.clone(),
        };
        let tokens = TokenDesk::new(TokenParts {
            log: log.clone(),
            signer: signer.clone(),
            clock: clock.clone(),
            grants: grants.clone(),
            keys: keys.clone(),
            store: Arc::new(self.target.home.token_keys()),
            names: self.names(),
            audiences: upstream::audiences(&self.target.config.tools.servers),
        });
        let commands = parts.commands(Some(tokens.clone()), Some(subjects.clone()));
        let own = KeyIntroduced {
            kid: key.kid().to_owned(),
            role: Role::Authority,
            public_key: key.public_hex(),
            instance: self.instance.clone(),
        };
        for event in std::iter::once(&own).chain(introduce) {
            commands.introduce(event.clone()).await.map_err(|e| failed("introducing a key", e.message))?;
        }
        let (sender, caught_up) = tokio::sync::oneshot::channel();
        let (book, cancel) = (launchers.clone(), self.cancel.clone());
        let following = book.run(open.clone(), grants.clone(), keys, log.clone(), cancel, sender);
        self.spawn("launchers", following);
        if caught_up.await.is_err() {
            return Err(self.first_end().await);
        }
        let cancel = self.cancel.clone();
        self.spawn::<LogError>("erasing", async move {
            subjects.run(cancel).await;
            Ok(())
        });
        tokens.prepare_keys().await.map_err(CliError::from_doc)?;
        let cancel = self.cancel.clone();
        self.spawn::<LogError>("keys", async move {
            tokens.retire_ended(cancel).await;
            Ok(())
        });
        self.workspaces(&workspaces, &commands, log.clone(), signer).await?;
        let runners = Runners::read(&self.target.config.runners_folder()).map_err(|e| failed("runners", e))?;
        let launches = JetLaunches::open(&connection).await.map_err(|e| failed("the LAUNCH stream", e))?;
        let admission = parts.admission(runners, self.tools()?, self.target.config.queue.rules());
        let cancel = self.cancel.clone();
        self.spawn::<LogError>("grants", async move {
            desk.end_fallen(cancel).await;
            Ok(())
        });
        let (cancel, launches) = (self.cancel.clone(), Arc::new(launches));
        self.spawn::<LogError>("admission", async move {
            admission::run(admission, launches, cancel).await;
            Ok(())
        });
        let requests =
            NatsRequests::listen(&connection, &["command.>"], "authority").await.map_err(|e| failed("commands", e))?;
        let (serving, cancel) = (commands.clone(), self.cancel.clone());
        self.spawn::<LogError>("commands", async move {
            commands::run(serving, Arc::new(requests), cancel).await;
            Ok(())
        });
        let times: Arc<dyn Clock> = clock.clone();
        let (copy, places) = outside::copies(&self.target, &log, &times, &self.cancel)?;
        let stop = self.cancel.clone();
        self.spawn::<LogError>("checkpoints outside", async move {
            stop.cancelled().await;
            for place in places {
                if let Err(error) = place.await {
                    tracing::error!(%error, "a place for checkpoints ended badly");
                }
            }
            Ok(())
        });
        if let Some((authority, register, listener)) = identity::served(&self.target, &self.names())? {
            self.spawn("identity", custody_identity::serve(authority, register, listener, self.cancel.clone()));
        }
        self.spawn("approvals", approvals.run(self.cancel.clone()));
        let notary = Notary { log, key, clock, origin: self.target.config.audit.origin.clone(), copy };
        self.spawn("notary", notary::run(notary, self.cancel.clone()));
        Ok(Authority { launchers, commands })
    }

    /// Follows workspaces, records the proposals that runs leave, and registers the workspace that everybody begins with.
    async fn workspaces(
        &mut self,
        book: &WorkspaceBook,
        commands: &Commands,
        log: Arc<dyn Log>,
        signer: Arc<dyn Sign>,
    ) -> CliResult {
        let (sender, caught_up) = tokio::sync::oneshot::channel();
        self.spawn("workspaces", book.clone().run(log.clone(), self.cancel.clone(), sender));
        if caught_up.await.is_err() {
            return Err(self.first_end().await);
        }
        let (reacting, cancel) = (book.clone(), self.cancel.clone());
        self.spawn::<LogError>("proposals", async move {
            reacting.open_proposals(log, signer, Arc::new(SystemClock), cancel).await;
            Ok(())
        });
        if book.get(workspaces::DEFAULT).registered().is_some() {
            return Ok(());
        }
        let body = workspaces::default_registration(&self.target)?;
        let request = custody_ports::requests::Request {
            subject: "command.workspace.register".into(),
            bytes: serde_json::to_vec(&body)?,
            reply_to: String::new(),
        };
        commands.carry_out(&request).await.map_err(CliError::from_doc)?;
        Ok(())
    }
}
