//! A file of the file registry: any bytes give entries or problems, and a good file goes through to what proxies get.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_fuzz::{Believer, registry};
use weft_model::{RegistryEvent, Scope, Severity};
use weft_registry::file::fuzzing::{decode, decode_after};

fuzz_target!(|bytes: &[u8]| {
    let id = registry("file/fuzz");
    let trust_domain = "mesh.test".parse().expect("a constant");
    let (entries, problems) = decode(bytes, &id, &trust_domain);
    // To YAML a lone carriage return ends a line too.
    let lines = 1 + bytes.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count() as u64;
    let wrong = problems.iter().any(|problem| problem.severity == Severity::Error);
    assert!(!wrong || entries.is_empty(), "a file with an error counts as a whole");
    for problem in &problems {
        assert!(problem.line.is_none_or(|line| (1..=lines).contains(&line)), "no such line: {problem}");
        assert!(!problem.message.is_empty());
    }
    let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
    for before in [bytes, half] {
        let again = decode_after(before, bytes, &id, &trust_domain);
        assert_eq!((&entries, &problems), (&again.0, &again.1), "the same bytes, another result");
    }
    if !wrong {
        Believer::new(&id).hear(RegistryEvent::Reset { scope: Scope::All, entries });
    }
});
