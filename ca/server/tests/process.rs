//! The `weft-ca` process: serves, makes tokens beside itself, keeps a second one out, ends when told.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use rustls_pki_types::CertificateDer;
use weft_identity::{CONTROL_PLANE_PATH, JoinToken, new_key_and_csr, peer_id, pinned_client_config};
use weft_proto::ca::v1::certificate_authority_client::CertificateAuthorityClient;
use weft_proto::ca::v1::issue_request::Attestation;
use weft_proto::ca::v1::{IssueRequest, JoinToken as WireToken};

struct Server {
    child: Child,
    log: BufReader<ChildStderr>,
    address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already ended where the test went well.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn command(state: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weft-ca"));
    command.args(["--trust-domain", "weft.test", "--listen", "127.0.0.1:0", "--state-dir"]).arg(state);
    command.env("RUST_BACKTRACE", "0");
    command
}

fn start(state: &Path) -> Server {
    let mut child = command(state).stderr(Stdio::piped()).spawn().unwrap();
    let log = BufReader::new(child.stderr.take().unwrap());
    // Owned before anything can fail: its drop ends the process.
    let mut server = Server { child, log, address: String::new() };
    let mut seen = String::new();
    loop {
        assert_ne!(server.log.read_line(&mut seen).unwrap(), 0, "it ended: {seen}");
        if let Some((_, rest)) = seen.split_once("the CA serves address=") {
            rest.split_whitespace().next().unwrap().clone_into(&mut server.address);
            return server;
        }
    }
}

fn run(state: &Path, arguments: &[&str]) -> Output {
    command(state).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn a_token_that_is_made_beside_the_serving_ca_joins_once() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("ca");
    let mut server = start(&state);

    let identity = "spiffe://weft.test/ns/shop/sa/web";
    let made = run(&state, &["token", "create", "--identity", identity, "--ttl", "1m"]);
    let token: JoinToken = text(&made.stdout).parse().unwrap();
    let tls = pinned_client_config(&[token.pin()], CONTROL_PLANE_PATH, &[b"h2"]).unwrap();
    let mut client =
        CertificateAuthorityClient::new(weft_xds_client::connect(&server.address, tls).await.unwrap());
    let request = || IssueRequest {
        csr: new_key_and_csr(None).unwrap().1.into(),
        attestation: Some(Attestation::JoinToken(WireToken { token: token.to_string() })),
    };
    let issued = client.issue(request()).await.unwrap().into_inner();
    let leaf = CertificateDer::from(issued.chain[0].to_vec());
    assert_eq!(peer_id(&[leaf]).unwrap().as_str(), identity);
    client.issue(request()).await.expect_err("a second use");

    let list = text(&run(&state, &["token", "list"]).stdout);
    assert!(list.contains(token.id()) && list.contains("used") && list.contains(identity), "{list}");
    let revoked = run(&state, &["token", "revoke", token.id()]);
    assert!(!revoked.status.success(), "there is nothing left to revoke");

    drop(client);
    let pid = Pid::from_raw(server.child.id().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    // Beside the runtime, which must close the client's connection meanwhile.
    let (status, mut server) =
        tokio::task::spawn_blocking(move || (server.child.wait().unwrap(), server)).await.unwrap();
    assert!(status.success());
    let mut log = String::new();
    server.log.read_to_string(&mut log).unwrap();
    assert!(log.contains("ALARM") && log.contains(token.id()), "{log}");
    assert!(!log.contains(token.to_string().split('.').nth(2).unwrap()), "the log holds the secret");
}

#[test]
fn a_second_process_on_the_same_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("ca");
    let _server = start(&state);
    let second = run(&state, &["serve"]);
    let error = text(&second.stderr);
    assert!(!second.status.success() && error.contains("in use by another process"), "{error}");
}

#[test]
fn a_wrong_setting_or_identity_is_named_and_nothing_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("ca");
    let bad_life = text(&run(&state, &["--leaf-ttl", "1s"]).stderr);
    assert!(bad_life.contains("leaf_ttl") && bad_life.contains("7days"), "{bad_life}");
    let no_ca = run(&state, &["token", "create", "--identity", "spiffe://weft.test/a"]);
    assert!(text(&no_ca.stderr).contains("root.pem"));
    assert!(!state.exists());
    let foreign = run(&state, &["token", "create", "--identity", "spiffe://other.test/a"]);
    assert!(text(&foreign.stderr).contains("weft.test"));
}

#[test]
fn a_restart_serves_with_the_same_root() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("ca");
    let pin = |state: &Path| {
        let made = run(state, &["token", "create", "--identity", "spiffe://weft.test/a"]);
        text(&made.stdout).parse::<JoinToken>().unwrap().pin()
    };

    let first = start(&state);
    let first_pin = pin(&state);
    drop(first);
    let _second = start(&state);
    assert_eq!(pin(&state), first_pin);
}
