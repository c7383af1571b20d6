//! Small applications to try a mesh with: an HTTP service that says what it saw, a gRPC greeter, a store over raw TCP.
//!
//! `weft demo` runs them beside its proxies, and so do the end-to-end tests: they know nothing of the mesh, and answer with
//! what reached them, so that a caller sees what the proxies made of a call.

pub(crate) mod grpc;
mod http;
mod tcp;

use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::net::TcpListener;

/// `weft workload`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, clap::Subcommand)]
enum Kind {
    /// HTTP/1.1 and HTTP/2: answers with a JSON object of what it saw; /relay calls its own upstream.
    Http(http::Args),
    /// gRPC: weft.demo.v1.Greeter/Hello and /Count (server streaming).
    Grpc(Serve),
    /// Raw TCP: greets first, then answers lines; ends when the client's half is closed.
    Tcp(Serve),
}

/// What every workload is told.
#[derive(Debug, clap::Args, Clone)]
pub(crate) struct Serve {
    /// The service's name, which it answers with.
    #[arg(long)]
    pub(crate) name: String,
    /// Its version, which it answers with.
    #[arg(long, default_value = "v1")]
    pub(crate) version: String,
    /// Where to listen.
    #[arg(long)]
    pub(crate) listen: SocketAddr,
}

/// Serves until the process is ended.
pub(crate) async fn run(args: Args) -> Result<()> {
    weft_identity::install_crypto_provider();
    match args.kind {
        Kind::Http(args) => http::serve(args).await,
        Kind::Grpc(args) => grpc::serve(args).await,
        Kind::Tcp(args) => tcp::serve(args).await,
    }
}

async fn listen(serve: &Serve) -> Result<TcpListener> {
    let listener = TcpListener::bind(serve.listen).await;
    let listener = listener.with_context(|| format!("{} cannot listen on {}", serve.name, serve.listen))?;
    println!("{} {} listens on {}", serve.name, serve.version, listener.local_addr()?);
    Ok(listener)
}
