//! The virtual addresses of this proxy: read by workers without a lock, given by the shell one at a time.
//!
//! An address is on the disk before anybody is told: after a restart it must not be another service's. So where the disk
//! takes nothing, new names get none, and those that have one keep it.

use std::net::Ipv4Addr;
use std::sync::Arc;

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
}

/// Why a service has no address.
#[derive(Debug)]
pub(super) enum NotGiven {
    /// The limit is reached.
    Full,
    /// The disk's reason.
    NotSaved(String),
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
        Some(Self { given: ArcSwap::from_pointee(given), giving: Mutex::new(()), state: state.clone() })
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
        let (state, text) = (self.state.clone(), next.to_text());
        // A disk may take its time, and the runtime has others to serve.
        let written = tokio::task::spawn_blocking(move || state.write(NAMES, text.as_bytes())).await;
        match written {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(NotGiven::NotSaved(error.to_string())),
            Err(error) => return Err(NotGiven::NotSaved(error.to_string())),
        }
        self.given.store(Arc::new(next));
        Ok(address)
    }
}
