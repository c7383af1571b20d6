//! The event stream: a hint which service to read, never the source of what is told.
//!
//! Nomad keeps few events and does not say when some are lost, so whenever the stream opens everything is read. Where it can't
//! be had, services have blocking queries of their own, and it is asked for again from time to time.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::time::{sleep, timeout};
use weft_registry::{Backoff, RegistryErrorKind};

use super::follow::Report;
use super::shared::Shared;
use crate::answer::Events;
use crate::error::NomadError;
use crate::view::Target;

/// Follows it for ever.
pub(super) async fn follow(shared: Arc<Shared>) {
    let mut reopened = shared.reopened.subscribe();
    let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX);
    let mut told = None;
    loop {
        reopened.borrow_and_update();
        let mut opened = false;
        let ended = tokio::select! {
            Ok(()) = reopened.changed() => None,
            ended = listen(&shared, &mut opened, &mut told) => Some(ended),
        };
        let pause = match ended {
            // Another one is wanted, for namespaces that are new.
            None => Duration::ZERO,
            Some(error) => {
                if opened {
                    backoff.reset();
                }
                tracing::debug!("no event stream: {error}");
                if error.kind == RegistryErrorKind::PermissionDenied { DENIED } else { backoff.next_delay() }
            }
        };
        if ended_for_good(pause) && told != Some(false) {
            told = Some(false);
            shared.report(Report::Streaming(false)).await;
        }
        sleep(pause).await;
    }
}

fn ended_for_good(pause: Duration) -> bool {
    !pause.is_zero()
}

/// Opens it and passes on what it says, until it ends.
async fn listen(shared: &Shared, opened: &mut bool, told: &mut Option<bool>) -> NomadError {
    const WHAT: &str = "the event stream";
    let query = [("namespace", "*"), ("topic", "Service:*")];
    let answer = match shared.client.stream(WHAT, &["v1", "event", "stream"], &query).await {
        Ok(answer) => answer,
        Err(error) => return error,
    };
    *opened = true;
    *told = Some(true);
    shared.report(Report::Streaming(true)).await;
    let mut chunks = answer.bytes_stream();
    let mut line = Vec::new();
    loop {
        // A heartbeat comes every 10 seconds.
        let chunk = match timeout(SILENCE, chunks.next()).await {
            Ok(Some(Ok(chunk))) => chunk,
            Ok(Some(Err(error))) => return NomadError::of_transport(WHAT, error),
            Ok(None) => return NomadError::new(RegistryErrorKind::SourceDown, WHAT, "it ended"),
            Err(_) => return NomadError::new(RegistryErrorKind::SourceDown, WHAT, "it fell silent"),
        };
        for part in chunk.split_inclusive(|byte| *byte == b'\n') {
            if line.len() + part.len() > LONGEST {
                return NomadError::new(RegistryErrorKind::Garbage, WHAT, "it sends a line without end");
            }
            line.extend_from_slice(part);
            if line.last() != Some(&b'\n') {
                continue;
            }
            match serde_json::from_slice::<Events>(&line) {
                Ok(events) => pass_on(shared, events).await,
                Err(error) => return NomadError::of_body(WHAT, &error),
            }
            line.clear();
        }
    }
}

async fn pass_on(shared: &Shared, events: Events) {
    for event in events.events {
        let Some(service) = event.payload.service.filter(|_| event.topic == "Service") else { continue };
        let target = Target { namespace: service.namespace, name: service.service_name };
        shared.report(Report::Changed(target)).await;
    }
}

const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// A token that may not have it may get the right.
const DENIED: Duration = Duration::from_secs(60);
const SILENCE: Duration = Duration::from_secs(45);
/// A job of thousands of allocations is one event.
const LONGEST: usize = 64 << 20;
