//! The server on loopback, with resolvers that do as the test says. Messages are made by hand: what is on the wire counts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

use super::Names;
use crate::config::{KnownService, ProxyConfig, ServiceConfig};
use crate::shared::Shared;
use crate::sockets;
use crate::state::StateDir;
use crate::telemetry::Observed;

const A: u16 = 1;
const AAAA: u16 = 28;
const NXDOMAIN: u8 = 3;
const SERVFAIL: u8 = 2;
const ID: [u8; 2] = [0x12, 0x34];

/// The server, as the shell runs it.
struct Bench {
    shared: Arc<Shared>,
    at: SocketAddr,
    _serving: JoinSet<()>,
    directory: tempfile::TempDir,
}

impl Bench {
    fn new(settings: &str) -> Self {
        Self::over(tempfile::tempdir().unwrap(), settings)
    }

    /// With a state directory that may have held another one's state.
    fn over(directory: tempfile::TempDir, settings: &str) -> Self {
        let settings = format!("[dns]\nlisten = ['127.0.0.1:0']\ntimeout = '100ms'\n{settings}");
        let mut shared = Shared::for_tests(&settings);
        let state = Arc::new(StateDir::open(&directory.path().join("state")).unwrap());
        shared.names = Names::restore(&state, &shared.settings);
        let (listening, bound) = sockets::bind_dns(&shared.settings).unwrap();
        let shared = Arc::new(shared);
        let mut serving = JoinSet::new();
        for task in super::listen(&shared, listening).unwrap() {
            serving.spawn(task);
        }
        Self { shared, at: bound[0], _serving: serving, directory }
    }

    /// What the control plane said of these services, by key: whether they exist.
    fn knows(&self, services: &[(&str, bool)]) {
        let known = services.iter().map(|(key, exists)| {
            let key: weft_model::ServiceKey = key.parse().unwrap();
            let service =
                ServiceConfig { key: key.clone(), ports: Vec::new(), prefer: None, endpoints: Vec::new() };
            let known = if *exists { KnownService::Present(Arc::new(service)) } else { KnownService::Absent };
            (key, known)
        });
        self.shared.config.publish(ProxyConfig {
            revision: 1,
            services: known.collect(),
            ..ProxyConfig::default()
        });
    }

    async fn ask(&self, message: &[u8]) -> Vec<u8> {
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.connect(self.at).await.unwrap();
        client.send(message).await.unwrap();
        receive(&client).await
    }

    async fn address(&self, name: &str) -> Option<Ipv4Addr> {
        address(&self.ask(&question(name, A)).await)
    }

    fn count(&self, outcome: &str) -> u64 {
        let text = self.shared.telemetry.exposition(&Observed::default());
        let name = format!("weft_dns_queries_total{{outcome=\"{outcome}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
    }
}

fn question(name: &str, of: u16) -> Vec<u8> {
    let mut message = [ID.as_slice(), &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend([of.to_be_bytes(), 1u16.to_be_bytes()].concat());
    message
}

/// What a resolver makes of a question: the address 192.0.2.LAST.
fn answered(question: &[u8], last: u8) -> Vec<u8> {
    let mut answer = question.to_vec();
    (answer[2], answer[3], answer[7]) = (0x81, 0x80, 1);
    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, last]);
    answer
}

fn code(answer: &[u8]) -> u8 {
    assert_eq!((&answer[..2], answer[2] & 0x80), (&ID[..], 0x80), "{answer:?}");
    answer[3] & 15
}

/// The last four bytes of an answer with one record.
fn address(answer: &[u8]) -> Option<Ipv4Addr> {
    assert_eq!(code(answer), 0, "{answer:?}");
    let last: [u8; 4] = answer[answer.len() - 4..].try_into().unwrap();
    (answer[7] == 1).then(|| last.into())
}

async fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 2000];
    let received = tokio::time::timeout(Duration::from_secs(10), socket.recv(&mut buffer)).await;
    buffer.truncate(received.expect("no answer").unwrap());
    buffer
}

