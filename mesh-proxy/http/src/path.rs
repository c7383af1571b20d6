//! The one form of a path: made before any decision on it, and the form that is sent on.
//!
//! Escapes of unreserved characters are undone, the other escapes are upper-case, `//` is `/`, and dot segments, also
//! encoded ones, are resolved (RFC 3986 6.2.2). A path that would leave the root is refused rather than cut. `%2F` and
//! `%5C` stay what they are: only the application knows whether they separate. The query is not touched.

use crate::bytes::{hex, is_target, is_unreserved};
use crate::{Malformed, Refused};

/// The path and query in their one form; `None` where they are in it already, which is nearly always.
///
/// # Errors
/// When a byte is none of a request target, an escape is none or is of NUL, or the path leaves the root.
pub fn normalise(path_and_query: &str) -> Result<Option<String>, Refused> {
    let bytes = path_and_query.as_bytes();
    if !bytes.iter().all(|byte| is_target(*byte)) {
        return Err(Refused::new(Malformed::Target, "the request target has bytes that none may have"));
    }
    let end = memchr::memchr(b'?', bytes).unwrap_or(bytes.len());
    let (path, query) = path_and_query.split_at_checked(end).unwrap_or((path_and_query, ""));
    if !path.starts_with('/') {
        // `*` and the like have no segments.
        return Ok(None);
    }
    if is_plain(path.as_bytes()) {
        return Ok(None);
    }
    let decoded = unescape(path.as_bytes())?;
    let mut made = resolve(&decoded)?;
    made.push_str(query);
    Ok((made != path_and_query).then_some(made))
}

/// No escape, no empty segment, no segment that begins with a dot.
fn is_plain(path: &[u8]) -> bool {
    let mut before = 0;
    for byte in path {
        if *byte == b'%' || (before == b'/' && matches!(byte, b'/' | b'.')) {
            return false;
        }
        before = *byte;
    }
    true
}

/// Undoes the escapes of unreserved characters; the others become upper-case.
fn unescape(path: &[u8]) -> Result<String, Refused> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path.iter().copied();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            out.push(char::from(byte));
            continue;
        }
        let (Some(high), Some(low)) = (rest.next().and_then(hex), rest.next().and_then(hex)) else {
            return Err(Refused::new(Malformed::Path, "the path has a % without two hexadecimal digits"));
        };
        match high << 4 | low {
            0 => return Err(Refused::new(Malformed::Path, "the path has an encoded NUL")),
            meant if is_unreserved(meant) => out.push(char::from(meant)),
            _ => {
                out.push('%');
                out.push(upper(high));
                out.push(upper(low));
            }
        }
    }
    Ok(out)
}

fn upper(digit: u8) -> char {
    char::from_digit(u32::from(digit), 16).unwrap_or('0').to_ascii_uppercase()
}

/// Removes empty and dot segments.
fn resolve(path: &str) -> Result<String, Refused> {
    let mut segments: Vec<&str> = Vec::new();
    let mut open = true;
    for segment in path.split('/').skip(1) {
        // The last segment decides whether the path ends with a slash.
        open = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => {
                let outside = Refused::new(Malformed::Path, "the path leaves the root");
                segments.pop().ok_or(outside)?;
            }
            _ => segments.push(segment),
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in &segments {
        out.push('/');
        out.push_str(segment);
    }
    if open {
        out.push('/');
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_way_to_write_a_path_becomes_one() {
        for (written, meant) in [
            ("/", "/"),
            ("/a/b?x=//../%41", "/a/b?x=//../%41"),
            ("//a///b", "/a/b"),
            ("/a//", "/a/"),
            ("/%61%2D%7e", "/a-~"),
            ("/%2f%5c%3a", "/%2F%5C%3A"),
            ("/a/./b/../c", "/a/c"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.", "/a/"),
            ("/a/..", "/"),
            ("/.hidden/..x/...", "/.hidden/..x/..."),
            ("/a%2f..%2fb", "/a%2F..%2Fb"),
            ("/%2541", "/%2541"),
            ("/a;b=c/..", "/"),
            ("*", "*"),
        ] {
            let made = normalise(written).unwrap();
            assert_eq!(made.as_deref().unwrap_or(written), meant, "{written}");
            assert_eq!(made.is_none(), written == meant, "{written}");
        }
    }

    #[test]
    fn what_leaves_the_root_or_is_no_path_is_refused() {
        for (written, kind) in [
            ("/..", Malformed::Path),
            ("/a/../../b", Malformed::Path),
            ("/%2e%2e/b", Malformed::Path),
            ("/.%2e", Malformed::Path),
            ("/%", Malformed::Path),
            ("/%4", Malformed::Path),
            ("/%zz", Malformed::Path),
            ("/%00", Malformed::Path),
            ("/a\\b", Malformed::Target),
            ("/a?b#c", Malformed::Target),
            ("/a?b c", Malformed::Target),
            ("/\u{e9}", Malformed::Target),
        ] {
            assert_eq!(normalise(written).map_err(|refused| refused.kind), Err(kind), "{written}");
        }
    }

    proptest! {
        #[test]
        fn the_form_is_its_own_form(path in "/([a-z./%]|%[0-9a-fA-F]{2}|\\.\\./?){0,20}(\\?[ -~]{0,8})?") {
            if let Ok(Some(made)) = normalise(&path) {
                prop_assert_eq!(normalise(&made), Ok(None));
                let path = made.split('?').next().unwrap_or_default();
                prop_assert!(path.starts_with('/'));
                prop_assert!(!path.contains("//") && !path.split('/').any(|segment| segment == ".." || segment == "."));
            }
        }

        #[test]
        fn nothing_panics(path in "\\PC{0,40}") {
            let _ = normalise(&path);
        }
    }
}
