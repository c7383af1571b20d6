//! Authorities: `Host`, `:authority`, the target of CONNECT.
//!
//! Stricter than the grammar of URIs: no user, and a port is a number. Who routes by an authority and who reads it in
//! the application must not differ in what they take for the host.

use http::uri::{Authority, Scheme};

/// An authority without user information, whose port, where there is one, is a number.
pub fn parse(text: &[u8]) -> Option<Authority> {
    let authority = Authority::try_from(text).ok()?;
    well_formed(&authority).then_some(authority)
}

/// The same for one that was parsed already.
pub fn well_formed(authority: &Authority) -> bool {
    let text = authority.as_str();
    if text.contains('@') {
        return false;
    }
    let (host, port) = split(text);
    !host.is_empty() && port.is_none_or(is_port)
}

/// Whether two authorities name the same: case does not count, nor does a port that is the scheme's own.
pub fn same(one: &str, other: &str, scheme: Option<&Scheme>) -> bool {
    let default = match scheme.map(Scheme::as_str) {
        Some("http") => Some("80"),
        Some("https") => Some("443"),
        _ => None,
    };
    let (one, other) = (split(one), split(other));
    let port = |port: Option<&'_ str>| port.or(default).map(|port| port.trim_start_matches('0').to_owned());
    one.0.eq_ignore_ascii_case(other.0) && port(one.1) == port(other.1)
}

/// Host and port; an address of version 6 stands in brackets.
pub fn split(text: &str) -> (&str, Option<&str>) {
    let after = text.rfind(']').unwrap_or(0);
    match text.get(after..).and_then(|rest| rest.find(':')) {
        Some(colon) => {
            let at = after.saturating_add(colon);
            (text.get(..at).unwrap_or_default(), text.get(at.saturating_add(1)..))
        }
        None => (text, None),
    }
}

fn is_port(port: &str) -> bool {
    !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_has_no_user_and_its_port_is_a_number() {
        for good in ["api", "api:80", "api.shop.mesh:8080", "10.0.0.1", "[::1]", "[::1]:80", "a_b-c", "A"] {
            assert!(parse(good.as_bytes()).is_some(), "{good}");
        }
        for bad in [
            "",
            "api:",
            "api:x",
            "api:80:80",
            "api:65536",
            "user@api",
            "a b",
            "a/b",
            "a?b",
            "a\\b",
            ":80",
            "a,\u{e9}",
            "[::1",
            "::1",
            "api:+80",
            "api: 80",
        ] {
            assert!(parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn authorities_are_compared_without_case_and_without_the_schemes_own_port() {
        assert!(same("API", "api:80", Some(&Scheme::HTTP)));
        assert!(same("api:443", "api", Some(&Scheme::HTTPS)));
        assert!(!same("api", "api:80", None));
        assert!(!same("api", "api:8080", Some(&Scheme::HTTP)));
        assert!(!same("api", "apj", Some(&Scheme::HTTP)));
        assert!(same("[::1]:80", "[::1]", Some(&Scheme::HTTP)));
    }
}
