//! The port: a workspace opened, its packs fetched as they are needed, its heads moved. Blocking work (git, files) runs
//! beside the loop. What is fetched of a workspace that is not encrypted stays in the cache; what is fetched of an
//! encrypted one lies in a folder that goes with the value.

use crate::bucket::Buckets;
use crate::check_out;
use crate::compare;
use crate::git::{Git, failed, find_program};
use crate::heads::{Heads, mark};
use crate::repository::Repository;
use crate::seal::{self, Identities, SealError};
use crate::trees::Trees;
use custody_contracts::canonical::digest;
use custody_contracts::workspace::{Scheme, Workspace};
use custody_ports::compared::{Compared, ComparedMax};
use custody_ports::objects::{Created, OBJECT_BYTES_MAX};
use custody_ports::workspaces::{
    Change, Entry, Head, Logged, Merged, NewCommit, OpenWorkspace, Owner, Pack, Snapshot, WorkspaceError,
    WorkspaceLimits, Workspaces,
};
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Packs after which a head is stored anew as one.
const PACKS_MAX: usize = 64;

/// Where the identities come from.
#[derive(Debug, Clone)]
enum Keys {
    File(PathBuf),
    Given(Identities),
}

/// Workspaces of this installation.
#[derive(Debug, Clone)]
pub struct GitWorkspaces {
    program: PathBuf,
    cache: PathBuf,
    buckets: Buckets,
    keys: Keys,
    /// One at a time makes or fills a folder of the cache, also when several have the same workspace open.
    filling: Arc<Mutex<BTreeMap<PathBuf, Arc<tokio::sync::Mutex<()>>>>>,
    /// What was listed of each repository of the cache. Of an encrypted workspace nothing is kept.
    trees: Arc<Mutex<BTreeMap<PathBuf, Trees>>>,
    /// The highest head that was seen of each, so that seeking begins there.
    seen: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl GitWorkspaces {
    /// Workspaces with a cache folder and a file of identities, which may be missing.
    ///
    /// # Errors
    /// [`WorkspaceError::Failed`] when there is no git.
    pub fn new(cache: &Path, identities: &Path, buckets: Buckets) -> Result<GitWorkspaces, WorkspaceError> {
        GitWorkspaces::with(cache, Keys::File(identities.to_owned()), buckets)
    }

    /// As [`GitWorkspaces::new`], with identities that are in memory.
    ///
    /// # Errors
    /// As [`GitWorkspaces::new`].
    pub fn with_identities(cache: &Path, own: Identities, buckets: Buckets) -> Result<GitWorkspaces, WorkspaceError> {
        GitWorkspaces::with(cache, Keys::Given(own), buckets)
    }

    fn with(cache: &Path, keys: Keys, buckets: Buckets) -> Result<GitWorkspaces, WorkspaceError> {
        let program = find_program()?;
        Ok(GitWorkspaces {
            program,
            cache: cache.to_owned(),
            buckets,
            keys,
            filling: Arc::default(),
            trees: Arc::default(),
            seen: Arc::default(),
        })
    }

    fn identities(&self) -> Result<Identities, WorkspaceError> {
        match &self.keys {
            Keys::Given(own) => Ok(own.clone()),
            Keys::File(path) => Identities::read(path).map_err(|e| failed("reading identities", e)),
        }
    }

    async fn open_one(&self, workspace: &Workspace) -> Result<Opened, WorkspaceError> {
        let objects = self.buckets.open(workspace)?;
        let id = workspace.id.to_string();
        let (dir, scratch) = match workspace.encryption.scheme {
            Scheme::None => {
                // Two buckets may have been used under one id, one after the other.
                let place = digest(workspace.bucket.as_bytes());
                let place = place.get(7..23).unwrap_or_default();
                (self.cache.join(&id).join(place), None)
            }
            Scheme::Age => {
                std::fs::create_dir_all(&self.cache).map_err(|e| failed("making the cache", e))?;
                let scratch = tempfile::Builder::new().prefix("open-").tempdir_in(&self.cache);
                let scratch = scratch.map_err(|e| failed("making a folder for an encrypted workspace", e))?;
                (scratch.path().join("repository"), Some(scratch))
            }
        };
        let git = Git::new(&self.program, &dir);
        let at = git.clone();
        let trees = match scratch {
            None => self.trees.lock().unwrap_or_else(PoisonError::into_inner).entry(dir.clone()).or_default().clone(),
            Some(_) => Trees::default(),
        };
        let fetching = match scratch {
            None => self.filling.lock().unwrap_or_else(PoisonError::into_inner).entry(dir.clone()).or_default().clone(),
            Some(_) => Arc::default(),
        };
        {
            let _alone = fetching.lock().await;
            blocking(move || at.init()).await?;
        }
        Ok(Opened(Arc::new(Inner {
            heads: Heads { id: id.clone(), objects },
            workspace: workspace.clone(),
            repository: Repository { git, workspace: id, trees },
            all: self.clone(),
            fetching,
            _scratch: scratch,
        })))
    }
}

async fn blocking<T, F>(work: F) -> Result<T, WorkspaceError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, WorkspaceError> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.map_err(|e| failed("waiting for git", e))?
}

