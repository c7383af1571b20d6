//! The root is replaced under load, step by step as docs/identity.md says, and the old one is then worth nothing.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_rustls::TlsConnector;
use weft_identity::{Credentials, Svid, TrustBundle, TrustBundles};
use weft_integration::{Mesh, MeshPlan, Process, ProxyPlan, eventually, free_port};

use crate::world::{Shop, Traffic, lasts};

const SHORT: &str = "[ca]\nleaf_ttl = \"10s\"\n";

/// A new root and issuing certificate, made by `weft-ca`.
async fn new_pair(directory: &Path) -> Result<PathBuf> {
    let ca = directory.join("new-ca");
    let mut command = Command::new(Process::program("weft-ca")?);
    command.arg("--state-dir").arg(&ca).args(["--trust-domain", Mesh::TRUST_DOMAIN]);
    command.args(["--listen", &format!("127.0.0.1:{}", free_port())]);
    let mut process = Process::start("weft-ca", command, directory)?;
    eventually("the new pair is made", async || Ok(ca.join("issuing.pem").exists().then_some(()))).await?;
    process.stop(Duration::from_secs(10)).await?;
    Ok(ca)
}

/// A certificate of `api`'s caller that lives a day, from a control plane with a copy of this CA's keys.
async fn day_long_certificate(ca: &Path) -> Result<Arc<Svid>> {
    let top = tempfile::tempdir()?;
    let state = top.path().join("state");
    let copied =
        Command::new("cp").arg("-a").arg(ca.parent().context("a directory")?).arg(&state).status().await?;
    anyhow::ensure!(copied.success(), "{copied}");
    let mesh = Mesh::start(MeshPlan { state: Some(state), ..MeshPlan::default() }).await?;
    let web = mesh.proxy(ProxyPlan::new("old", "web")).await?;
    web.ready().await?;
    Ok(Arc::new(Svid::from_pem(&std::fs::read_to_string(mesh.path().join("old/svid.pem"))?)?))
}

/// What a caller with this certificate meets at the tunnel of `api`; it trusts every root in these files.
async fn knock(address: SocketAddr, svid: &Arc<Svid>, roots: &[PathBuf]) -> Result<()> {
    let mut text = String::new();
    for root in roots {
        text += &certificates(&std::fs::read_to_string(root)?);
    }
    let trust_domain = svid.id().trust_domain().clone();
    let bundles: TrustBundles = [TrustBundle::from_pem(trust_domain, &text)?].into_iter().collect();
    let credentials = Credentials::new(svid.clone(), Arc::new(bundles), 1);
    let api = "spiffe://test.weft/ns/default/sa/api".parse()?;
    let config = credentials.client_config(&api, &[b"h2"])?;
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::IpAddress(address.ip().into());
    let mut tls =
        TlsConnector::from(config).connect(name, stream).await.context("our side refuses theirs")?;
    // In TLS 1.3 the refusal of a client comes with its first read.
    tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await?;
    tls.read_exact(&mut [0; 9]).await?;
    Ok(())
}

/// The certificates of a PEM file that has a key as well.
fn certificates(pem: &str) -> String {
    const END: &str = "-----END CERTIFICATE-----\n";
    let parts =
        pem.split_inclusive(END).filter_map(|part| part.find("-----BEGIN CERTIFICATE").map(|at| &part[at..]));
    parts.filter(|part| part.ends_with(END)).collect()
}

async fn restart(shop: &mut Shop, more: String) -> Result<()> {
    let status = shop.mesh.control()?.stop(Duration::from_secs(10)).await?;
    anyhow::ensure!(status.success(), "{status}");
    shop.mesh.change_plan(|plan| plan.more = more);
    shop.mesh.start_control().await?;
    shop.mesh.in_sync(4).await
}

/// Waits until both proxies trust so many roots.
async fn trust(shop: &Shop, roots: usize) -> Result<()> {
    eventually("the proxies have the bundle", async || {
        for proxy in shop.proxies() {
            let dump: serde_json::Value = serde_json::from_str(&proxy.admin("/config_dump").await?.1)?;
            let trust = &dump["identity"]["trust"][0]["roots"];
            anyhow::ensure!(*trust == roots, "{trust} roots");
        }
        Ok(Some(()))
    })
    .await
}

#[tokio::test]
async fn a_new_root_under_load_costs_no_call_and_the_old_one_is_refused_after_it() -> Result<()> {
    let plan = MeshPlan { more: SHORT.to_owned(), ..MeshPlan::default() };
    let mut shop = Shop::open(plan).await?;
    let tunnel = shop.api.first().context("a proxy")?.tunnel;
    let (old, new) = (shop.mesh.state().join("ca"), new_pair(shop.mesh.path()).await?);
    let (old_root, new_root) = (old.join("root.pem"), new.join("root.pem"));
    let both = [old_root.clone(), new_root.clone()];
    let papers = day_long_certificate(&old).await?;
    let traffic = Traffic::start(&shop.web).await?;

    restart(&mut shop, format!("{SHORT}extra_roots = [{new_root:?}]\n")).await?;
    trust(&shop, 2).await?;
    let own = format!(
        "own_pem = {{ roots = {new_root:?}, chain = {issuing:?}, key = {issuing:?} }}\n",
        issuing = new.join("issuing.pem")
    );
    restart(&mut shop, format!("{SHORT}{own}extra_roots = [{old_root:?}]\n")).await?;
    trust(&shop, 2).await?;
    knock(tunnel, &papers, &both).await.context("the old root still counts")?;
    // The last old leaf is over.
    lasts(Duration::from_secs(11)).await;
    restart(&mut shop, format!("{SHORT}{own}")).await?;
    trust(&shop, 1).await?;
    traffic.meets(200).await?;
    traffic.unharmed("root added, new issuer used, old root removed", "").await?;

    let refused =
        knock(tunnel, &papers, &both).await.err().context("a certificate of the old root was let in")?;
    println!("the old root's certificate: {refused:#}");
    let api = shop.api.first().context("a proxy")?;
    let counted = api.metric("weft_handshakes_refused_total", &["reason=\"unknown_issuer\""]).await?;
    assert!(counted >= 1.0, "{}", api.process.log());
    Ok(())
}
