//! How a client behaves on its stream: how much it asks in which time, and whether it acknowledges. Pure: takes the time.
//!
//! Acknowledgements are free, since each answers a response of ours. Whatever else a request does costs: one, and one
//! more for each hundred names. What is sent must be acknowledged in time: until then the stream keeps what to take back,
//! and who never says whether it applied anything is of no use as a client.

use std::time::Duration;

use tokio::time::Instant;
use weft_ca::{Rate, RateLimit};
use weft_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};

/// What a client does that ends its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooFast;

/// The record of one stream.
#[derive(Debug)]
pub(crate) struct Conduct {
    asking: Rate,
    ack_within: Duration,
    // At most one a type, as the stream has no more in flight.
    unacknowledged: Vec<Unacknowledged>,
}

#[derive(Debug)]
struct Unacknowledged {
    type_url: String,
    nonce: String,
    since: Instant,
}

impl Conduct {
    /// Of a stream that begins now.
    pub(crate) fn new(asking: RateLimit, ack_within: Duration, now: Instant) -> Self {
        Self { asking: Rate::new(asking, now.into_std()), ack_within, unacknowledged: Vec::new() }
    }

    /// Takes note of a response that is handed to the connection.
    pub(crate) fn sent(&mut self, response: &DeltaDiscoveryResponse, now: Instant) {
        let (type_url, nonce) = (response.type_url.clone(), response.nonce.clone());
        self.unacknowledged.retain(|other| other.type_url != type_url);
        self.unacknowledged.push(Unacknowledged { type_url, nonce, since: now });
    }

    /// Takes note of a request; says whether it acknowledges (or refuses) what was sent.
    pub(crate) fn asked(&mut self, request: &DeltaDiscoveryRequest, now: Instant) -> Result<bool, TooFast> {
        let before = self.unacknowledged.len();
        self.unacknowledged
            .retain(|sent| sent.type_url != request.type_url || sent.nonce != request.response_nonce);
        let acknowledges = self.unacknowledged.len() < before;
        let names = request.resource_names_subscribe.len()
            + request.resource_names_unsubscribe.len()
            + request.initial_resource_versions.len();
        let base = if acknowledges && names == 0 { 0.0 } else { 1.0 };
        let cost = base + names as f64 / NAMES_FOR_ONE;
        match self.asking.take(cost, now.into_std()) {
            true => Ok(acknowledges),
            false => Err(TooFast),
        }
    }

    /// When the stream has waited long enough for an acknowledgement.
    pub(crate) fn overdue(&self) -> Option<Instant> {
        self.unacknowledged.iter().map(|sent| sent.since + self.ack_within).min()
    }
}

/// A name costs a search or two, a request a wake-up and a look at everything that waits.
const NAMES_FOR_ONE: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_secs(60);

    fn conduct(burst: u32, now: Instant) -> Conduct {
        Conduct::new(RateLimit { per_second: 1.0, burst }, WITHIN, now)
    }

    fn response(type_url: &str, nonce: &str) -> DeltaDiscoveryResponse {
        let (type_url, nonce) = (type_url.to_owned(), nonce.to_owned());
        DeltaDiscoveryResponse { type_url, nonce, ..Default::default() }
    }

    fn ack(type_url: &str, nonce: &str) -> DeltaDiscoveryRequest {
        let (type_url, response_nonce) = (type_url.to_owned(), nonce.to_owned());
        DeltaDiscoveryRequest { type_url, response_nonce, ..Default::default() }
    }

    #[test]
    fn acknowledgements_are_free_and_anything_else_is_not() {
        let now = Instant::now();
        let mut conduct = conduct(2, now);
        for n in 0..100 {
            conduct.sent(&response("a", &n.to_string()), now);
            assert_eq!(conduct.asked(&ack("a", &n.to_string()), now), Ok(true));
        }
        // A nonce of another type, one that was answered before, none at all.
        conduct.sent(&response("a", "100"), now);
        assert_eq!(conduct.asked(&ack("b", "100"), now), Ok(false));
        assert_eq!(conduct.asked(&ack("a", "99"), now), Ok(false));
        assert_eq!(conduct.asked(&ack("a", ""), now), Err(TooFast));
        assert_eq!(conduct.asked(&ack("a", ""), now + Duration::from_secs(1)), Ok(false));
    }

    #[test]
    fn names_cost_too_also_beside_an_acknowledgement() {
        let now = Instant::now();
        let mut conduct = conduct(2, now);
        conduct.sent(&response("a", "1"), now);
        let mut request = ack("a", "1");
        request.resource_names_subscribe = vec![String::new(); 100];
        assert_eq!(conduct.asked(&request, now), Ok(true));
        request.resource_names_subscribe.clear();
        request.initial_resource_versions.insert("a".to_owned(), String::new());
        assert_eq!(conduct.asked(&request, now), Err(TooFast));
    }

    #[test]
    fn the_oldest_unanswered_response_is_overdue_first() {
        let now = Instant::now();
        let mut conduct = conduct(1, now);
        assert_eq!(conduct.overdue(), None);
        conduct.sent(&response("a", "1"), now);
        conduct.sent(&response("b", "2"), now + Duration::from_secs(5));
        assert_eq!(conduct.overdue(), Some(now + WITHIN));
        conduct.asked(&ack("a", "1"), now).unwrap();
        assert_eq!(conduct.overdue(), Some(now + Duration::from_secs(5) + WITHIN));
        conduct.asked(&ack("b", "2"), now).unwrap();
        assert_eq!(conduct.overdue(), None);
    }
}
