//! The list of an image's parts as CycloneDX 1.6 (ECMA-424). It has neither a date nor a serial number, which the
//! standard permits: the same parts are the same bytes.

use anyhow::Result;
use serde::Serialize;

use super::parts::Part;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    bom_format: &'static str,
    spec_version: &'static str,
    version: u8,
    metadata: Metadata<'a>,
    components: Vec<Component<'a>>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    component: Component<'a>,
}

#[derive(Serialize)]
struct Component<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(rename = "bom-ref")]
    reference: String,
    name: &'a str,
    version: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hashes: Vec<Hash<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    licenses: Vec<License<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purl: Option<String>,
}

#[derive(Serialize)]
struct Hash<'a> {
    alg: &'static str,
    content: &'a str,
}

#[derive(Serialize)]
struct License<'a> {
    expression: &'a str,
}

/// The document of the image `weft.dev/<name>:<version>`.
pub(super) fn document(name: &str, version: &str, parts: &[Part]) -> Result<String> {
    let image = Component {
        kind: "container",
        reference: format!("weft.dev/{name}:{version}"),
        name,
        version,
        hashes: Vec::new(),
        licenses: vec![License { expression: "Apache-2.0" }],
        purl: None,
    };
    let document = Document {
        bom_format: "CycloneDX",
        spec_version: "1.6",
        version: 1,
        metadata: Metadata { component: image },
        components: parts.iter().map(component).collect(),
    };
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

fn component(part: &Part) -> Component<'_> {
    let expression = part.license.as_str();
    Component {
        kind: "library",
        reference: format!("{}@{}", part.name, part.version),
        name: &part.name,
        version: &part.version,
        hashes: part.checksum.iter().map(|content| Hash { alg: "SHA-256", content }).collect(),
        licenses: if expression.is_empty() { Vec::new() } else { vec![License { expression }] },
        // Only what has a checksum is at the registry under this name.
        purl: part.checksum.as_ref().map(|_| format!("pkg:cargo/{}@{}", part.name, part.version)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, checksum: Option<&str>) -> Part {
        Part {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            license: "MIT".to_owned(),
            checksum: checksum.map(str::to_owned),
        }
    }

    #[test]
    fn a_part_from_the_registry_says_where_it_is_from_and_ours_does_not() {
        let text =
            document("proxy", "0.1.0", &[part("bytes", Some("abc")), part("weft-model", None)]).unwrap();
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["metadata"]["component"]["bom-ref"], "weft.dev/proxy:0.1.0");
        let [bytes, model] = [&read["components"][0], &read["components"][1]];
        assert_eq!(bytes["purl"], "pkg:cargo/bytes@1.0.0");
        assert_eq!(bytes["hashes"][0]["content"], "abc");
        assert_eq!(bytes["licenses"][0]["expression"], "MIT");
        assert_eq!((&model["purl"], &model["hashes"]), (&serde_json::Value::Null, &serde_json::Value::Null));
    }

    #[test]
    fn the_same_parts_are_the_same_bytes() {
        let parts = [part("a", None), part("b", Some("1"))];
        assert_eq!(document("x", "1", &parts).unwrap(), document("x", "1", &parts).unwrap());
    }
}