impl Workspaces for GitWorkspaces {
    fn open<'a>(&'a self, workspace: &'a Workspace) -> BoxFuture<'a, Result<Box<dyn OpenWorkspace>, WorkspaceError>> {
        Box::pin(async move {
            let opened = self.open_one(workspace).await?;
            Ok(Box::new(opened) as Box<dyn OpenWorkspace>)
        })
    }
}

struct Inner {
    heads: Heads,
    workspace: Workspace,
    repository: Repository,
    all: GitWorkspaces,
    /// One fetch at a time: the second finds what the first brought.
    fetching: Arc<tokio::sync::Mutex<()>>,
    _scratch: Option<tempfile::TempDir>,
}

struct Opened(Arc<Inner>);

impl Inner {
    fn sealed(&self, error: SealError) -> WorkspaceError {
        match error {
            SealError::Locked => WorkspaceError::Locked(self.heads.id.clone()),
            other => self.heads.corrupt(other.to_string()),
        }
    }

    fn saw(&self, n: u64) {
        let mut seen = self.all.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let known = seen.entry(self.seen_key()).or_default();
        *known = n.max(*known);
    }

    fn seen_key(&self) -> String {
        [&self.workspace.bucket, "\n", &self.heads.id].concat()
    }

    async fn newest(&self) -> Result<Option<(Head, String)>, WorkspaceError> {
        let known = {
            let seen = self.all.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.get(&self.seen_key()).copied().unwrap_or(0)
        };
        let found = self.heads.newest(known).await?;
        if let Some((head, _)) = &found {
            self.saw(head.n);
        }
        Ok(found)
    }

    fn marks(&self) -> PathBuf {
        self.repository.git.dir().join("fetched")
    }

    /// Brings what a head names and this machine does not have.
    async fn fetch(&self, head: &Head) -> Result<(), WorkspaceError> {
        let missing = |p: &&Pack| !self.marks().join(mark(&p.digest)).exists();
        if !head.packs.iter().any(|p| missing(&p)) {
            return Ok(());
        }
        let _one = self.fetching.lock().await;
        std::fs::create_dir_all(self.marks()).map_err(|e| failed("making the cache", e))?;
        for pack in head.packs.iter().filter(missing) {
            let key = self.heads.pack_key(&pack.digest);
            let stored = self.heads.objects.get(&key).await.map_err(|e| self.heads.error(e))?;
            let Some(stored) = stored else {
                return Err(self.heads.corrupt(format!("pack {} is gone", pack.digest)));
            };
            if digest(&stored) != pack.digest {
                return Err(self.heads.corrupt(format!("pack {} has other bytes than its name says", pack.digest)));
            }
            let (encryption, identities) = (self.workspace.encryption.clone(), self.all.identities()?);
            let repository = self.repository.clone();
            let opened = blocking(move || Ok(seal::open(stored, &encryption, &identities, OBJECT_BYTES_MAX))).await?;
            let plain = opened.map_err(|e| self.sealed(e))?;
            blocking(move || repository.take_in(plain)).await?;
            std::fs::write(self.marks().join(mark(&pack.digest)), b"").map_err(|e| failed("writing the cache", e))?;
        }
        Ok(())
    }

    /// Stores a pack, sealed.
    async fn put(&self, plain: Vec<u8>) -> Result<Pack, WorkspaceError> {
        let encryption = self.workspace.encryption.clone();
        let stored = blocking(move || Ok(seal::seal(plain, &encryption))).await?.map_err(|e| self.sealed(e))?;
        let pack = Pack { digest: digest(&stored), bytes: stored.len() as u64 };
        let key = self.heads.pack_key(&pack.digest);
        match self.heads.objects.create(&key, stored).await.map_err(|e| self.heads.error(e))? {
            // The name is the digest: what is there under it is this.
            Created::New | Created::Taken => {}
        }
        std::fs::create_dir_all(self.marks()).map_err(|e| failed("making the cache", e))?;
        // What was packed here need not be fetched.
        std::fs::write(self.marks().join(mark(&pack.digest)), b"").map_err(|e| failed("writing the cache", e))?;
        Ok(pack)
    }