async fn over_tcp(at: SocketAddr, messages: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut stream = TcpStream::connect(at).await.unwrap();
    for message in messages {
        stream.write_u16(u16::try_from(message.len()).unwrap()).await.unwrap();
        stream.write_all(message).await.unwrap();
    }
    let mut answers = Vec::new();
    for _ in messages {
        let mut answer = vec![0; stream.read_u16().await.unwrap().into()];
        stream.read_exact(&mut answer).await.unwrap();
        answers.push(answer);
    }
    answers
}

async fn resolver() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let setting = format!("'{}'", socket.local_addr().unwrap());
    (socket, setting)
}

/// One that is asked over TCP at the same port as well. Other tests have ports of one kind or the other.
async fn resolver_of_both() -> (UdpSocket, TcpListener, String) {
    loop {
        let (socket, setting) = resolver().await;
        if let Ok(listener) = TcpListener::bind(socket.local_addr().unwrap()).await {
            return (socket, listener, setting);
        }
    }
}

/// The next question of the server to a resolver.
async fn asked(resolver: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 2000];
    let received = tokio::time::timeout(Duration::from_secs(10), resolver.recv_from(&mut buffer)).await;
    let (length, from) = received.expect("nobody asks").unwrap();
    buffer.truncate(length);
    (buffer, from)
}

#[tokio::test]
async fn a_services_name_is_answered_with_an_address_that_leads_back_to_it() {
    let bench = Bench::new("");
    bench.knows(&[("shop/api", true), ("default/api", true)]);
    let address = bench.address("API.shop.mesh").await.unwrap();
    let given = bench.shared.names.as_ref().unwrap().given();
    assert_eq!(given.service(IpAddr::V4(address)).unwrap().to_string(), "shop/api");
    assert_ne!(bench.address("api.default.mesh").await.unwrap(), address);
    let questions = [question("api.shop.mesh", AAAA), question("api.shop.mesh", A)];
    let answers = over_tcp(bench.at, &questions).await;
    assert_eq!(
        (super::tests::address(&answers[0]), super::tests::address(&answers[1])),
        (None, Some(address))
    );
    assert_eq!(bench.count("answered"), 4);
}

#[tokio::test]
async fn only_the_control_planes_word_is_that_there_is_no_such_name() {
    let bench = Bench::new("");
    bench.knows(&[("shop/gone", false)]);
    assert_eq!(code(&bench.ask(&question("gone.shop.mesh", A)).await), NXDOMAIN);
    assert_eq!(code(&bench.ask(&question("a.b.c.mesh", A)).await), NXDOMAIN);
    // Nobody says anything of it, nor in which namespace a short name is meant.
    assert_eq!(code(&bench.ask(&question("api.shop.mesh", A)).await), SERVFAIL);
    assert_eq!(code(&bench.ask(&question("api.mesh", A)).await), SERVFAIL);
    assert_eq!((bench.count("nxdomain"), bench.count("servfail")), (2, 2));
}

#[tokio::test]
async fn a_service_that_becomes_known_while_its_name_is_asked_is_answered() {
    let bench = Bench::new("");
    let late = async {
        bench.shared.demand.changed().await;
        bench.knows(&[("shop/api", true)]);
    };
    let (address, ()) = tokio::join!(bench.address("api.shop.mesh"), late);
    assert!(address.is_some());
}

#[tokio::test]
async fn other_names_go_out_as_they_came_but_for_the_id_each_from_a_port_of_its_own() {
    let (resolver, setting) = resolver().await;
    let bench = Bench::new(&format!("nameservers = [{setting}]"));
    let mut ports = Vec::new();
    for _ in 0..2 {
        let question = question("wWw.Example.com", A);
        let scripted = async {
            let (message, from) = asked(&resolver).await;
            assert_eq!(message[2..], question[2..]);
            resolver.send_to(&answered(&message, 7), from).await.unwrap();
            from.port()
        };
        let (answer, port) = tokio::join!(bench.ask(&question), scripted);
        assert_eq!(answer, answered(&question, 7));
        ports.push(port);
    }
    assert_ne!(ports[0], ports[1]);
    assert_eq!(bench.count("forwarded"), 2);
}

