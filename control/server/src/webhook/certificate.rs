//! The webhook's certificate: issued by the own authority, replaced at half of its life and when the root is replaced.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use weft_ca::{Authority, Serving};
use weft_identity::RootPin;

/// The certificate of now.
pub(super) struct Certificate {
    authority: Arc<Authority>,
    names: Vec<String>,
    current: Mutex<Current>,
}

struct Current {
    serving: Serving,
    renew_at: SystemTime,
    /// The root that signed it.
    root: Option<RootPin>,
}

/// How often the clock and the root are looked at.
const EVERY: Duration = Duration::from_secs(10);

impl Certificate {
    /// Makes the first one.
    pub(super) fn new(authority: Arc<Authority>, names: Vec<String>) -> Result<Self> {
        let current = Mutex::new(issue(&authority, &names, SystemTime::now())?);
        Ok(Self { authority, names, current })
    }

    /// Replaces it in time, for ever.
    pub(super) async fn keep(&self) {
        loop {
            tokio::time::sleep(EVERY).await;
            self.look(SystemTime::now());
        }
    }

    fn look(&self, now: SystemTime) {
        let due = {
            let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            now >= current.renew_at || current.root != self.authority.root_pin()
        };
        if !due {
            return;
        }
        match issue(&self.authority, &self.names, now) {
            Ok(next) => *self.current.lock().unwrap_or_else(PoisonError::into_inner) = next,
            Err(error) => tracing::error!("the webhook's certificate could not be renewed: {error:#}"),
        }
    }

    fn key(&self) -> Arc<CertifiedKey> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).serving.key.clone()
    }
}

fn issue(authority: &Authority, names: &[String], now: SystemTime) -> Result<Current> {
    let serving = authority.issue_serving(names, now)?;
    Ok(Current { renew_at: serving.renew_at(now), root: authority.root_pin(), serving })
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.key())
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").field("names", &self.names).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use weft_ca::AuthoritySettings;

    use super::*;

    #[test]
    fn it_stays_for_half_of_its_life_and_is_then_another() {
        let temporary = tempfile::tempdir().unwrap();
        let settings = AuthoritySettings::new("weft.test".parse().unwrap(), temporary.path().join("ca"));
        let now = SystemTime::now();
        let authority = Arc::new(Authority::open(&settings, now).unwrap());
        let certificate =
            Certificate::new(authority, vec!["weft-control.weft-system.svc".to_owned()]).unwrap();
        let first = certificate.key();
        certificate.look(now + Duration::from_hours(11));
        assert!(Arc::ptr_eq(&first, &certificate.key()));
        certificate.look(now + Duration::from_hours(13));
        assert!(!Arc::ptr_eq(&first, &certificate.key()));
    }
}
