//! What crosses between control plane and proxy, both ways. The first byte says which.
//!
//! A proxy takes any response: what it refuses it names, what it holds survives being saved. The control plane takes any
//! request: an error ends that stream, nothing else.

#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;
use weft_fuzz::{Believer, registry};
use weft_model::{RegistryEvent, Scope};
use weft_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};
use weft_registry::file::fuzzing::decode;
use weft_xds::{Stream, StreamSettings};
use weft_xds_client::Client;

const FILE: &[u8] = include_bytes!("../corpus/file_registry/two.yaml");

fuzz_target!(|bytes: &[u8]| {
    match bytes.split_first() {
        Some((b'p', rest)) => to_proxy(rest),
        Some((b'c', rest)) => to_control_plane(rest),
        _ => {}
    }
});

/// Several responses, each with its length before it (two bytes).
fn to_proxy(mut bytes: &[u8]) {
    let mut client = proxy();
    client.on_connected();
    while let Some((message, rest)) = next(bytes) {
        bytes = rest;
        let Ok(response) = DeltaDiscoveryResponse::decode(message) else { continue };
        let (nonce, count) = (response.nonce.clone(), response.resources.len());
        let applied = client.on_response(response);
        assert_eq!(applied.request.response_nonce, nonce);
        assert_eq!(
            applied.request.error_detail.is_some(),
            !applied.refused.is_empty(),
            "refused without a NACK"
        );
        assert!(applied.refused.len() <= count.max(1));
        // A restarted proxy takes what it saved.
        let held = client.held();
        let (_, refused) = proxy().restore(held.clone());
        assert!(refused.is_empty(), "what was held is refused after a restart: {refused:?}");
    }
}

fn to_control_plane(mut bytes: &[u8]) {
    let id = registry("file/fuzz");
    let (entries, _) = decode(FILE, &id, &"mesh.test".parse().expect("a constant"));
    assert!(!entries.is_empty(), "the target's own file is good");
    let mut control = Believer::new(&id);
    control.hear(RegistryEvent::Reset { scope: Scope::All, entries });
    let mut stream = Stream::new(StreamSettings::default());
    while let Some((message, rest)) = next(bytes) {
        bytes = rest;
        let Ok(mut request) = DeltaDiscoveryRequest::decode(message) else { continue };
        if stream.node().is_none() && request.node.is_none() {
            request.node =
                Some(Node { id: "spiffe://mesh.test/ns/shop/sa/web~1".to_owned(), ..Node::default() });
        }
        if stream.on_request(request, control.published()).is_err() {
            return;
        }
        stream.on_published(control.published());
        let _ = stream.status();
    }
}

fn proxy() -> Client {
    let mut client = Client::new("spiffe://mesh.test/ns/shop/sa/web~1", "weft-proxy/0");
    for service in ["default/api", "default/web", "shop/cart"] {
        client.subscribe(service.parse().expect("a constant"));
    }
    client
}

fn next(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
    (length > 0).then(|| rest.split_at(length))
}
