//! A change costs what changed: counted in slots of the maps that are not shared with the snapshot before, since time
//! on a busy machine says nothing.

use super::*;

/// A catalog of `count` workloads in services of ten, and one service that holds every one of them.
fn filled(count: usize) -> Catalog {
    let mut catalog = Catalog::default();
    let all = (0..count).map(|i| workload(&i.to_string(), &["everyone", &format!("s-{}", i / 10)]));
    catalog.apply(&registry("file/local"), reset(Scope::All, all));
    catalog
}

/// How many values lie in another place in memory than in the snapshot before. A persistent map copies whole leaves.
fn copied<'a>(
    before: impl Iterator<Item = &'a Arc<Workload>>,
    after: impl Iterator<Item = &'a Arc<Workload>>,
) -> usize {
    before.zip(after).filter(|(before, after)| !std::ptr::eq(*before, *after)).count()
}

/// The slots that one change copies, over many changes.
fn copied_by_changes(catalog: &mut Catalog, count: usize, changes: usize) -> usize {
    let everyone = key("everyone");
    let mut sum = 0;
    for i in 0..changes {
        let before = catalog.snapshot();
        let name = (i * 7919 % count).to_string();
        let weight = 1000 + u32::try_from(i).unwrap();
        let part = before.workload(&id(&name)).unwrap();
        let changed =
            catalog.apply(&registry("file/local"), upsert([Workload { weight, ..Workload::clone(part) }]));
        assert_eq!(changed, super::changes(&[], &[&name], false));
        let after = catalog.snapshot();
        sum += copied(before.workloads(), after.workloads());
        sum += copied(before.members(&everyone), after.members(&everyone));
    }
    sum
}

#[test]
fn one_change_among_20_000_leaves_every_other_value_and_nearly_every_slot_shared() {
    let mut catalog = filled(20_000);
    let before = catalog.snapshot();
    let changed = catalog.apply(&registry("file/local"), remove("777"));
    assert_eq!(changed, changes(&[], &["777"], true));
    let after = catalog.snapshot();
    let left = before.workloads().filter(|workload| workload.id != id("777"));
    let pairs: Vec<_> = left.zip(after.workloads()).collect();
    assert_eq!(pairs.len(), 19_999);
    assert!(pairs.iter().all(|(before, after)| Arc::ptr_eq(before, after)));
    let slots = pairs.iter().filter(|(before, after)| !std::ptr::eq(*before, *after)).count();
    // A leaf and, where it merges with its neighbour, that one too.
    assert!(slots <= 128, "{slots} slots were copied");
    assert!(before.services().zip(after.services()).all(|(before, after)| std::ptr::eq(before, after)));
}

#[test]
fn a_thousand_changes_copy_hardly_more_among_20_000_than_among_200() {
    let few = copied_by_changes(&mut filled(200), 200, 1_000);
    let many = copied_by_changes(&mut filled(20_000), 20_000, 1_000);
    assert!(many <= 3 * few, "{many} slots among 20,000, {few} among 200");
}

#[test]
fn a_reset_of_everything_with_one_difference_changes_only_that() {
    let mut catalog = filled(2_000);
    let before = catalog.snapshot();
    let all = before
        .workloads()
        .map(|workload| Workload::clone(workload))
        .filter(|workload| workload.id != id("5"));
    let changed = catalog.apply(&registry("file/local"), reset(Scope::All, all));
    assert_eq!(changed, changes(&[], &["5"], true));
    let left = before.workloads().filter(|workload| workload.id != id("5"));
    assert!(left.zip(catalog.snapshot().workloads()).all(|(before, after)| Arc::ptr_eq(before, after)));
}
