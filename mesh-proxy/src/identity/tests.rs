//! When a certificate counts as valid, and (in `keep.rs`) how one is obtained and kept from a
//! CA that is scripted in `ca.rs`.

mod ca;
mod keep;

use std::time::{Duration, SystemTime};

use weft_identity::testkit::TestAuthority;

use super::*;

#[test]
fn a_certificate_is_valid_from_its_beginning_to_its_end() {
    let svid = TestAuthority::new("weft.test").svid("/ns/default/sa/web");
    assert_eq!(validity(&svid, SystemTime::now()), Ok(()));
    assert_eq!(validity(&svid, svid.not_after() + Duration::from_secs(1)), Err("expired"));
    assert!(validity(&svid, svid.not_before() - Duration::from_secs(1)).unwrap_err().contains("clock"));
}
