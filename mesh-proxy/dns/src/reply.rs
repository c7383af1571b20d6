//! Answers of the mesh's own names.
//!
//! Short-lived, so that a change is seen soon; also what is not there, with the zone's SOA that RFC 2308 wants for it. All
//! of them fit the 512 bytes that every client takes over UDP: a name has 255 at most, and there is one record.

use std::net::Ipv4Addr;

use hickory_proto::op::{Edns, Message, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{Name, RData, Record};

use crate::{Malformed, Query, Zone};

/// How long a service's address may be kept. It stays the same; that the service is there does not.
const TTL: u32 = 30;
/// How long it may be kept that something is not there.
const NEGATIVE_TTL: u32 = 5;
/// What this side takes over UDP: what needs no fragments on any path (DNS flag day 2020).
const PAYLOAD: u16 = 1232;

/// What a question of ours is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// The service has this address.
    Address(Ipv4Addr),
    /// The name is there, a record of this type is not.
    Empty,
    /// There is no such name.
    NoSuchName,
    /// Nobody can say at the moment.
    Failed,
    /// Names of other classes are not served.
    Refused,
}

impl Reply {
    /// The message.
    ///
    /// # Errors
    /// When the question's records can't be read.
    pub fn encode(self, query: &Query, zone: &Zone) -> Result<Vec<u8>, Malformed> {
        let asked = query.message()?;
        let mut answer = answer_to(&asked);
        match self {
            _ if asked.edns.as_ref().is_some_and(|edns| edns.version() != 0) => {
                // RFC 6891 6.1.3.
                answer.metadata.response_code = ResponseCode::BADVERS;
            }
            Self::Address(address) => {
                answer.metadata.authoritative = true;
                let record = RData::A(A(address));
                answer.add_answer(Record::from_rdata(query.name().clone(), TTL, record));
            }
            Self::Empty | Self::NoSuchName => {
                answer.metadata.authoritative = true;
                if self == Self::NoSuchName {
                    answer.metadata.response_code = ResponseCode::NXDomain;
                }
                answer.add_authority(Record::from_rdata(
                    zone.name(),
                    NEGATIVE_TTL,
                    RData::SOA(soa(zone.name())),
                ));
            }
            Self::Failed => answer.metadata.response_code = ResponseCode::ServFail,
            Self::Refused => answer.metadata.response_code = ResponseCode::Refused,
        }
        answer.to_vec().map_err(|_| Malformed::Records)
    }
}

/// The answer to a question that others should have answered, and did not.
///
/// # Errors
/// When the question's records can't be read.
pub fn failed(query: &Query) -> Result<Vec<u8>, Malformed> {
    let mut answer = answer_to(&query.message()?);
    answer.metadata.response_code = ResponseCode::ServFail;
    answer.to_vec().map_err(|_| Malformed::Records)
}

fn answer_to(asked: &Message) -> Message {
    let mut answer = Message::response(asked.metadata.id, asked.metadata.op_code);
    answer.metadata.recursion_desired = asked.metadata.recursion_desired;
    answer.metadata.checking_disabled = asked.metadata.checking_disabled;
    answer.metadata.recursion_available = true;
    answer.add_queries(asked.queries.iter().cloned());
    if asked.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(PAYLOAD);
        answer.set_edns(edns);
    }
    answer
}

/// There is no zone to transfer and no one to write to: only the last number means something.
fn soa(zone: Name) -> SOA {
    let (refresh, retry, expire) = (3600, 600, 86400);
    SOA::new(zone.clone(), zone, 1, refresh, retry, expire, NEGATIVE_TTL)
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{MessageType, OpCode, Query as Question};
    use hickory_proto::rr::RecordType;
    use proptest::prelude::*;

    use super::*;
    use crate::message::tests::query;

    fn encoded(reply: Reply, query: &Query) -> Message {
        let zone: Zone = "mesh".parse().unwrap();
        Message::from_vec(&reply.encode(query, &zone).unwrap()).unwrap()
    }

    #[test]
    fn an_address_is_answered_under_the_very_name_that_was_asked() {
        let answer = encoded(Reply::Address([240, 240, 1, 2].into()), &query("BILLing.mesh."));
        assert_eq!((answer.metadata.id, answer.metadata.response_code), (0x1234, ResponseCode::NoError));
        assert!(answer.metadata.authoritative && answer.metadata.recursion_desired);
        assert_eq!(answer.queries[0].name.to_ascii(), "BILLing.mesh.");
        let [record] = answer.answers.as_slice() else { panic!("{answer:?}") };
        assert_eq!((record.ttl, &record.data), (30, &RData::A(A::new(240, 240, 1, 2))));
        assert_eq!(record.name.to_ascii(), "BILLing.mesh.");
        assert_eq!(answer.edns.unwrap().version(), 0);
    }

    #[test]
    fn what_is_not_there_may_be_remembered_for_a_short_time() {
        for (reply, code) in
            [(Reply::Empty, ResponseCode::NoError), (Reply::NoSuchName, ResponseCode::NXDomain)]
        {
            let answer = encoded(reply, &query("billing.mesh."));
            assert_eq!((answer.metadata.response_code, answer.answers.len()), (code, 0));
            let [record] = answer.authorities.as_slice() else { panic!("{answer:?}") };
            let RData::SOA(soa) = &record.data else { panic!("{record:?}") };
            assert_eq!((record.name.to_ascii().as_str(), record.ttl, soa.minimum), ("mesh.", 5, 5));
        }
    }

    #[test]
    fn what_is_not_known_is_a_failure_that_nobody_remembers() {
        for (reply, code) in
            [(Reply::Failed, ResponseCode::ServFail), (Reply::Refused, ResponseCode::Refused)]
        {
            let answer = encoded(reply, &query("billing.mesh."));
            assert_eq!(answer.metadata.response_code, code);
            assert!(answer.answers.is_empty() && answer.authorities.is_empty());
        }
        let answer = Message::from_vec(&failed(&query("example.com.")).unwrap()).unwrap();
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    }

    #[test]
    fn a_later_version_of_the_extensions_is_refused_as_such() {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.add_query(Question::query(Name::from_ascii("a.mesh.").unwrap(), RecordType::A));
        let mut edns = Edns::new();
        edns.set_version(1);
        message.set_edns(edns);
        let query = Query::read(message.to_vec().unwrap()).unwrap();
        let answer = encoded(Reply::Address([240, 240, 1, 2].into()), &query);
        // 16, which two codes share.
        assert_eq!(u16::from(answer.metadata.response_code), u16::from(ResponseCode::BADVERS));
        assert!(answer.answers.is_empty());
    }

    proptest! {
        #[test]
        fn every_answer_fits_what_every_client_takes(
            labels in prop::collection::vec("[a-z0-9]{1,63}", 1..5), which in 0..5usize,
        ) {
            let mut name = labels.join(".");
            // With the suffix and the root, 255 in all.
            name.truncate(248);
            let Ok(name) = Name::from_ascii(format!("{}.mesh.", name.trim_end_matches('.'))) else { return Ok(()) };
            let query = query(&name.to_ascii());
            let replies = [
                Reply::Address([240, 240, 1, 2].into()), Reply::Empty, Reply::NoSuchName, Reply::Failed, Reply::Refused,
            ];
            let zone: Zone = "mesh".parse().unwrap();
            prop_assert!(replies[which].encode(&query, &zone).unwrap().len() <= 512);
        }
    }
}
