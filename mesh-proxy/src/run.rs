//! The process: builds the parts, starts them, and waits for the end.
//!
//! Order: settings and sockets first, so that what a person got wrong is said before anything runs; then what the disk
//! knows, so that the first request finds it; then the workers, then everything that talks to the control plane. The shell's
//! tasks live in one `JoinSet` on one runtime of this thread; each worker has a thread and a runtime of its own.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use weft_identity::SvidSource;
use weft_process::notify;

use crate::admin::{self, Admin};
use crate::config::{ConfigStore, ProxyConfig};
use crate::demand::Demand;
use crate::dns::{self, Names};
use crate::health;
use crate::identity::{self, IdentityStatus};
use crate::logging::LogLevel;
use crate::mesh::{self, Mesh, MeshStatus};
use crate::overload::{self, FileLimit, Overload};
use crate::place::own_addresses;
use crate::settings::Settings;
use crate::shared::{DrainSignal, Shared, Sockets};
use crate::sockets::DnsSockets;
use crate::state::{PORTS, StateDir};
use crate::telemetry::Telemetry;
use crate::{sockets, worker};

/// How long after the deadline a worker may take to cut what is open.
const CUT: Duration = Duration::from_secs(2);
/// How often services that nobody uses are looked for.
const EVICTION: Duration = Duration::from_secs(30);

/// Runs the proxy until it is told to stop. `notify_socket` is systemd's.
pub(crate) fn run(settings: Settings, log: LogLevel, notify_socket: Option<OsString>) -> Result<ExitCode> {
    weft_identity::install_crypto_provider();
    let files = FileLimit::raise();
    let state = Arc::new(StateDir::open(&settings.state_dir)?);
    let instance = match &settings.workload.name {
        Some(name) => name.clone(),
        None => state.instance_name()?,
    };
    let svids = SvidSource::new();
    identity::restore(&state, &svids);
    let (mesh, config) = Mesh::restore(&state, &svids, &settings);
    check_standalone(&settings, &svids, &config)?;
    let (sockets, mut bound) = sockets::bind(&settings)?;
    let (admin_address, admin_socket) = sockets::bind_admin(&settings)?;
    bound.admin = Some(admin_address);
    let (health_address, health_socket) = sockets::bind_health(&settings)?.unzip();
    bound.health = health_address;
    let (dns_sockets, dns_addresses) = sockets::bind_dns(&settings)?;
    bound.dns = dns_addresses;
    state.write(PORTS, &serde_json::to_vec_pretty(&bound)?)?;

    let demand = wanted(&settings, &config);
    let addresses = Demand::new(own_addresses(&settings), settings.limits.on_demand_addresses);
    for address in config.addresses.keys() {
        // As with services.
        _ = addresses.want(address);
    }
    let shared = Arc::new(Shared {
        demand,
        addresses,
        names: Names::restore(&state, &settings),
        telemetry: Telemetry::new(&settings)?,
        config: ConfigStore::new(config),
        drain: DrainSignal::new(),
        overload: Overload::new(overload::memory_limit(settings.limits.memory)),
        files,
        svids,
        bound,
        settings,
    });
    let workers = spawn_workers(&shared, sockets)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    shared.telemetry.watch("shell".to_owned(), runtime.handle());
    let shell = Shell { shared, state, instance, log, notify_socket };
    let watched = Watched { admin: admin_socket, health: health_socket, dns: dns_sockets };
    runtime.block_on(shell.run(mesh, watched, workers))
}

/// The declared upstreams, and what was restored: it was asked for on demand before the restart, and goes when nobody
/// uses it.
fn wanted(settings: &Settings, restored: &ProxyConfig) -> Demand {
    let declared = settings.upstream.iter().map(|upstream| upstream.service.clone());
    let demand = Demand::new(declared, settings.limits.on_demand_services);
    for service in restored.services.keys() {
        // One that finds no place is forgotten when the control plane is followed.
        _ = demand.want(service);
    }
    demand
}

/// Without a control plane there must be something to serve from.
fn check_standalone(settings: &Settings, svids: &SvidSource, config: &ProxyConfig) -> Result<()> {
    let known = svids.current().is_some() && (settings.upstream.is_empty() || !config.services.is_empty());
    if settings.control.addresses.is_empty() && !known {
        bail!(
            "control.addresses is empty, and {} holds no last known good state to serve from; \
             expected the address of a control plane, as in [\"control.example:15010\"]",
            settings.state_dir.display()
        );
    }
    Ok(())
}

/// The end of a worker, and how it came.
type WorkerEnd = std::io::Result<()>;

/// One thread a worker. Each says when it has ended.
fn spawn_workers(shared: &Arc<Shared>, sockets: Vec<Sockets>) -> Result<mpsc::Receiver<WorkerEnd>> {
    // One place for each worker's one message.
    let (ended, ends) = mpsc::channel(sockets.len().max(1));
    for (index, sockets) in sockets.into_iter().enumerate() {
        let (shared, ended) = (shared.clone(), ended.clone());
        let work = move || {
            let end = worker::run(shared, index, sockets);
            // The shell may have stopped waiting, at the deadline.
            _ = ended.blocking_send(end);
        };
        // The thread ends with its worker, which ends with the drain signal; `ends` closes when all have.
        std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(work)
            .context("starting a worker")?;
    }
    Ok(ends)
}

/// The sockets that the shell serves.
struct Watched {
    admin: std::net::TcpListener,
    health: Option<std::net::TcpListener>,
    dns: Vec<DnsSockets>,
}

