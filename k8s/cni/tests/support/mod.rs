//! An API server that answers what a test says, a network namespace, and the plugin between them.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use weft_redirect::netlink::Kernel;

/// What the plugins before ours gave, with spaces and keys that must stay.
pub(crate) const PREVIOUS: &str = r#"{"cniVersion":"1.0.0", "ips":[{"address":"10.244.0.5/24","interface":2}],  "dns":{}, "x-other":[1.50]}"#;

/// A pod `u1` with these annotations.
pub(crate) fn pod(annotations: Value) -> String {
    json!({ "metadata": { "uid": "u1", "name": "web-0", "annotations": annotations }, "spec": {} })
        .to_string()
}

/// The annotations of an injected pod.
pub(crate) fn injected() -> Value {
    json!({ "weft.dev/status": "{}", "weft.dev/redirect": r#"{"version":1,"exclude_inbound_ports":[22]}"# })
}

/// What was asked.
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) token: String,
}

/// A status and a body.
pub(crate) struct Reply(pub(crate) u16, pub(crate) String);

/// An API server on loopback, with a certificate of its own.
pub(crate) struct Api {
    listener: Arc<TcpListener>,
    thread: Option<JoinHandle<()>>,
    address: SocketAddr,
    roots: String,
}

impl Api {
    /// One that answers with this.
    pub(crate) fn start(reply: impl Fn(&Request) -> Reply + Send + 'static) -> Result<Self> {
        let certified = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()])?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)?;
        let (listener, config) = (Arc::new(TcpListener::bind("127.0.0.1:0")?), Arc::new(config));
        let (address, accepting) = (listener.local_addr()?, Arc::clone(&listener));
        let thread = thread::spawn(move || {
            while let Ok((stream, _)) = accepting.accept() {
                // A client that goes away in the middle is the plugin's business.
                let _ = serve(stream, Arc::clone(&config), &reply);
            }
        });
        Ok(Self { listener, thread: Some(thread), address, roots: certified.cert.pem() })
    }

    fn kubeconfig(&self) -> String {
        let cluster = json!({
            "server": format!("https://{}", self.address),
            "certificate-authority-data": STANDARD.encode(&self.roots),
        });
        json!({ "clusters": [{ "cluster": cluster }], "users": [{ "user": { "token": "the-token" } }] })
            .to_string()
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        // Wakes the one that waits in `accept`.
        let _ = rustix::net::shutdown(&*self.listener, rustix::net::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(stream: TcpStream, config: Arc<ServerConfig>, reply: &impl Fn(&Request) -> Reply) -> Result<()> {
    stream.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
    let mut stream = StreamOwned::new(ServerConnection::new(config)?, stream);
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.extend_from_slice(&byte);
    }
    let head = String::from_utf8(head)?;
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let token = head.lines().find_map(|line| line.strip_prefix("authorization: Bearer "));
    let Reply(status, body) = reply(&Request { path, token: token.unwrap_or_default().to_owned() });
    let length = body.len();
    write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")?;
    stream.conn.send_close_notify();
    Ok(stream.flush()?)
}

/// A network namespace.
pub(crate) struct Namespace {
    name: String,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Namespace {
    /// Makes one, or says why this test is skipped.
    pub(crate) fn new(test: &str) -> Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            weft_integration::skipped(test, "not root: it needs a network namespace");
            return Ok(None);
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("weft-cni-{}-{number}", std::process::id());
        let output = ip(&["netns", "add", &name])?;
        ensure!(output.status.success(), "ip: {}", String::from_utf8_lossy(&output.stderr));
        Ok(Some(Self { name }))
    }

    fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// Its nf_tables.
    pub(crate) fn kernel(&self) -> Result<Kernel> {
        Ok(Kernel::in_namespace(self.path().as_ref())?)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Nothing can be done about a failure here.
        let _ = ip(&["netns", "del", &self.name]);
    }
}

#[allow(clippy::disallowed_methods)] // how cargo xtask test says where the tools are
fn ip(arguments: &[&str]) -> Result<std::process::Output> {
    let program = std::env::var_os("WEFT_IP").unwrap_or_else(|| "ip".into());
    Command::new(program).args(arguments).output().context("ip")
}

/// The plugin with all that a runtime gives it.
pub(crate) struct Plugin {
    /// The kubeconfig's directory, for as long as the plugin is.
    directory: Arc<tempfile::TempDir>,
    netns: String,
    args: String,
    input: Option<String>,
}

impl Plugin {
    /// For a pod of this namespace, which the API server knows.
    pub(crate) fn new(api: &Api, namespace: &Namespace) -> Result<Self> {
        Self::with(&api.kubeconfig(), namespace.path())
    }

    /// For no pod.
    pub(crate) fn nowhere(api: &Api) -> Result<Self> {
        Self::with(&api.kubeconfig(), String::new())
    }

    /// With an API server that is down.
    pub(crate) fn without_api(namespace: &Namespace) -> Result<Self> {
        let kubeconfig = Api::start(|_| Reply(500, String::new()))?.kubeconfig();
        Self::with(&kubeconfig, namespace.path())
    }

    fn with(kubeconfig: &str, netns: String) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        fs::write(directory.path().join("kubeconfig"), kubeconfig)?;
        let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=u1".to_owned();
        Ok(Self { directory: Arc::new(directory), netns, args, input: None })
    }

    pub(crate) fn with_args(&self, args: &str) -> Self {
        Self { args: args.to_owned(), ..self.same() }
    }

    pub(crate) fn with_netns(&self, netns: &str) -> Self {
        Self { netns: netns.to_owned(), ..self.same() }
    }

    pub(crate) fn with_input(&self, input: &str) -> Self {
        Self { input: Some(input.to_owned()), ..self.same() }
    }

    fn same(&self) -> Self {
        let Self { directory, netns, args, input } = self;
        Self {
            directory: Arc::clone(directory),
            netns: netns.clone(),
            args: args.clone(),
            input: input.clone(),
        }
    }

    /// Whether it succeeded, and what it printed.
    pub(crate) fn run(&self, command: &str) -> Result<(bool, String)> {
        let kubeconfig: PathBuf = self.directory.path().join("kubeconfig");
        let input = self.input.clone().unwrap_or_else(|| {
            format!(
                r#"{{"cniVersion":"1.0.0","name":"weft","type":"weft-cni","kubeconfig":{kubeconfig:?},
                "excludeNamespaces":["kube-system"],"runtimeConfig":{{}},"prevResult":{PREVIOUS}}}"#
            )
        });
        let mut child = Command::new(env!("CARGO_BIN_EXE_weft-cni"))
            .env_clear()
            .envs([("CNI_COMMAND", command), ("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", "eth0")])
            .envs([
                ("CNI_NETNS", self.netns.as_str()),
                ("CNI_ARGS", &self.args),
                ("CNI_PATH", "/opt/cni/bin"),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        child.stdin.take().context("stdin")?.write_all(input.as_bytes())?;
        let output = child.wait_with_output()?;
        Ok((output.status.success(), String::from_utf8(output.stdout)?.trim_end().to_owned()))
    }
}
