//! A port of the local application, as a destination.

use std::cell::{OnceCell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use weft_model::{Namespace, Protocol, ServiceKey, ServiceName, SpiffeId};

use crate::http::failure::Failure;
use crate::pool::{Hop, Pool, Pools};
use crate::record::{Destination, ResponseFlag};
use crate::settings::{InboundSettings, Settings};
use crate::shared::Bound;

/// One `[[inbound]]`, or a port of a captured application.
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

/// The ports that the streams of one connection reach.
#[derive(Debug)]
pub(super) struct Ports {
    declared: Vec<Rc<Port>>,
    /// Of captured applications: every port there is, made when it is first asked for.
    captured: Option<Captured>,
    /// Where the connection arrived, or was going.
    local: Option<IpAddr>,
}

#[derive(Debug)]
struct Captured {
    destination: Arc<Destination>,
    ports: RefCell<Vec<Rc<Port>>>,
}

impl Ports {
    /// Of a connection that arrived at `local`.
    pub(super) fn new(settings: &Settings, own: Option<&SpiffeId>, local: Option<IpAddr>) -> Self {
        let local = local.map(|local| local.to_canonical());
        let capturing = !settings.capture.inbound.is_empty();
        let port = |inbound: &InboundSettings| {
            let app = match (inbound.app, local) {
                // A captured application may listen on its host's address alone.
                (None, Some(local)) if capturing => SocketAddr::new(local, inbound.port),
                _ => inbound.app_address(),
            };
            let destination = Arc::new(destination(settings, inbound.service.clone(), own));
            Rc::new(Port::new(inbound.port, app, inbound.protocol, destination))
        };
        let captured = || Captured {
            destination: Arc::new(destination(settings, own_name(settings, own), own)),
            ports: RefCell::default(),
        };
        Self {
            declared: settings.inbound.iter().map(port).collect(),
            captured: capturing.then(captured),
            local,
        }
    }

    /// Where the connection arrived, or was going.
    pub(super) fn local(&self) -> Option<IpAddr> {
        self.local
    }

    /// The `[[inbound]]` of this number in the settings.
    pub(super) fn declared(&self, index: usize) -> Option<Rc<Port>> {
        self.declared.get(index).cloned()
    }

    /// The application's port of this registered number.
    pub(super) fn of(&self, number: u16, bound: &Bound) -> Result<Rc<Port>, Failure> {
        let declared = self.declared.iter().find(|port| port.number == number).cloned();
        let port = declared.or_else(|| self.captured(number)).ok_or_else(|| {
            let words = format!("port {number} is not an [[inbound]] port of this workload");
            Failure::unsent(ResponseFlag::NoRoute, words)
        })?;
        port.refuse_own(bound)?;
        Ok(port)
    }

    fn captured(&self, number: u16) -> Option<Rc<Port>> {
        let (captured, local) = (self.captured.as_ref()?, self.local?);
        let mut known = captured.ports.borrow_mut();
        if let Some(port) = known.iter().find(|port| port.number == number) {
            return Some(port.clone());
        }
        let app = SocketAddr::new(local, number);
        let port = Rc::new(Port::new(number, app, Protocol::Detect, captured.destination.clone()));
        // A caller that tries port after port fills nothing.
        if known.len() < REMEMBERED {
            known.push(port.clone());
        }
        Some(port)
    }
}

fn destination(settings: &Settings, service: ServiceKey, own: Option<&SpiffeId>) -> Destination {
    Destination {
        service,
        workload: None,
        identity: own.cloned(),
        app: settings.workload.app.as_str().into(),
        version: settings.workload.version.as_str().into(),
    }
}

/// What a captured application is called in this side's telemetry: nobody tells a proxy the services that its own
/// workload belongs to. The label `app`, else the service account.
fn own_name(settings: &Settings, own: Option<&SpiffeId>) -> ServiceKey {
    let account = own.and_then(SpiffeId::service_account);
    let namespace = account.and_then(|(namespace, _)| namespace.parse().ok());
    let named = |text: &str| text.parse::<ServiceName>().ok();
    let name = named(&settings.workload.app).or_else(|| named(account?.1));
    match name {
        Some(name) => ServiceKey::new(namespace.unwrap_or_else(Namespace::default_namespace), name),
        None => ServiceKey::unnamed(),
    }
}

impl Port {
    fn new(number: u16, app: SocketAddr, protocol: Protocol, destination: Arc<Destination>) -> Self {
        Self { number, app, protocol, destination, pool: OnceCell::new() }
    }

    /// The connections to the application, found once.
    pub(super) fn pool(&self, pools: &Pools) -> &Rc<Pool> {
        self.pool.get_or_init(|| pools.of(&Hop::App(self.app)))
    }

    /// An `app` that is one of this proxy's own listeners would call itself for ever.
    pub(super) fn refuse_own(&self, bound: &Bound) -> Result<(), Failure> {
        if bound.is_own(self.app) {
            let words = format!("{} is a listener of this proxy itself, not of an application", self.app);
            return Err(Failure::unsent(ResponseFlag::NoRoute, words));
        }
        Ok(())
    }
}

/// Ports of one connection whose pools are kept at hand.
const REMEMBERED: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn port(app: &str) -> Port {
        let destination = destination(&Settings::default(), "api".parse().unwrap(), None);
        Port::new(80, app.parse().unwrap(), Protocol::Http1, Arc::new(destination))
    }

    fn ports(settings: &str) -> Ports {
        let own = "spiffe://weft.test/ns/shop/sa/web".parse().unwrap();
        let local = "::ffff:10.0.0.7".parse().unwrap();
        Ports::new(&Settings::from_toml(settings), Some(&own), Some(local))
    }

    #[test]
    fn a_captured_application_has_every_port_on_its_hosts_own_address() {
        let ports =
            ports("[capture]\ninbound = ['0.0.0.0:15006']\n[[inbound]]\nservice = 'shop/api'\nport = 80");
        let bound = Bound { tunnel: Some("0.0.0.0:15008".parse().unwrap()), ..Bound::default() };
        let any = ports.of(9090, &bound).unwrap();
        assert_eq!((any.app.to_string().as_str(), any.protocol), ("10.0.0.7:9090", Protocol::Detect));
        assert_eq!(any.destination.service.to_string(), "shop/web");
        assert!(Rc::ptr_eq(&any, &ports.of(9090, &bound).unwrap()), "its pool is found once");
        let declared = ports.of(80, &bound).unwrap();
        assert_eq!(declared.app.to_string(), "10.0.0.7:80");
        assert_eq!(declared.destination.service.to_string(), "shop/api");
        assert!(ports.of(15008, &bound).is_err(), "this proxy's own");
    }

    #[test]
    fn without_capture_only_declared_ports_are_reached_and_on_loopback() {
        let ports = ports("[[inbound]]\nservice = 'shop/api'\nport = 80");
        assert!(ports.of(9090, &Bound::default()).is_err());
        assert_eq!(ports.of(80, &Bound::default()).unwrap().app.to_string(), "127.0.0.1:80");
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
