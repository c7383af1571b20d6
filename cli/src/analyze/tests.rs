//! Each file of `testdata` is a cluster, and what is beside it what is said of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::finding::ALL;
use super::*;

const PLAIN: Style = Style { colour: false };

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/analyze/testdata");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|kind| kind == "yaml"));
    files.sort();
    assert!(!files.is_empty());
    files
}

fn said(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap();
    let mut objects = Objects::new(files::parse(&text, "shop").unwrap());
    objects.control = text.contains("# the control plane is looked at").then(|| "weft-system".to_owned());
    objects.alone = !text.contains("# the mesh has more registries");
    words(&analyze(&objects), PLAIN)
}

#[test]
fn what_is_said_of_each_cluster_is_what_is_written_down() {
    let refresh = std::env::var_os("WEFT_REFRESH_GOLDEN").is_some();
    for file in cases() {
        let (said, golden) = (said(&file), file.with_extension("txt"));
        if refresh {
            std::fs::write(&golden, &said).unwrap();
        }
        assert_eq!(said, std::fs::read_to_string(&golden).unwrap_or_default(), "{}", file.display());
    }
}

#[test]
fn every_code_is_found_somewhere_and_explained_in_the_documentation() {
    let all: String = cases().iter().map(|file| said(file)).collect();
    let docs =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/kubernetes.md")).unwrap();
    let mut seen = BTreeSet::new();
    for code in ALL {
        assert!(seen.insert(code.0), "{} is there twice", code.0);
        assert!(all.contains(code.0), "{} is in no golden file", code.0);
        assert!(docs.contains(&format!("| `{}` |", code.0)), "{} is not in docs/kubernetes.md", code.0);
    }
}

#[test]
fn files_alone_are_taken_as_of_namespaces_that_ask() {
    let text = "kind: Deployment\nmetadata: {name: web}\nspec: {template: {metadata: {annotations: {weft.dev/hold: maybe}}, \
                spec: {serviceAccountName: web, containers: [{name: web}]}}}\n";
    let mut objects = Objects { partial: true, ..Objects::default() };
    for object in files::parse(text, "shop").unwrap() {
        objects.apply(object);
    }
    let found = analyze(&objects);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].code, found[0].object.as_str()), ("WEFT0104", "Deployment shop/web"));
}
