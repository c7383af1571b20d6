//! `CONNECT` from the local application.
//!
//! On the HTTP port this proxy is the one that is asked: `CONNECT name:port` opens bytes to that service. On an upstream's
//! port the service is a proxy itself, and the request is for it: it travels as HTTP/1.1 through an opaque stream.

use std::rc::Rc;

use http::header::HOST;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};

use crate::balance::cluster::Cluster;
use crate::balance::target::{Target, Via};
use crate::http::body::{RequestBody, ResponseBody};
use crate::http::call::Call;
use crate::http::failure::Failure;
use crate::http::headers;
use crate::http::outgoing::Outgoing;
use crate::http::send::Ready;
use crate::http::upgrade::{Answered, Switching};
use crate::outbound::http::Origin;
use crate::outbound::tcp;
use crate::pool::{Hop, Lease};
use crate::record::ResponseFlag;
use crate::worker::now;

/// Opens what the application asked for.
pub(super) async fn tunnel(
    origin: &Origin,
    cluster: &Rc<Cluster>,
    outgoing: &Outgoing,
    client: Switching,
    call: &mut Call,
) -> Result<Answered, Failure> {
    if origin.cluster.is_some() {
        return through(origin, cluster, outgoing, client, call).await;
    }
    let bytes = tcp::open(&origin.worker, cluster, call).await?;
    let response = Response::new(ResponseBody::empty());
    Ok(Answered::Switched { response, client, endpoint: Switching::Now(bytes) })
}

/// Passes the `CONNECT` on to the service. Not retried: what it opens is the service's business.
async fn through(
    origin: &Origin,
    cluster: &Rc<Cluster>,
    outgoing: &Outgoing,
    client: Switching,
    call: &mut Call,
) -> Result<Answered, Failure> {
    cluster.requested(now());
    let target = cluster.pick(&[], now())?;
    call.record.destination = Some(target.destination.clone());
    call.record.mtls = Some(target.is_mtls());
    call.record.upstream = target.registered();
    let pool = origin.worker.pools.of(&hop(&target)?);
    let connection = pool.new_http1().await.map_err(|error| error.failure())?;
    let request = request(outgoing.authority(), &outgoing.headers)?;
    let sent = Ready::Http1(connection).send(request).await.map_err(|error| error.failure)?;
    let (mut response, held) = sent;
    call.holds(Lease { in_flight: Some(target.start()), connection: held });
    headers::strip_hop_by_hop(response.headers_mut());
    headers::strip_weft(response.headers_mut());
    let yes = response.status() == StatusCode::OK;
    let endpoint = if yes { Switching::of_response(&mut response) } else { None };
    Ok(match endpoint {
        Some(endpoint) => {
            Answered::Switched { response: response.map(|_none| ResponseBody::empty()), client, endpoint }
        }
        None => Answered::Http(response.map(ResponseBody::incoming)),
    })
}

fn hop(target: &Target) -> Result<Hop, Failure> {
    match &target.via {
        Via::Plaintext { addresses } => Ok(Hop::Plain(addresses.clone())),
        Via::Tunnel { addresses, identity } => {
            let no_address =
                || Failure::unsent(ResponseFlag::NoHealthyUpstream, "the endpoint has no address");
            let authority = target.registered().ok_or_else(no_address)?;
            Ok(Hop::Inside { addresses: addresses.clone(), identity: identity.clone(), authority })
        }
    }
}

fn request(authority: &str, headers: &HeaderMap) -> Result<Request<RequestBody>, Failure> {
    let bad = |_| Failure::unsent(ResponseFlag::DownstreamProtocolError, "CONNECT names no authority");
    let mut request = Request::new(RequestBody::Empty);
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = authority.parse::<Uri>().map_err(bad)?;
    request.headers_mut().clone_from(headers);
    let host = http::HeaderValue::from_str(authority);
    request.headers_mut().insert(
        HOST,
        host.map_err(|_| {
            Failure::unsent(ResponseFlag::DownstreamProtocolError, "the authority is not text")
        })?,
    );
    Ok(request)
}
