//! Following one source: read all, watch, take the watch up where it ended. Reports, and decides nothing.
//!
//! A list is streamed where the server can, and read in pages where it can't. Watches end all the time and say nothing by
//! it; what counts is whether the next one begins. A version that is too old leads to reading all anew and is no error.
//! So do errors, unless the server asks for patience, and a gap between two watches: a server whose data were lost or
//! restored meanwhile may have come past our version on another way, and would never say so.
//! Every loop here is bounded in rate by [`Backoff`], and by what the server asks for when it is busy.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use weft_registry::Backoff;

use super::shared::Shared;
use crate::api::Api;
use crate::error::KubernetesError;
use crate::object::{Object, Source, WatchLine};

/// What a follower found.
#[derive(Debug)]
pub(super) enum Report {
    /// All that there is, read in this round.
    Listed {
        source: Source,
        round: u64,
        objects: Vec<Object>,
    },
    /// One object as it is now.
    Changed(Object),
    /// One object is gone.
    Deleted(Object),
    /// The server answers.
    Well(Source),
    Failed {
        source: Source,
        error: KubernetesError,
    },
}

/// Follows a source for ever.
pub(super) async fn follow(shared: Arc<Shared>, source: Source) {
    let mut round = shared.round.subscribe();
    let backoff = Backoff::new(RETRY_MIN, RETRY_MAX);
    let mut follower = Follower { shared, source, version: None, failing_since: None, backoff };
    let mut pause = Duration::ZERO;
    loop {
        let number = *round.borrow_and_update();
        let attempt = async {
            sleep(pause).await;
            follower.attempt(number).await
        };
        pause = tokio::select! {
            biased;
            Ok(()) = round.changed() => {
                follower.version = None;
                Duration::ZERO
            }
            pause = attempt => pause,
        };
    }
}

struct Follower {
    shared: Arc<Shared>,
    source: Source,
    /// How far everything is known. `None`: all is to be read.
    version: Option<String>,
    /// When the last attempts began to fail, if they do.
    failing_since: Option<Instant>,
    backoff: Backoff,
}

impl Follower {
    /// One request and what follows from it. Returns how long to wait until the next.
    async fn attempt(&mut self, round: u64) -> Duration {
        let begun = Instant::now();
        let result = self.request(round).await;
        let lasted = begun.elapsed();
        if lasted >= LASTS {
            self.backoff.reset();
        }
        match result {
            Ok(()) => {
                // One that ends as soon as it begins would be asked for without pause. No longer one: see `QUICK`.
                if lasted < QUICK { RETRY_MIN } else { Duration::ZERO }
            }
            Err(error) if error.is_version_lost() => {
                self.version = None;
                self.backoff.next_delay()
            }
            Err(error) => {
                let since = *self.failing_since.get_or_insert_with(Instant::now);
                let is_busy = error.retry_after.is_some();
                if !is_busy || since.elapsed() > self.shared.settings.answer_timeout * 2 {
                    self.version = None;
                }
                let asked_for = error.retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
                self.shared.report(Report::Failed { source: self.source.clone(), error }).await;
                self.backoff.next_delay().max(asked_for)
            }
        }
    }

    async fn request(&mut self, round: u64) -> Result<(), KubernetesError> {
        let shared = Arc::clone(&self.shared);
        let client = shared.client(self.failing_since.is_some()).await?;
        let source = self.source.clone();
        let api = Api { client: &client, settings: &shared.settings, source: &source };
        if self.version.is_some() {
            return self.watch(&api).await;
        }
        match self.stream_all(&api, round).await {
            Err(error) if error.is_no_streaming() => self.read_pages(&api, round).await,
            done => done,
        }
    }

    /// Reads all as the first part of a watch, and goes on with the watch.
    async fn stream_all(&mut self, api: &Api<'_>, round: u64) -> Result<(), KubernetesError> {
        let mut watch = api.watch(None).await?;
        let mut objects: Vec<Object> = Vec::new();
        loop {
            let line = api.next(&mut watch, self.shared.settings.answer_timeout).await?;
            match line.ok_or_else(|| KubernetesError::down(self.source.to_string(), "the list has no end"))? {
                WatchLine::Changed(changed) => objects.push(changed.object),
                // Of what was sent already; nothing else can be gone.
                WatchLine::Deleted(deleted) => objects.retain(|object| !object.is_same(&deleted.object)),
                WatchLine::Bookmark { version, complete: true } => {
                    self.version = Some(version);
                    self.listed(round, objects).await;
                    return self.follow_on(api, watch).await;
                }
                WatchLine::Bookmark { complete: false, .. } => {}
                WatchLine::Error { code, message } => return Err(self.told(code, &message)),
            }
        }
    }

    /// Reads all page by page.
    async fn read_pages(&mut self, api: &Api<'_>, round: u64) -> Result<(), KubernetesError> {
        let (mut objects, mut rest) = (Vec::new(), None);
        loop {
            let page = api.page(rest.take()).await?;
            objects.extend(page.objects);
            rest = page.rest;
            if rest.is_none() {
                self.version = Some(page.version);
                self.listed(round, objects).await;
                return self.watch(api).await;
            }
        }
    }

    async fn watch(&mut self, api: &Api<'_>) -> Result<(), KubernetesError> {
        let version = self.version.as_deref().unwrap_or("0");
        let asked = Instant::now();
        let watch = api.watch(Some(version)).await?;
        if asked.elapsed() > QUICK {
            self.version = None;
            return Ok(());
        }
        self.failing_since = None;
        self.shared.report(Report::Well(self.source.clone())).await;
        self.follow_on(api, watch).await
    }

    /// Reports what a watch says, until it ends.
    async fn follow_on(
        &mut self,
        api: &Api<'_>,
        mut watch: crate::api::Watch,
    ) -> Result<(), KubernetesError> {
        let idle = self.shared.settings.watch + self.shared.settings.answer_timeout;
        while let Some(line) = api.next(&mut watch, idle).await? {
            let (version, report) = match line {
                WatchLine::Changed(changed) => (changed.version, Some(Report::Changed(changed.object))),
                WatchLine::Deleted(deleted) => (deleted.version, Some(Report::Deleted(deleted.object))),
                WatchLine::Bookmark { version, .. } => (version, None),
                WatchLine::Error { code, message } => return Err(self.told(code, &message)),
            };
            if let Some(report) = report {
                self.shared.report(report).await;
            }
            // Only now: a reread that ends this wait must not skip what was not reported.
            if !version.is_empty() {
                self.version = Some(version);
            }
        }
        Ok(())
    }

    async fn listed(&mut self, round: u64, objects: Vec<Object>) {
        self.failing_since = None;
        self.shared.report(Report::Listed { source: self.source.clone(), round, objects }).await;
    }

    /// An error that the server tells within a watch.
    fn told(&self, code: u16, message: &str) -> KubernetesError {
        KubernetesError::of_status(&self.source.to_string(), code, message.as_bytes())
    }
}

const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// A server that asks for more than this has lost its clock.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// A watch that lasts this long shows that all is well.
const LASTS: Duration = Duration::from_secs(2);
/// No server starts with other data in less.
const QUICK: Duration = Duration::from_millis(500);
