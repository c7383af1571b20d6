//! The Kubernetes registry.

pub mod attest;