    async fn found(&self) -> Result<Head, WorkspaceError> {
        if let Some((head, _)) = self.newest().await? {
            return Ok(head);
        }
        let repository = self.repository.clone();
        let (trunk, plain) = blocking(move || {
            let trunk = repository.root_commit()?;
            let plain = repository.pack_all(&[&trunk])?;
            Ok((trunk, plain.unwrap_or_default()))
        })
        .await?;
        let pack = self.put(plain).await?;
        let head = Head { n: 1, previous: String::new(), trunk, proposals: BTreeMap::new(), packs: vec![pack] };
        if self.heads.make(&head).await? {
            return Ok(head);
        }
        self.head().await
    }

    async fn head(&self) -> Result<Head, WorkspaceError> {
        match self.newest().await? {
            Some((head, _)) => Ok(head),
            None => Err(WorkspaceError::Empty(self.heads.id.clone())),
        }
    }

    async fn store(&self, head: &Head, commit: &str, limits: WorkspaceLimits) -> Result<Option<Pack>, WorkspaceError> {
        let (repository, head, commit) = (self.repository.clone(), head.clone(), commit.to_owned());
        let plain = blocking(move || {
            let stored: Vec<&str> =
                std::iter::once(&head.trunk).chain(head.proposals.values()).map(String::as_str).collect();
            repository.pack(&commit, &stored, limits.commit_bytes)
        })
        .await?;
        match plain {
            Some(plain) => self.put(plain).await.map(Some),
            None => Ok(None),
        }
    }

    async fn advance(&self, head: &Head, change: Change, pack: Option<Pack>) -> Result<Option<Head>, WorkspaceError> {
        let own = digest(&serde_json::to_vec(head).map_err(|e| self.heads.corrupt(e.to_string()))?);
        let next = head.next(own, change, pack);
        if !self.heads.make(&next).await? {
            return Ok(None);
        }
        self.saw(next.n);
        if next.packs.len() > PACKS_MAX {
            // Housekeeping: whoever comes next tries again.
            match self.repack(&next).await {
                Ok(Some(packed)) => return Ok(Some(packed)),
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, workspace = self.heads.id, "packs not put together"),
            }
        }
        Ok(Some(next))
    }

    async fn repack(&self, head: &Head) -> Result<Option<Head>, WorkspaceError> {
        self.fetch(head).await?;
        let (repository, from) = (self.repository.clone(), head.clone());
        let plain = blocking(move || {
            let all: Vec<&str> =
                std::iter::once(&from.trunk).chain(from.proposals.values()).map(String::as_str).collect();
            repository.pack_all(&all)
        })
        .await?;
        let pack = self.put(plain.unwrap_or_default()).await?;
        let own = digest(&serde_json::to_vec(head).map_err(|e| self.heads.corrupt(e.to_string()))?);
        let next = Head { n: head.n + 1, previous: own, packs: vec![pack.clone()], ..head.clone() };
        if !self.heads.make(&next).await? {
            return Ok(None);
        }
        self.saw(next.n);
        for old in head.packs.iter().filter(|p| p.digest != pack.digest) {
            let key = self.heads.pack_key(&old.digest);
            if let Err(error) = self.heads.objects.remove(&key).await {
                tracing::warn!(%error, key, "an old pack was not removed");
            }
        }
        Ok(Some(next))
    }

    /// Fetches, and works on the repository beside the loop.
    async fn work<T, F>(&self, head: &Head, work: F) -> Result<T, WorkspaceError>
    where
        T: Send + 'static,
        F: FnOnce(&Repository) -> Result<T, WorkspaceError> + Send + 'static,
    {
        self.fetch(head).await?;
        let repository = self.repository.clone();
        blocking(move || work(&repository)).await
    }
}

