//! Whether pods and this machine reach each other, looked at with a pod that has no proxy, before anything else is
//! started: whatever failed later would not say why.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::{TcpListener, TcpStream};

use super::objects::{self, PORT};
use super::world::World;
use crate::demo::client::Http1;
use crate::demo::report::{Event, Reporter};

/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Fails with a sentence on what can't be reached.
pub(super) async fn check(world: &World, reporter: Reporter) -> Result<()> {
    let listener = TcpListener::bind((world.host, 0)).await;
    let listener =
        listener.with_context(|| format!("{} is no address of this machine (--host-address)", world.host))?;
    let here = listener.local_addr()?;
    let pod = objects::stranger(&world.workload_image, &format!("http://{here}/"));
    world.cluster.create(&world.path("api/v1/pods"), &pod).await?;
    world.ready("stranger").await?;
    let pod = world.address("stranger", PORT).await?;
    if let Err(why) = connected(pod).await {
        bail!(
            "this machine does not reach the pod {}/stranger at {pod}: {why}. The demo calls pods by their addresses, as \
             services outside the cluster do; run it where those are routed, such as on a node",
            world.namespace
        );
    }
    pod_reaches(&listener, pod.ip(), here).await?;
    let text = format!("this machine reaches pods ({}), and pods reach it ({})", pod.ip(), here.ip());
    reporter.say(&Event::Note { text });
    Ok(())
}

async fn connected(pod: SocketAddr) -> Result<(), String> {
    match tokio::time::timeout(PATIENCE, TcpStream::connect(pod)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer in {} s", PATIENCE.as_secs())),
    }
}

/// Lets the pod call here; that it connects is all that is asked.
async fn pod_reaches(listener: &TcpListener, pod: IpAddr, here: SocketAddr) -> Result<()> {
    let mut looks = Http1::new((pod, PORT + 1).into());
    tokio::select! {
        accepted = listener.accept() => {
            accepted.context("accepting a pod's connection")?;
            Ok(())
        }
        // The pod's own words, where it is told at once that nobody is there.
        Err(why) = looks.get("/relay") => bail!(
            "pods do not reach this machine at {here}: the pod {pod} says: {why:#}. Proxies in pods ask the control plane, which \
             runs here: give an address that they reach with --host-address"
        ),
        () = tokio::time::sleep(PATIENCE) => bail!(
            "pods do not reach this machine at {here}: nothing came from the pod {pod} in {} s. Proxies in pods ask the control \
             plane, which runs here: open the firewall, or give another address with --host-address",
            PATIENCE.as_secs()
        ),
    }
}
