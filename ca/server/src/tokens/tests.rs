//! Join tokens over a real directory.

use std::os::unix::fs::PermissionsExt;

use weft_identity::CONTROL_PLANE_PATH;

use super::*;

struct Place {
    temporary: tempfile::TempDir,
    tokens: JoinTokens,
    now: SystemTime,
}

const HOUR: Duration = Duration::from_secs(3600);

fn place() -> Place {
    let temporary = tempfile::tempdir().unwrap();
    let tokens = JoinTokens::open(&temporary.path().join("ca"), "ab".repeat(32).parse().unwrap()).unwrap();
    Place { temporary, tokens, now: SystemTime::now() }
}

fn web() -> SpiffeId {
    "spiffe://weft.test/ns/shop/sa/web".parse().unwrap()
}

#[test]
fn a_token_is_good_once_for_its_identity() {
    let Place { temporary: _temporary, tokens, now } = place();
    let token = tokens.create(&web(), HOUR, now).unwrap();
    assert_eq!(tokens.check(&token, now).unwrap(), web(), "a check does not use it");
    assert_eq!(tokens.redeem(&token, now).unwrap(), web());
    for again in [tokens.redeem(&token, now), tokens.check(&token, now)] {
        assert!(matches!(again, Err(TokenRefusal::Used { .. })), "{again:?}");
    }
}

#[test]
fn of_many_who_present_it_at_once_one_gets_in() {
    let Place { temporary: _temporary, tokens, now } = place();
    let token = tokens.create(&web(), HOUR, now).unwrap();
    let won = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(|| tokens.redeem(&token, now).is_ok())).collect();
        threads.into_iter().filter(|_| true).map(|thread| thread.join().unwrap()).filter(|won| *won).count()
    });
    assert_eq!(won, 1);
}

#[test]
fn the_secret_is_not_on_disk() {
    let Place { temporary, tokens, now } = place();
    let text = tokens.create(&web(), HOUR, now).unwrap().to_string();
    let secret = text.split('.').nth(2).unwrap();
    let directory = temporary.path().join("ca/tokens");
    let mut seen = 0;
    for entry in
        std::fs::read_dir(directory).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file())
    {
        let content = std::fs::read_to_string(entry.path()).unwrap();
        assert!(!content.contains(secret) && !content.contains(&text), "{content}");
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        seen += 1;
    }
    assert_eq!(seen, 1);
}

#[test]
fn a_wrong_secret_uses_nothing_up() {
    let Place { temporary: _temporary, tokens, now } = place();
    let token = tokens.create(&web(), HOUR, now).unwrap();
    let other = tokens.create(&web(), HOUR, now).unwrap().to_string();
    let other_secret = other.split('.').nth(2).unwrap();
    let text = token.to_string();
    let forged: JoinToken = text.replace(text.split('.').nth(2).unwrap(), other_secret).parse().unwrap();
    assert!(matches!(tokens.redeem(&forged, now), Err(TokenRefusal::WrongSecret(_))));
    assert!(tokens.redeem(&token, now).is_ok());
}

#[test]
fn a_token_is_over_at_its_end() {
    let Place { temporary: _temporary, tokens, now } = place();
    let token = tokens.create(&web(), HOUR, now).unwrap();
    assert!(tokens.check(&token, now + HOUR - Duration::from_secs(2)).is_ok());
    assert!(matches!(tokens.redeem(&token, now + HOUR), Err(TokenRefusal::Expired { .. })));
}

#[test]
fn a_revoked_or_invented_token_is_unknown() {
    let Place { temporary: _temporary, tokens, now } = place();
    let token = tokens.create(&web(), HOUR, now).unwrap();
    assert!(tokens.revoke(token.id()).unwrap());
    assert!(!tokens.revoke(token.id()).unwrap());
    let invented = JoinToken::random(token.pin());
    for gone in [token, invented] {
        assert!(matches!(tokens.redeem(&gone, now), Err(TokenRefusal::Unknown(_))));
    }
    assert!(!tokens.revoke("../../etc/passwd").unwrap());
}

#[test]
fn a_restart_forgets_neither_unused_nor_used_tokens() {
    let Place { temporary, tokens, now } = place();
    let (used, unused) =
        (tokens.create(&web(), HOUR, now).unwrap(), tokens.create(&web(), HOUR, now).unwrap());
    tokens.redeem(&used, now).unwrap();
    let again = JoinTokens::open(&temporary.path().join("ca"), used.pin()).unwrap();
    assert!(matches!(again.redeem(&used, now), Err(TokenRefusal::Used { .. })));
    assert!(again.redeem(&unused, now).is_ok());
}

#[test]
fn the_list_says_what_became_of_each() {
    let Place { temporary: _temporary, tokens, now } = place();
    let used = tokens.create(&web(), HOUR, now).unwrap();
    tokens.redeem(&used, now).unwrap();
    let unused = tokens.create(&web(), 3 * HOUR, now).unwrap();
    let expired = tokens.create(&web(), HOUR, now).unwrap();
    let list = tokens.list(now + 2 * HOUR).unwrap();
    let state = |id: &str| list.iter().find(|record| record.id == id).unwrap().state;
    assert_eq!(state(used.id()), TokenState::Used);
    assert_eq!(state(unused.id()), TokenState::Unused);
    assert_eq!(state(expired.id()), TokenState::Expired);
}

#[test]
fn tokens_that_are_long_over_are_forgotten() {
    let Place { temporary: _temporary, tokens, now } = place();
    let used = tokens.create(&web(), HOUR, now).unwrap();
    tokens.redeem(&used, now).unwrap();
    tokens.create(&web(), HOUR, now).unwrap();
    tokens.create(&web(), HOUR, now + HOUR + 24 * 7 * HOUR + Duration::from_secs(2)).unwrap();
    assert_eq!(tokens.list(now).unwrap().len(), 1);
}

#[test]
fn lives_out_of_range_and_the_control_planes_id_are_refused() {
    let Place { temporary: _temporary, tokens, now } = place();
    assert!(matches!(tokens.create(&web(), Duration::ZERO, now), Err(TokenError::Unfit(UnfitToken::Ttl(_)))));
    assert!(matches!(tokens.create(&web(), 24 * 8 * HOUR, now), Err(TokenError::Unfit(UnfitToken::Ttl(_)))));
    let control = format!("spiffe://weft.test{CONTROL_PLANE_PATH}").parse().unwrap();
    assert!(matches!(tokens.create(&control, HOUR, now), Err(TokenError::Unfit(UnfitToken::Reserved(_)))));
    assert_eq!(tokens.list(now).unwrap(), []);
}

#[test]
fn a_damaged_file_is_named_and_spoils_no_other() {
    let Place { temporary, tokens, now } = place();
    let (bad, good) = (tokens.create(&web(), HOUR, now).unwrap(), tokens.create(&web(), HOUR, now).unwrap());
    std::fs::write(temporary.path().join("ca/tokens").join(file_of(bad.id())), "{\"identity\":").unwrap();
    let error = tokens.redeem(&bad, now).expect_err("accepted").to_string();
    assert!(error.contains(bad.id()), "{error}");
    assert_eq!(tokens.list(now).unwrap().len(), 1);
    assert!(tokens.redeem(&good, now).is_ok());
    assert!(tokens.revoke(bad.id()).unwrap());
}
