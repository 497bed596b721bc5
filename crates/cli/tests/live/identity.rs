//! A server of tools that takes only the gateway, by its certificate, and that the gateway takes by its own; behind both Custody's
//! authority, or SPIRE's in its place. Each refusal stands between two honest calls. `ops/trust/setup` fetches Python's client of
//! the Workload API, `ops/trust/spire/setup` builds SPIRE; without them these tests fail.

use crate::grants::{misbehave, post, socket};
use crate::ledger::count;
use crate::stack::{LOOK, Options, Stack, cache, ran, short_folder};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// How long anything may take here.
const WAIT_MAX: Duration = Duration::from_secs(60);
const TOOL: &str = "files__read";

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// A certificate and its key.
struct Leaf {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Clone for Leaf {
    fn clone(&self) -> Leaf {
        Leaf { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

/// An authority that signs whatever it is told to.
struct Signer {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

fn issuer_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Custody");
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    params
}

impl Signer {
    /// Custody's own authority, whose key this user may read.
    fn of(state: &Path) -> Signer {
        let folder = std::fs::read_dir(state.join("identity")).unwrap();
        let [file] = folder.map(|entry| entry.unwrap().path()).collect::<Vec<_>>().try_into().unwrap();
        let text = std::fs::read(file).unwrap();
        let key = PrivateKeyDer::from_pem_slice(&text).unwrap();
        let issuer = Issuer::new(issuer_params(), KeyPair::try_from(&key).unwrap());
        Signer { issuer, certificate: CertificateDer::from_pem_slice(&text).unwrap() }
    }

    /// One that nobody knows.
    fn stranger() -> Signer {
        let key = KeyPair::generate().unwrap();
        let certificate = issuer_params().self_signed(&key).unwrap().der().clone();
        Signer { issuer: Issuer::new(issuer_params(), key), certificate }
    }

    fn leaf(&self, id: &str, ended: bool) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.not_after = rcgen::date_time_ymd(if ended { 2020 } else { 4000 }, 1, 1);
        params.is_ca = IsCa::ExplicitNoCa;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        // A name besides the id is allowed; the test's own clients go by it.
        let name = SanType::DnsName("localhost".try_into().unwrap());
        params.subject_alt_names = vec![name, SanType::URI(id.try_into().unwrap())];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Leaf { chain: vec![certificate.der().clone()], key: PrivateKeyDer::try_from(key.serialize_der()).unwrap() }
    }
}

/// Who signs for the trust domain.
enum Behind {
    Own(Signer),
    Spire(Spire),
}

impl Behind {
    async fn leaf(&self, id: &str, ended: bool) -> Leaf {
        match self {
            Behind::Own(signer) => signer.leaf(id, ended),
            Behind::Spire(spire) => spire.leaf(id, ended).await,
        }
    }

    async fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        match self {
            Behind::Own(signer) => roots.add(signer.certificate.clone()).unwrap(),
            Behind::Spire(spire) => {
                for authority in spire.authorities() {
                    roots.add(authority).unwrap();
                }
            }
        }
        roots
    }
}

/// A SPIRE server and a SPIRE agent, with an entry for the user who runs the tests: `/gateway`. They end with the standard
/// input of their script.
struct Spire {
    folder: TempDir,
    endpoint: String,
    _script: Child,
}

impl Spire {
    async fn start() -> Spire {
        let folder = short_folder();
        // SPIRE takes no port 0 that it would tell; the one found here is free, and SPIRE says so when it is not.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut script = Command::new(repository("ops/trust/spire/run"));
        script.arg(folder.path()).arg(port.to_string()).args(["spire.test", "20"]);
        let mut script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(script.stdout.take().unwrap()).lines();
        let endpoint = timeout(WAIT_MAX, lines.next_line()).await.unwrap().unwrap();
        let endpoint = endpoint.unwrap_or_else(|| panic!("SPIRE did not start; ops/trust/spire/setup builds it"));
        Spire { folder, endpoint, _script: script }
    }

    fn authorities(&self) -> Vec<CertificateDer<'static>> {
        let file = self.folder.path().join("bundle.pem");
        CertificateDer::pem_file_iter(file).unwrap().collect::<Result<_, _>>().unwrap()
    }

