//! What YAML becomes, and what its writer is told when it is wrong.

use proptest::prelude::*;
use weft_model::{Health, Protocol, Service, Tunnel, Workload};

use super::*;

fn context() -> Context {
    Context { registry: "file/local".parse().unwrap(), trust_domain: "weft.local".parse().unwrap() }
}

fn good(text: &str) -> Vec<Object> {
    let decoded = decode("api.yaml", text.as_bytes(), &Known::new(), &context());
    assert_eq!(decoded.problems, []);
    decoded.objects
}

fn service(object: &Object) -> &Service {
    let Entry::Service(service) = &object.entry else { panic!("not a service: {object:?}") };
    service
}

fn workload(object: &Object) -> &Workload {
    let Entry::Workload(workload) = &object.entry else { panic!("not a workload: {object:?}") };
    workload
}

/// All problems as one line each.
fn problems(text: &str) -> Vec<String> {
    let decoded = decode("api.yaml", text.as_bytes(), &Known::new(), &context());
    assert_eq!(decoded.objects, [], "a file with an error has objects");
    decoded.problems.iter().map(ToString::to_string).collect()
}

const BOTH: &str = "\
# What the shop runs.
kind: Service
name: shop/api
ports: [{name: http, number: 80, protocol: http}, {name: admin, number: 81}]
labels: {team: a}
---
kind: Workload
name: api-v1
namespace: shop
service: api
addresses: [127.0.0.1, '::1']
ports:
  - {name: http, number: 8080}
  - {name: admin, number: 8081, protocol: tcp}
protocol: http1
health: draining
identity: billing
tunnel: 15008
weight: 50
locality: eu/a
network: west
version: 1.10
labels: {team: a}
";

#[test]
fn a_file_with_both_kinds_becomes_model_entries_with_their_lines() {
    let objects = good(BOTH);
    assert_eq!(objects.iter().map(|object| object.line).collect::<Vec<_>>(), [2, 7]);
    let api = service(&objects[0]);
    assert_eq!(api.key.to_string(), "shop/api");
    assert_eq!(
        api.ports.iter().map(|port| (port.number, port.protocol)).collect::<Vec<_>>(),
        [(81, Protocol::Detect), (80, Protocol::Http1)]
    );
    let v1 = workload(&objects[1]);
    assert_eq!(v1.id.as_str(), "file/local/api-v1");
    assert_eq!(v1.services.keys().map(ToString::to_string).collect::<Vec<_>>(), ["shop/api"]);
    let ports = v1.services.values().next().unwrap();
    assert_eq!(
        ports.iter().map(|port| (port.number, port.protocol)).collect::<Vec<_>>(),
        [(8081, Protocol::Tcp), (8080, Protocol::Http1)]
    );
    assert_eq!(v1.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), ["127.0.0.1", "::1"]);
    assert_eq!((v1.health, v1.tunnel, v1.weight), (Health::Draining, Tunnel::Port(15008), 50));
    assert_eq!(v1.identity.as_ref().unwrap().as_str(), "spiffe://weft.local/ns/shop/sa/billing");
    assert_eq!((v1.locality.to_string().as_str(), v1.network.as_str()), ("eu/a", "west"));
    // 1.10 is a version and no number.
    assert_eq!(v1.labels.get("version").map(String::as_str), Some("1.10"));
    assert_eq!(v1.labels.get("team").map(String::as_str), Some("a"));
    assert_eq!(v1.provenance.first().unwrap().object, "api.yaml:7");
}

#[test]
fn what_is_left_out_has_the_documented_default() {
    let objects =
        good("{kind: Workload, name: a, service: api, addresses: [10.0.0.1], ports: [{number: 1}]}");
    let workload = workload(&objects[0]);
    assert_eq!(workload.identity.as_ref().unwrap().as_str(), "spiffe://weft.local/ns/default/sa/api");
    assert_eq!((workload.health, workload.tunnel, workload.weight), (Health::Unknown, Tunnel::None, 100));
    assert_eq!(workload.services.values().next().unwrap()[0].protocol, Protocol::Detect);
}

