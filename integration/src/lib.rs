//! A mesh of real processes for the end-to-end tests and the benchmarks.
//!
//! [`Mesh`] is a control plane with a directory as registry; [`Mesh::proxy`] starts a proxy from a [`ProxyPlan`],
//! [`Mesh::http_app`] and its kin start applications. Everything listens on free loopback ports, lives in a temporary
//! directory and ends with its handle. What a test does to it is what a user would do: files, sockets, signals.

mod app;
mod client;
mod cluster;
mod disk;
mod figures;
mod host;
mod inside;
mod load;
mod mesh;
mod ports;
mod process;
mod proxy;
mod real;
mod steady;
mod strace;
mod stream;

pub use app::{App, AppKind};
pub use client::{Answer, get, http1, http2};
pub use cluster::{Cluster, KUBERNETES};
pub use disk::SmallDisk;
pub use figures::figure;
pub use host::{FarHost, Host};
pub use inside::{inside, namespace_of_pod};
pub use load::{Load, Outcome};
pub use mesh::{Mesh, MeshPlan};
pub use ports::free_port;
pub use process::Process;
pub use proxy::{Proxy, ProxyPlan};
pub use real::{ran_on, skipped, skipped_on};
pub use steady::{Steady, Tally, Trouble};
pub use strace::count_system_calls;
pub use stream::{Carrier, StreamTally, Streams};

use std::time::{Duration, Instant};

/// How long anything may take to become true.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again and again until the answer is `Some`; the last complaint is the error.
///
/// # Errors
/// When [`PATIENCE`] has passed.
pub async fn eventually<T>(
    what: &str,
    ask: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    within(PATIENCE, what, ask).await
}

/// [`eventually`] with a patience of its own.
///
/// # Errors
/// When it has passed.
pub async fn within<T>(
    patience: Duration,
    what: &str,
    mut ask: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let start = Instant::now();
    loop {
        // Who is asked may never answer: that must not hold the whole run.
        let said = match tokio::time::timeout(patience, ask()).await {
            Ok(Ok(Some(value))) => return Ok(value),
            Ok(Ok(None)) => "it is not so yet".to_owned(),
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "no answer at all".to_owned(),
        };
        if start.elapsed() > patience {
            anyhow::bail!("{what}: not within {} s: {said}", patience.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