#[tokio::test]
async fn wrong_ids_other_questions_and_strangers_are_not_believed() {
    let (resolver, setting) = resolver().await;
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let bench = Bench::new(&format!("nameservers = [{setting}]"));
    let scripted = async {
        let (message, from) = asked(&resolver).await;
        let mut wrong = answered(&message, 1);
        wrong[0] ^= 0xff;
        resolver.send_to(&wrong, from).await.unwrap();
        let mut other = answered(&message, 2);
        other[13] ^= 1;
        resolver.send_to(&other, from).await.unwrap();
        stranger.send_to(&answered(&message, 3), from).await.unwrap();
        resolver.send_to(&message, from).await.unwrap();
        resolver.send_to(&answered(&message, 4), from).await.unwrap();
    };
    let (address, ()) = tokio::join!(bench.address("www.example.com"), scripted);
    assert_eq!(address, Some(Ipv4Addr::new(192, 0, 2, 4)));
}

#[tokio::test]
async fn a_silent_resolver_is_left_for_the_next_one_and_when_all_are_silent_it_is_a_failure() {
    let ((first, one), (second, two)) = (resolver().await, resolver().await);
    let bench = Bench::new(&format!("nameservers = [{one}, {two}]"));
    let scripted = async {
        let (mine, _) = asked(&first).await;
        let (message, from) = asked(&second).await;
        assert_eq!(mine[2..], message[2..]);
        second.send_to(&answered(&message, 2), from).await.unwrap();
    };
    let start = Instant::now();
    let (address, ()) = tokio::join!(bench.address("www.example.com"), scripted);
    assert_eq!(address, Some(Ipv4Addr::new(192, 0, 2, 2)));
    assert!(start.elapsed() >= Duration::from_millis(100), "the first one had its time");
    assert_eq!(code(&bench.ask(&question("www.example.org", A)).await), SERVFAIL);
    assert_eq!((bench.count("forwarded"), bench.count("forward_failed")), (1, 1));
}

#[tokio::test]
async fn a_cut_answer_is_passed_on_as_such_and_who_asks_again_over_tcp_is_answered_over_tcp() {
    let (resolver, tcp, setting) = resolver_of_both().await;
    let bench = Bench::new(&format!("nameservers = [{setting}]"));
    let question = question("big.example.com", A);
    let scripted = async {
        let (mut message, from) = asked(&resolver).await;
        message[2] = 0x83;
        resolver.send_to(&message, from).await.unwrap();
    };
    let (answer, ()) = tokio::join!(bench.ask(&question), scripted);
    assert_eq!(answer[2] & 2, 2, "{answer:?}");
    let scripted = async {
        let (mut stream, _) = tcp.accept().await.unwrap();
        let mut message = vec![0; stream.read_u16().await.unwrap().into()];
        stream.read_exact(&mut message).await.unwrap();
        let answer = answered(&message, 9);
        stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
        stream.write_all(&answer).await.unwrap();
    };
    let asking = async { tokio::join!(over_tcp(bench.at, std::slice::from_ref(&question)), scripted) };
    let asked = tokio::time::timeout(Duration::from_secs(10), asking).await;
    let (answers, ()) = asked.expect("nobody asks over TCP");
    assert_eq!(answers, [answered(&question, 9)]);
}

#[tokio::test]
async fn beyond_the_limit_a_query_fails_at_once_and_the_one_before_it_is_answered() {
    let (resolver, setting) = resolver().await;
    let bench = Bench::new(&format!("nameservers = [{setting}]\n[limits]\ndns_queries = 1"));
    let scripted = async {
        let (message, from) = asked(&resolver).await;
        assert_eq!(code(&bench.ask(&question("b.example.com", A)).await), SERVFAIL);
        resolver.send_to(&answered(&message, 1), from).await.unwrap();
    };
    let (address, ()) = tokio::join!(bench.address("a.example.com"), scripted);
    assert_eq!(address, Some(Ipv4Addr::new(192, 0, 2, 1)));
    let text = bench.shared.telemetry.exposition(&Observed::default());
    assert!(text.contains("{of=\"dns_query\",limit=\"dns_queries\"} 1"), "{text}");
}

