//! The probes by name, and that each runs once at a time: who asks for one that runs gets the answer of that run. However
//! many ask, the application has one question of each kind to answer.
//!
//! The application is asked at the address at which the caller reached us, which in a pod is the pod's: an application that
//! listens on this address alone is found, and one that listens on loopback alone is not, as without a proxy.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use http::StatusCode;

use super::{ask, grpc};
use crate::settings::{GrpcProbe, HttpProbe, ProbeSettings, TcpProbe};

/// What the application said, or why it said nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// With the status to pass on.
    Healthy(StatusCode),
    /// The same, and a sentence.
    Unhealthy(StatusCode, Arc<str>),
}

/// All of them.
pub(super) struct Probes {
    by_name: HashMap<String, Probe>,
}

/// One probe.
pub(super) struct Probe {
    settings: Arc<ProbeSettings>,
    /// By the address that is asked: a host has few. Whoever waits drives the run; it ends when nobody does.
    running: Mutex<HashMap<IpAddr, WeakShared<BoxFuture<'static, Answer>>>>,
}

impl Probes {
    pub(super) fn new(settings: &[ProbeSettings]) -> Self {
        let probe = |settings: &ProbeSettings| Probe {
            settings: Arc::new(settings.clone()),
            running: Mutex::default(),
        };
        Self { by_name: settings.iter().map(|one| (one.name.clone(), probe(one))).collect() }
    }

    pub(super) fn find(&self, name: &str) -> Option<&Probe> {
        self.by_name.get(name)
    }
}

impl Probe {
    /// Asks the application at `here`, or waits for somebody else's answer.
    pub(super) async fn ask(&self, here: IpAddr) -> Answer {
        let run = self.run(here);
        run.await
    }

    fn run(&self, here: IpAddr) -> Shared<BoxFuture<'static, Answer>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        // One that has ended is an answer of before this question.
        let current = running.get(&here).and_then(WeakShared::upgrade).filter(|run| run.peek().is_none());
        if let Some(run) = current {
            return run;
        }
        running.retain(|_, run| run.upgrade().is_some());
        let run = ask_within(self.settings.clone(), here).boxed().shared();
        running.extend(run.downgrade().map(|weak| (here, weak)));
        run
    }
}

async fn ask_within(settings: Arc<ProbeSettings>, here: IpAddr) -> Answer {
    let answer = match tokio::time::timeout(settings.timeout, ask_by(&settings, here)).await {
        Ok(Ok(status)) if status.is_success() || status.is_redirection() => return Answer::Healthy(status),
        Ok(Ok(status)) => (status, format!("the application answers {}", status.as_u16())),
        Ok(Err(why)) => (StatusCode::SERVICE_UNAVAILABLE, why),
        Err(_) => {
            let late = humantime::format_duration(settings.timeout);
            (StatusCode::GATEWAY_TIMEOUT, format!("the application did not answer in {late}"))
        }
    };
    let (status, why) = answer;
    tracing::debug!(probe = settings.name, %here, "unhealthy: {why}");
    Answer::Unhealthy(status, why.into())
}

async fn ask_by(settings: &ProbeSettings, here: IpAddr) -> Result<StatusCode, String> {
    match (&settings.http, &settings.tcp, &settings.grpc) {
        (Some(probe @ HttpProbe { port, .. }), _, _) => ask::http(probe, SocketAddr::new(here, *port)).await,
        (_, Some(TcpProbe { port }), _) => ask::tcp(SocketAddr::new(here, *port)).await,
        (_, _, Some(GrpcProbe { port, service })) => grpc::check(service, SocketAddr::new(here, *port)).await,
        // Settings without one are refused when they are read.
        (None, None, None) => Err("this probe asks nothing".to_owned()),
    }
}
