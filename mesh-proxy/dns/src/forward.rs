//! A question that others answer: whom to ask next, for how long, and what counts as the answer.
//!
//! Sans-IO: whoever drives it asks the server of each [`Step`] from a socket of its own, and hands over what came. The
//! message goes out as it came but for its id, so that the letters' case (the client's own protection) and everything
//! that this build does not understand stay. Each server is asked once; the first one that has an answer wins. One that says
//! that it can't or won't is as good as silent, unless nobody does better.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hickory_proto::op::{Header, MessageType, Query as Question, ResponseCode};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use crate::Query;

/// The state of one question.
#[derive(Debug)]
pub struct Forwarding {
    message: Vec<u8>,
    question: Question,
    clients_id: u16,
    id: u16,
    servers: Vec<SocketAddr>,
    next: usize,
    timeout: Duration,
    /// The first answer that is none, for when nobody does better.
    poor: Option<Vec<u8>>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send [`Forwarding::message`] to this server, and hand over what comes until then.
    Ask {
        /// The server.
        server: SocketAddr,
        /// When to give it up.
        until: Instant,
    },
    /// This is the client's answer.
    Answer(Vec<u8>),
    /// Nobody answered.
    Failed,
}

/// What a message of a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// The client's answer.
    Answer(Vec<u8>),
    /// The server's word that it has none.
    Unhelpful,
    /// Not the answer to this question: a stray, or a forgery.
    Stray,
}

impl Forwarding {
    /// Nobody is asked yet.
    pub fn new(query: &Query, servers: Vec<SocketAddr>, timeout: Duration) -> Self {
        Self {
            message: query.bytes().to_vec(),
            question: query.question().clone(),
            clients_id: query.id(),
            id: query.id(),
            servers,
            next: 0,
            timeout,
            poor: None,
        }
    }

    /// Goes on to the next server, at the start and whenever one is given up. `id` must be one that nobody can guess.
    pub fn next(&mut self, id: u16, now: Instant) -> Step {
        let Some(server) = self.servers.get(self.next) else {
            return self.poor.take().map_or(Step::Failed, Step::Answer);
        };
        self.next += 1;
        self.id = id;
        write_id(&mut self.message, id);
        Step::Ask { server: *server, until: now + self.timeout }
    }

    /// What to send now.
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// Judges a message that came while [`Step::Ask`] lasted.
    pub fn heard(&mut self, from: SocketAddr, mut bytes: Vec<u8>) -> Heard {
        let asked = self.next.checked_sub(1).and_then(|asked| self.servers.get(asked));
        if asked != Some(&from) {
            return Heard::Stray;
        }
        let Some(code) = self.response_code(&bytes) else { return Heard::Stray };
        write_id(&mut bytes, self.clients_id);
        match code {
            ResponseCode::ServFail | ResponseCode::Refused | ResponseCode::NotImp => {
                self.poor.get_or_insert(bytes);
                Heard::Unhelpful
            }
            _ => Heard::Answer(bytes),
        }
    }

    /// The code of an answer to what was asked; `None`: it is none.
    fn response_code(&self, bytes: &[u8]) -> Option<ResponseCode> {
        let mut decoder = BinDecoder::new(bytes);
        let header = Header::read(&mut decoder).ok()?;
        if header.metadata.message_type != MessageType::Response || header.metadata.id != self.id {
            return None;
        }
        // Without a look at the letters' case: the client compares them itself, and some servers change them.
        let same = match header.counts.queries {
            1 => Question::read(&mut decoder).ok()? == self.question,
            // Servers that did not understand a question may leave it out.
            0 => header.metadata.response_code != ResponseCode::NoError && header.counts.answers == 0,
            _ => false,
        };
        same.then_some(header.metadata.response_code)
    }
}

