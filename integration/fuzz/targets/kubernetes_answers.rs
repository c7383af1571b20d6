//! Kubernetes' answers, one a line: a letter for the kind (`s`, `e`, `p`, `n`) and a line of its watch; the letter in upper
//! case and a page of its list. What can't be read changes nothing, and what changes of good objects brought is what a fresh
//! reader says.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_fuzz::{Believer, registry};
use weft_registry_kubernetes::fuzzing::Answers;

fuzz_target!(|bytes: &[u8]| {
    let id = registry("kubernetes/prod");
    let mut answers = Answers::new(id.clone(), "mesh.test".parse().expect("a constant"));
    let mut control = Believer::new(&id);
    for line in bytes.split(|byte| *byte == b'\n') {
        let Some((letter, rest)) = line.split_first() else { continue };
        let before = answers.told();
        let read = match letter.is_ascii_lowercase() {
            true => answers.line(*letter, rest),
            false => answers.page(letter.to_ascii_lowercase(), rest),
        };
        assert!(read.is_some() || answers.told() == before, "what can't be read changed what is held");
        read.into_iter().flatten().for_each(|event| control.hear(event));
    }
    let problems = answers.problems();
    // Of an object that turned bad its last good state is kept, which nobody reads anew.
    assert!(!problems.is_empty() || answers.told() == answers.anew(), "a change was missed");
    assert!(problems.iter().all(|problem| !problem.message.is_empty() && !problem.object.is_empty()));
});
