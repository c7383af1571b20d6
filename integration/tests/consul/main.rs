//! End to end with real Consul: one mesh over it and files, its leaves as proof, its outages, its ACLs and checks.
//!
//! Each test starts its own agents, control plane, proxies and applications; where a version of Consul is not to be
//! had, that is said and reported.

mod attestation;
mod checks;
mod meta;
mod one_mesh;
mod outages;
mod rights;
mod world;
