//! The endpoints of Consul's HTTP API that consulrs lacks, in the form its request machinery takes.
//!
//! The list of services is consulrs's own [`ListServicesRequest`](consulrs::api::catalog::requests::ListServicesRequest).
//! Paths hold fixed words and names that were parsed, never a free text: the machinery escapes a path twice.

use rustify::endpoint::Endpoint;
use rustify::enums::{RequestMethod, RequestType, ResponseType};
use rustify::errors::ClientError;
use serde::Serialize;
use weft_model::ServiceName;

use crate::answer::{AgentSelf, CaRoots, HealthEntry};

/// Where a query looks; absent is the agent's or token's own.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Place {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dc: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ns: Option<String>,
}

impl Place {
    fn query(&self) -> Result<Option<String>, ClientError> {
        rustify::http::build_query(self).map(|query| (!query.is_empty()).then_some(query))
    }
}

/// `health/service/NAME`: every instance with all its checks. Not `?passing`, which makes "all are ill" look like "all are gone".
#[derive(Debug)]
pub(crate) struct HealthService {
    pub(crate) name: ServiceName,
    pub(crate) place: Place,
}

/// `connect/ca/roots`: the roots of the datacenter's Connect CA.
#[derive(Debug)]
pub(crate) struct ConnectCaRoots {
    pub(crate) place: Place,
}

/// `agent/self`: the agent's version and datacenter.
#[derive(Debug)]
pub(crate) struct ReadAgent;

macro_rules! get {
    ($endpoint:ty, $response:ty, $path:expr, $query:expr) => {
        impl Endpoint for $endpoint {
            type Response = $response;
            const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
            const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;
            fn path(&self) -> String {
                ($path as fn(&Self) -> String)(self)
            }
            fn method(&self) -> RequestMethod {
                RequestMethod::GET
            }
            fn query(&self) -> Result<Option<String>, ClientError> {
                ($query as fn(&Self) -> Result<Option<String>, ClientError>)(self)
            }
        }
    };
}

get!(HealthService, Vec<HealthEntry>, |this| format!("health/service/{}", this.name), |this| this
    .place
    .query());
get!(ConnectCaRoots, CaRoots, |_| "connect/ca/roots".to_owned(), |this| this.place.query());
get!(ReadAgent, AgentSelf, |_| "agent/self".to_owned(), |_| Ok(None));