#[test]
fn empty_files_comments_and_empty_documents_hold_nothing() {
    for text in
        ["", "\n\n", "# nothing\n", "---\n", "---\n---\n# x\n...\n---\n", "%YAML 1.2\n---\n", "\u{feff}"]
    {
        assert_eq!(good(text), [], "{text:?}");
    }
}

#[test]
fn documents_end_where_yaml_says() {
    let text = "\u{feff}%YAML 1.2\n--- # one\nkind: Service\nname: a\n...\n# two\n---\r\n{kind: Service, name: b}\r\n\
                --- {kind: Service, name: c}\n";
    let objects = good(text);
    let names: Vec<_> = objects.iter().map(|object| service(object).key.name.to_string()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(objects.iter().map(|object| object.line).collect::<Vec<_>>(), [3, 8, 9]);
}

#[test]
fn dashes_within_a_value_are_no_new_document() {
    let text = "kind: Service\nname: a\nlabels:\n  note: |\n    one\n    ---\n    two\n  other: a---b\n";
    assert_eq!(service(&good(text)[0]).labels["note"], "one\n---\ntwo\n");
}

/// Each text has one problem, which starts as expected.
fn assert_each(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let problems = problems(text);
        assert_eq!(problems.len(), 1, "{text:?}: {problems:?}");
        assert!(
            problems[0].starts_with(expected),
            "{text:?}:\n  got      {}\n  expected {expected}",
            problems[0]
        );
        // A report ends in its message and says the place once.
        assert!(!problems[0].contains("line ") && !problems[0].ends_with(": "), "{}", problems[0]);
    }
}

#[test]
fn every_mistake_is_reported_with_file_line_field_and_what_was_expected() {
    assert_each(&[
        (
            "kind: Service\nname: a\ncolour: red\n",
            "api.yaml:3: colour: there is no such field; known are kind, name",
        ),
        ("kind: Service\nname: a\nport: http\n", "api.yaml:3: port: there is no such field"),
        ("kind: Service\nname: a\nhealth: healthy\n", "api.yaml:3: health: a Service has no such field"),
        ("kind: Service\nname: a\nweight: 3\n", "api.yaml:3: weight: a Service has no such field"),
        ("kind: Service\nname: a\nprefer: rack\n", "api.yaml:3: prefer: "),
        (
            "kind: Workload\nname: a\nprefer: zone\naddresses: [10.0.0.1]\nservice: api\n",
            "api.yaml:3: prefer: a Workload has no such field; it belongs in its Service",
        ),
        ("kind: Servce\nname: a\n", "api.yaml:1: kind: "),
        ("name: a\n", "api.yaml:1: kind: it is missing; expected Service or Workload"),
        ("\nkind: Service\n", "api.yaml:2: name: it is missing"),
        ("kind: Service\nname: a/b/c\n", "api.yaml:2: name: \"b/c\" is not a service name"),
        (
            "kind: Service\nname: a\nports:\n  - {number: 0}\n",
            "api.yaml:4: ports[0].number: \"0\" is not a port number",
        ),
        (
            "kind: Service\nname: a\nports:\n  - number: 1\n  - number: 70000\n",
            "api.yaml:5: ports[1].number: ",
        ),
        ("kind: Service\nname: a\nports:\n  - {numbr: 1}\n", "api.yaml:4: ports[0].numbr: "),
        ("kind: Service\nname: a\nports: [{name: x, protocol: htpp}]\n", "api.yaml:3: ports[0].protocol: "),
        (
            "kind: Service\nname: a\nports: [{name: x}, {name: x}]\n",
            "api.yaml:3: ports[1].name: the name x is there",
        ),
        (
            "kind: Service\nname: a\nports: [{number: 1}, {number: 2}]\n",
            "api.yaml:3: ports[1].name: it is missing",
        ),
        ("kind: Service\nname: a\nname: b\n", "api.yaml:3: duplicate mapping key `name`"),
        ("kind: Service\nname: [a]\n", "api.yaml:2: name: expected a text"),
        ("kind: Service\nname: a\nlabels: {value: [x]}\n", "api.yaml:3: labels.value: "),
        ("kind: Service\nname: 'a\n", "api.yaml:"),
        ("kind: Service\n  name: a\n", "api.yaml:"),
        ("- a\n- b\n", "api.yaml:1: expected fields (name: value)"),
        ("just text", "api.yaml:1: "),
    ]);
}

