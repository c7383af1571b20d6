//! `weft demo`: a whole mesh on this machine, shown at work, then gone; with `--kubernetes` it spans a cluster as well.
//!
//! The demo process itself is the application code of `web`; everything else is a process of its own. It ends with exit status 0
//! only if no call failed and every scene went as it should, and leaves no process and no file.

mod client;
mod consul;
mod interrupt;
mod kubernetes;
mod load;
mod member;
mod ports;
mod process;
mod report;
mod scenes;
mod stage;
mod strangers;

use std::net::Ipv4Addr;
use std::time::Instant;

use anyhow::Result;

use consul::Registration;
use interrupt::Interrupt;
use member::Role;
use report::{Event, Reporter};
use stage::{Setting, Stage};

use crate::output::Style;

/// `weft demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// One JSON object a line; the last one is the summary.
    #[arg(long)]
    json: bool,
    /// Stay up at the end, and say how to try it with curl; Ctrl-C ends it.
    #[arg(long)]
    keep: bool,
    /// Register api v2 in the Consul whose agent is at this URL, instead of in the files.
    #[arg(long, value_name = "URL")]
    consul: Option<String>,
    /// Span a Kubernetes cluster too: pods, services of files and of Consul call each other. All that is made in the
    /// cluster is one namespace, which is deleted at the end.
    #[arg(long)]
    kubernetes: bool,
    #[command(flatten)]
    cluster: kubernetes::ClusterArgs,
}

/// Who is on the stage of the demo on one machine.
const CAST: &[Role] = &[
    Role {
        name: "web",
        service: "web",
        version: "v1",
        protocol: "http1",
        upstreams: &["api", "greeter", "store"],
    },
    Role { name: "api-v1", service: "api", version: "v1", protocol: "http1", upstreams: &[] },
    Role { name: "api-v2", service: "api", version: "v2", protocol: "http1", upstreams: &["web"] },
    Role { name: "greeter", service: "greeter", version: "v1", protocol: "grpc", upstreams: &[] },
    Role { name: "store", service: "store", version: "v1", protocol: "tcp", upstreams: &[] },
];

/// The outcome so far.
#[derive(Default)]
struct Tally {
    calls: u64,
    failed: u64,
    scenes_failed: u64,
}

/// Plays the demo. `Ok(true)`: nothing failed.
pub(crate) async fn run(args: Args, style: Style) -> Result<bool> {
    weft_identity::install_crypto_provider();
    let reporter = Reporter::new(args.json, style);
    if args.kubernetes {
        return kubernetes::run(&args, reporter).await;
    }
    let start = Instant::now();
    // Before there is anything that would be left behind.
    let mut interrupt = Interrupt::listen()?;
    let consul = args.consul.as_deref();
    let mut stage = Stage::new(Setting {
        host: Ipv4Addr::LOCALHOST.into(),
        namespace: "default".to_owned(),
        registries: consul.map(|agent| consul::registry(agent, "default", &["api"])).unwrap_or_default(),
        roles: CAST,
        elsewhere: consul.map(|_| "api-v2").into_iter().collect(),
    })?;
    let mut registration = None;
    let mut tally = Tally::default();
    let played = tokio::select! {
        // With --keep the playing itself waits for Ctrl-C, and then that is how it ends.
        biased;
        played = play(&args, &mut stage, &mut registration, &mut tally, reporter) => played,
        signal = interrupt.received() => Err(anyhow::anyhow!("interrupted by {signal}")),
    };
    if let Err(error) = played {
        tally.fail("the demo", &error, reporter);
    }
    if let Some(registration) = registration
        && let Err(error) = registration.withdraw().await
    {
        tally.fail("deregistering from Consul", &error, reporter);
    }
    if let Err(error) = stage.end().await {
        tally.fail("cleaning up", &error, reporter);
    }
    Ok(tally.sum_up(start, reporter))
}

async fn play(
    args: &Args,
    stage: &mut Stage,
    registration: &mut Option<Registration>,
    tally: &mut Tally,
    reporter: Reporter,
) -> Result<()> {
    reporter.say(&Event::Scene { title: "A mesh starts" });
    if let Some(agent) = &args.consul {
        // Kept before it is made: an interruption in between must not leave it there.
        registration.insert(Registration::of(agent, stage.member("api-v2")?)).make().await?;
    }
    stage.start(reporter).await?;
    reporter.say(&Event::Scene { title: "web calls everybody through its proxy's upstreams" });
    tally.take("calls", scenes::calls(stage).await, reporter);
    reporter.say(&Event::Scene { title: "api v2 calls back" });
    tally.take("calling back", scenes::call_back(stage).await, reporter);
    reporter.say(&Event::Scene { title: "An endpoint leaves the registry under load" });
    tally.take("an endpoint leaves", scenes::endpoint_leaves(stage).await, reporter);
    reporter.say(&Event::Scene { title: "The control plane is killed under load" });
    tally.take("the control plane is killed", scenes::control_plane_killed(stage).await, reporter);
    reporter.say(&Event::Scene { title: "Strangers knock at api v1" });
    tally.take("strangers", scenes::strangers(stage).await, reporter);
    if let Some(casualty) = stage.casualty() {
        anyhow::bail!("{casualty}");
    }
    if args.keep {
        keep(stage, reporter).await?;
    }
    Ok(())
}

impl Tally {
    /// Counts and says what a scene brought.
    fn take(&mut self, scene: &'static str, outcome: Result<Vec<Event>>, reporter: Reporter) {
        let events = match outcome {
            Ok(events) => events,
            Err(error) => return self.fail(scene, &error, reporter),
        };
        for event in events {
            match &event {
                Event::Call { caller, .. } => {
                    self.calls += 1;
                    // A call whose caller nobody knows was not a call through the mesh.
                    self.failed += u64::from(caller.is_none());
                }
                Event::Load { calls, failed, .. } => {
                    self.calls += calls;
                    self.failed += failed;
                }
                Event::Refused { refused, .. } => self.scenes_failed += u64::from(!refused),
                _ => {}
            }
            reporter.say(&event);
        }
    }

    /// The last line; whether all is well.
    fn sum_up(self, start: Instant, reporter: Reporter) -> bool {
        let Self { calls, failed, scenes_failed } = self;
        let ok = failed == 0 && scenes_failed == 0 && calls > 0;
        let seconds = start.elapsed().as_secs_f64();
        reporter.say(&Event::Summary { calls, failed, scenes_failed, seconds, ok });
        ok
    }

    fn fail(&mut self, scene: &'static str, error: &anyhow::Error, reporter: Reporter) {
        self.scenes_failed += 1;
        reporter.say(&Event::Failed { scene, error: format!("{error:#}") });
    }
}

async fn keep(stage: &Stage, reporter: Reporter) -> Result<()> {
    let web = stage.member("web")?;
    let socket = stage.socket();
    let lines = [
        format!(
            "curl http://{}/                      # web -> api, balanced over v1 and v2",
            web.upstream("api")?
        ),
        format!("curl http://127.0.0.1:{}/metrics     # web's proxy; /config_dump and /ready too", web.admin),
        format!("weft --control {} status", socket.display()),
        format!("weft --control {} get workloads", socket.display()),
        format!(
            "ls {}                                # settings, registry files, logs",
            stage.path().display()
        ),
    ];
    reporter.say(&Event::Scene { title: "Try it; Ctrl-C ends it" });
    for text in lines {
        reporter.say(&Event::Note { text });
    }
    // Ends with the caller's Ctrl-C, which cancels this.
    tokio::signal::ctrl_c().await?;
    Ok(())
}
