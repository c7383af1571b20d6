//! Applications behind the proxies: `weft workload` processes, which answer with what reached them.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;
use tokio::net::TcpStream;

use crate::{Host, Process, eventually, free_port};

/// What an application speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppKind {
    /// HTTP/1.1 and HTTP/2 without TLS.
    Http,
    /// gRPC.
    Grpc,
    /// Raw TCP, the server speaking first.
    Tcp,
}

/// A running application.
pub struct App {
    /// Its process.
    pub process: Process,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its service and version.
    pub name: String,
    /// What it speaks.
    pub kind: AppKind,
}

impl App {
    /// Starts one and waits until it listens.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(kind: AppKind, name: &str, version: &str, directory: &Path) -> Result<Self> {
        Self::start_on(&Host::default(), kind, name, version, directory).await
    }

    /// The same on another host; its readiness is not waited for, since it listens on that host's loopback.
    ///
    /// # Errors
    /// When it can't be started.
    pub async fn start_on(
        host: &Host,
        kind: AppKind,
        name: &str,
        version: &str,
        directory: &Path,
    ) -> Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let word = match kind {
            AppKind::Http => "http",
            AppKind::Grpc => "grpc",
            AppKind::Tcp => "tcp",
        };
        let mut command = host.command(&Process::program("weft")?);
        command.args(["workload", word, "--name", name, "--version", version]);
        command.args(["--listen", &address.to_string()]);
        let process = Process::start(&format!("{name}-{version}-app"), command, directory)?;
        if *host != Host::default() {
            return Ok(Self { process, address, name: name.to_owned(), kind });
        }
        eventually("the application listens", async || Ok(TcpStream::connect(address).await.ok().map(drop)))
            .await?;
        Ok(Self { process, address, name: name.to_owned(), kind })
    }
}
