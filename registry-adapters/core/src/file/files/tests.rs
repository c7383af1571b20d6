//! Files that appear, go bad, move names between them and vanish; and the same at random against the rules.

use proptest::prelude::*;
use weft_model::{Service, ServiceKey};

use super::*;

fn object(name: &str, line: u64) -> Object {
    let key: ServiceKey = name.parse().unwrap();
    let entry = Entry::Service(Service {
        key,
        ports: Vec::new(),
        labels: BTreeMap::new(),
        addresses: Default::default(),
        prefer: None,
    });
    Object { entry, line, text: "".into() }
}

fn labelled(name: &str, label: u64) -> Object {
    let mut object = object(name, 1);
    if let Entry::Service(service) = &mut object.entry {
        service.labels.insert("v".to_owned(), label.to_string());
    }
    object
}

fn holds(names: &[&str]) -> Seen {
    Seen::Read(Decoded { objects: names.iter().map(|name| object(name, 1)).collect(), problems: Vec::new() })
}

fn garbage(file: &str) -> Seen {
    Seen::Read(Decoded::bad(Problem::error(file, "garbage").at_line(3)))
}

fn names(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|entry| name(&entry.key())).collect()
}

fn name(key: &EntryKey) -> String {
    match key {
        EntryKey::Service(key) => key.name.to_string(),
        EntryKey::Workload(id) => id.to_string(),
    }
}

fn look(files: &mut Files, seen: Vec<(&str, Seen)>) -> (Vec<String>, Vec<String>) {
    let seen = seen.into_iter().map(|(name, seen)| (name.to_owned(), seen)).collect();
    let difference = files.update(seen, 7);
    (names(&difference.upserts), difference.removes.iter().map(name).collect())
}

#[test]
fn what_is_known_of_a_file_is_known_while_nothing_is_wrong_with_it() {
    let mut files = Files::default();
    let good = || {
        Seen::Read(Decoded {
            objects: vec![Object { text: "a's".into(), ..object("a", 1) }],
            problems: vec![],
        })
    };
    files.update(BTreeMap::from([("f".to_owned(), good())]), 1);
    let known = files.known("f");
    assert_eq!(known.get("a's").map(|object| name(&object.entry.key())).as_deref(), Some("a"));
    assert!(files.known("g").is_empty());
    files.update(BTreeMap::from([("f".to_owned(), garbage("f"))]), 2);
    assert!(files.known("f").is_empty());
}

#[test]
fn only_differences_are_told() {
    let mut files = Files::default();
    assert_eq!(look(&mut files, vec![("a", holds(&["x", "y"]))]), (vec!["x".into(), "y".into()], vec![]));
    assert_eq!(look(&mut files, vec![("a", Seen::Same)]), (vec![], vec![]));
    assert_eq!(look(&mut files, vec![("a", holds(&["y", "z"]))]), (vec!["z".into()], vec!["x".into()]));
    assert_eq!(look(&mut files, vec![]), (vec![], vec!["y".into(), "z".into()]));
}

#[test]
fn a_file_gone_bad_keeps_its_last_good_content_until_it_is_good_or_gone() {
    let mut files = Files::default();
    look(&mut files, vec![("a", holds(&["x"])), ("b", holds(&["y"]))]);
    assert_eq!(look(&mut files, vec![("a", garbage("a")), ("b", Seen::Same)]), (vec![], vec![]));
    assert_eq!(files.problems().len(), 1);
    assert_eq!(
        look(&mut files, vec![("a", Seen::Same), ("b", holds(&["z"]))]),
        (vec!["z".into()], vec!["y".into()])
    );
    assert_eq!(files.problems().len(), 1);
    assert_eq!(look(&mut files, vec![("a", holds(&["x"])), ("b", Seen::Same)]), (vec![], vec![]));
    assert!(files.problems().is_empty());
    look(&mut files, vec![("a", garbage("a")), ("b", Seen::Same)]);
    assert_eq!(look(&mut files, vec![("b", Seen::Same)]), (vec![], vec!["x".into()]));
}

#[test]
fn a_name_stays_with_the_file_that_has_it_and_goes_over_when_it_is_given_up() {
    let mut files = Files::default();
    look(&mut files, vec![("b", holds(&["x"]))]);
    // By name `a` comes first, but `b` was there.
    look(&mut files, vec![("a", holds(&["x", "n"])), ("b", Seen::Same)]);
    assert_eq!(names(&files.entries()), ["x"], "a file with a name of another's is used in part");
    assert_eq!(
        files.problems()[0].to_string(),
        "a:1: name: the same name is already in b:1; expected each name once"
    );
    look(&mut files, vec![("a", Seen::Same), ("b", holds(&[]))]);
    assert_eq!(names(&files.entries()), ["n", "x"]);
    assert!(files.problems().is_empty());
}

