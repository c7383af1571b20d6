//! A question as it came: the bytes, which are forwarded as they are, and what they ask.
//!
//! Only header and question are read of what is not ours: a record that nobody here understands is the answering server's
//! business. One question a message, as all of the Internet has it; what else a message may be is refused, since a
//! redirected question no longer says whom it was for.

use hickory_proto::op::{Header, Message, MessageType, OpCode, Query as Question, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

/// No message is longer: TCP's length has 16 bits.
pub const MAX_MESSAGE: usize = u16::MAX as usize;

/// One question of a client.
#[derive(Debug, Clone)]
pub struct Query {
    bytes: Vec<u8>,
    id: u16,
    question: Question,
}

/// Why a message is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It has no whole header.
    #[error("it has no whole header")]
    NoHeader,
    /// It is an answer.
    #[error("it is an answer and not a question")]
    Answer,
    /// An update or a notification, say.
    #[error("its operation is not a query")]
    Operation,
    /// None, or several.
    #[error("it has not exactly one question")]
    Questions,
    /// The question can't be read.
    #[error("its question can't be read")]
    Question,
    /// A record behind the question can't be read.
    #[error("its records can't be read")]
    Records,
}

impl Query {
    /// Reads a message.
    ///
    /// # Errors
    /// With what is wrong with it; [`Malformed::answer`] is what the client is told.
    pub fn read(bytes: Vec<u8>) -> Result<Self, Malformed> {
        let mut decoder = BinDecoder::new(&bytes);
        let header = Header::read(&mut decoder).map_err(|_| Malformed::NoHeader)?;
        if header.metadata.message_type == MessageType::Response {
            return Err(Malformed::Answer);
        }
        if header.metadata.op_code != OpCode::Query {
            return Err(Malformed::Operation);
        }
        if header.counts.queries != 1 {
            return Err(Malformed::Questions);
        }
        let question = Question::read(&mut decoder).map_err(|_| Malformed::Question)?;
        let id = header.metadata.id;
        Ok(Self { bytes, id, question })
    }

    /// The name that is asked for.
    pub fn name(&self) -> &Name {
        &self.question.name
    }

    pub(crate) fn id(&self) -> u16 {
        self.id
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn question(&self) -> &Question {
        &self.question
    }

    /// Whether it is about the Internet's names, and not of another class.
    pub fn is_of_the_internet(&self) -> bool {
        matches!(self.question.query_class, DNSClass::IN | DNSClass::ANY)
    }

    /// Whether an IPv4 address answers it. RFC 8482: who asks for any record gets one of them.
    pub fn wants_address(&self) -> bool {
        matches!(self.question.query_type, RecordType::A | RecordType::ANY)
    }

    /// The whole message, for what has to be understood of it to answer it.
    pub(crate) fn message(&self) -> Result<Message, Malformed> {
        Message::from_vec(&self.bytes).map_err(|_| Malformed::Records)
    }
}

impl Malformed {
    /// What its sender is told; `None`: nothing, since it may be an answer to a forged question.
    pub fn answer(self, bytes: &[u8]) -> Option<Vec<u8>> {
        let code = match self {
            Self::NoHeader | Self::Answer => return None,
            Self::Operation => ResponseCode::NotImp,
            Self::Questions | Self::Question | Self::Records => ResponseCode::FormErr,
        };
        let header = Header::read(&mut BinDecoder::new(bytes)).ok()?;
        let mut answer = Message::response(header.metadata.id, header.metadata.op_code);
        answer.metadata.recursion_desired = header.metadata.recursion_desired;
        answer.metadata.response_code = code;
        answer.to_vec().ok()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use hickory_proto::op::Edns;
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn question(name: &str, of: RecordType) -> Vec<u8> {
        let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Question::query(Name::from_ascii(name).unwrap(), of));
        let mut edns = Edns::new();
        edns.set_max_payload(1232);
        message.set_edns(edns);
        message.to_vec().unwrap()
    }

    pub(crate) fn query(name: &str) -> Query {
        Query::read(question(name, RecordType::A)).unwrap()
    }

    #[test]
    fn a_question_is_read_with_its_letters_as_they_came() {
        let query = query("BiLLing.Default.mesh.");
        assert_eq!(query.name().to_ascii(), "BiLLing.Default.mesh.");
        assert!(query.is_of_the_internet() && query.wants_address());
        assert_eq!(query.id(), 0x1234);
    }

    #[test]
    fn what_is_no_question_is_told_so_and_what_is_an_answer_is_told_nothing() {
        let refused = |change: fn(&mut Vec<u8>), wanted: Malformed| {
            let mut bytes = question("a.example.", RecordType::A);
            change(&mut bytes);
            let malformed = Query::read(bytes.clone()).unwrap_err();
            assert_eq!(malformed, wanted);
            malformed.answer(&bytes).map(|answer| {
                let answer = Message::from_vec(&answer).unwrap();
                assert_eq!(
                    (answer.metadata.id, answer.metadata.message_type),
                    (0x1234, MessageType::Response)
                );
                answer.metadata.response_code
            })
        };
        assert_eq!(refused(|bytes| bytes.truncate(11), Malformed::NoHeader), None);
        assert_eq!(refused(|bytes| bytes[2] |= 0x80, Malformed::Answer), None);
        assert_eq!(refused(|bytes| bytes[2] = 5 << 3, Malformed::Operation), Some(ResponseCode::NotImp));
        assert_eq!(refused(|bytes| bytes[5] = 2, Malformed::Questions), Some(ResponseCode::FormErr));
        assert_eq!(refused(|bytes| bytes.truncate(20), Malformed::Question), Some(ResponseCode::FormErr));
        // A name that points at itself.
        let circle = |bytes: &mut Vec<u8>| bytes[12..14].copy_from_slice(&[0xc0, 12]);
        assert_eq!(refused(circle, Malformed::Question), Some(ResponseCode::FormErr));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_question_or_malformed(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            if let Err(malformed) = Query::read(bytes.clone()) {
                let _ = malformed.answer(&bytes);
            }
        }
    }
}
