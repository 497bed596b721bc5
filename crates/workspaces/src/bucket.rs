//! Where objects are kept: a folder or an S3-compatible service through `object_store`, and whatever else the binary
//! brings (NATS). An object is made under a condition (`If-None-Match: *`, a hard link) and never changed. Must never put
//! credentials into an address: S3's come from the environment of the role.

use custody_contracts::workspace::Workspace;
use custody_ports::objects::{Created, OBJECT_BYTES_MAX, ObjectError, Objects};
use custody_ports::workspaces::WorkspaceError;
use futures::future::BoxFuture;
use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a request to a bucket is tried.
const RETRY_MAX: Duration = Duration::from_secs(20);

/// Buckets by address. Opened once each.
#[derive(Clone)]
pub struct Buckets {
    /// `nats://<name>`, by name.
    nats: BTreeMap<String, Arc<dyn Objects>>,
    opened: Arc<Mutex<BTreeMap<String, Arc<dyn Objects>>>>,
}

impl std::fmt::Debug for Buckets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buckets").field("nats", &self.nats.keys()).finish_non_exhaustive()
    }
}

impl Buckets {
    /// Folders, S3, and these object stores of NATS.
    pub fn new(nats: BTreeMap<String, Arc<dyn Objects>>) -> Buckets {
        Buckets { nats, opened: Arc::default() }
    }

    pub(crate) fn open(&self, workspace: &Workspace) -> Result<Arc<dyn Objects>, WorkspaceError> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = opened.get(&workspace.bucket) {
            return Ok(found.clone());
        }
        let objects = self.make(&workspace.bucket).map_err(WorkspaceError::BadBucket)?;
        opened.insert(workspace.bucket.clone(), objects.clone());
        Ok(objects)
    }

    fn make(&self, bucket: &str) -> Result<Arc<dyn Objects>, String> {
        if let Some(path) = bucket.strip_prefix("file://") {
            return Ok(Arc::new(FileObjects::new(Path::new(path))?));
        }
        if let Some(rest) = bucket.strip_prefix("s3://") {
            let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            return Ok(Arc::new(S3Objects::from_env(name, prefix)?));
        }
        if let Some(name) = bucket.strip_prefix("nats://") {
            return self.nats.get(name).cloned().ok_or_else(|| {
                let known: Vec<&str> = self.nats.keys().map(String::as_str).collect();
                format!("{bucket}: this installation keeps no such object store; it has {known:?}")
            });
        }
        Err(format!("{bucket}: not file:///, s3:// or nats://"))
    }
}

/// A folder. Every object is written beside its place, synced, and linked to its name; the link fails when the name is
/// taken, also between processes.
#[derive(Debug)]
pub struct FileObjects(Stored);

impl FileObjects {
    /// The bucket in a folder, which is made.
    ///
    /// # Errors
    /// When the folder is not absolute or cannot be made.
    pub fn new(folder: &Path) -> Result<FileObjects, String> {
        let plain: PathBuf = folder.components().collect();
        if !folder.is_absolute() || folder.components().any(|c| c == std::path::Component::ParentDir) {
            return Err(format!("file://{}: not an absolute plain path", folder.display()));
        }
        std::fs::create_dir_all(&plain).map_err(|e| format!("{}: {e}", plain.display()))?;
        let store = LocalFileSystem::new_with_prefix(&plain).map_err(|e| e.to_string())?;
        let store = store.with_fsync(true);
        Ok(FileObjects(Stored { store: Arc::new(store), prefix: String::new() }))
    }
}

/// A bucket of an S3-compatible service that knows `If-None-Match: *` for a put.
#[derive(Debug)]
pub struct S3Objects(Stored);

impl S3Objects {
    /// Address, region and credentials from the environment: `AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_ACCESS_KEY_ID`,
    /// `AWS_SECRET_ACCESS_KEY`, `AWS_ALLOW_HTTP` and what else `object_store` reads.
    ///
    /// # Errors
    /// When it makes no client.
    pub fn from_env(bucket: &str, prefix: &str) -> Result<S3Objects, String> {
        S3Objects::build(AmazonS3Builder::from_env(), bucket, prefix)
    }

    /// An endpoint with credentials, for a service that is not in the environment.
    ///
    /// # Errors
    /// As [`S3Objects::from_env`].
    pub fn at(endpoint: &str, key: &str, secret: &str, bucket: &str, prefix: &str) -> Result<S3Objects, String> {
        let builder = AmazonS3Builder::new()
            .with_endpoint(endpoint)
            .with_allow_http(endpoint.starts_with("http://"))
            .with_region("us-east-1")
            .with_access_key_id(key)
            .with_secret_access_key(secret);
        S3Objects::build(builder, bucket, prefix)
    }

    fn build(builder: AmazonS3Builder, bucket: &str, prefix: &str) -> Result<S3Objects, String> {
        // Another part of the process may have chosen a provider before: any will do.
        let _chosen = rustls::crypto::ring::default_provider().install_default();
        let retry = RetryConfig { retry_timeout: RETRY_MAX, max_retries: 5, ..RetryConfig::default() };
        let store = builder
            .with_bucket_name(bucket)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_retry(retry)
            .build()
            .map_err(|e| format!("s3://{bucket}: {e}"))?;
        let prefix = prefix.trim_matches('/').to_owned();
        Ok(S3Objects(Stored { store: Arc::new(store), prefix }))
    }
}

#[derive(Debug)]
struct Stored {
    store: Arc<dyn ObjectStore>,
    prefix: String,
}

impl Stored {
    fn key(&self, key: &str) -> Key {
        if self.prefix.is_empty() { Key::from(key) } else { Key::from([&self.prefix, "/", key].concat()) }
    }

    async fn create(&self, key: &str, bytes: Vec<u8>) -> Result<Created, ObjectError> {
        let size = bytes.len() as u64;
        if size > OBJECT_BYTES_MAX {
            return Err(ObjectError::TooLarge { key: key.to_owned(), bytes: size });
        }
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&self.key(key), PutPayload::from(bytes), options).await {
            Ok(_) => Ok(Created::New),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(Created::Taken)
            }
            Err(error) => Err(unavailable(&error)),
        }
    }

    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, ObjectError> {
        let found = match self.store.get(&self.key(key)).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(unavailable(&error)),
        };
        if found.meta.size > OBJECT_BYTES_MAX {
            return Err(ObjectError::TooLarge { key: key.to_owned(), bytes: found.meta.size });
        }
        found.bytes().await.map(|b| Some(b.to_vec())).map_err(|e| unavailable(&e))
    }

    async fn remove(&self, key: &str) -> Result<(), ObjectError> {
        match self.store.delete(&self.key(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(unavailable(&error)),
        }
    }
}

/// What an error says, cut: an answer of a service may be long, and is not ours.
fn unavailable(error: &object_store::Error) -> ObjectError {
    ObjectError::Unavailable(error.to_string().chars().take(400).collect())
}

macro_rules! objects {
    ($name:ident) => {
        impl Objects for $name {
            fn create<'a>(&'a self, key: &'a str, bytes: Vec<u8>) -> BoxFuture<'a, Result<Created, ObjectError>> {
                Box::pin(self.0.create(key, bytes))
            }
            fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, ObjectError>> {
                Box::pin(self.0.get(key))
            }
            fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), ObjectError>> {
                Box::pin(self.0.remove(key))
            }
        }
    };
}
objects!(FileObjects);
objects!(S3Objects);