#[test]
fn every_mistake_in_a_workload_is_reported_so_too() {
    const W: &str = "kind: Workload\nname: a\nservice: api\n";
    assert_each(&[
        ("kind: Workload\nname: a\naddresses: [10.0.0.1]\n", "api.yaml:1: service: it is missing"),
        (W, "api.yaml:1: addresses: it is missing; expected at least one address"),
        (&format!("{W}addresses: []\n"), "api.yaml:4: addresses: it is empty"),
        (
            &format!("{W}addresses: [localhost]\n"),
            "api.yaml:4: addresses[0]: \"localhost\" is not an address",
        ),
        (&format!("{W}addresses: [0.0.0.0]\n"), "api.yaml:4: addresses[0]: \"0.0.0.0\" is not an address"),
        (&format!("{W}addresses: [10.0.0.1, 10.0.0.1]\n"), "api.yaml:4: addresses[1]: the same address"),
        (
            &format!("{W}addresses: [10.0.0.1]\nports: [{{name: x}}]\n"),
            "api.yaml:5: ports[0].number: it is missing",
        ),
        (&format!("{W}addresses: [10.0.0.1]\nhealth: well\n"), "api.yaml:5: health: "),
        (
            &format!("{W}addresses: [10.0.0.1]\nweight: 1001\n"),
            "api.yaml:5: weight: \"1001\" is not valid; expected a",
        ),
        (
            &format!("{W}addresses: [10.0.0.1]\ntunnel: 0\n"),
            "api.yaml:5: tunnel: \"0\" is not valid; expected a port",
        ),
        (&format!("{W}addresses: [10.0.0.1]\nidentity: [a]\n"), "api.yaml:5: identity: "),
    ]);
}

#[test]
fn lines_count_from_the_start_of_the_file_in_every_document() {
    let text = "kind: Service\nname: a\n---\n# more\nkind: Service\nname: b\nx: 1\n---\nkind: Service\nname: c\ny: 1\n";
    let problems = problems(text);
    assert!(problems[0].starts_with("api.yaml:7: x: "), "{problems:?}");
    assert!(problems[1].starts_with("api.yaml:11: y: "), "{problems:?}");
}

#[test]
fn all_problems_of_an_object_are_told_at_once() {
    let problems = problems("kind: Workload\nname: a b\nports: [{name: x}]\nweight: lots\n");
    let fields: Vec<_> = problems.iter().map(|problem| problem.split(": ").nth(1).unwrap()).collect();
    assert_eq!(fields, ["weight", "ports[0].number", "addresses", "name", "service"]);
}

#[test]
fn a_name_that_is_there_twice_is_an_error_and_the_same_name_for_a_service_and_a_workload_is_not() {
    let problems = problems("kind: Service\nname: a\n---\nkind: Service\nname: default/a\n");
    assert_eq!(problems, ["api.yaml:4: name: the same name is already at line 1; expected each name once"]);
    assert_eq!(
        good("{kind: Service, name: a}\n---\n{kind: Workload, name: a, service: a, addresses: [::1]}").len(),
        2
    );
}

#[test]
fn text_that_is_not_utf_8_is_reported_with_its_line() {
    let decoded = decode("api.yaml", b"kind: Service\nname: \xff\n", &Known::new(), &context());
    assert_eq!(decoded.problems[0].to_string(), "api.yaml:2: expected UTF-8 text");
    let decoded = decode("api.yaml", b"\xff\xfek\0i\0n\0d\0", &Known::new(), &context());
    assert!(!decoded.is_good());
}

