//! Switches of protocols: their answers in each dialect, and the bytes after them.
//!
//! Between the proxies a switch is an extended CONNECT, whose yes is 200; HTTP/1.1's is 101. An application that answers
//! such a wish with an ordinary 2xx has its status carried in `weft-status`, since 2xx would mean yes. The call ends with the bytes, not with the response that started them. The task holds what keeps the connection
//! counted, so that draining waits for it.

use std::rc::Rc;
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{Request, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;

use crate::http::body::ResponseBody;
use crate::http::call::{Call, chain};
use crate::http::headers::{self, WEFT_STATUS};
use crate::http::incoming::Incoming;
use crate::record::ResponseFlag;
use crate::tcp::bytes::Bytes;
use crate::tcp::copy::{Ended, Traffic, both_ways};
use crate::worker::Guard;

/// One side of the switch: a connection that carries something else when its last message is through.
#[derive(Debug)]
pub(crate) enum Switching {
    /// hyper's.
    Hyper(OnUpgrade),
    /// A client's over HTTP/1.
    Http1(oneshot::Receiver<Bytes>),
    /// Ready.
    Now(Bytes),
}

/// The switch did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotSwitched {
    #[error(transparent)]
    Hyper(#[from] hyper::Error),
    #[error("the client's connection ended")]
    Ended(#[from] oneshot::error::RecvError),
}

impl Switching {
    /// The client's side. The request must not be read after it.
    pub(crate) fn of(request: &mut Request<Incoming>) -> Self {
        match std::mem::replace(request.body_mut(), Incoming::Empty) {
            Incoming::Switch(ready) => Self::Http1(ready),
            body => {
                *request.body_mut() = body;
                Self::Hyper(hyper::upgrade::on(request))
            }
        }
    }

    /// The endpoint's side, if the response was the last message of its connection.
    pub(crate) fn of_response(response: &mut Response<Incoming>) -> Option<Self> {
        match std::mem::replace(response.body_mut(), Incoming::Empty) {
            Incoming::Switched(io) => Some(Self::Now(io)),
            body => {
                *response.body_mut() = body;
                None
            }
        }
    }

    async fn ready(self) -> Result<Bytes, NotSwitched> {
        match self {
            Self::Hyper(upgrade) => Ok(Bytes::Stream(TokioIo::new(upgrade.await?))),
            Self::Http1(ready) => Ok(ready.await?),
            Self::Now(bytes) => Ok(bytes),
        }
    }
}

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Answered {
    /// A response.
    Http(Response<ResponseBody>),
    /// The connection carries bytes after `response`.
    Switched { response: Response<ResponseBody>, client: Switching, endpoint: Switching },
}

/// Who asked for the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// An application over HTTP/1.1.
    Http1,
    /// An application over HTTP/2.
    Http2,
    /// A proxy of ours.
    Proxy,
}

/// Makes the answer for who asked of the other end's.
pub(crate) fn answer(
    asker: Asker,
    token: &HeaderValue,
    mut response: Response<Incoming>,
    client: Switching,
) -> Answered {
    let status = response.status();
    let meant = response.headers().get(WEFT_STATUS).and_then(headers::number::<u16>);
    let yes = status == StatusCode::SWITCHING_PROTOCOLS || status == StatusCode::OK;
    let endpoint = if yes { Switching::of_response(&mut response) } else { None };
    headers::strip_weft(response.headers_mut());
    let Some(endpoint) = endpoint else {
        if let Some(meant) = meant {
            *response.status_mut() = StatusCode::from_u16(meant).unwrap_or(StatusCode::BAD_GATEWAY);
        }
        if asker == Asker::Proxy && response.status().is_success() {
            response.headers_mut().insert(WEFT_STATUS, HeaderValue::from(status.as_u16()));
            // Any status that is not a yes; the caller's proxy puts the real one back.
            *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
        }
        return Answered::Http(response.map(ResponseBody::incoming));
    };
    let mut response = response.map(|_no_body| ResponseBody::empty());
    *response.status_mut() = StatusCode::OK;
    if asker == Asker::Http1 {
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
        response.headers_mut().insert(UPGRADE, token.clone());
    }
    Answered::Switched { response, client, endpoint }
}

/// Copies in a task of this worker. `client` becomes ready when the response has been sent.
pub(crate) fn splice(
    client: Switching,
    endpoint: Switching,
    idle: Duration,
    call: Box<Call>,
    guard: Rc<Guard>,
) {
    tokio::task::spawn_local(async move {
        let _counted = guard;
        let (mut client, mut endpoint) = match tokio::try_join!(client.ready(), endpoint.ready()) {
            Ok(both) => both,
            Err(error) => {
                let detail = format!("the switch of protocols did not happen: {}", chain(&error));
                call.ended_with(ResponseFlag::UpstreamConnectionTermination, detail);
                return;
            }
        };
        let traffic = Traffic::default();
        let ended = both_ways(&mut client, &mut endpoint, idle, &traffic).await;
        if let Ended::Client(_) = &ended {
            endpoint.reset();
        }
        finish(call, &traffic, &ended);
    });
}

/// Ends the call of a connection that carried bytes.
pub(crate) fn finish(mut call: Box<Call>, traffic: &Traffic, ended: &Ended) {
    call.carried(traffic.up.get(), traffic.down.get());
    match ended {
        Ended::Whole => call.complete(),
        Ended::Idle => call
            .ended_with(ResponseFlag::UpstreamTimeout, "nothing went through for timeouts.idle".to_owned()),
        Ended::Client(error) => {
            let detail = format!("the caller's connection broke: {}", chain(error));
            call.ended_with(ResponseFlag::DownstreamConnectionTermination, detail);
        }
        Ended::Endpoint(error) => {
            let detail = format!("the endpoint's connection broke: {}", chain(error));
            call.ended_with(ResponseFlag::UpstreamConnectionTermination, detail);
        }
    }
}
