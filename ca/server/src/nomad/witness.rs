//! Asks a region of Nomad: the door through which tests answer, and the real one over the client of the Nomad adapter.

use futures::FutureExt;
use futures::future::BoxFuture;
use weft_registry_nomad::NomadError;
use weft_registry_nomad::attest::{Allocation, Job, Node, NomadWitness, SigningKey};

use super::refusal::NomadUnavailable;

/// What Nomad says, or why it does not.
type Said<'a, T> = BoxFuture<'a, Result<T, NomadUnavailable>>;

/// Asks a region of Nomad.
pub trait AllocationWitness: Send + Sync + 'static {
    /// The keys that it signs tokens with.
    fn signing_keys(&self) -> Said<'_, Vec<SigningKey>>;

    /// An allocation; with `newer_than` it is waited for a moment, where it is not newer.
    fn allocation<'a>(&'a self, id: &'a str, newer_than: Option<u64>) -> Said<'a, Option<Allocation>>;

    /// A node.
    fn node<'a>(&'a self, id: &'a str) -> Said<'a, Option<Node>>;

    /// A job of a namespace.
    fn job<'a>(&'a self, namespace: &'a str, id: &'a str) -> Said<'a, Option<Job>>;
}

impl AllocationWitness for NomadWitness {
    fn signing_keys(&self) -> Said<'_, Vec<SigningKey>> {
        said(Self::signing_keys(self))
    }

    fn allocation<'a>(&'a self, id: &'a str, newer_than: Option<u64>) -> Said<'a, Option<Allocation>> {
        said(Self::allocation(self, id, newer_than))
    }

    fn node<'a>(&'a self, id: &'a str) -> Said<'a, Option<Node>> {
        said(Self::node(self, id))
    }

    fn job<'a>(&'a self, namespace: &'a str, id: &'a str) -> Said<'a, Option<Job>> {
        said(Self::job(self, namespace, id))
    }
}

fn said<'a, T>(answer: impl Future<Output = Result<T, NomadError>> + Send + 'a) -> Said<'a, T> {
    answer.map(|answer| answer.map_err(|error| NomadUnavailable(error.to_string()))).boxed()
}
