//! Consul's answers, one a line: `l` and a list of services, or `h`, a name, a blank and the service's instances.
//! Upper-case letters: the answer says that something was filtered. What can't be read changes nothing.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_fuzz::{Believer, registry};
use weft_registry_consul::fuzzing::Answers;

fuzz_target!(|bytes: &[u8]| {
    let id = registry("consul/dc1");
    let mut answers = Answers::new(id.clone(), "mesh.test".parse().expect("a constant"));
    let mut control = Believer::new(&id);
    for line in bytes.split(|byte| *byte == b'\n') {
        let Some((kind, rest)) = line.split_first() else { continue };
        let before = answers.all();
        let (read, event) = match kind {
            b'l' | b'L' => answers.list(rest, *kind == b'L', true),
            b'h' | b'H' => {
                let at = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
                let (name, json) = rest.split_at(at);
                let Ok(name) = std::str::from_utf8(name) else { continue };
                answers.instances(name, json, *kind == b'h')
            }
            _ => continue,
        };
        assert!(read || answers.all() == before, "what can't be read changed what is held");
        event.into_iter().for_each(|event| control.hear(event));
    }
    control.hear(answers.all());
    let problems = answers.problems();
    assert!(problems.iter().all(|problem| !problem.message.is_empty() && !problem.object.is_empty()));
});