#[tokio::test]
async fn where_all_addresses_are_given_a_new_name_fails_and_the_old_ones_are_answered() {
    let bench = Bench::new("[limits]\ndns_addresses = 1");
    bench.knows(&[("shop/api", true), ("shop/late", true)]);
    let api = bench.address("api.shop.mesh").await;
    assert_eq!(code(&bench.ask(&question("late.shop.mesh", A)).await), SERVFAIL);
    assert_eq!(bench.address("api.shop.mesh").await, api);
    let text = bench.shared.telemetry.exposition(&Observed::default());
    assert!(text.contains("{of=\"dns_address\",limit=\"dns_addresses\"} 1"), "{text}");
}

#[tokio::test]
async fn an_address_is_on_the_disk_before_it_is_told_and_a_damaged_file_starts_anew() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state/names.json");
    let mut bench = Bench::over(directory, "");
    bench.knows(&[("shop/api", true)]);
    let first = bench.address("api.shop.mesh").await.unwrap();
    assert!(std::fs::read_to_string(&file).unwrap().contains(&first.to_string()));
    // Another one that a former process gave.
    std::fs::write(&file, r#"{"version":1,"addresses":{"shop/api":"240.240.0.9"}}"#).unwrap();
    bench = again(bench);
    assert_eq!(bench.address("api.shop.mesh").await, Some(Ipv4Addr::new(240, 240, 0, 9)));
    std::fs::write(&file, "{").unwrap();
    bench = again(bench);
    assert_eq!(bench.address("api.shop.mesh").await, Some(first));
    assert!(file.with_extension("json.bad").exists());
    // Where it can't be kept nobody gets one: after a restart it could be another service's.
    bench.knows(&[("shop/api", true), ("shop/new", true)]);
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    assert_eq!(code(&bench.ask(&question("new.shop.mesh", A)).await), SERVFAIL);
    assert_eq!(bench.address("api.shop.mesh").await, Some(first));
}

/// A new process over the same state.
fn again(bench: Bench) -> Bench {
    let Bench { directory, shared, _serving, .. } = bench;
    drop((_serving, shared));
    // The aborted tasks hold the old process's lock until they are dropped; it is of no use to the new one.
    let path = directory.path().join("state/lock");
    std::fs::remove_file(path).unwrap();
    let bench = Bench::over(directory, "");
    bench.knows(&[("shop/api", true)]);
    bench
}

#[tokio::test]
async fn a_question_that_comes_back_to_its_asker_ends_there() {
    let taken = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let settings = format!("[dns]\nlisten = ['{taken}']\nnameservers = ['{taken}']\ntimeout = '5s'");
    // Where it listens is not told to the resolvers, as with a redirection that nobody knows of.
    let shared = Arc::new(Shared::for_tests(&settings));
    let (listening, bound) = sockets::bind_dns(&shared.settings).unwrap();
    let mut serving = JoinSet::new();
    for task in super::listen(&shared, listening).unwrap() {
        serving.spawn(task);
    }
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(bound[0]).await.unwrap();
    let start = Instant::now();
    client.send(&question("www.example.com", A)).await.unwrap();
    assert_eq!(code(&receive(&client).await), SERVFAIL);
    assert!(start.elapsed() < Duration::from_secs(3), "it went round until the time was over");
}

#[tokio::test]
async fn what_is_no_query_is_refused_and_counted() {
    let bench = Bench::new("");
    let mut two = question("api.shop.mesh", A);
    two[5] = 2;
    assert_eq!(code(&bench.ask(&two).await), 1);
    let mut update = question("api.shop.mesh", A);
    update[2] = 5 << 3;
    assert_eq!(code(&bench.ask(&update).await), 4);
    assert_eq!(bench.count("malformed"), 2);
}
