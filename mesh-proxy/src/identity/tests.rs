//! When a certificate counts as valid, how attempts are spaced, and (in `keep.rs`) how one is obtained and kept from a
//! CA that is scripted in `ca.rs`.

mod ca;
mod keep;

use std::time::SystemTime;

use weft_identity::testkit::TestAuthority;

use super::*;

#[test]
fn a_certificate_is_valid_from_its_beginning_to_its_end() {
    let svid = TestAuthority::new("weft.test").svid("/ns/default/sa/web");
    assert_eq!(validity(&svid, SystemTime::now()), Ok(()));
    assert_eq!(validity(&svid, svid.not_after() + Duration::from_secs(1)), Err("expired"));
    assert!(validity(&svid, svid.not_before() - Duration::from_secs(1)).unwrap_err().contains("clock"));
}

#[test]
fn attempts_for_a_first_certificate_are_spaced_but_never_far_apart() {
    for failures in 1..200 {
        let wait = backoff(failures);
        assert!(
            wait >= Duration::from_millis(200) && wait <= LONGEST_BACKOFF.mul_f64(1.2),
            "{failures}: {wait:?}"
        );
    }
    assert!(backoff(1) < Duration::from_secs(1), "the first one comes soon");
}
