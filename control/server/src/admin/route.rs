//! Paths to answers. Everything that changes something is for the Unix socket only.

use std::time::{Duration, SystemTime};

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use serde::Serialize;
use weft_control_api::{NewToken, Refused, Rotate, TokenCreated, TokenView, path};
use weft_model::SpiffeId;

use super::{Admin, Origin, metrics, view};

type Answer = Response<Full<Bytes>>;

/// Answers one request.
pub(super) async fn answer(admin: &Admin, origin: Origin, request: Request<Incoming>) -> Answer {
    if origin == Origin::Loopback && !is_local(request.headers().get(header::HOST)) {
        // A name that somebody points here: a page in a browser could read us through it.
        return refused(StatusCode::FORBIDDEN, "the Host header is neither an address nor localhost");
    }
    let (head, body) = request.into_parts();
    let requested = head.uri.path();
    match (&head.method, requested) {
        (&Method::GET | &Method::HEAD, _) => read(admin, origin, requested),
        (&Method::POST | &Method::DELETE, _) if origin != Origin::Socket => {
            refused(StatusCode::FORBIDDEN, "this address only reads; use the Unix socket")
        }
        (&Method::POST, path::TOKENS) => create_token(admin, body).await,
        (&Method::POST, path::ROTATION) => rotate(admin, body).await,
        (&Method::DELETE, _) => match path::name_in(path::TOKENS, requested) {
            Some(id) => revoke_token(admin, &id),
            None => not_found(requested),
        },
        _ => refused(
            StatusCode::METHOD_NOT_ALLOWED,
            "GET reads; POST and DELETE are for /v1/tokens, POST for /v1/ca/rotation",
        ),
    }
}

pub(super) fn read(admin: &Admin, origin: Origin, requested: &str) -> Answer {
    let state = admin.published.state.borrow().clone();
    match requested {
        "/ready" => ready(admin),
        "/metrics" => {
            with_type(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics::render(admin))
        }
        path::STATUS => json(StatusCode::OK, &view::status(admin)),
        path::SERVICES => json(StatusCode::OK, &view::services(&state.snapshot)),
        path::WORKLOADS => {
            json(StatusCode::OK, &state.snapshot.workloads().map(AsRef::as_ref).collect::<Vec<_>>())
        }
        path::SNAPSHOT => json(StatusCode::OK, &state.snapshot),
        path::PROXIES => json(StatusCode::OK, &admin.proxies.statuses(&admin.unheard())),
        path::CA => json(StatusCode::OK, &view::ca(admin)),
        path::TOKENS if origin == Origin::Socket => list_tokens(admin),
        path::TOKENS => refused(StatusCode::FORBIDDEN, "tokens are served on the Unix socket only"),
        _ => match path::name_in(path::PROXIES, requested) {
            Some(name) => match admin.proxies.dump(&name, &admin.unheard()) {
                Some(dump) => json(StatusCode::OK, &dump),
                None => refused(StatusCode::NOT_FOUND, &format!("no proxy {name:?} is connected")),
            },
            None => not_found(requested),
        },
    }
}

fn ready(admin: &Admin) -> Answer {
    let (ready, notes) = view::readiness(admin);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut text = if ready { "ready\n" } else { "not ready\n" }.to_owned();
    notes.iter().for_each(|note| text.extend([note.as_str(), "\n"]));
    with_type(status, "text/plain; charset=utf-8", text)
}

async fn create_token(admin: &Admin, body: Incoming) -> Answer {
    let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
        return refused(StatusCode::BAD_REQUEST, "the request's body can't be read, or is too long");
    };
    let wanted: NewToken = match serde_json::from_slice(&body.to_bytes()) {
        Ok(wanted) => wanted,
        Err(error) => {
            return refused(StatusCode::BAD_REQUEST, &format!("the request is no token to make: {error}"));
        }
    };
    let identity = match weft_control_api::identity(&wanted.identity, &admin.trust_domain) {
        Ok(identity) => identity,
        Err(reason) => return refused(StatusCode::BAD_REQUEST, &reason),
    };
    let (ttl, now) = (Duration::from_secs(wanted.ttl_seconds), SystemTime::now());
    match admin.tokens.create(&identity, ttl, now) {
        Ok(token) => created(admin, &identity, token.id(), &token.to_string(), now),
        Err(error) => failed_token(&error),
    }
}

