//! `weft demo --kubernetes`: one mesh over a Kubernetes cluster, files on this machine and, where given, Consul.
//!
//! The control plane runs beside the cluster, on this machine: so nothing is installed, and all that is made in the
//! cluster is one namespace with a name of its own, whose deletion takes everything with it. No webhook, role or any
//! other object that belongs to the whole cluster is touched; pods get their proxies as by `weft inject`. The price: pods
//! and this machine must reach each other's addresses, which is looked at before anything else.

mod objects;
mod reach;
mod scenes;
mod which;
mod world;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;

use super::Tally;
use super::consul::Registration;
use super::interrupt::Interrupt;
use super::report::{Event, Reporter};
use world::World;

/// What only the demo with a cluster is told.
#[derive(Debug, clap::Args)]
pub(super) struct ClusterArgs {
    /// The cluster: its current context is used. Without it: the one cluster that cargo xtask cluster up has started.
    #[arg(long, value_name = "FILE", requires = "kubernetes")]
    kubeconfig: Option<PathBuf>,
    /// An address of this machine that pods reach [default: that by which it reaches the API server].
    #[arg(long, value_name = "ADDRESS", requires = "kubernetes")]
    host_address: Option<IpAddr>,
    /// Where the proxy's image is: REGISTRY/proxy:TAG.
    #[arg(long, default_value = "weft.dev", value_name = "REGISTRY", requires = "kubernetes",
        value_parser = crate::kubernetes::image_part)]
    image_registry: String,
    /// Its tag.
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"), value_name = "TAG", requires = "kubernetes",
        value_parser = crate::kubernetes::image_part)]
    image_tag: String,
    /// The application's image: any that has this program at /usr/bin/weft.
    #[arg(long, default_value = "weft.test/workload:1", value_name = "IMAGE", requires = "kubernetes",
        value_parser = crate::kubernetes::image_part)]
    workload_image: String,
}

/// Plays it. `Ok(true)`: nothing failed, and nothing is left.
pub(super) async fn run(args: &super::Args, reporter: Reporter) -> Result<bool> {
    let start = Instant::now();
    let kubeconfig = which::kubeconfig(args.cluster.kubeconfig.clone())?;
    let mut interrupt = Interrupt::listen()?;
    let mut tally = Tally::default();
    // Not given up half-way: a namespace whose making was interrupted would be nobody's.
    let mut world = World::new(args, &kubeconfig, reporter).await?;
    let mut registrations = Vec::new();
    let played = match world.begin(reporter).await {
        Err(error) => Err(error),
        Ok(()) => tokio::select! {
            // With --keep the playing itself waits for Ctrl-C, and then that is how it ends.
            biased;
            played = play(args, &mut world, &mut registrations, &mut tally, reporter) => played,
            signal = interrupt.received() => Err(anyhow::anyhow!("interrupted by {signal}")),
        },
    };
    if let Err(error) = played {
        tally.fail("the demo", &error, reporter);
    }
    reporter.say(&Event::Scene { title: "Everything is taken away" });
    for registration in registrations {
        if let Err(error) = registration.withdraw().await {
            tally.fail("deregistering from Consul", &error, reporter);
        }
    }
    if let Err(error) = world.end(reporter).await {
        tally.fail("cleaning up", &error, reporter);
    }
    Ok(tally.sum_up(start, reporter))
}

async fn play(
    args: &super::Args,
    world: &mut World,
    registrations: &mut Vec<Registration>,
    tally: &mut Tally,
    reporter: Reporter,
) -> Result<()> {
    reach::check(world, reporter).await?;
    reporter.say(&Event::Scene { title: "A mesh starts, half on this machine and half in the cluster" });
    for name in world.in_consul() {
        let agent = args.consul.as_deref().unwrap_or_default();
        // Kept before it is made: an interruption in between must not leave it there.
        let registration = Registration::of(agent, world.stage.member(name)?);
        registrations.push(registration);
        if let Some(registration) = registrations.last() {
            registration.make().await?;
        }
    }
    world.start(reporter).await?;
    let title = match world.consul {
        true => "Pods, this machine and services of Consul call each other",
        false => "Pods and this machine call each other",
    };
    reporter.say(&Event::Scene { title });
    tally.take("calls", scenes::calls(world).await, reporter);
    reporter.say(&Event::Scene { title: "One service in two places: each half is stopped under load" });
    tally.take("one half is stopped", scenes::halves(world, reporter).await, reporter);
    reporter.say(&Event::Scene { title: "A rolling restart of the pods under load" });
    tally.take("a rolling restart", scenes::rolling_restart(world).await, reporter);
    reporter.say(&Event::Scene { title: "A pod without a proxy calls api, which is strict" });
    tally.take("strict mutual TLS", scenes::stranger(world).await, reporter);
    if args.keep {
        world.keep(reporter).await?;
    }
    Ok(())
}