#[test]
fn a_name_that_moves_between_files_in_one_look_is_never_missing() {
    let mut files = Files::default();
    look(&mut files, vec![("a", holds(&["x"])), ("b", holds(&["y"]))]);
    assert_eq!(look(&mut files, vec![("a", holds(&["y"])), ("b", holds(&["x"]))]), (vec![], vec![]));
    assert!(files.problems().is_empty());
    assert_eq!(look(&mut files, vec![("c", holds(&["x", "y"]))]), (vec![], vec![]));
}

#[test]
fn a_bad_file_keeps_even_the_names_that_it_was_about_to_give_up() {
    let mut files = Files::default();
    look(&mut files, vec![("a", holds(&["x"])), ("b", holds(&["y"]))]);
    look(&mut files, vec![("a", holds(&["y"])), ("b", garbage("b"))]);
    assert_eq!(names(&files.entries()), ["x", "y"]);
    assert_eq!(files.problems().len(), 2);
}

proptest! {
    /// A look at what was moved into place finds what a look at everything finds.
    #[test]
    fn a_look_at_some_files_is_as_good_as_one_at_all(
        looks in prop::collection::vec((0_usize..4, prop::collection::vec((0_usize..5, 0_u64..2), 0..4), prop::bool::weighted(0.1)), 0..24),
    ) {
        let (mut some, mut all) = (Files::default(), Files::default());
        for (file, held, is_bad) in looks {
            let decoded = || {
                let mut names = BTreeSet::new();
                let objects = held.iter().filter(|(name, _)| names.insert(*name));
                let objects = objects.map(|(name, label)| labelled(&format!("n{name}"), *label)).collect();
                match is_bad {
                    true => garbage("x"),
                    false => Seen::Read(Decoded { objects, problems: Vec::new() }),
                }
            };
            let name = format!("f{file}");
            let others = all.files.keys().filter(|other| **other != name).map(|other| (other.clone(), Seen::Same));
            let seen = others.chain([(name.clone(), decoded())]).collect();
            let told = (some.update_some([(name, decoded())].into(), 7), all.update(seen, 7));
            let sorted = |mut difference: Difference| {
                difference.upserts.sort_by_key(Entry::key);
                difference
            };
            prop_assert_eq!(sorted(told.0), sorted(told.1));
            prop_assert_eq!(some.entries(), all.entries());
            prop_assert_eq!(some.problems(), all.problems());
        }
    }

    /// Whatever the files do: no name is told twice, what was told adds up to what there is, and a name is there
    /// if some good file that is alone with it has it.
    #[test]
    fn differences_add_up_and_no_name_is_lost(
        looks in prop::collection::vec(
            prop::collection::btree_map("[abc]", prop::option::of(
                prop::collection::btree_map("[u-z]", 0..2u64, 0..4)), 0..4),
            1..12),
    ) {
        let mut files = Files::default();
        let mut told: BTreeMap<EntryKey, Entry> = BTreeMap::new();
        for look in looks {
            let seen = look.iter().map(|(file, content)| {
                let seen = match content {
                    None => garbage(file),
                    Some(names) => Seen::Read(Decoded {
                        objects: names.iter().map(|(name, label)| labelled(name, *label)).collect(),
                        problems: Vec::new(),
                    }),
                };
                (file.clone(), seen)
            }).collect();
            let difference = files.update(seen, 7);
            for entry in difference.upserts {
                let key = entry.key();
                prop_assert_ne!(told.insert(key, entry.clone()), Some(entry));
            }
            for key in difference.removes {
                prop_assert!(told.remove(&key).is_some());
            }
            prop_assert_eq!(told.values().cloned().collect::<Vec<_>>(), files.entries());
            let mut owners: BTreeMap<&str, usize> = BTreeMap::new();
            for name in look.values().flatten().flat_map(|names| names.keys()) {
                *owners.entry(name).or_default() += 1;
            }
            // Two files want a name, or one is bad: there are problems, and else none.
            let clean = owners.values().all(|count| *count == 1) && look.values().all(Option::is_some);
            prop_assert_eq!(clean, files.problems().is_empty());
            if clean {
                let wanted: Vec<String> = owners.keys().map(|name| (*name).to_owned()).collect();
                prop_assert_eq!(names(&files.entries()), wanted);
            }
        }
    }
}