    async fn leaf(&self, id: &str, ended: bool) -> Leaf {
        let into = tempfile::tempdir_in(self.folder.path()).unwrap();
        let mut mint = Command::new(cache().join("tools/spire/spire-server"));
        mint.args([
            "x509",
            "mint",
            "-spiffeID",
            id,
            "-dns",
            "localhost",
            "-ttl",
            if ended { "1s" } else { "1h" },
            "-write",
        ])
        .arg(into.path());
        ran(mint.arg("-socketPath").arg(self.folder.path().join("server.sock"))).await.ended(0);
        let chain = CertificateDer::pem_file_iter(into.path().join("svid.pem")).unwrap().collect::<Result<_, _>>();
        let key = PrivateKeyDer::from_pem_file(into.path().join("key.pem")).unwrap();
        if ended {
            // Its second has to pass; no event says so.
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        Leaf { chain: chain.unwrap(), key }
    }
}

/// What the server heard of one caller whom it took.
#[derive(Clone)]
struct Heard {
    certificate: Vec<u8>,
    id: String,
    token: Option<String>,
}

/// The server of tools. Each request has a connection of its own.
struct Files {
    at: SocketAddr,
    /// Whom it takes.
    gateway: String,
    tls: Mutex<Option<Arc<ServerConfig>>>,
    heard: Mutex<Vec<Heard>>,
}

impl Files {
    async fn start(gateway: &str) -> Arc<Files> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let files = Files { at, gateway: gateway.to_owned(), tls: Mutex::default(), heard: Mutex::default() };
        let files = Arc::new(files);
        let serving = files.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let files = serving.clone();
                tokio::spawn(async move {
                    let tls = files.tls.lock().unwrap().clone().unwrap();
                    if let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await {
                        files.serve(stream).await;
                    }
                });
            }
        });
        files
    }

    /// Shows this certificate from now on, and takes callers of these authorities.
    fn shows(&self, leaf: Leaf, roots: &RootCertStore) {
        let callers = WebPkiClientVerifier::builder(Arc::new(roots.clone())).build().unwrap();
        let tls = ServerConfig::builder().with_client_cert_verifier(callers).with_single_cert(leaf.chain, leaf.key);
        *self.tls.lock().unwrap() = Some(Arc::new(tls.unwrap()));
    }

    async fn serve(&self, mut stream: tokio_rustls::server::TlsStream<TcpStream>) {
        let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
        let parsed = webpki::EndEntityCert::try_from(&certificate).unwrap();
        let id = parsed.valid_uri_names().collect::<Vec<_>>().join(" ");
        let Some((head, body)) = request(&mut stream).await else { return };
        let (status, text) = match id == self.gateway {
            false => ("403 Forbidden", String::new()),
            true => {
                let token = head.lines().find_map(|line| line.strip_prefix("authorization: Bearer "));
                let token = token.map(str::to_owned);
                self.heard.lock().unwrap().push(Heard { certificate: certificate.to_vec(), id, token });
                ("200 OK", answer(&serde_json::from_str(&body).unwrap()))
            }
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{text}",
            text.len()
        );
        // Who asked may be gone.
        let _gone = stream.write_all(answer.as_bytes()).await;
        let _gone = stream.shutdown().await;
    }

    fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    /// What a caller with this certificate, or none, and this token gets: a status, or nothing.
    async fn asked_by(&self, roots: &RootCertStore, leaf: Option<Leaf>, token: &str) -> Option<String> {
        let config = ClientConfig::builder().with_root_certificates(roots.clone());
        let config = match leaf {
            Some(leaf) => config.with_client_auth_cert(leaf.chain, leaf.key).unwrap(),
            None => config.with_no_client_auth(),
        };
        let stream = TcpStream::connect(self.at).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.ok()?;
        let call =
            json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "read" } }).to_string();
        let head = format!(
            "POST /mcp HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n",
            call.len()
        );
        stream.write_all((head + &call).as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok()?;
        Some(String::from_utf8(answer).unwrap().split(' ').nth(1)?.to_owned())
    }
}

