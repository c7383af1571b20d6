//! DNS messages of applications and of resolvers: any bytes are a query that can be answered, or malformed; and no bytes of
//! a resolver make a forwarded query anything else than answered, passed over or still waiting.

#![no_main]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use weft_dns::{Forwarding, Heard, Query, Reply, Step, VirtualAddresses, VirtualRange, Zone};

fuzz_target!(|bytes: &[u8]| {
    // The first byte says where the query ends and the resolver's answer begins.
    let Some((at, rest)) = bytes.split_first() else { return };
    let (query, answer) = rest.split_at((*at as usize * 2).min(rest.len()));
    _ = VirtualAddresses::from_text(&String::from_utf8_lossy(rest), VirtualRange::default(), 100);
    let query = match Query::read(query.to_vec()) {
        Ok(query) => query,
        Err(malformed) => return drop(malformed.answer(query)),
    };
    let zone: Zone = "mesh".parse().expect("it is a suffix");
    let own = "shop".parse().expect("it is a namespace");
    _ = zone.named(query.name(), Some(&own));
    for reply in [Reply::Address(Ipv4Addr::LOCALHOST), Reply::Empty, Reply::NoSuchName, Reply::Failed] {
        if let Ok(answer) = reply.encode(&query, &zone) {
            assert!(answer.len() <= 512, "{} bytes", answer.len());
        }
    }
    let server = SocketAddr::from(([10, 0, 0, 1], 53));
    let mut forwarding = Forwarding::new(&query, vec![server], Duration::from_secs(1));
    let step = forwarding.next(0x0101, Instant::now());
    assert!(matches!(step, Step::Ask { .. }));
    assert_eq!(forwarding.heard(SocketAddr::from(([10, 0, 0, 2], 53)), answer.to_vec()), Heard::Stray);
    if let Heard::Answer(told) = forwarding.heard(server, answer.to_vec()) {
        assert_eq!(told.len(), answer.len());
        assert_eq!(told.get(2..), answer.get(2..));
    }
});
