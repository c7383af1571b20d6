//! What the view tells for each change of what Nomad answers.

use serde_json::json;
use weft_model::Health;

use super::*;

const NOW: u64 = 1;

fn view() -> View {
    let context = Context {
        registry: "nomad/test".parse().unwrap(),
        trust_domain: "weft.test".parse().unwrap(),
        identities: crate::IdentityRules::default(),
    };
    View::new(context, vec!["default".to_owned()])
}

fn target(name: &str) -> Target {
    Target { namespace: "default".to_owned(), name: name.to_owned() }
}

fn alloc(number: u8) -> String {
    format!("{number:08x}-1111-4111-8111-000000000000")
}

fn registration(service: &str, number: u8) -> Registration {
    serde_json::from_value(json!({
        "ID": format!("_nomad-task-{}-group-g-{service}-http", alloc(number)), "ServiceName": service, "Namespace": "default",
        "AllocID": alloc(number), "Address": "10.0.0.1", "Port": 8080,
    }))
    .unwrap()
}

fn allocation(number: u8) -> Allocation {
    serde_json::from_value(json!({
        "ID": alloc(number), "Name": "j.g[0]", "Namespace": "default", "NodeID": "n", "JobID": "j", "TaskGroup": "g",
        "DesiredStatus": "run", "ClientStatus": "running",
    }))
    .unwrap()
}

/// A view that has read one instance of `api`, and its job.
fn of_one() -> View {
    let mut view = view();
    assert_eq!(view.on_services([target("api")].into()).added, [target("api")]);
    view.on_nodes(Vec::new(), NOW);
    view.on_allocations(vec![allocation(1)], NOW);
    view.on_service(&target("api"), vec![registration("api", 1)], true, NOW);
    job(&mut view);
    view
}

fn job(view: &mut View) -> Vec<RegistryEvent> {
    let wanted = view.wanted_jobs();
    let job: Job = serde_json::from_value(json!({"TaskGroups": [{"Name": "g"}]})).unwrap();
    wanted.into_keys().flat_map(|version| view.on_job(version, job.clone(), NOW)).collect()
}

fn workloads(view: &View) -> Vec<Workload> {
    let RegistryEvent::Reset { entries, .. } = view.all() else { panic!("all is a Reset") };
    let workload = |entry| match entry {
        Entry::Workload(workload) => Workload::clone(&workload),
        Entry::Service(_) => panic!("Nomad declares no services"),
    };
    entries.into_iter().map(workload).collect()
}

fn error(kind: RegistryErrorKind) -> NomadError {
    NomadError::new(kind, "asking", "no")
}

#[test]
fn an_instance_waits_for_its_allocation_and_its_job_and_then_is_there() {
    let mut view = view();
    view.on_services([target("api")].into());
    view.on_nodes(Vec::new(), NOW);
    assert!(view.on_service(&target("api"), vec![registration("api", 1)], true, NOW).is_empty());
    assert!(view.on_allocations(vec![allocation(1)], NOW).is_empty(), "its job is not known");
    assert!(!view.is_complete());
    assert_eq!(job(&mut view).len(), 1);
    assert!(view.is_complete() && view.wanted_jobs().is_empty());
    assert_eq!(workloads(&view).len(), 1);
}

#[test]
fn without_the_list_of_nodes_only_places_are_missing() {
    let mut view = of_one();
    view.on_list_failed(List::Nodes, error(RegistryErrorKind::PermissionDenied));
    assert!(view.is_complete() && view.source_error().is_none());
    assert!(view.problems().iter().any(|problem| problem.object == "the list of nodes"));
}

#[test]
fn a_service_that_is_not_listed_among_others_is_gone_and_a_namespace_without_any_is_asked_for() {
    let mut view = of_one();
    view.on_services([target("api"), target("web")].into());
    assert_eq!(view.on_services([target("web")].into()).gone, [target("api")]);
    let listed = view.on_services(BTreeSet::new());
    assert!(listed.gone.is_empty());
    assert_eq!(listed.doubtful, ["default".to_owned()].into());
}