fn created(admin: &Admin, identity: &SpiffeId, id: &str, token: &str, now: SystemTime) -> Answer {
    tracing::info!(token = id, %identity, "a join token was made");
    // Read back, so that what is told is what is stored.
    let Ok(Some(record)) = admin.tokens.record(id, now) else {
        return refused(StatusCode::INTERNAL_SERVER_ERROR, "the token was made but can't be read back");
    };
    json(StatusCode::CREATED, &TokenCreated { token: token.to_owned(), view: view::token(&record) })
}

async fn rotate(admin: &Admin, body: Incoming) -> Answer {
    let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
        return refused(StatusCode::BAD_REQUEST, "the request's body can't be read, or is too long");
    };
    let Rotate { force } = match serde_json::from_slice(&body.to_bytes()) {
        Ok(wanted) => wanted,
        Err(error) => {
            return refused(StatusCode::BAD_REQUEST, &format!("the request is no rotation: {error}"));
        }
    };
    match admin.seen.rotator.rotate(force).await {
        Ok(Some(_)) => json(StatusCode::OK, &view::ca(admin)),
        Ok(None) if force => refused(StatusCode::CONFLICT, "no replacement of the root is under way"),
        Ok(None) => refused(
            StatusCode::CONFLICT,
            "a replacement of the root is under way: `weft ca status` shows how far; --force takes its next step",
        ),
        Err(error) if admin.seen.rotator.shared_root => refused(StatusCode::CONFLICT, &format!("{error:#}")),
        Err(error) => refused(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error:#}")),
    }
}

fn list_tokens(admin: &Admin) -> Answer {
    match admin.tokens.list(SystemTime::now()) {
        Ok(records) => json(StatusCode::OK, &records.iter().map(view::token).collect::<Vec<TokenView>>()),
        Err(error) => failed_token(&error),
    }
}

fn revoke_token(admin: &Admin, id: &str) -> Answer {
    match admin.tokens.revoke(id) {
        Ok(true) => {
            tracing::info!(token = id, "a join token was revoked");
            json(StatusCode::OK, &())
        }
        Ok(false) => {
            let reason = format!("there is no unused token {id:?}: `weft token list` lists them");
            refused(StatusCode::NOT_FOUND, &reason)
        }
        Err(error) => failed_token(&error),
    }
}

fn failed_token(error: &weft_ca::TokenError) -> Answer {
    let status = match error {
        weft_ca::TokenError::Unfit(_) => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    refused(status, &error.to_string())
}

/// Whether a Host header can't be a name that somebody else controls.
fn is_local(host: Option<&HeaderValue>) -> bool {
    let Some(host) = host.and_then(|host| host.to_str().ok()) else { return false };
    let Ok(authority) = host.parse::<http::uri::Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok()
}

fn not_found(requested: &str) -> Answer {
    let known = "/ready /metrics /v1/status /v1/services /v1/workloads /v1/proxies[/NAME] /v1/snapshot /v1/ca /v1/ca/rotation /v1/tokens[/ID]";
    let reason = format!("there is no {requested:?}; known: {known}");
    refused(StatusCode::NOT_FOUND, &reason)
}

fn refused(status: StatusCode, reason: &str) -> Answer {
    json(status, &Refused { error: reason.to_owned() })
}

fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(body) => with_type(status, "application/json", body),
        Err(error) => {
            with_type(StatusCode::INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", error.to_string())
        }
    }
}

fn with_type(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// A token request is some 100 bytes.
const MAX_BODY: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_that_nobody_can_point_elsewhere_are_local() {
        for (host, local) in [
            ("127.0.0.1:1", true),
            ("localhost", true),
            ("[::1]:80", true),
            ("evil.test:15011", false),
            ("localhost.evil.test", false),
            ("", false),
        ] {
            assert_eq!(is_local(Some(&HeaderValue::from_static(host))), local, "{host}");
        }
        assert!(!is_local(None));
    }
}