/// One request, head and body.
async fn request<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some((head.to_owned(), body.to_owned()));
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

fn answer(message: &Value) -> String {
    let result = match message["method"].as_str().unwrap() {
        "initialize" => json!({ "protocolVersion": "2025-06-18", "capabilities": {} }),
        "tools/list" => json!({ "tools": [{
            "name": "read", "description": "Reads a file.", "inputSchema": { "type": "object", "properties": {} },
        }] }),
        _ => json!({ "content": [{ "type": "text", "text": "read" }] }),
    };
    json!({ "jsonrpc": "2.0", "id": message["id"], "result": result }).to_string()
}

/// The configuration of an installation that has this server.
fn config(files: &Files, id: &str, trust_domain: &str, identity: &str) -> String {
    format!(
        "[audit]\norigin = \"{trust_domain}/ledger\"\n[identity]\n{identity}\n[tools.servers.files]\n\
         url = \"https://{}/mcp\"\nspiffe_id = \"{id}\"\naudience = \"https://files.test/mcp\"\n",
        files.at
    )
}

/// A box that may call the tool of that server.
async fn given(stack: &Stack) -> PathBuf {
    let document = json!({
        "name": TOOL, "scope": "files:read", "grant": "auto", "transport": "mcp", "mcp_server": "files",
        "barriers": [], "effect": "write", "idempotent": false, "constraints": [],
    });
    let file = stack.home().join("tool.json");
    std::fs::write(&file, document.to_string()).unwrap();
    stack.ok(&["tool", "add", file.to_str().unwrap()]).await;
    stack.ok(&["tool", "accept", TOOL]).await;
    stack.grant("u_jane", "cli", &["--tool", TOOL]).await;
    let dispatch = stack.launch(&misbehave("silent", &["--as", "u_jane", "--tool", TOOL])).await;
    stack.running(&dispatch).await;
    socket(stack, &dispatch)
}

async fn call(socket: &Path) -> Value {
    let call = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": TOOL, "arguments": {} },
    });
    post(socket, "/mcp", &call).await
}

/// Calls, and says whether the tool was done.
async fn done(socket: &Path) -> bool {
    let told = call(socket).await;
    told["result"]["content"][0]["text"] == "read" && told["result"]["isError"] != true
}

/// What both authorities must make true of one installation, whose gateway runs.
async fn holds(stack: &Stack, files: &Files, behind: &Behind, trust_domain: &str) {
    let id = |path: &str| format!("spiffe://{trust_domain}{path}");
    let (own, roots) = (id("/workload/files"), behind.roots().await);
    let honest = behind.leaf(&own, false).await;
    files.shows(honest.clone(), &roots);
    let socket = given(stack).await;
    assert!(done(&socket).await);
    let first = files.heard().pop().unwrap();
    assert_eq!(first.id, id("/gateway"));
    // The token of the call says the same of its bearer as the certificate.
    let token = first.token.clone().unwrap();
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&claims).unwrap()["act"]["sub"], json!(first.id));

    // T14, the gateway's side: a server that is not the one that is expected hears nothing.
    let stranger = Signer::stranger();
    let mut servers = vec![
        ("another workload", behind.leaf(&id("/workload/mail"), false).await),
        ("the same id by another authority", stranger.leaf(&own, false)),
        ("ended", behind.leaf(&own, true).await),
    ];
    if let Behind::Own(signer) = behind {
        let foreign = signer.leaf("spiffe://other.test/workload/files", false);
        servers.push(("a foreign trust domain by the same authority", foreign));
    }
    let refusals = servers.len();
    for (name, leaf) in servers {
        let before = files.heard().len();
        files.shows(leaf, &roots);
        assert!(!done(&socket).await, "{name}");
        assert_eq!(files.heard().len(), before, "{name}");
        files.shows(honest.clone(), &roots);
        assert!(done(&socket).await, "after {name}");
    }

    // T12, T14, the server's side: the token of that call in other hands, none of which is the gateway's.
    let mut callers = vec![
        ("no certificate", None, None),
        ("the gateway's id by another authority", Some(stranger.leaf(&id("/gateway"), false)), None),
        ("ended", Some(behind.leaf(&id("/gateway"), true).await), None),
        ("another workload", Some(behind.leaf(&id("/workload/mail"), false).await), Some("403")),
        ("the gateway's", Some(behind.leaf(&id("/gateway"), false).await), Some("200")),
    ];
    if let Behind::Own(signer) = behind {
        let foreign = signer.leaf("spiffe://other.test/gateway", false);
        callers.push(("a foreign trust domain by the same authority", Some(foreign), Some("403")));
    }
    for (name, leaf, status) in callers {
        assert_eq!(files.asked_by(&roots, leaf, &token).await.as_deref(), status, "{name}");
    }

    // Another certificate while it runs, and calls in between are made.
    let until = Instant::now() + WAIT_MAX;
    loop {
        assert!(done(&socket).await);
        let last = files.heard().pop().unwrap();
        assert_eq!(last.id, first.id);
        if last.certificate != first.certificate {
            break;
        }
        assert!(Instant::now() < until, "the certificate was not renewed");
        tokio::time::sleep(LOOK * 20).await;
    }
    let events = stack.ledger().await;
    let failed = events.iter().filter(|e| e.kind == "effect.tool_finished" && e.data["phase"] == "failed");
    assert_eq!(failed.count(), refusals, "each is recorded as failed, none as in doubt: {events:#?}");
    assert_eq!(count(&events, "effect.tool_intended"), count(&events, "effect.tool_finished"));
    for dispatch in events.iter().filter(|e| e.kind == "run.claimed") {
        let dispatch = dispatch.data["dispatch"].as_str().unwrap();
        stack.ok(&["dispatch", "kill", dispatch]).await;
        stack.ended(dispatch).await;
    }
    stack.no_container_left().await;
    stack.nothing_is_wrong().await;
}

