//! A port of the local application, as a destination.

use std::cell::OnceCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use weft_model::{Protocol, SpiffeId};

use crate::http::failure::Failure;
use crate::pool::{Hop, Pool, Pools};
use crate::record::{Destination, ResponseFlag};
use crate::settings::Settings;
use crate::shared::Bound;

/// One `[[inbound]]`.
#[derive(Debug)]
pub(super) struct Port {
    /// As registered.
    pub(super) number: u16,
    /// Where the application listens.
    pub(super) app: SocketAddr,
    pub(super) protocol: Protocol,
    pub(super) destination: Arc<Destination>,
    pool: OnceCell<Rc<Pool>>,
}

impl Port {
    /// All of them.
    pub(super) fn all(settings: &Settings, own: Option<&SpiffeId>) -> Vec<Rc<Self>> {
        let port = |inbound: &crate::settings::InboundSettings| {
            let destination = Destination {
                service: inbound.service.clone(),
                workload: None,
                identity: own.cloned(),
                app: settings.workload.app.as_str().into(),
                version: settings.workload.version.as_str().into(),
            };
            Rc::new(Self {
                number: inbound.port,
                app: inbound.app_address(),
                protocol: inbound.protocol,
                destination: Arc::new(destination),
                pool: OnceCell::new(),
            })
        };
        settings.inbound.iter().map(port).collect()
    }

    /// The connections to the application, found once.
    pub(super) fn pool(&self, pools: &Pools) -> &Rc<Pool> {
        self.pool.get_or_init(|| pools.of(&Hop::App(self.app)))
    }

    /// An `app` that is one of this proxy's own listeners would call itself for ever.
    pub(super) fn refuse_own(&self, bound: &Bound) -> Result<(), Failure> {
        let own = [bound.admin, bound.tunnel, bound.http].into_iter().flatten();
        let own =
            own.chain(bound.upstreams.iter().copied()).chain(bound.permissive.iter().copied().flatten());
        let same = |listener: SocketAddr| {
            let here = listener.ip() == self.app.ip() || listener.ip().is_unspecified();
            listener.port() == self.app.port() && here
        };
        if own.into_iter().any(same) {
            let words = format!("{} is a listener of this proxy itself, not of an application", self.app);
            return Err(Failure::unsent(ResponseFlag::NoRoute, words));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(app: &str) -> Port {
        let destination = Destination {
            service: "api".parse().unwrap(),
            workload: None,
            identity: None,
            app: "".into(),
            version: "".into(),
        };
        Port {
            number: 80,
            app: app.parse().unwrap(),
            protocol: Protocol::Http1,
            destination: Arc::new(destination),
            pool: OnceCell::new(),
        }
    }

    #[test]
    fn an_application_address_that_is_our_own_listener_is_refused() {
        let bound = Bound {
            tunnel: Some("0.0.0.0:15008".parse().unwrap()),
            upstreams: vec!["127.0.0.1:9001".parse().unwrap()],
            ..Bound::default()
        };
        assert!(port("127.0.0.1:15008").refuse_own(&bound).is_err());
        assert!(port("127.0.0.1:9001").refuse_own(&bound).is_err());
        assert!(port("127.0.0.1:8080").refuse_own(&bound).is_ok());
        assert!(port("10.0.0.1:9001").refuse_own(&bound).is_ok());
    }
}
