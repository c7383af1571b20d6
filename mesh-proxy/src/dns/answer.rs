//! One query: whose name it is, and what it is answered.
//!
//! A service that is not known yet is asked for as a request's would be. Only the control plane's word is "no such name":
//! its silence is a failure that nobody remembers.

use std::net::SocketAddr;
use std::time::Duration;

use weft_dns::{Malformed, Named, Query, Reply};
use weft_model::ServiceKey;

use super::forward::forward;
use super::names::NotGiven;
use super::{Dns, Transport};
use crate::demand::Answer;
use crate::telemetry::{DnsOutcome, Refused};

/// For an answer of ours, with a slow disk in it. Resolvers of applications ask again after five seconds.
const PATIENCE: Duration = Duration::from_secs(4);

impl Dns {
    /// The answer to a message, counted; `None`: it gets none.
    pub(super) async fn answer(
        &self,
        bytes: Vec<u8>,
        peer: SocketAddr,
        transport: Transport,
    ) -> Option<Vec<u8>> {
        // All that an answer to what can't be read is made of.
        let head: Vec<u8> = bytes.iter().copied().take(12).collect();
        let answered = match Query::read(bytes) {
            Ok(query) if self.went_in_a_circle(peer) => {
                self.say_that_it_is_a_circle(peer);
                weft_dns::failed(&query).map(|answer| (answer, DnsOutcome::ForwardFailed))
            }
            Ok(query) => self.answer_query(&query, transport).await,
            Err(malformed) => Err(malformed),
        };
        match answered {
            Ok((answer, outcome)) => {
                self.count(outcome);
                Some(answer)
            }
            Err(malformed) => {
                tracing::debug!(%peer, "a malformed DNS message: {malformed}");
                self.count(DnsOutcome::Malformed);
                malformed.answer(&head)
            }
        }
    }

    /// The answer where there is no place for the query.
    pub(super) fn turn_away(&self, bytes: Vec<u8>) -> Option<Vec<u8>> {
        self.count(DnsOutcome::ServFail);
        weft_dns::failed(&Query::read(bytes).ok()?).ok()
    }

    async fn answer_query(
        &self,
        query: &Query,
        transport: Transport,
    ) -> Result<(Vec<u8>, DnsOutcome), Malformed> {
        let zone = &self.shared.settings.dns.suffix;
        let reply = match zone.named(query.name(), self.shared.own_namespace().as_ref()) {
            Named::Others => {
                return match forward(self, query, transport).await {
                    Some(answer) => Ok((answer, DnsOutcome::Forwarded)),
                    None => Ok((weft_dns::failed(query)?, DnsOutcome::ForwardFailed)),
                };
            }
            _ if !query.is_of_the_internet() => Reply::Refused,
            Named::Zone => Reply::Empty,
            Named::Nobody => Reply::NoSuchName,
            Named::Homeless => Reply::Failed,
            Named::Service(service) => {
                let answered = self.answer_service(&service, query);
                tokio::time::timeout(PATIENCE, answered).await.unwrap_or(Reply::Failed)
            }
        };
        let outcome = match reply {
            Reply::Address(_) | Reply::Empty => DnsOutcome::Answered,
            Reply::NoSuchName => DnsOutcome::NxDomain,
            Reply::Failed => DnsOutcome::ServFail,
            Reply::Refused => DnsOutcome::Refused,
        };
        Ok((reply.encode(query, zone)?, outcome))
    }

    async fn answer_service(&self, service: &ServiceKey, query: &Query) -> Reply {
        match self.shared.demand.ask(&self.shared.config, service).await {
            Answer::Absent => return Reply::NoSuchName,
            Answer::Unknown => return Reply::Failed,
            Answer::Present(_) => {}
        }
        let names = match &self.shared.names {
            Some(names) if query.wants_address() => names,
            _ => return Reply::Empty,
        };
        match names.give(service).await {
            Ok(address) => Reply::Address(address),
            Err(NotGiven::Full) => {
                self.shared.telemetry.refused_by_limit(Refused::DnsAddresses);
                Reply::Failed
            }
            Err(NotGiven::NotSaved) => Reply::Failed,
        }
    }
}
