//! What is read from where, and what is refused with which words.

use super::*;

fn read(toml: &str, flags: &[&str]) -> Result<Settings, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), toml).unwrap();
    let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    load(Some(file.path()), &flags).map_err(|error| error.to_string())
}

#[test]
fn without_any_source_the_defaults_hold() {
    let settings = read("", &[]).unwrap();
    assert_eq!(settings.listen.port(), 15010);
    assert_eq!(settings.admin_socket(), PathBuf::from("/var/lib/weft/admin.sock"));
    assert_eq!(settings.ready.registry_deadline, Duration::from_secs(10));
    assert!(settings.registry.is_empty());
}

#[test]
fn registries_are_read_with_their_sections() {
    let settings = read(
        r#"
        trust_domain = "mesh.test"
        [[registry]]
        id = "file/local"
        directory = "/etc/weft/services"
        [[registry]]
        id = "consul/dc1"
        required = true
        [registry.consul]
        address = "http://127.0.0.1:8501"
        [registry.mapping]
        namespace = "legacy"
        [registry.guard]
        confirm_after = "5s"
        [[registry]]
        id = "kubernetes/prod"
        [registry.kubernetes]
        kubeconfig = "/etc/weft/prod.kubeconfig"
        namespaces.exclude = []
        [[registry]]
        id = "kubernetes/here"
        "#,
        &["listen=127.0.0.1:0", "ready.registry_deadline=1s"],
    )
    .unwrap();
    let [file, consul, kubernetes, _] = settings.registry.as_slice() else {
        panic!("{:?}", settings.registry)
    };
    assert_eq!((file.id.as_str(), file.required), ("file/local", false));
    assert!(consul.required);
    assert_eq!(consul.consul.as_ref().unwrap().address, "http://127.0.0.1:8501");
    assert_eq!(consul.guard.confirm_after, Duration::from_secs(5));
    assert_eq!(consul.mapping.namespace.as_ref().unwrap().as_str(), "legacy");
    assert!(kubernetes.kubernetes.as_ref().unwrap().namespaces.exclude.is_empty());
    assert_eq!(settings.listen.port(), 0);
    assert_eq!(settings.ready.registry_deadline, Duration::from_secs(1));
}

#[test]
fn what_is_unknown_or_wrong_is_named() {
    for (toml, expected) in [
        ("lisen = \"a\"", "lisen"),
        ("[admin]\nsokcet = \"a\"", "sokcet"),
        ("[[registry]]\nid = \"file/a\"\ndirectory = \"/a\"\n[registry.mapping]\napart = 3", "apart"),
        ("[[registry]]\nid = \"consul/a\"\n[registry.consul]\nadress = \"x\"", "adress"),
        ("[[registry]]\nid = \"kubernetes/a\"\n[registry.kubernetes]\nkubecfg = \"x\"", "kubecfg"),
        ("[[registry]]\nid = \"nomad/a\"\n[registry.nomad]\nadress = \"x\"", "adress"),
        ("[ready]\nregistry_deadline = \"10\"", "is not a duration such as"),
        ("trust_domain = \"UPPER\"", "lower-case"),
    ] {
        let error = read(toml, &[]).unwrap_err();
        assert!(error.contains(expected), "{toml:?}: {error}");
        assert!(error.contains("/tmp") && !error.contains("default."), "{toml:?}: {error}");
    }
}

#[test]
fn parts_that_do_not_fit_are_all_reported_at_once() {
    let error = read(
        r#"
        admin.listen = "0.0.0.0:1"
        [[registry]]
        id = "file/a"
        [[registry]]
        id = "file/a"
        directory = "/a"
        guard.fraction = 2.0
        [[registry]]
        id = "vm/a"
        [registry.kubernetes]
        [ca.consul."consul/b"]
        "#,
        &[],
    )
    .unwrap_err();
    for expected in [
        "admin.listen",
        "registry[0].directory",
        "registry[1].id: file/a is there twice",
        "guard.fraction",
        "not built in",
        "registry[2].kubernetes: vm/a has none",
    ] {
        assert!(error.contains(expected), "{expected} is not in {error}");
    }
}

#[test]
fn a_number_of_streams_that_no_semaphore_counts_is_refused() {
    let error = read("", &["limits.streams=0"]).unwrap_err();
    assert!(error.contains("limits.streams: 0 is not in 1 to"), "{error}");
}

/// The keys of the guide's table, as it writes them.
fn documented() -> Vec<&'static str> {
    let guide = include_str!("../../../../docs/operations.md");
    let section =
        guide.split("### weft-control\n").nth(1).and_then(|rest| rest.split("\n### ").next()).unwrap();
    let keys = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    keys.collect()
}

/// The error of settings in which the last part of `key` has a value of no use; lists and maps are entered.
fn error_at(key: &str) -> String {
    let (mut toml, mut parts) = (String::new(), key.split('.').collect::<Vec<_>>());
    let last = parts.pop().unwrap();
    let mut header = Vec::new();
    for part in parts {
        header.push(part.to_owned());
        match header.join(".").as_str() {
            "registry" => toml.push_str("[[registry]]\nid = \"consul/dc1\"\n"),
            "ca.consul" => header.push("\"consul/dc1\"".to_owned()),
            "ca.kubernetes" => header.push("\"kubernetes/prod\"".to_owned()),
            "ca.nomad" => header.push("\"nomad/prod\"".to_owned()),
            _ => {}
        }
    }
    if !header.is_empty() && header != ["registry"] {
        toml.push_str(&format!("[{}]\n", header.join(".")));
    }
    if key != "registry.id" {
        toml.push_str(&format!("{last} = [[3]]\n"));
    } else {
        toml = "[[registry]]\nid = [[3]]\n".to_owned();
    }
    read(&toml, &[]).unwrap_err()
}

#[test]
fn every_documented_setting_exists() {
    for key in documented() {
        let error = error_at(key);
        assert!(
            !error.contains("unknown field") && error.contains(key.rsplit('.').next().unwrap()),
            "{key}: {error}"
        );
    }
}

#[test]
fn every_setting_is_documented() {
    let documented = documented();
    let sections = [
        "",
        "admin.",
        "registry.",
        "registry.mapping.",
        "registry.guard.",
        "registry.consul.",
        "registry.kubernetes.",
        "registry.kubernetes.namespaces.",
        "registry_secrets.",
        "ca.",
        "ca.own_pem.",
        "ca.secret.",
        "ca.limits.",
        "ca.limits.per_address.",
        "ca.consul.",
        "ca.kubernetes.",
        "ca.nomad.",
        "limits.",
        "limits.requests.",
        "limits.connections.",
        "ready.",
        "webhook.",
        "webhook.injector.",
        "shutdown.",
    ];
    for section in sections {
        let error = error_at(&format!("{section}no_such_setting"));
        let names = error.split("expected ").nth(1).unwrap_or_else(|| panic!("{section}: {error}"));
        let is_key =
            |name: &&str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        let names: Vec<&str> = names.split('`').filter(is_key).collect();
        assert!(!names.is_empty(), "{section}: {error}");
        for name in names {
            let key = format!("{section}{name}");
            let inside = format!("{key}.");
            let listed = documented.iter().any(|listed| *listed == key || listed.starts_with(&inside));
            assert!(listed, "docs/operations.md does not list {key}");
        }
    }
}
