//! What a token must be and claim.

use super::*;

#[tokio::test]
async fn a_running_sidecars_token_proves_its_job_as_often_as_it_is_shown() {
    let (_, attestor) = region();
    for _ in 0..2 {
        assert_eq!(attestor.ask(&token(|_| {})).await.unwrap().as_str(), WEB);
    }
    let old_keyring = ED25519.token(&json!({"alg": "EdDSA", "kid": "two"}), &claims().to_string());
    assert_eq!(attestor.ask(&old_keyring).await.unwrap().as_str(), WEB);
}

#[tokio::test]
async fn a_token_must_be_for_us_and_for_nobody_else() {
    let list_of_one = token(|claims| claims["aud"] = json!(["weft"]));
    assert_eq!(attest(&list_of_one).await.unwrap().as_str(), WEB);
    for aud in [json!("vault"), json!("WEFT"), json!(["weft", "vault"]), json!(["weft", "weft"]), json!([])] {
        let refused = attest(&token(|claims| claims["aud"] = aud)).await;
        assert_refused(refused, "nomad_audience", "expected \"weft\" and nobody else");
    }
    let own = |region: &mut NomadRegion| region.rules.audience = "mesh.example".to_owned();
    let (_, attestor) = region_with(false, own);
    assert_refused(attestor.ask(&token(|_| {})).await, "nomad_audience", "expected \"mesh.example\"");
    assert!(attestor.ask(&token(|claims| claims["aud"] = json!("mesh.example"))).await.is_ok());
}

#[tokio::test]
async fn a_token_must_have_an_end_that_is_near_and_still_to_come() {
    for endless in [
        token(|claims| claims["exp"] = Value::Null),
        token(|claims| drop(claims.as_object_mut().unwrap().remove("exp"))),
    ] {
        assert_refused(attest(&endless).await, "nomad_lifetime", "no end");
    }
    for (exp, words) in [(NOW, "over since 0 s"), (NOW - 90, "over since 90 s"), (0, "over since")] {
        assert_refused(attest(&token(|claims| claims["exp"] = json!(exp))).await, "nomad_expired", words);
    }
    assert!(attest(&token(|claims| claims["exp"] = json!(NOW + 1))).await.is_ok());
    let day = 24 * 3600;
    let lives = |seconds: u64| token(|claims| claims["exp"] = json!((NOW - 1800).saturating_add(seconds)));
    assert!(attest(&lives(day)).await.is_ok());
    for seconds in [day + 1, u64::MAX] {
        assert_refused(attest(&lives(seconds)).await, "nomad_lifetime", "at most 86400 s are allowed");
    }
    let short = |region: &mut NomadRegion| region.rules.max_lifetime = Duration::from_secs(3599);
    assert_refused(region_with(false, short).1.ask(&token(|_| {})).await, "nomad_lifetime", "lives 3600 s");
}

#[tokio::test]
async fn a_token_must_be_valid_already_but_for_clocks_that_differ_a_little() {
    for claim in ["nbf", "iat"] {
        let starts = |ahead: u64| token(|claims| claims[claim] = json!(NOW + ahead));
        assert!(attest(&starts(30)).await.is_ok(), "{claim}");
        assert_refused(attest(&starts(31)).await, "nomad_expired", "valid only in 31 s");
        assert_refused(attest(&starts(u64::MAX - NOW)).await, "nomad_expired", "compare the clocks");
    }
}

#[tokio::test]
async fn what_is_not_signed_or_signed_otherwise_is_refused_whatever_the_header_says() {
    let payload = encoded(claims().to_string());
    for alg in ["none", "None", "HS256", "RS384", "PS256", "ES256", ""] {
        let signed = format!("{}.{payload}", encoded(json!({"alg": alg, "kid": "one"}).to_string()));
        assert_refused(attest(&format!("{signed}.AAAA")).await, "nomad_token", "RS256 or EdDSA");
        assert_refused(attest(&format!("{signed}.")).await, "nomad_token", "RS256 or EdDSA");
    }
    // The classical confusion: a MAC with the public key as its secret.
    let published = RSA.published("one");
    let signed = format!("{}.{payload}", encoded(json!({"alg": "HS256", "kid": "one"}).to_string()));
    let secret = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, published.n.as_bytes());
    let mac = encoded(aws_lc_rs::hmac::sign(&secret, signed.as_bytes()));
    assert_refused(attest(&format!("{signed}.{mac}")).await, "nomad_token", "\"HS256\"");
    // The header names the one algorithm, the key is for the other.
    for (kid, signer) in [("one", &ED25519), ("two", &ED25519)] {
        let alg = if kid == "one" { "EdDSA" } else { "RS256" };
        let confused = signer.token(&json!({"alg": alg, "kid": kid}), &claims().to_string());
        assert_refused(attest(&confused).await, "nomad_signature", kid);
    }
}

#[tokio::test]
async fn a_token_of_another_clusters_key_or_with_another_payload_is_refused() {
    let foreign = OTHERS.token(&json!({"alg": "RS256", "kid": "three"}), &claims().to_string());
    assert_refused(attest(&foreign).await, "nomad_signature", "no key of nomad/prod is named \"three\"");
    let same_name = OTHERS.token(&header(), &claims().to_string());
    assert_refused(attest(&same_name).await, "nomad_signature", "not signed by the key \"one\"");
    let (good, other) = (token(|_| {}), token(|claims| claims["nomad_job_id"] = json!("billing")));
    let [good, other]: [Vec<&str>; 2] = [&good, &other].map(|token| token.split('.').collect());
    let mixed = format!("{}.{}.{}", good[0], other[1], good[2]);
    assert_refused(attest(&mixed).await, "nomad_signature", "not signed");
}

