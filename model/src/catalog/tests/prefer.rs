//! Whose word counts where registries say something of what callers prefer.

use super::*;
use crate::prefer::Prefer;

fn says(prefer: Option<Prefer>) -> RegistryEvent {
    RegistryEvent::Upsert(vec![Entry::Service(Service { prefer, ..service("web", &[]) })])
}

#[test]
fn what_callers_prefer_is_said_by_the_first_registry_that_says_anything() {
    let mut catalog = Catalog::default();
    let (prod, west, file) =
        (registry("kubernetes/prod"), registry("kubernetes/west"), registry("file/local"));
    let prefer = |catalog: &Catalog| catalog.snapshot().service(&key("web")).unwrap().prefer;
    catalog.apply(&file, says(Some(Prefer::Zone)));
    catalog.apply(&west, says(Some(Prefer::NodeOnly)));
    assert_eq!(prefer(&catalog), Some(Prefer::NodeOnly), "a cluster's word counts before a file's");
    catalog.apply(&prod, says(None));
    assert_eq!(prefer(&catalog), Some(Prefer::NodeOnly), "silence takes nothing back");
    let changed = catalog.apply(&prod, says(Some(Prefer::Node)));
    assert_eq!((prefer(&catalog), changed), (Some(Prefer::Node), changes(&["web"], &[], false)));
    catalog.apply(&prod, RegistryEvent::Remove(vec![EntryKey::Service(key("web"))]));
    catalog.apply(&west, says(None));
    assert_eq!(prefer(&catalog), Some(Prefer::Zone), "who has none takes it from a file of the same service");
}