fn write_id(message: &mut [u8], id: u16) {
    for (place, byte) in message.iter_mut().zip(id.to_be_bytes()) {
        *place = byte;
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{Message, OpCode};
    use hickory_proto::rr::rdata::A;
    use hickory_proto::rr::{Name, RData, Record, RecordType};
    use proptest::prelude::*;

    use super::*;
    use crate::message::tests::question;

    const SECOND: Duration = Duration::from_secs(1);

    fn servers() -> Vec<SocketAddr> {
        vec!["10.0.0.1:53".parse().unwrap(), "10.0.0.2:53".parse().unwrap()]
    }

    fn forwarding() -> (Forwarding, Vec<u8>) {
        let bytes = question("wWw.Example.com.", RecordType::A);
        (Forwarding::new(&Query::read(bytes.clone()).unwrap(), servers(), SECOND), bytes)
    }

    fn answer(id: u16, name: &str, code: ResponseCode) -> Vec<u8> {
        let mut message = Message::response(id, OpCode::Query);
        let name = Name::from_ascii(name).unwrap();
        message.metadata.response_code = code;
        message.add_query(Question::query(name.clone(), RecordType::A));
        message.add_answer(Record::from_rdata(name, 60, RData::A(A::new(1, 2, 3, 4))));
        message.to_vec().unwrap()
    }

    fn ok(id: u16) -> Vec<u8> {
        answer(id, "www.example.com.", ResponseCode::NoError)
    }

    #[test]
    fn the_message_goes_out_as_it_came_but_for_the_id_and_the_answer_comes_back_likewise() {
        let (mut forwarding, bytes) = forwarding();
        let now = Instant::now();
        assert_eq!(forwarding.next(9, now), Step::Ask { server: servers()[0], until: now + SECOND });
        assert_eq!(forwarding.message()[..2], [0, 9]);
        assert_eq!(forwarding.message()[2..], bytes[2..]);
        let Heard::Answer(told) = forwarding.heard(servers()[0], ok(9)) else { panic!("not the answer") };
        assert_eq!((&told[..2], &told[2..]), (&bytes[..2], &ok(9)[2..]));
    }

    #[test]
    fn silent_servers_are_left_in_their_order_and_when_all_were_silent_it_has_failed() {
        let (mut forwarding, _) = forwarding();
        let now = Instant::now();
        for (n, server) in servers().into_iter().enumerate() {
            let now = now + SECOND * u32::try_from(n).unwrap();
            assert_eq!(forwarding.next(1, now), Step::Ask { server, until: now + SECOND });
        }
        assert_eq!(forwarding.next(1, now), Step::Failed);
    }

    #[test]
    fn another_server_another_id_and_another_question_are_not_the_answer() {
        let (mut forwarding, _) = forwarding();
        assert_eq!(forwarding.heard(servers()[0], ok(9)), Heard::Stray, "nobody was asked");
        forwarding.next(9, Instant::now());
        for (from, bytes) in [
            (servers()[1], ok(9)),
            ("10.0.0.1:54".parse().unwrap(), ok(9)),
            (servers()[0], ok(10)),
            (servers()[0], answer(9, "www.example.org.", ResponseCode::NoError)),
            (servers()[0], question("www.example.com.", RecordType::A)),
            (servers()[0], ok(9)[..11].to_vec()),
            (servers()[0], Vec::new()),
        ] {
            assert_eq!(forwarding.heard(from, bytes.clone()), Heard::Stray, "{from} {bytes:?}");
        }
        assert!(matches!(forwarding.heard(servers()[0], ok(9)), Heard::Answer(_)));
    }

    #[test]
    fn a_server_that_can_not_or_will_not_is_passed_over_and_told_only_when_nobody_does_better() {
        let refused = |id| answer(id, "www.example.com.", ResponseCode::Refused);
        let (mut better, bytes) = forwarding();
        better.next(1, Instant::now());
        assert_eq!(better.heard(servers()[0], refused(1)), Heard::Unhelpful);
        better.next(2, Instant::now());
        assert!(matches!(better.heard(servers()[1], ok(2)), Heard::Answer(_)));
        let (mut worse, _) = forwarding();
        worse.next(1, Instant::now());
        worse.heard(servers()[0], refused(1));
        worse.next(2, Instant::now());
        let Step::Answer(told) = worse.next(3, Instant::now()) else { panic!("nothing is told") };
        assert_eq!((&told[..2], &told[2..]), (&bytes[..2], &refused(1)[2..]));
    }

    #[test]
    fn a_name_that_is_not_there_and_a_cut_answer_are_answers() {
        let mut cut = ok(1);
        cut[2] |= 2;
        for bytes in [answer(1, "www.example.com.", ResponseCode::NXDomain), cut] {
            let (mut forwarding, _) = forwarding();
            forwarding.next(1, Instant::now());
            let Heard::Answer(told) = forwarding.heard(servers()[0], bytes.clone()) else {
                panic!("{bytes:?}")
            };
            assert_eq!(told[2..], bytes[2..]);
        }
    }

    #[test]
    fn a_server_that_did_not_understand_may_leave_out_the_question() {
        let mut message = Message::response(1, OpCode::Query);
        message.metadata.response_code = ResponseCode::FormErr;
        let (mut forwarding, _) = forwarding();
        forwarding.next(1, Instant::now());
        assert!(matches!(forwarding.heard(servers()[0], message.to_vec().unwrap()), Heard::Answer(_)));
        message.metadata.response_code = ResponseCode::NoError;
        assert_eq!(forwarding.heard(servers()[0], message.to_vec().unwrap()), Heard::Stray);
    }

    proptest! {
        #[test]
        fn nothing_that_a_server_says_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let (mut forwarding, _) = forwarding();
            forwarding.next(1, Instant::now());
            let _ = forwarding.heard(servers()[0], bytes);
        }
    }
}
