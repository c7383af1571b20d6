//! Whole TLS handshakes in memory: who gets in, who does not, and under which reason.

use std::io;

use rustls::{ClientConnection, Connection, ServerConnection};
use rustls_pki_types::ServerName;
use time::{Duration, OffsetDateTime};

use super::*;
use crate::testkit::{TestAuthority, leaf_params};
use crate::{
    ALPN_HBONE, ALPN_WEFT, CONTROL_PLANE_PATH, RefusalReason, RootPin, peer_id, pinned_client_config,
};
use crate::{refusal_reason, testkit};

const WEB: &str = "/ns/shop/sa/web";
const API: &str = "/ns/shop/sa/api";

/// The two ends after a handshake, or which end refused and why.
type Outcome = Result<(ClientConnection, ServerConnection), (&'static str, rustls::Error)>;

fn handshake(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Outcome {
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut client = ClientConnection::new(client, name).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    // Both ends may still have an alert to send after they think that they are done.
    for _ in 0..8 {
        pass(&mut client, &mut server).map_err(|error| ("server", error))?;
        pass(&mut server, &mut client).map_err(|error| ("client", error))?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok((client, server))
}

fn pass(
    from: &mut (
             impl Into<Connection> + std::ops::DerefMut<Target = rustls::ConnectionCommon<impl rustls::SideData>>
         ),
    to: &mut (
             impl Into<Connection> + std::ops::DerefMut<Target = rustls::ConnectionCommon<impl rustls::SideData>>
         ),
) -> Result<(), rustls::Error> {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    let mut reader = io::Cursor::new(bytes);
    while (reader.position() as usize) < reader.get_ref().len() {
        to.read_tls(&mut reader).unwrap();
        to.process_new_packets()?;
    }
    Ok(())
}

fn credentials(authority: &TestAuthority, path: &str) -> Credentials {
    Credentials::new(Arc::new(authority.svid(path)), Arc::new(authority.bundles()), 1)
}

fn id(path: &str) -> SpiffeId {
    format!("spiffe://weft.test{path}").parse().unwrap()
}

fn server(authority: &TestAuthority) -> Arc<ServerConfig> {
    credentials(authority, API).server_config(&[ALPN_WEFT, ALPN_HBONE], ClientAuth::Required).unwrap()
}

fn client_with(svid: Svid, authority: &TestAuthority) -> Arc<ClientConfig> {
    let credentials = Credentials::new(Arc::new(svid), Arc::new(authority.bundles()), 1);
    credentials.client_config(&id(API), &[ALPN_WEFT]).unwrap()
}

fn refused(outcome: Outcome, end: &str) -> RefusalReason {
    let Err((refusing, error)) = outcome else { panic!("let in") };
    assert_eq!(refusing, end, "{error}");
    refusal_reason(&error)
}

#[test]
fn two_workloads_see_each_others_whole_id_over_tls_13_with_the_chosen_alpn() {
    let authority = TestAuthority::new("weft.test");
    let client = credentials(&authority, WEB).client_config(&id(API), &[ALPN_HBONE]).unwrap();
    let (client, server) = handshake(client, server(&authority)).expect("refused");
    assert_eq!(peer_id(server.peer_certificates().unwrap()), Ok(id(WEB)));
    assert_eq!(peer_id(client.peer_certificates().unwrap()), Ok(id(API)));
    assert_eq!(client.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(client.alpn_protocol(), Some(ALPN_HBONE));
    let suite = client.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(suite, rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
    assert_eq!(server.server_name(), None, "SNI was sent");
}

#[test]
fn a_second_connection_is_a_full_handshake() {
    let authority = TestAuthority::new("weft.test");
    let (client, server) = (client_with(authority.svid(WEB), &authority), server(&authority));
    for _ in 0..2 {
        let (client, _) = handshake(Arc::clone(&client), Arc::clone(&server)).expect("refused");
        assert_eq!(client.handshake_kind(), Some(rustls::HandshakeKind::Full));
        assert_eq!(client.tls13_tickets_received(), 0);
    }
}

#[test]
fn a_server_with_another_id_of_the_same_root_is_refused() {
    let authority = TestAuthority::new("weft.test");
    // One that differs in the service account, one in the namespace only.
    for other in ["/ns/shop/sa/api2", "/ns/test/sa/api"] {
        let client = credentials(&authority, WEB).client_config(&id(other), &[ALPN_WEFT]).unwrap();
        assert_eq!(refused(handshake(client, server(&authority)), "client"), RefusalReason::WrongId);
    }
}

#[test]
fn a_client_without_a_certificate_is_refused_where_one_is_required() {
    let authority = TestAuthority::new("weft.test");
    let pins = [RootPin::of(&authority.bundle().roots[0])];
    let chain = [authority.svid(CONTROL_PLANE_PATH), authority.svid(API)];
    let [control, _] = chain;
    let mut with_root = control.chain().to_vec();
    with_root.extend(authority.bundle().roots);
    let svid = Svid::from_der(with_root, control.key().clone_key()).unwrap();
    let credentials = Credentials::new(Arc::new(svid), Arc::new(authority.bundles()), 1);
    let client = pinned_client_config(&pins, CONTROL_PLANE_PATH, &[b"h2"]).unwrap();

    let required = credentials.server_config(&[b"h2"], ClientAuth::Required).unwrap();
    assert_eq!(refused(handshake(Arc::clone(&client), required), "server"), RefusalReason::NoCertificate);

    let optional = credentials.server_config(&[b"h2"], ClientAuth::Optional).unwrap();
    let (_, server) = handshake(client, optional).expect("refused");
    assert!(server.peer_certificates().is_none());
}

#[test]
fn a_client_with_a_bad_certificate_is_refused_even_where_none_is_needed() {
    let (own, foreign) = (TestAuthority::new("weft.test"), TestAuthority::new("evil.test"));
    let client = client_with(foreign.svid(WEB), &own);
    let server = credentials(&own, API).server_config(&[ALPN_WEFT], ClientAuth::Optional).unwrap();
    assert_eq!(refused(handshake(client, server), "server"), RefusalReason::ForeignTrustDomain);
}

#[test]
fn each_bad_client_has_its_own_reason() {
    let authority = TestAuthority::new("weft.test");
    let other_root = TestAuthority::new("weft.test");
    let expired =
        leaf_of(&authority, |params| params.not_after = OffsetDateTime::now_utc() - Duration::MINUTE);
    let early =
        leaf_of(&authority, |params| params.not_before = OffsetDateTime::now_utc() + Duration::MINUTE);
    let cases = [
        (TestAuthority::new("evil.test").svid(WEB), RefusalReason::ForeignTrustDomain),
        (other_root.svid(WEB), RefusalReason::UnknownIssuer),
        (expired, RefusalReason::Expired),
        (early, RefusalReason::NotYetValid),
    ];
    for (svid, reason) in cases {
        let outcome = handshake(client_with(svid, &authority), server(&authority));
        assert_eq!(refused(outcome, "server"), reason);
    }
}

#[test]
fn an_expired_server_is_refused_by_its_client() {
    let authority = TestAuthority::new("weft.test");
    let expired = leaf_of(&authority, |params| {
        params.subject_alt_names = vec![testkit::uri(id(API).as_str())];
        params.not_after = OffsetDateTime::now_utc() - Duration::MINUTE;
    });
    let server = Credentials::new(Arc::new(expired), Arc::new(authority.bundles()), 1)
        .server_config(&[ALPN_WEFT], ClientAuth::Required)
        .unwrap();
    let outcome = handshake(client_with(authority.svid(WEB), &authority), server);
    assert_eq!(refused(outcome, "client"), RefusalReason::Expired);
}

#[test]
fn a_client_of_tls_12_is_refused() {
    let authority = TestAuthority::new("weft.test");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.bundle().roots.remove(0)).unwrap();
    let client = ClientConfig::builder_with_provider(crate::crypto_provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let outcome = handshake(Arc::new(client), server(&authority));
    assert_eq!(refused(outcome, "server"), RefusalReason::Incompatible);
}

#[test]
fn plain_http_is_not_tls() {
    let authority = TestAuthority::new("weft.test");
    let mut server = ServerConnection::new(server(&authority)).unwrap();
    server.read_tls(&mut io::Cursor::new(b"GET / HTTP/1.1\r\n\r\n")).unwrap();
    let error = server.process_new_packets().expect_err("accepted");
    assert_eq!(refusal_reason(&error), RefusalReason::NotTls);
    let wrapped = io::Error::new(io::ErrorKind::InvalidData, error);
    assert_eq!(crate::refusal_of_io(&wrapped), RefusalReason::NotTls);
    assert_eq!(crate::refusal_of_io(&io::Error::from(io::ErrorKind::UnexpectedEof)), RefusalReason::Other);
}

fn leaf_of(authority: &TestAuthority, change: impl FnOnce(&mut rcgen::CertificateParams)) -> Svid {
    let mut params = leaf_params(id(WEB).as_str());
    change(&mut params);
    let (chain, key) = authority.sign(params);
    Svid::from_der(chain, key).unwrap()
}
