//! What is wanted against what the kernel holds, in words.
//!
//! A missing rule is said in our text; one that is not ours in the kernel's terms, since it may be anything.

use std::fmt;

use super::compile::{elements, hook, rule, set_type};
use super::constant::NF_ACCEPT;
use super::held::{Base, HeldChain, HeldSet, HeldTable};
use crate::TABLE;
use crate::ruleset::{Chain, Ruleset, Set};

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Of what: the table, a set, a chain.
    pub object: String,
    /// What is different.
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.what)
    }
}

/// All differences.
pub(super) fn between(wanted: &Ruleset, held: Option<&HeldTable>) -> Vec<Difference> {
    let mut found = Found(Vec::new());
    let table = format!("table inet {TABLE}");
    let Some(held) = held else {
        found.add(&table, "it is missing");
        return found.0;
    };
    if held.flags != 0 {
        found.add(&table, format!("its flags are {}; none are wanted (1: it is dormant)", held.flags));
    }
    for set in &wanted.sets {
        match held.sets.iter().find(|held| held.name == set.name) {
            Some(held) => found.set(set, held),
            None => found.add(&format!("set {}", set.name), "it is missing"),
        }
    }
    for chain in &wanted.chains {
        match held.chains.iter().find(|held| held.name == chain.name) {
            Some(held) => found.chain(chain, held),
            None => found.add(&format!("chain {}", chain.name), "it is missing"),
        }
    }
    for set in held.sets.iter().filter(|set| wanted.sets.iter().all(|wanted| wanted.name != set.name)) {
        found.add(&format!("set {}", set.name), "it is not wanted");
    }
    for chain in held.chains.iter().filter(|chain| wanted.chains.iter().all(|w| w.name != chain.name)) {
        found.add(&format!("chain {}", chain.name), "it is not wanted");
    }
    found.0
}

struct Found(Vec<Difference>);

impl Found {
    fn add(&mut self, object: &str, what: impl Into<String>) {
        self.0.push(Difference { object: object.to_owned(), what: what.into() });
    }

    fn set(&mut self, wanted: &Set, held: &HeldSet) {
        let object = format!("set {}", wanted.name);
        let elements = elements(&wanted.elements, &held.keys);
        let Some(elements) = elements.filter(|_| set_type(&wanted.elements) == held.set_type) else {
            return self.add(&object, "it is of another type");
        };
        let (wanted, held) = (wanted.elements.texts(), elements.texts());
        for element in without(&wanted, &held) {
            self.add(&object, format!("{element} is missing"));
        }
        for element in without(&held, &wanted) {
            self.add(&object, format!("{element} is not wanted"));
        }
    }

    fn chain(&mut self, wanted: &Chain, held: &HeldChain) {
        let object = format!("chain {}", wanted.name);
        let base = Base {
            type_name: wanted.type_name().to_owned(),
            hook: Some((hook(wanted.hook), wanted.priority())),
            policy: Some(NF_ACCEPT),
        };
        if held.base != base {
            self.add(&object, "its type, hook, priority or policy is another");
        }
        let rules: Vec<_> = wanted.rules.iter().map(rule).collect();
        if rules == held.rules {
            return;
        }
        let before = self.0.len();
        let missing = without(&rules, &held.rules);
        for text in missing.iter().filter_map(|one| rules.iter().position(|rule| rule == one)) {
            if let Some(rule) = wanted.rules.get(text) {
                self.add(&object, format!("rule {:?} is missing", rule.to_string()));
            }
        }
        for extra in without(&held.rules, &rules) {
            let text: Vec<_> = extra.iter().map(ToString::to_string).collect();
            self.add(&object, format!("a rule that is not wanted: {}", text.join(" ")));
        }
        if self.0.len() == before {
            self.add(&object, "its rules are in another order");
        }
    }
}

/// What is in `of` more often than in `not`.
fn without<T: PartialEq + Clone>(of: &[T], not: &[T]) -> Vec<T> {
    let mut rest = not.to_vec();
    let mut missing = Vec::new();
    for one in of {
        match rest.iter().position(|other| other == one) {
            Some(at) => drop(rest.swap_remove(at)),
            None => missing.push(one.clone()),
        }
    }
    missing
}