/// What Python's client is given at a Workload API, one document a version.
async fn python(endpoint: &str, versions: usize) -> Vec<Value> {
    let python = cache().join("tools/spiffe/python/bin/python");
    assert!(python.is_file(), "{} is missing: run ops/trust/setup", python.display());
    let mut command = Command::new(python);
    command.arg(repository("ops/trust/spiffe/client.py")).arg(versions.to_string());
    command.env_clear().env("SPIFFE_ENDPOINT_SOCKET", endpoint).kill_on_drop(true);
    let said = ran(&mut command).await.ended(0);
    said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_and_server_know_each_other_by_certificates_of_our_own_authority() {
    let files = Files::start("spiffe://custody.local/gateway").await;
    let id = "spiffe://custody.local/workload/files";
    let config = config(&files, id, "custody.local", "svid_s = 10");
    let stack = Stack::with(Options { config: Some(config), ..Options::default() }).await;
    let signer = Signer::of(&stack.state());
    let endpoint = format!("unix:{}", stack.state().join("run/identity.sock").display());
    let told = python(&endpoint, 2).await;
    let authority = CertificateDer::from_pem_slice(told[0]["authorities"][0].as_str().unwrap().as_bytes()).unwrap();
    assert_eq!(authority, signer.certificate);
    assert!(told[0]["serial"] != told[1]["serial"], "{told:?}");
    for version in &told {
        assert_eq!(version["id"], "spiffe://custody.local/gateway");
        assert!(version["life"].as_u64().unwrap() <= 10 + 60 && version["authorities"].as_array().unwrap().len() == 1);
    }
    holds(&stack, &files, &Behind::Own(signer), "custody.local").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spire_stands_in_for_our_own_authority_by_the_path_of_its_socket() {
    let spire = Spire::start().await;
    let files = Files::start("spiffe://spire.test/gateway").await;
    let id = "spiffe://spire.test/workload/files";
    let config = config(&files, id, "spire.test", &format!("workload_api = {:?}", spire.endpoint));
    let stack = Stack::with(Options { config: Some(config), ..Options::default() }).await;
    assert!(!stack.state().join("identity").exists(), "there is no authority of our own");
    assert_eq!(python(&spire.endpoint, 1).await[0]["id"], "spiffe://spire.test/gateway");
    holds(&stack, &files, &Behind::Spire(spire), "spire.test").await;
}
