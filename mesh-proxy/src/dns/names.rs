//! The virtual addresses of this proxy: read by workers without a lock, given by the shell one at a time.
//!
//! An address is on the disk before anybody is told: after a restart it must not be another service's. So where the disk
//! takes nothing, new names get none, and those that have one keep it.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::Mutex;
use weft_dns::VirtualAddresses;
use weft_model::ServiceKey;

use crate::settings::Settings;
use crate::state::{NAMES, StateDir};

/// The addresses, and where they are kept.
pub(crate) struct Names {
    given: ArcSwap<VirtualAddresses>,
    /// Held by who gives one.
    giving: Mutex<()>,
    state: Arc<StateDir>,
    /// The last one could not be saved: said once, and not at each query.
    failing: AtomicBool,
}

/// Why a service has no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotGiven {
    /// The limit is reached.
    Full,
    /// The disk took nothing.
    NotSaved,
}

impl Names {
    /// What was given before the restart; `None` where the settings have no listener for names.
    pub(crate) fn restore(state: &Arc<StateDir>, settings: &Settings) -> Option<Self> {
        let (dns, limit) = (&settings.dns, settings.limits.dns_addresses);
        if dns.listen.is_empty() {
            return None;
        }
        let saved = state.restore(NAMES, |text| VirtualAddresses::from_text(text, dns.range, limit));
        let given = saved.unwrap_or_else(|| VirtualAddresses::new(dns.range, limit));
        Some(Self {
            given: ArcSwap::from_pointee(given),
            giving: Mutex::new(()),
            state: state.clone(),
            failing: AtomicBool::new(false),
        })
    }

    /// The addresses of now.
    pub(crate) fn given(&self) -> Arc<VirtualAddresses> {
        self.given.load_full()
    }

    /// The service's address: the one it has, or a new one that is saved first.
    pub(super) async fn give(&self, service: &ServiceKey) -> Result<Ipv4Addr, NotGiven> {
        if let Some(address) = self.given().address(service) {
            return Ok(address);
        }
        let _giving = self.giving.lock().await;
        let given = self.given();
        // Another query of the same name may have been here first.
        if let Some(address) = given.address(service) {
            return Ok(address);
        }
        let (next, address) = given.with(service).map_err(|_| NotGiven::Full)?;
        self.save(service, next.to_text()).await?;
        self.given.store(Arc::new(next));
        Ok(address)
    }

    async fn save(&self, service: &ServiceKey, text: String) -> Result<(), NotGiven> {
        let state = self.state.clone();
        // A disk may take its time, and the runtime has others to serve.
        let written = tokio::task::spawn_blocking(move || state.write(NAMES, text.as_bytes())).await;
        let error = match written {
            Ok(Ok(())) => {
                self.failing.store(false, Ordering::Relaxed);
                return Ok(());
            }
            Ok(Err(error)) => error.to_string(),
            Err(ended) => ended.to_string(),
        };
        if !self.failing.swap(true, Ordering::Relaxed) {
            tracing::error!(%service, "it gets no virtual address, since that can't be saved: {error}");
        }
        Err(NotGiven::NotSaved)
    }
}
