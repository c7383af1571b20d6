//! The mesh in a real Nomad: groups get their proxies by their `meta`, call each other and the rest of the mesh, and lose no
//! request to what happens in a cluster every day.

mod calls;
mod job;
mod life;
mod network;
mod outages;
mod strict;
mod updates;
mod world;
