//! Seeded simulation of the mesh: the real state machines, virtual time, no sockets.
//!
//! Registries, control planes and proxies with their certificates live in one [`run`], whose whole history follows from a
//! [`Plan`], which follows from a seed. What is driven is production code (`Supervision`, `Ingestion`, `Stream`, `Client`,
//! `Reconnect`, `Keeping`, the CA's `leaf_life`); what is simulated is what is outside of it: registries, the network, disks,
//! clocks. [`Violation`]s are what must never be, whatever goes wrong.
//!
//! It makes no keys and no sockets, and knows no load.
#![allow(clippy::expect_used, reason = "a simulation that contradicts itself has to stop")]

mod invariants;
mod leaf;
mod link;
mod plan;
mod plane;
mod proxy;
mod queue;
mod rng;
mod shrink;
mod source;
mod trace;
mod truth;
mod world;

pub use invariants::Violation;
pub use plan::{Fault, Plan};
pub use shrink::shrink;
pub use trace::Trace;
pub use world::Figures;

/// Runs a plan to its end, or to the first violation; says when that was.
///
/// # Errors
/// What did not hold.
pub fn run(plan: &Plan, trace: Trace) -> Result<Figures, Violation> {
    let mut world = world::World::new(plan.clone(), trace);
    let outcome = world.run();
    if let Err(violation) = &outcome {
        trace.say(world.now, &"VIOLATION", || violation);
    }
    outcome.map(|()| world.figures)
}
