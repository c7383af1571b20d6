//! The control plane and the CA under load: many thin clients in one process, the control plane alone on its core.
//!
//! Figures of istiod stand beside ours as they were measured on such a machine; it is not run here. CPU is the kernel's
//! account of the process and is the firmest figure; a time counts only while the load's own core had time to spare.

mod arrive;
mod certificates;
mod change;
mod client;
mod fleet;
mod issue;
mod kubernetes;
mod meter;
mod reconnect;
mod wire;
mod world;

use anyhow::Result;
use serde_json::Value;

use crate::report::Section;
use crate::row::Row;
use world::Shape;

/// `weft-bench control`.
#[derive(clap::Args, Clone, Default)]
pub(crate) struct Args {
    /// Small sizes, to see that it works; the figures mean nothing.
    #[arg(long)]
    quick: bool,
    /// Only these: change, large, cost, arrive, reconnect, issue, kubernetes.
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<String>,
}

/// How much of everything.
struct Sizes {
    shape: Shape,
    clients: usize,
    rounds: usize,
    large: usize,
    cost: (usize, usize),
    reconnecting: usize,
    certificates: usize,
}

impl Sizes {
    fn of(args: &Args) -> Self {
        match args.quick {
            false => Self {
                shape: Shape { services: 1000, endpoints: 10 },
                clients: 100,
                rounds: 30,
                large: 1000,
                cost: (100, 10_000),
                reconnecting: 500,
                certificates: 2000,
            },
            true => Self {
                shape: Shape { services: 20, endpoints: 3 },
                clients: 12,
                rounds: 2,
                large: 20,
                cost: (10, 30),
                reconnecting: 12,
                certificates: 12,
            },
        }
    }
}

/// Measures all scenarios.
pub(crate) async fn run(args: &Args) -> Result<Section> {
    weft_identity::install_crypto_provider();
    let sizes = Sizes::of(args);
    let wanted = |name: &str| args.scenarios.is_empty() || args.scenarios.iter().any(|one| one == name);
    let mut rows: Vec<Row> = Vec::new();
    if wanted("change") {
        rows.extend(shown(change::ordinary(sizes.shape, sizes.clients, sizes.rounds).await?));
    }
    if wanted("large") {
        rows.extend(shown(vec![change::large(sizes.large, sizes.clients, sizes.rounds).await?]));
    }
    if wanted("cost") {
        rows.extend(shown(vec![change::cost(sizes.cost.0, sizes.cost.1, sizes.rounds).await?]));
    }
    if wanted("arrive") {
        let rounds = sizes.rounds.min(10);
        rows.extend(shown(vec![arrive::new_service(sizes.shape, sizes.clients, rounds).await?]));
    }
    if wanted("reconnect") {
        rows.extend(shown(vec![reconnect::restart(sizes.shape, sizes.reconnecting).await?]));
    }
    if wanted("kubernetes") {
        let row = kubernetes::slices(sizes.shape, sizes.clients, sizes.rounds).await?;
        rows.extend(shown(row.into_iter().collect()));
    }
    if wanted("issue") {
        rows.extend(shown(issue::rows(sizes.certificates).await?));
    }
    let markdown = format!(
        "## Control plane\n\nweft-control {} on a core of its own, clients over mTLS on the other; the registry is a directory of \
         files where nothing else is said. Figures of istiod are from such a machine, not from this run.\n",
        env!("CARGO_PKG_VERSION"),
    );
    Ok(Section { name: "control", rows, markdown, figures: Value::Null, failures: Vec::new() })
}

/// Printed as they come: a whole run takes minutes.
fn shown(rows: Vec<Row>) -> Vec<Row> {
    for row in &rows {
        println!("{}: {}", row.work, row.measured);
    }
    rows
}
