//! What is asked and what is read of the answers, from a server that answers by heart. Real ones:
//! `integration/tests/nomad_identity.rs`.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;

use serde_json::json;

use super::*;

/// A server that gives one answer to one request, and then says which request it was.
fn server(status: &'static str, body: String) -> (NomadWitness, JoinHandle<String>) {
    let _installed_before = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let request = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let length = stream.read(&mut request).unwrap();
        let (length_of_body, index) = (body.len(), "x-nomad-index: 17");
        let head = format!(
            "HTTP/1.1 {status}\r\nconnection: close\r\n{index}\r\ncontent-length: {length_of_body}\r\n\r\n"
        );
        stream.write_all((head + &body).as_bytes()).unwrap();
        let text = String::from_utf8_lossy(&request[..length]).into_owned();
        text.lines().next().unwrap_or_default().to_owned()
    });
    let settings = NomadSettings { address, region: Some("eu".to_owned()), ..NomadSettings::default() };
    (NomadWitness::new(&settings).unwrap(), request)
}

#[tokio::test]
async fn keys_of_every_kind_are_read_and_what_is_strange_in_one_spoils_no_other() {
    let keys = json!({"keys": [
        {"use": "sig", "kty": "RSA", "kid": "a", "alg": "RS256", "n": "AQ", "e": "AQAB"},
        {"kty": "OKP", "kid": "b", "crv": "Ed25519", "x": "AQ", "x5c": ["later"]},
    ]});
    let (witness, request) = server("200 OK", keys.to_string());
    let [rsa, okp] = <[_; 2]>::try_from(witness.signing_keys().await.unwrap()).unwrap();
    assert_eq!((rsa.kty.as_str(), rsa.usage.as_str(), rsa.e.as_str()), ("RSA", "sig", "AQAB"));
    assert_eq!((okp.crv.as_str(), okp.x.as_str(), okp.alg.as_str()), ("Ed25519", "AQ", ""));
    assert_eq!(request.join().unwrap(), "GET /.well-known/jwks.json?region=eu HTTP/1.1");
    assert!(server("200 OK", json!({"keys": null}).to_string()).0.signing_keys().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_allocation_is_read_with_the_version_of_its_job_that_runs() {
    let answer = json!({
        "ID": "1", "Namespace": "shop", "JobID": "web/dispatch-1", "TaskGroup": "g", "NodeID": "n", "DesiredStatus": "run",
        "ClientStatus": "running", "TaskStates": {"weft-proxy": {"State": "running", "Events": []}}, "Resources": {},
        "Job": {
            "ID": "web/dispatch-1", "ParentID": "web", "Dispatched": true, "Region": "eu", "Namespace": "shop",
            "Meta": null, "Periodic": null, "ParameterizedJob": {"Payload": ""}, "TaskGroups": [
                {"Name": "g", "Meta": {"weft.dev/identity": "x"}, "Tasks": [{"Name": "weft-proxy", "Env": {"A": "b"}}]}],
        },
    });
    let (witness, request) = server("200 OK", answer.to_string());
    let allocation = witness.allocation("1", None).await.unwrap().unwrap();
    assert_eq!(request.join().unwrap(), "GET /v1/allocation/1?region=eu HTTP/1.1");
    assert_eq!((allocation.index, allocation.task_states["weft-proxy"].state.as_str()), (17, "running"));
    let job = allocation.job;
    assert_eq!(
        (job.parent_id.as_str(), job.dispatched, job.periodic, job.parameterized),
        ("web", true, false, true)
    );
    assert_eq!(job.task_groups[0].meta["weft.dev/identity"], "x");
    assert_eq!(job.task_groups[0].tasks[0].name, "weft-proxy");
}

#[tokio::test]
async fn a_change_of_an_allocation_is_waited_for() {
    let (witness, request) = server("404 Not Found", "alloc not found".to_owned());
    assert_eq!(witness.allocation("1", Some(16)).await.unwrap(), None);
    assert_eq!(request.join().unwrap(), "GET /v1/allocation/1?region=eu&index=16&wait=2000ms HTTP/1.1");
}

#[tokio::test]
async fn nodes_and_jobs_are_asked_for_by_whatever_name_they_have() {
    let (witness, request) =
        server("200 OK", json!({"ID": "n", "Status": "ready", "SecretID": ""}).to_string());
    assert_eq!(witness.node("n").await.unwrap().unwrap().status, "ready");
    assert_eq!(request.join().unwrap(), "GET /v1/node/n?region=eu HTTP/1.1");
    let job = json!({"ID": "a/b", "Region": "eu", "Namespace": "shop", "Periodic": {"Spec": "@daily"}, "TaskGroups": null});
    let (witness, request) = server("200 OK", job.to_string());
    assert!(witness.job("shop", "a/b?c").await.unwrap().unwrap().periodic);
    assert_eq!(request.join().unwrap(), "GET /v1/job/a%2Fb%3Fc?namespace=shop&region=eu HTTP/1.1");
}

#[tokio::test]
async fn no_answer_means_that_there_is_none_but_404() {
    for (status, body, words) in [
        ("403 Forbidden", "Permission denied", "read-job in its namespace"),
        ("500 Internal Server Error", "No path to region", "No path to region"),
        ("200 OK", "{\"ID\": \"s3cret\"}", "not understood at line 1"),
        ("200 OK", "{\"ID\": s3cret}", "not understood at line 1"),
    ] {
        let error = server(status, body.to_owned()).0.allocation("1", None).await.unwrap_err().to_string();
        assert!(error.contains(words) && !error.contains("s3cret"), "{status} {body}: {error}");
    }
}
