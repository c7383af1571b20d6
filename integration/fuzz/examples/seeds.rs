//! Writes the seeds of `resources`: what a control plane and a proxy really say to each other, each message with its
//! length before it. Run after a change of the schema: `cargo run --example seeds`.

use prost::Message;
use weft_fuzz::{Believer, registry};
use weft_model::{RegistryEvent, Scope};
use weft_registry::file::fuzzing::decode;
use weft_xds::{Stream, StreamSettings};
use weft_xds_client::Client;

fn main() -> std::io::Result<()> {
    let id = registry("file/fuzz");
    let file = include_bytes!("../corpus/file_registry/two.yaml");
    let (entries, _) = decode(file, &id, &"mesh.test".parse().expect("a constant"));
    let mut control = Believer::new(&id);
    control.hear(RegistryEvent::Reset { scope: Scope::All, entries: entries.clone() });

    let mut client = Client::new("spiffe://mesh.test/ns/shop/sa/api~v1", "weft-proxy/0");
    client.subscribe("shop/api".parse().expect("a constant"));
    let mut stream = Stream::new(StreamSettings::default());
    let (mut said, mut answered) = (vec![b'c'], vec![b'p']);
    let mut requests = client.on_connected();
    while let Some(request) = (!requests.is_empty()).then(|| requests.remove(0)) {
        add(&mut said, &request);
        for response in stream.on_request(request, control.published()).expect("a good client") {
            add(&mut answered, &response);
            requests.push(client.on_response(response).request);
        }
    }
    control.hear(RegistryEvent::Reset { scope: Scope::All, entries: Vec::new() });
    for response in stream.on_published(control.published()) {
        add(&mut answered, &response);
        add(&mut said, &client.on_response(response).request);
    }
    std::fs::write("corpus/resources/said_by_a_proxy", said)?;
    std::fs::write("corpus/resources/answered_by_the_control_plane", answered)
}

fn add(bytes: &mut Vec<u8>, message: &impl Message) {
    let encoded = message.encode_to_vec();
    bytes.extend(u16::try_from(encoded.len()).expect("a small message").to_be_bytes());
    bytes.extend(encoded);
}
