//! How the keys of a region are known and followed.

use super::*;

/// How often the region was asked for its keys.
fn asked(scripted: &Scripted) -> usize {
    scripted.0.asked_for_keys.load(Ordering::Relaxed)
}

fn publish(scripted: &Scripted, keys: Vec<SigningKey>) {
    *scripted.0.keys.lock().unwrap() = Ok(keys);
}

fn by(signer: &Signer, kid: &str) -> String {
    signer.token(&json!({"alg": "RS256", "kid": kid}), &claims().to_string())
}

#[tokio::test(start_paused = true)]
async fn keys_are_read_once_and_again_after_five_minutes() {
    let (scripted, attestor) = region();
    for _ in 0..3 {
        attestor.ask(&by(&RSA, "one")).await.unwrap();
    }
    assert_eq!(asked(&scripted), 1);
    tokio::time::advance(Duration::from_mins(5)).await;
    attestor.ask(&by(&RSA, "one")).await.unwrap();
    assert_eq!(asked(&scripted), 2);
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_followed_and_the_old_one_is_good_as_long_as_it_is_published() {
    let (scripted, attestor) = region();
    attestor.ask(&by(&RSA, "one")).await.unwrap();
    publish(&scripted, vec![RSA.published("one"), OTHERS.published("next")]);
    tokio::time::advance(Duration::from_secs(5)).await;
    attestor.ask(&by(&OTHERS, "next")).await.unwrap();
    attestor.ask(&by(&RSA, "one")).await.unwrap();
    assert_eq!(asked(&scripted), 2);

    publish(&scripted, vec![OTHERS.published("next")]);
    attestor.ask(&by(&RSA, "one")).await.expect("for some minutes nobody knows that it is gone");
    tokio::time::advance(Duration::from_mins(5)).await;
    assert_refused(attestor.ask(&by(&RSA, "one")).await, "nomad_signature", "its key is gone");
    attestor.ask(&by(&OTHERS, "next")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn names_that_nobody_knows_cost_nomad_one_question_in_five_seconds() {
    let (scripted, attestor) = region();
    for n in 0..100 {
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_refused(attestor.ask(&by(&OTHERS, &format!("k{n}"))).await, "nomad_signature", "no key");
    }
    assert_eq!(asked(&scripted), 2, "in ten seconds");
}

#[tokio::test]
async fn keys_of_other_uses_algorithms_and_forms_are_not_used() {
    let good = || RSA.published("one");
    let changed = |change: fn(&mut SigningKey)| {
        let mut key = good();
        change(&mut key);
        key
    };
    for bad in [
        changed(|key| key.usage = "enc".to_owned()),
        changed(|key| key.alg = "HS256".to_owned()),
        changed(|key| key.alg = "PS256".to_owned()),
        changed(|key| key.kty = "oct".to_owned()),
        changed(|key| key.kty = "OKP".to_owned()),
        changed(|key| key.n = "not base64".to_owned()),
        changed(|key| key.kid = "another".to_owned()),
    ] {
        let (scripted, attestor) = region();
        publish(&scripted, vec![bad, ED25519.published("two")]);
        assert_refused(attestor.ask(&by(&RSA, "one")).await, "nomad_signature", "no key");
    }
    for weak in
        [changed(|key| key.e.clear()), changed(|key| key.n.clear()), changed(|key| key.n = "8AAB".to_owned())]
    {
        let (scripted, attestor) = region();
        publish(&scripted, vec![weak]);
        assert_refused(attestor.ask(&by(&RSA, "one")).await, "nomad_signature", "not signed");
    }
    let unsaid = changed(|key| (key.alg, key.usage) = (String::new(), String::new()));
    let (scripted, attestor) = region();
    publish(&scripted, vec![unsaid]);
    attestor.ask(&by(&RSA, "one")).await.unwrap();
}