#[test]
fn what_a_token_may_not_see_any_more_stays_and_what_is_really_gone_goes() {
    let mut view = of_one();
    view.on_services(BTreeSet::new());
    assert!(view.on_doubtful("default", Err(error(RegistryErrorKind::PermissionDenied))).is_empty());
    assert_eq!(view.source_error().unwrap().kind, RegistryErrorKind::PermissionDenied);
    assert!(view.hides("default") && !view.is_complete());
    assert_eq!(workloads(&view).len(), 1);
    assert_eq!(view.on_doubtful("default", Ok(true)), [target("api")]);
    assert!(view.source_error().is_none());
    assert!(view.on_gone(&[target("api")]).is_some());
    assert!(workloads(&view).is_empty());
}

#[test]
fn an_answer_about_a_namespace_that_is_listed_again_meanwhile_removes_nothing() {
    let mut view = of_one();
    view.on_services(BTreeSet::new());
    view.on_services([target("api")].into());
    assert!(view.on_doubtful("default", Ok(true)).is_empty());
}

#[test]
fn an_allocation_that_vanishes_before_its_service_keeps_what_was_known() {
    let mut view = of_one();
    assert!(view.on_allocations(Vec::new(), NOW).is_empty());
    assert_eq!(workloads(&view)[0].health, Health::Healthy);
    assert_eq!(view.on_service(&target("api"), Vec::new(), true, NOW).len(), 1);
    assert!(workloads(&view).is_empty());
}

#[test]
fn an_allocation_that_changes_changes_its_services_and_no_other() {
    let mut view = of_one();
    let mut stopping = allocation(1);
    stopping.desired_status = "stop".to_owned();
    let events = view.on_allocations(vec![stopping.clone(), allocation(2)], NOW);
    assert_eq!(events.len(), 1);
    assert_eq!(workloads(&view)[0].health, Health::Draining);
    assert!(view.on_allocations(vec![stopping, allocation(2)], NOW).is_empty(), "nothing is new");
}

#[test]
fn several_services_of_one_port_are_one_workload() {
    let mut view = of_one();
    view.on_services([target("api"), target("web")].into());
    view.on_service(&target("web"), vec![registration("web", 1)], true, NOW);
    let all = workloads(&view);
    assert_eq!((all.len(), all[0].services.len()), (1, 2));
}

#[test]
fn bad_meta_keeps_the_last_good_state_and_is_named() {
    let mut view = of_one();
    let mut bad = registration("api", 1);
    bad.tags = vec!["weft.dev/weight=many".to_owned()];
    assert!(view.on_service(&target("api"), vec![bad], true, NOW).is_empty());
    assert_eq!(workloads(&view)[0].weight, Workload::DEFAULT_WEIGHT);
    assert!(view.problems()[0].to_string().contains("weft.dev/weight"), "{:?}", view.problems());
}

#[test]
fn checks_are_asked_for_where_there_are_some_and_tell_the_health() {
    let mut view = of_one();
    assert!(view.checked().is_empty());
    let version = JobVersion::of(&allocation(1));
    let group = json!({"Name": "g", "Services": [{"Name": "api", "Checks": [{}]}]});
    let job: Job = serde_json::from_value(json!({"TaskGroups": [group]})).unwrap();
    view.on_job(version, job, NOW);
    assert_eq!(view.checked(), [alloc(1)]);
    assert_eq!(workloads(&view)[0].health, Health::Unhealthy, "nothing is known of them yet");
    let result =
        |status: &str| vec![serde_json::from_value(json!({"Service": "api", "Status": status})).unwrap()];
    assert_eq!(view.on_checks(&alloc(1), result("success"), NOW).len(), 1);
    assert_eq!(workloads(&view)[0].health, Health::Healthy);
    assert!(view.on_checks(&alloc(1), result("success"), NOW).is_empty(), "nothing is new");
}
