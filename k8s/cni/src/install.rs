//! The node agent: puts the plugin onto the node, keeps it there, and takes it away again.
//!
//! It looks and makes right what is not, whatever happened: at every event in the runtime's directory (others write their
//! list again when they restart, and without us) and every few seconds (the token rotates). The program comes first, then
//! its way to the API server, then the list: the runtime never finds an entry that cannot work. They go in reverse.

use std::fs::{self, File, Permissions};
use std::io::{self, BufRead, BufReader, Seek};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use inotify::{EventStream, Inotify, WatchMask};
use tokio::signal::unix::{SignalKind, signal};
use weft_process::durable;

use crate::arguments::{Access, Node, OnExit};
use crate::conflist;
use crate::kubeconfig::Kubeconfig;

/// A kubelet writes a rotated token long before the old one ends.
const TICK: Duration = Duration::from_secs(5);
/// For events' names; only that there are events counts.
const EVENTS: usize = 4096;
/// The kubeconfig's name; with this ending no runtime takes it for a configuration.
const KUBECONFIG: &str = "weft-cni.kubeconfig";

/// Installs the plugin and keeps it until SIGTERM or SIGINT.
pub(crate) async fn run(node: &Node, access: &Access, on_exit: OnExit) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut events = events(&node.conf_dir)?;
    node.install_program()?;
    let mut said = String::new();
    loop {
        // What is wrong is said when it changes, not every few seconds.
        let state = node.install(access).unwrap_or_else(|error| format!("not installed: {error:#}"));
        if state != said {
            eprintln!("weft-cni: {state}");
            said = state;
        }
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = events.next() => {}
            () = tokio::time::sleep(TICK) => {}
        }
    }
    match on_exit {
        OnExit::Remove => node.uninstall(),
        OnExit::Keep => Ok(()),
    }
}

fn events(directory: &Path) -> Result<EventStream<[u8; EVENTS]>> {
    let inotify = Inotify::init().context("inotify")?;
    let changes = WatchMask::CLOSE_WRITE | WatchMask::MOVED_TO | WatchMask::MOVED_FROM | WatchMask::DELETE;
    let named = || directory.display().to_string();
    inotify.watches().add(directory, changes).with_context(named)?;
    inotify.into_event_stream([0; EVENTS]).with_context(named)
}

impl Node {
    /// What is not in place; `None`: nothing.
    pub(crate) fn missing(&self) -> Result<Option<String>> {
        for path in [self.program(), self.kubeconfig()] {
            if !path.exists() {
                return Ok(Some(format!("{} is missing", path.display())));
            }
        }
        let Some(list) = self.list()? else {
            return Ok(Some(format!("{} has no network configuration yet", self.conf_dir.display())));
        };
        let text = fs::read_to_string(&list).with_context(|| list.display().to_string())?;
        Ok((!conflist::has(&text, &self.entry())).then(|| format!("{} is without weft-cni", list.display())))
    }

    /// Takes everything of ours away.
    pub(crate) fn uninstall(&self) -> Result<()> {
        for path in self.configurations()? {
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            // What can't be read as a list has nothing of ours.
            if let Ok(Some(without)) = conflist::without(&text) {
                replace(&path, without.as_bytes())?;
            }
        }
        remove(&self.kubeconfig())?;
        remove(&self.program())
    }

    /// Makes right what is not; says how it is then.
    fn install(&self, access: &Access) -> Result<String> {
        if !self.program().exists() {
            self.install_program()?;
        }
        self.install_kubeconfig(access)?;
        let Some(path) = self.list()? else {
            bail!("{} has no network configuration yet", self.conf_dir.display());
        };
        let named = || path.display().to_string();
        let text = fs::read_to_string(&path).with_context(named)?;
        if let Some(with) = conflist::with(&text, &self.entry()).with_context(named)? {
            replace(&path, with.as_bytes())?;
        }
        Ok(format!("installed in {}", path.display()))
    }

    /// The program is tens of megabytes, and the agent's memory is not: it goes through in pieces.
    fn install_program(&self) -> Result<()> {
        let mut own = File::open("/proc/self/exe").context("the own program")?;
        let path = self.program();
        let named = || path.display().to_string();
        if File::open(&path).and_then(|there| same(&own, &there)).is_ok_and(|same| same) {
            return Ok(());
        }
        own.rewind().context("the own program")?;
        durable::replace_with(&path, |file| io::copy(&mut own, file).map(|_| ())).with_context(named)?;
        fs::set_permissions(&path, Permissions::from_mode(0o755)).with_context(named)
    }

    fn install_kubeconfig(&self, access: &Access) -> Result<()> {
        let read = |name: &str| {
            let path = access.service_account.join(name);
            fs::read(&path).with_context(|| path.display().to_string())
        };
        let token = String::from_utf8(read("token")?).context("the token is no text")?.trim().to_owned();
        // An IPv6 address stands in brackets in a URL.
        let host = &access.api_host;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let server = format!("https://{host}:{}", access.api_port);
        let wanted = Kubeconfig { server, roots: read("ca.crt")?, token };
        let path = self.kubeconfig();
        if Kubeconfig::read(&path).is_ok_and(|there| there == wanted) {
            return Ok(());
        }
        durable::replace(&path, wanted.to_json().as_bytes()).with_context(|| path.display().to_string())
    }

    fn program(&self) -> PathBuf {
        self.bin_dir.join(conflist::TYPE)
    }

    fn kubeconfig(&self) -> PathBuf {
        self.conf_dir.join(KUBECONFIG)
    }

    fn entry(&self) -> String {
        let kubeconfig = self.host_conf_dir.join(KUBECONFIG);
        conflist::entry(&kubeconfig.to_string_lossy(), &self.exclude_namespaces)
    }

    /// The list that the runtime uses: the first by name (containerd with `max_conf_num = 1`, CRI-O's default network).
    fn list(&self) -> Result<Option<PathBuf>> {
        Ok(self.configurations()?.into_iter().next())
    }

    /// The files that a runtime takes for network configurations, by name (containernetworking/cni, libcni: ConfFiles).
    fn configurations(&self) -> Result<Vec<PathBuf>> {
        let named = || self.conf_dir.display().to_string();
        let mut paths = Vec::new();
        for entry in fs::read_dir(&self.conf_dir).with_context(named)? {
            let path = entry.with_context(named)?.path();
            let extension = path.extension().and_then(|extension| extension.to_str());
            if matches!(extension, Some("conf" | "conflist" | "json")) && path.is_file() {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }
}

/// Replaces a file of somebody else's, which keeps its permissions.
fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let named = || path.display().to_string();
    let permissions = fs::metadata(path).with_context(named)?.permissions();
    durable::replace(path, content).with_context(named)?;
    fs::set_permissions(path, permissions).with_context(named)
}

/// Whether two files hold the same.
fn same(one: &File, other: &File) -> io::Result<bool> {
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut one, mut other) = (BufReader::new(one), BufReader::new(other));
    loop {
        let (left, right) = (one.fill_buf()?, other.fill_buf()?);
        let length = left.len().min(right.len());
        if left.get(..length) != right.get(..length) {
            return Ok(false);
        }
        if length == 0 {
            return Ok(true);
        }
        one.consume(length);
        other.consume(length);
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).context(path.display().to_string())
        }
        _ => Ok(()),
    }
}
