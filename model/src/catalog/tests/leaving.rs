//! A registry that a user takes away.

use super::*;

#[test]
fn a_registry_that_is_taken_out_takes_its_own_entries_along_and_nobody_elses() {
    let (mut catalog, east, west) =
        (Catalog::default(), registry("kubernetes/east"), registry("kubernetes/west"));
    catalog.apply(&west, upsert([workload("b", &["web"])]));
    catalog.admit(&east, Mapping::default());
    catalog.apply(&east, upsert([workload("a", &["web", "only-east"])]));
    assert_eq!(catalog.expel(&east), changes(&["only-east"], &["a"], true));
    assert_eq!((names(&catalog), catalog.held_by(&east)), (vec!["pod/b".to_owned()], 0));
    assert_eq!(catalog.expel(&east), NOTHING, "a second time there is nothing");
    catalog.apply(&east, upsert([workload("a", &["web"])]));
    assert_eq!(names(&catalog).len(), 2, "it may come again");
}