impl OpenWorkspace for Opened {
    fn found(&self) -> BoxFuture<'_, Result<Head, WorkspaceError>> {
        Box::pin(self.0.found())
    }

    fn head(&self) -> BoxFuture<'_, Result<Head, WorkspaceError>> {
        Box::pin(self.0.head())
    }

    fn check_out<'a>(
        &'a self,
        head: &'a Head,
        commit: &'a str,
        folder: &'a Path,
        owner: Owner,
        limits: WorkspaceLimits,
    ) -> BoxFuture<'a, Result<(), WorkspaceError>> {
        let (commit, folder) = (commit.to_owned(), folder.to_owned());
        Box::pin(self.0.work(head, move |repository| {
            let (entries, _) = repository.entries(&commit)?;
            check_out::check(&entries, &limits, &repository.workspace)?;
            check_out::check_out(&repository.git, entries, &folder, owner)
        }))
    }

    fn snapshot<'a>(
        &'a self,
        head: &'a Head,
        base: &'a str,
        folder: &'a Path,
        limits: WorkspaceLimits,
    ) -> BoxFuture<'a, Result<Snapshot, WorkspaceError>> {
        let (base, folder) = (base.to_owned(), folder.to_owned());
        Box::pin(self.0.work(head, move |repository| repository.snapshot(&base, &folder, &limits)))
    }

    fn with_file<'a>(
        &'a self,
        head: &'a Head,
        base: &'a str,
        path: &'a str,
        bytes: Vec<u8>,
    ) -> BoxFuture<'a, Result<Snapshot, WorkspaceError>> {
        let (base, path) = (base.to_owned(), path.to_owned());
        Box::pin(self.0.work(head, move |repository| repository.with_file(&base, &path, bytes)))
    }

    fn merge<'a>(
        &'a self,
        head: &'a Head,
        base: &'a str,
        tree: &'a str,
        onto: &'a str,
    ) -> BoxFuture<'a, Result<Merged, WorkspaceError>> {
        let (base, tree, onto) = (base.to_owned(), tree.to_owned(), onto.to_owned());
        Box::pin(self.0.work(head, move |repository| repository.merge(&base, &tree, &onto)))
    }

    fn commit<'a>(&'a self, head: &'a Head, new: &'a NewCommit) -> BoxFuture<'a, Result<String, WorkspaceError>> {
        let new = new.clone();
        Box::pin(self.0.work(head, move |repository| repository.commit(&new)))
    }

    fn store<'a>(
        &'a self,
        head: &'a Head,
        commit: &'a str,
        limits: WorkspaceLimits,
    ) -> BoxFuture<'a, Result<Option<Pack>, WorkspaceError>> {
        Box::pin(self.0.store(head, commit, limits))
    }

    fn advance<'a>(
        &'a self,
        head: &'a Head,
        change: Change,
        pack: Option<Pack>,
    ) -> BoxFuture<'a, Result<Option<Head>, WorkspaceError>> {
        Box::pin(self.0.advance(head, change, pack))
    }

    fn log<'a>(
        &'a self,
        head: &'a Head,
        commit: &'a str,
        since: Option<&'a str>,
        most: usize,
    ) -> BoxFuture<'a, Result<Vec<Logged>, WorkspaceError>> {
        let (commit, since) = (commit.to_owned(), since.map(str::to_owned));
        Box::pin(self.0.work(head, move |repository| repository.log(&commit, since.as_deref(), most)))
    }

    fn tree<'a>(
        &'a self,
        head: &'a Head,
        commit: &'a str,
    ) -> BoxFuture<'a, Result<(Vec<Entry>, String), WorkspaceError>> {
        let commit = commit.to_owned();
        Box::pin(self.0.work(head, move |repository| repository.entries(&commit)))
    }

    fn file<'a>(
        &'a self,
        head: &'a Head,
        commit: &'a str,
        path: &'a str,
        bytes_max: u64,
    ) -> BoxFuture<'a, Result<Vec<u8>, WorkspaceError>> {
        let (commit, path) = (commit.to_owned(), path.to_owned());
        Box::pin(self.0.work(head, move |repository| repository.file(&commit, &path, bytes_max)))
    }

    fn diff<'a>(
        &'a self,
        head: &'a Head,
        from: &'a str,
        to: &'a str,
        bytes_max: u64,
    ) -> BoxFuture<'a, Result<String, WorkspaceError>> {
        let (from, to) = (from.to_owned(), to.to_owned());
        Box::pin(self.0.work(head, move |repository| repository.diff(&from, &to, bytes_max)))
    }

    fn compare<'a>(
        &'a self,
        head: &'a Head,
        from: Option<&'a str>,
        to: &'a str,
        most: ComparedMax,
    ) -> BoxFuture<'a, Result<Compared, WorkspaceError>> {
        let (from, to) = (from.map(str::to_owned), to.to_owned());
        Box::pin(self.0.work(head, move |repository| compare::compare(repository, from.as_deref(), &to, &most)))
    }

    fn reaches<'a>(
        &'a self,
        head: &'a Head,
        tip: &'a str,
        commit: &'a str,
    ) -> BoxFuture<'a, Result<bool, WorkspaceError>> {
        let (tip, commit) = (tip.to_owned(), commit.to_owned());
        Box::pin(self.0.work(head, move |repository| repository.reaches(&tip, &commit)))
    }

    fn bundle<'a>(&'a self, head: &'a Head, branch: &'a str) -> BoxFuture<'a, Result<Vec<u8>, WorkspaceError>> {
        let (trunk, branch) = (head.trunk.clone(), branch.to_owned());
        Box::pin(self.0.work(head, move |repository| repository.bundle(&trunk, &branch)))
    }

    fn repack<'a>(&'a self, head: &'a Head) -> BoxFuture<'a, Result<Option<Head>, WorkspaceError>> {
        Box::pin(self.0.repack(head))
    }
}
