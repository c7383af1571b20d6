//! The control plane's way into Consul: a token that loses its rights, and HTTPS with certificates on both sides.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use weft_integration::get;
use weft_registry_consul::testkit::ConsulOptions;

use crate::attestation::{CONTROL_PLANE_RULES, token_file};
use crate::world::{BOTH, NEWEST, World, a_while, load, none_failed, on_consul};

#[tokio::test]
async fn a_token_without_rights_costs_no_endpoint_and_a_good_one_mends_it() -> Result<()> {
    let options = ConsulOptions { acl: true, ..ConsulOptions::default() };
    on_consul(BOTH, options, "ACL token replaced under load", async |consul| {
        let files = tempfile::tempdir()?;
        let token = token_file(&consul, files.path(), "control", CONTROL_PLANE_RULES).await?;
        let good = std::fs::read_to_string(&token)?;
        let powerless = consul.make_token("powerless", "").await?;
        // A blocking query under way keeps the token that it was asked with.
        let world = World::start(consul, &format!("wait = \"2s\"\ntoken_file = {token:?}"), "").await?;
        let (_members, web) = world.shop().await?;
        let load = load(&web);
        std::fs::write(&token, powerless)?;
        world.until_state("denied").await?;
        a_while().await;
        world.web_knows(&web, 2).await?;
        std::fs::write(&token, good)?;
        world.until_state("synced").await?;
        world.web_knows(&web, 2).await?;
        none_failed(&load.stop().await, "token without rights");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn https_with_an_own_ca_and_a_client_certificate_serves_and_without_the_certificate_says_so()
-> Result<()> {
    let files = tempfile::tempdir()?;
    let tls = certificates(files.path())?;
    let [ca, certificate, key] = tls.clone();
    let options = ConsulOptions { tls: Some(tls), ..ConsulOptions::default() };
    on_consul(NEWEST, options, "HTTPS with client certificates", async |consul| {
        let address = format!("address = \"{}\"\nca_file = {ca:?}\n", consul.https_address());
        let keys = format!("{address}client_certificate = {certificate:?}\nclient_key = {key:?}");
        let mut world = World::start(consul, &keys, "").await?;
        let (_members, web) = world.shop().await?;
        world.until_state("synced").await?;
        get(web.upstream("api"), "/").await?;

        // The same without a client certificate: refused, said, and what was known stays.
        let settings = world.mesh.path().join("control.toml");
        world.mesh.control()?.stop(Duration::from_secs(10)).await?;
        world.mesh.change_plan(|plan| plan.more = plan.more.replace(&keys, &address));
        world.mesh.start_control().await?;
        assert!(!std::fs::read_to_string(settings)?.contains("client_key"));
        let said = world.until_status(&["error", "ertificate"]).await?;
        assert!(!said.contains("synced"), "{said}");
        get(web.upstream("api"), "/").await?;
        Ok(())
    })
    .await
}

/// A CA with a certificate for 127.0.0.1 as server and client, as PEM files: CA, certificate, key.
fn certificates(directory: &Path) -> Result<[PathBuf; 3]> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
    params.subject_alt_names.push(SanType::IpAddress("127.0.0.1".parse()?));
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, &issuer)?;
    let paths = ["ca.pem", "cert.pem", "key.pem"].map(|name| directory.join(name));
    for (path, text) in paths.iter().zip([issuer.pem(), certificate.pem(), key.serialize_pem()]) {
        std::fs::write(path, text)?;
    }
    Ok(paths)
}