/// What the shell's tasks share.
struct Shell {
    shared: Arc<Shared>,
    state: Arc<StateDir>,
    instance: String,
    log: LogLevel,
    notify_socket: Option<OsString>,
}

impl Shell {
    async fn run(self, mesh: Mesh, watched: Watched, ends: mpsc::Receiver<WorkerEnd>) -> Result<ExitCode> {
        let mut signals = Signals::new()?;
        let drain = Arc::new(Notify::new());
        let mut tasks = JoinSet::new();
        self.start(&mut tasks, mesh, watched, drain.clone())?;
        notify::ready(self.notify_socket.as_deref());
        tracing::info!(instance = self.instance, listeners = %serde_json::to_string(&self.shared.bound)?, "weft-proxy {} runs", env!("CARGO_PKG_VERSION"));
        let mut ends = ends;
        let why = tokio::select! {
            signal = signals.next() => signal,
            () = drain.notified() => "the admin endpoint was asked to drain",
            end = ends.recv() => return Err(early(end)),
            task = tasks.join_next() => bail!("a task of the shell ended: {task:?}"),
        };
        self.drain(why, &mut signals, ends).await
    }

    fn start(
        &self,
        tasks: &mut JoinSet<()>,
        mesh: Mesh,
        Watched { admin, health, dns }: Watched,
        drain: Arc<Notify>,
    ) -> Result<()> {
        let (identity_status, identity) = watch::channel(IdentityStatus::default());
        let mesh_status = mesh.status();
        let admin_listener = TcpListener::from_std(admin)?;
        let admin = Admin {
            shared: self.shared.clone(),
            instance: self.instance.clone(),
            identity,
            mesh: mesh_status,
            log: self.log.clone(),
            drain,
        };
        let admin = Arc::new(admin);
        if let Some(health) = health {
            tasks.spawn(health::serve(admin.clone(), TcpListener::from_std(health)?));
        }
        tasks.spawn(admin::serve(admin, admin_listener));
        for sockets in dns::listen(&self.shared, dns)? {
            tasks.spawn(sockets);
        }
        tasks.spawn(evict(self.shared.clone(), mesh.status()));
        tasks.spawn(overload::watch(self.shared.clone()));
        if self.shared.settings.control.addresses.is_empty() {
            tracing::warn!(
                "control.addresses is empty: serving from the last known good state, without renewal"
            );
        } else {
            tasks.spawn(identity::keep(self.shared.clone(), self.state.clone(), identity_status));
            tasks.spawn(mesh::follow(mesh, self.shared.clone(), self.state.clone(), self.instance.clone()));
        }
        Ok(())
    }

    /// Tells the workers and waits for them, at most until the deadline or a second signal.
    async fn drain(
        &self,
        why: &str,
        signals: &mut Signals,
        mut ends: mpsc::Receiver<WorkerEnd>,
    ) -> Result<ExitCode> {
        let settings = &self.shared.settings.drain;
        let now = Instant::now();
        let deadline = now + settings.deadline;
        tracing::info!(deadline = ?settings.deadline, "draining: {why}");
        notify::stopping(self.notify_socket.as_deref());
        self.shared.drain.drain(now + settings.grace, deadline);
        let mut failed = false;
        let all = async {
            while let Some(end) = ends.recv().await {
                if let Err(error) = end {
                    tracing::error!("a worker ended with an error: {error}");
                    failed = true;
                }
            }
        };
        tokio::select! {
            () = all => tracing::info!(after = ?now.elapsed(), "drained"),
            () = tokio::time::sleep_until(deadline + CUT) => tracing::warn!("the drain deadline is over; what is open is cut"),
            signal = signals.next() => tracing::warn!("not drained: {signal} again"),
        }
        self.shared.telemetry.close();
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

/// A worker that ends before it was told to has failed.
fn early(end: Option<WorkerEnd>) -> anyhow::Error {
    match end {
        Some(Err(error)) => anyhow::Error::new(error).context("a worker failed"),
        Some(Ok(())) | None => anyhow::anyhow!("a worker ended although nobody asked it to"),
    }
}

async fn evict(shared: Arc<Shared>, mesh: watch::Receiver<MeshStatus>) {
    let mut ticks = tokio::time::interval(EVICTION);
    loop {
        ticks.tick().await;
        // What is given up while nobody answers could not be asked for again.
        if !mesh.borrow().connected {
            continue;
        }
        shared.demand.evict();
        shared.addresses.evict();
    }
}

/// The signals that end the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests {
    use weft_model::NetworkAddress;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_asked_for_is_kept_for_as_long_as_nobody_could_be_asked_again() {
        let shared = Arc::new(Shared::for_tests(""));
        let address: NetworkAddress = "default/10.96.0.7".parse().unwrap();
        assert!(shared.addresses.want(&address));
        let status = watch::Sender::new(MeshStatus::default());
        let idle = Duration::from_hours(1);
        let evicting = evict(shared.clone(), status.subscribe());
        let looked = async {
            tokio::time::sleep(idle).await;
            assert!(shared.addresses.wants(&address), "given up while no control plane answered");
            status.send_modify(|status| status.connected = true);
            tokio::time::sleep(idle).await;
            assert!(!shared.addresses.wants(&address), "nobody used it");
        };
        tokio::select! {
            () = evicting => unreachable!("it never ends"),
            () = looked => {}
        }
    }
}