#[test]
fn a_file_of_garbage_yields_a_bounded_number_of_problems_soon() {
    let many = decode("api.yaml", "---\na\n".repeat(100_000).as_bytes(), &Known::new(), &context());
    assert_eq!(many.problems.len(), PROBLEMS_AT_MOST);
    for deep in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000)] {
        assert!(!decode("api.yaml", deep.as_bytes(), &Known::new(), &context()).is_good());
    }
    let laughs = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                  d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\nname: [*d,*d,*d,*d,*d,*d,*d,*d,*d]\n";
    assert!(!decode("api.yaml", laughs.as_bytes(), &Known::new(), &context()).is_good());
}

/// A few edits of a good file: most of YAML's states are one edit away from it.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        "---\n",
        "...\n",
        "- ",
        ": ",
        "\n",
        "  ",
        "[",
        "]",
        "{",
        "}",
        "'",
        "\"",
        "&a ",
        "*a",
        "<<: ",
        "!!int ",
        "|\n",
        "#",
        "%",
        "\t",
        "\u{feff}",
        "\0",
        "é",
        "null",
        "kind",
        "99999999999999999999",
        "\r",
        "? ",
    ]);
    let edit = (any::<prop::sample::Index>(), 0..8usize, pieces);
    prop::collection::vec(edit, 1..6).prop_map(|edits| {
        let mut bytes = BOTH.as_bytes().to_vec();
        for (at, cut, piece) in edits {
            let at = at.index(bytes.len() + 1);
            let end = (at + cut).min(bytes.len());
            bytes.splice(at..end, piece.bytes());
        }
        bytes
    })
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        check(&bytes)?;
    }

    #[test]
    fn no_text_makes_it_panic(text in "(\\PC|\n|---\n|- |: ){0,200}") {
        check(text.as_bytes())?;
    }

    #[test]
    fn no_edit_of_a_good_file_makes_it_panic(bytes in mutated()) {
        check(&bytes)?;
    }
}

fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
    let decoded = decode("api.yaml", bytes, &Known::new(), &context());
    let lines = bytes.iter().filter(|byte| **byte == b'\n' || **byte == b'\r').count() as u64 + 1;
    for problem in &decoded.problems {
        let line = problem.line.unwrap_or(0);
        // The end of the text may be said to be on the line behind it.
        prop_assert!((1..=lines + 1).contains(&line), "{} of {lines} lines", problem);
        prop_assert!(!problem.message.is_empty());
    }
    prop_assert!(decoded.is_good() || decoded.objects.is_empty());
    Ok(())
}

#[test]
fn what_is_known_is_not_read_again_and_changes_nothing() {
    let document = |name: &str, weight: u32| {
        format!("---\nkind: Workload\nname: {name}\naddresses: [10.0.0.1]\nservice: a\nweight: {weight}\n")
    };
    let before: String = ["a", "b", "c"].map(|name| document(name, 1)).concat();
    let known: Known = decode("api.yaml", before.as_bytes(), &Known::new(), &context())
        .objects
        .into_iter()
        .map(|object| (object.text.clone(), object))
        .collect();
    assert_eq!(known.len(), 3);
    let changed = [document("a", 1), document("b", 2), document("c", 1)].concat();
    let shifted = [document("b", 1), document("c", 1)].concat();
    let longer = [before.clone(), document("d", 1)].concat();
    let worse = [before.clone(), "---\nkind: Werkload\n".to_owned()].concat();
    let again = [before.clone(), document("a", 1)].concat();
    for text in [&before, &changed, &shifted, &longer, &worse, &again] {
        let anew = decode("api.yaml", text.as_bytes(), &Known::new(), &context());
        assert_eq!(decode("api.yaml", text.as_bytes(), &known, &context()), anew, "{text}");
    }
    // The proof that it is not read: another object stands for the text.
    let mut known = known;
    let second = known.values_mut().find(|object| object.line == 8).unwrap();
    second.entry = Entry::Service(weft_model::Service {
        key: "elsewhere".parse().unwrap(),
        ports: Vec::new(),
        labels: BTreeMap::new(),
        addresses: Default::default(),
        prefer: None,
    });
    let decoded = decode("api.yaml", before.as_bytes(), &known, &context());
    assert!(matches!(decoded.objects[0].entry, Entry::Workload(_)));
    assert!(matches!(decoded.objects[1].entry, Entry::Service(_)));
}