#[tokio::test]
async fn what_is_no_token_costs_nomad_nothing() {
    let (scripted, attestor) = region();
    for registry in ["nomad/other", "kubernetes/prod", "garbage", ""] {
        let answer = attestor.attest(registry, &token(|_| {}), NODE, now()).await;
        assert_refused(answer, "nomad_not_set_up", "attests nobody");
    }
    let good = token(|_| {});
    let part = |n: usize| good.split('.').nth(n).unwrap().to_owned();
    let (head, payload, signature) = (part(0), part(1), part(2));
    let with = |header: Value| format!("{}.{payload}.{signature}", encoded(header.to_string()));
    for bad in [
        String::new(),
        "a".to_owned(),
        format!("{head}.{payload}"),
        format!("{good}.{signature}"),
        format!("{head}=.{payload}.{signature}"),
        format!("{head}.{payload}.{signature}\n"),
        format!("{head}.{payload}.!"),
        format!("{}.b.c", "a".repeat(16 * 1024)),
        with(json!([])),
        with(json!({"alg": "RS256"})),
        with(json!({"alg": "RS256", "kid": ""})),
        with(json!({"alg": "RS256", "kid": "one", "typ": "at+jwt"})),
        with(json!({"alg": "RS256", "kid": "one", "crit": ["exp"]})),
    ] {
        assert_refused(attestor.ask(&bad).await, "nomad_token", "no workload identity token");
    }
    assert_eq!(scripted.0.asked_for_keys.load(Ordering::Relaxed), 0);
    assert!(scripted.0.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn claims_that_are_missing_odd_or_there_twice_are_refused() {
    for claim in ["aud", "sub", "nbf", "iat", "nomad_namespace", "nomad_job_id", "nomad_allocation_id"] {
        for odd in [None, Some(Value::Null), Some(json!(-1.5)), Some(json!({}))] {
            let spoilt = token(|claims| match odd {
                Some(odd) => claims[claim] = odd,
                None => drop(claims.as_object_mut().unwrap().remove(claim)),
            });
            assert_refused(attest(&spoilt).await, "nomad_token", "its claims are not those");
        }
    }
    let text = claims().to_string();
    let twice = format!("{{\"nomad_job_id\":\"billing\",{}", text.strip_prefix('{').unwrap());
    assert_refused(attest(&RSA.token(&header(), &twice)).await, "nomad_token", "its claims are not those");
    for id in ["../job/x", "94CE5411-bad6-e7af-c62e-c8d339f89ee6", "94ce5411", ""] {
        let refused = attest(&token(|claims| claims["nomad_allocation_id"] = json!(id))).await;
        assert_refused(refused, "nomad_token", "nomad_allocation_id is no id");
    }
}

#[tokio::test]
async fn the_issuer_is_compared_where_the_settings_name_one() {
    assert!(attest(&token(|claims| claims["iss"] = json!("https://whoever"))).await.is_ok());
    let issuer = |region: &mut NomadRegion| region.rules.issuer = Some("https://nomad".to_owned());
    let (_, attestor) = region_with(false, issuer);
    assert!(attestor.ask(&token(|claims| claims["iss"] = json!("https://nomad"))).await.is_ok());
    for iss in [json!("https://nomad/"), Value::Null] {
        let refused = attestor.ask(&token(|claims| claims["iss"] = iss)).await;
        assert_refused(refused, "nomad_issuer", "expected \"https://nomad\"");
    }
}

#[tokio::test]
async fn only_the_sidecars_own_identity_for_us_is_good() {
    let as_task = |task: &'static str, sub: &'static str| {
        token(move |claims| (claims["nomad_task"], claims["sub"]) = (json!(task), json!(sub)))
    };
    let app = as_task("app", "eu:shop:web:g:app:weft");
    assert_refused(attest(&app).await, "nomad_task", "of task \"app\"");
    let lies = as_task("app", "eu:shop:web:g:weft-proxy:weft");
    assert_refused(attest(&lies).await, "nomad_task", "of task \"app\"");
    for sub in ["eu:shop:web:g:weft-proxy:vault_default", "eu:shop:web:g:weft-proxy:weft:x", "weft", ""] {
        assert_refused(attest(&as_task("weft-proxy", sub)).await, "nomad_task", "another identity");
    }
    let service = token(|claims| claims["nomad_service"] = json!("weft-proxy"));
    assert_refused(attest(&service).await, "nomad_task", "service \"weft-proxy\"");
    let nobody = token(|claims| drop(claims.as_object_mut().unwrap().remove("nomad_task")));
    assert_refused(attest(&nobody).await, "nomad_task", "of no task");
}

#[test]
fn settings_that_would_let_everybody_in_are_refused() {
    let refused = |change: fn(&mut NomadTokenRules)| {
        let mut rules = NomadTokenRules::default();
        change(&mut rules);
        rules.check().unwrap_err()
    };
    NomadTokenRules::default().check().unwrap();
    assert!(refused(|rules| rules.audience.clear()).starts_with("audience"));
    assert!(refused(|rules| rules.issuer = Some(String::new())).starts_with("issuer"));
    assert!(refused(|rules| rules.max_lifetime = Duration::ZERO).starts_with("max_lifetime"));
}

#[test]
fn a_token_is_not_in_its_debug_text() {
    let text = token(|_| {});
    assert_eq!(format!("{:?}", Token::read(&text).unwrap()), "Token(\"one\")");
}
