//! What an archive says, read back with another reader than the one that wrote it where that matters.

use std::io::Read;

use serde_json::Value;

use super::*;

fn image() -> Image {
    let mut files = Files::default();
    files.file("/usr/bin/app", 0o755, "program").unwrap();
    files.folder("/tmp", 0o1777).unwrap().link("/bin", "usr/bin").unwrap();
    Image {
        name: "weft.test/app:1".to_owned(),
        files,
        entrypoint: vec!["/usr/bin/app".to_owned()],
        command: vec![],
        user: "1337".to_owned(),
        labels: BTreeMap::from([("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())]),
    }
}

fn unpacked(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let header = entry.header();
        assert_eq!((header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()), (0, 0, 0));
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (path, content)
    });
    entries.collect()
}

fn blob<'a>(files: &'a BTreeMap<String, Vec<u8>>, descriptor: &Value) -> &'a [u8] {
    let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let content = &files[&format!("blobs/sha256/{digest}")];
    assert_eq!(hex::encode(Sha256::digest(content)), digest);
    assert_eq!(descriptor["size"], content.len());
    content
}

#[test]
fn the_same_image_is_the_same_bytes_whatever_order_its_files_came_in() {
    let mut other = image();
    other.files = Files::default();
    other.files.link("/bin", "usr/bin").unwrap().folder("/tmp", 0o1777).unwrap();
    other.files.file("/usr/bin/app", 0o755, "program").unwrap();
    assert_eq!(image().archive().unwrap(), other.archive().unwrap());
}

/// The bytes themselves, as another writer of archives or documents would change them for everybody at once.
#[cfg(target_arch = "x86_64")]
#[test]
fn the_same_image_is_the_same_bytes_in_the_next_version_too() {
    let digest = digest(&image().archive().unwrap());
    assert_eq!(digest, "c267f1cb1957da85a488fe983213a1cc9f8c68873f4c0e0dce21271eee3175e8");
}

#[test]
fn one_byte_in_a_file_gives_another_image() {
    let mut other = image();
    other.files.file("/usr/bin/app", 0o755, "Program").unwrap();
    assert_ne!(image().archive().unwrap(), other.archive().unwrap());
}

#[test]
fn the_index_leads_to_the_manifest_the_config_and_the_layer_by_their_digests() {
    let files = unpacked(&image().archive().unwrap());
    let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
    let manifest: Value = serde_json::from_slice(blob(&files, &index["manifests"][0])).unwrap();
    let config: Value = serde_json::from_slice(blob(&files, &manifest["config"])).unwrap();
    let layer = blob(&files, &manifest["layers"][0]);
    assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
    assert_eq!(config["config"]["User"], "1337");
    assert_eq!(config["config"]["Entrypoint"][0], "/usr/bin/app");
    let inside: Vec<String> = unpacked(layer).into_keys().collect();
    assert_eq!(inside, ["bin", "tmp/", "usr/", "usr/bin/", "usr/bin/app"]);
}

#[test]
fn containerd_finds_the_whole_name_and_others_the_tag() {
    let files = unpacked(&image().archive().unwrap());
    let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
    let annotations = &index["manifests"][0]["annotations"];
    assert_eq!(annotations["io.containerd.image.name"], "weft.test/app:1");
    assert_eq!(annotations["org.opencontainers.image.ref.name"], "1");
    assert_eq!(files["oci-layout"], br#"{"imageLayoutVersion":"1.0.0"}"#);
}

#[test]
fn a_path_of_more_than_a_hundred_letters_is_kept_whole() {
    let mut long = image();
    let path = format!("/usr/share/{}/file", "x".repeat(120));
    long.files.file(&path, 0o644, "x").unwrap();
    let archive = layer(&long.files).unwrap();
    assert!(unpacked(&archive).contains_key(&path[1..]));
}
