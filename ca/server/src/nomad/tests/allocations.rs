//! What an allocation must be, and what its job may call itself.

use weft_registry_nomad::attest::TaskState;

use super::*;

/// What becomes of the honest token when Nomad says this of its allocation, in turn.
async fn of(answers: Vec<Option<Allocation>>) -> Result<SpiffeId, NomadRefusal> {
    let (scripted, attestor) = region();
    *scripted.0.allocations.lock().unwrap() = Ok(answers);
    attestor.ask(&token(|_| {})).await
}

fn changed(change: impl FnOnce(&mut Allocation)) -> Allocation {
    let mut allocation = allocation();
    change(&mut allocation);
    allocation
}

fn sidecar(state: &str) -> Allocation {
    let state = TaskState { state: state.to_owned() };
    changed(|allocation| drop(allocation.task_states.insert("weft-proxy".to_owned(), state)))
}

#[tokio::test]
async fn an_allocation_that_is_gone_or_does_not_run_any_more_is_refused() {
    assert_refused(of(vec![None]).await, "nomad_allocation_gone", ALLOCATION);
    for desired in ["stop", "evict", ""] {
        let stopped = changed(|allocation| allocation.desired_status = desired.to_owned());
        assert_refused(of(vec![Some(stopped)]).await, "nomad_not_running", "desired status");
    }
    for client in ["complete", "failed", "lost", "unknown", "later"] {
        let ended = changed(|allocation| allocation.client_status = client.to_owned());
        assert_refused(of(vec![Some(ended)]).await, "nomad_not_running", client);
    }
    assert_refused(of(vec![Some(sidecar("dead"))]).await, "nomad_not_running", "is \"dead\"");
}

#[tokio::test]
async fn an_allocation_whose_application_has_not_started_is_good_if_its_sidecar_runs() {
    let pending = changed(|allocation| allocation.client_status = "pending".to_owned());
    assert_eq!(of(vec![Some(pending)]).await.unwrap().as_str(), WEB);
}

#[tokio::test]
async fn a_sidecar_that_starts_is_looked_at_again_when_its_allocation_has_changed() {
    let (scripted, attestor) = region();
    let unseen = changed(|allocation| allocation.task_states.clear());
    let begun = Allocation { index: 18, ..sidecar("pending") };
    *scripted.0.allocations.lock().unwrap() = Ok(vec![Some(unseen), Some(begun), Some(sidecar("running"))]);
    assert_eq!(attestor.ask(&token(|_| {})).await.unwrap().as_str(), WEB);
    assert_eq!(*scripted.0.asked.lock().unwrap(), [None, Some(17), Some(18)]);

    for never in [sidecar("pending"), changed(|allocation| allocation.task_states.clear())] {
        assert_refused(of(vec![Some(never)]).await, "nomad_not_running", "weft-proxy");
    }
    let dies = of(vec![Some(sidecar("pending")), Some(sidecar("dead"))]).await;
    assert_refused(dies, "nomad_not_running", "is \"dead\"");
    assert_refused(of(vec![Some(sidecar("pending")), None]).await, "nomad_allocation_gone", ALLOCATION);
}

#[tokio::test]
async fn what_a_token_claims_must_be_so_of_its_allocation() {
    for (change, claim) in [
        ((|a| a.id = "x".to_owned()) as fn(&mut Allocation), "nomad_allocation_id"),
        (|a| a.namespace = "bank".to_owned(), "nomad_namespace"),
        (|a| a.job.namespace = "bank".to_owned(), "nomad_namespace"),
        (|a| (a.job_id, a.job.id) = ("api".to_owned(), "api".to_owned()), "nomad_job_id"),
        (|a| a.job_id = "api".to_owned(), "JobID"),
        (|a| a.job.parent_id = "api".to_owned(), "nomad_job_id"),
        (|a| a.task_group = "h".to_owned(), "sub"),
    ] {
        assert_refused(of(vec![Some(changed(change))]).await, "nomad_claims", claim);
    }
    for sub in [
        "us:shop:web:g:weft-proxy:weft",
        "eu:bank:web:g:weft-proxy:weft",
        "eu:shop:api:g:weft-proxy:weft",
        "eu:shop:web:h:weft-proxy:weft",
        "eu:shop:web:g:g:weft-proxy:weft",
        ":weft-proxy:weft",
    ] {
        let refused = attest(&token(|claims| claims["sub"] = json!(sub))).await;
        assert_refused(refused, "nomad_claims", "token's sub");
    }
}

#[tokio::test]
async fn names_that_hold_colons_are_compared_as_they_are() {
    let (scripted, attestor) = region_with(false, |region| {
        let (namespace, job) = ("shop".to_owned(), "we:b".to_owned());
        let rule = IdentityRule { namespace, job, identities: vec!["web".to_owned()] };
        region.identities = IdentityRules::from_iter([rule]);
    });
    let colons = |job: &str, group: &str| {
        let mut allocation = allocation();
        (allocation.job_id, allocation.job.id) = (job.to_owned(), job.to_owned());
        (allocation.task_group, allocation.job.task_groups[0].name) = (group.to_owned(), group.to_owned());
        allocation.job.meta.insert("weft.dev/identity".to_owned(), "web".to_owned());
        allocation
    };
    let token = token(|claims| {
        claims["nomad_job_id"] = json!("we:b");
        claims["sub"] = json!("eu:shop:we:b:g:1:weft-proxy:weft");
    });
    *scripted.0.allocations.lock().unwrap() = Ok(vec![Some(colons("we:b", "g:1"))]);
    assert_eq!(attestor.ask(&token).await.unwrap().as_str(), WEB);
    // The same subject, cut elsewhere.
    *scripted.0.allocations.lock().unwrap() = Ok(vec![Some(colons("we", "b:g:1"))]);
    assert_refused(attestor.ask(&token).await, "nomad_claims", "nomad_job_id");
}

#[tokio::test]
async fn a_region_without_a_name_in_the_settings_is_the_jobs_own() {
    let (scripted, attestor) = region_with(false, |region| region.region = None);
    assert_eq!(attestor.ask(&token(|_| {})).await.unwrap().as_str(), WEB);
    *scripted.0.allocations.lock().unwrap() =
        Ok(vec![Some(changed(|allocation| allocation.job.region = "us".to_owned()))]);
    assert_refused(attestor.ask(&token(|_| {})).await, "nomad_claims", "sub");
}

#[tokio::test]
async fn an_allocation_must_be_where_the_proxy_says_on_a_node_that_nomad_hears_of() {
    let (scripted, attestor) = region();
    let elsewhere = "0bd289eb-06c2-dd80-8c1c-906ce1455b14";
    for node in [elsewhere, "", "node-1"] {
        let refused = attestor.attest("nomad/prod", &token(|_| {}), node, now()).await;
        assert_refused(refused, "nomad_node", NODE);
    }
    for status in ["down", "disconnected", "later"] {
        *scripted.0.node.lock().unwrap() = Ok(Some(Node { id: NODE.to_owned(), status: status.to_owned() }));
        assert_refused(attestor.ask(&token(|_| {})).await, "nomad_node", status);
    }
    let other = Node { id: elsewhere.to_owned(), status: "ready".to_owned() };
    for node in [None, Some(other)] {
        *scripted.0.node.lock().unwrap() = Ok(node);
        assert_refused(attestor.ask(&token(|_| {})).await, "nomad_node", "is unknown");
    }
    *scripted.0.node.lock().unwrap() =
        Ok(Some(Node { id: NODE.to_owned(), status: "initializing".to_owned() }));
    assert!(attestor.ask(&token(|_| {})).await.is_ok());
}

#[tokio::test]
async fn the_group_must_have_a_sidecar_in_the_version_that_runs() {
    let without = changed(|allocation| allocation.job.task_groups[0].tasks.truncate(1));
    let no_group = changed(|allocation| allocation.job.task_groups.clear());
    for allocation in [without, no_group] {
        assert_refused(of(vec![Some(allocation)]).await, "nomad_task", "has no task \"weft-proxy\"");
    }
}

#[tokio::test]
async fn a_job_is_itself_unless_a_rule_lets_it_be_what_its_meta_says() {
    let claims = |group: Option<&str>, job: Option<&str>| {
        changed(|allocation| {
            let meta = |name: Option<&str>| {
                name.map(|name| ("weft.dev/identity".to_owned(), name.to_owned())).into_iter().collect()
            };
            (allocation.job.task_groups[0].meta, allocation.job.meta) = (meta(group), meta(job));
        })
    };
    assert_refused(of(vec![Some(claims(None, Some("billing")))]).await, "nomad_identity", "no rule");
    let (scripted, attestor) = region_with(false, |region| {
        let identities = vec!["front".to_owned(), "web".to_owned()];
        let rule = IdentityRule { namespace: "shop".to_owned(), job: "web".to_owned(), identities };
        region.identities = IdentityRules::from_iter([rule]);
    });
    for (allocation, account) in [
        (claims(None, None), "web"),
        (claims(None, Some("front")), "front"),
        (claims(Some("front"), None), "front"),
        (claims(Some("front"), Some("billing")), "front"),
    ] {
        *scripted.0.allocations.lock().unwrap() = Ok(vec![Some(allocation)]);
        let id = attestor.ask(&token(|_| {})).await.unwrap();
        assert_eq!(id.as_str(), format!("spiffe://weft.test/ns/shop/sa/{account}"));
    }
    *scripted.0.allocations.lock().unwrap() = Ok(vec![Some(claims(Some("billing"), Some("front")))]);
    assert_refused(attestor.ask(&token(|_| {})).await, "nomad_identity", "\"billing\"");
}

/// A job that says that it is `web`'s child.
fn child(id: &str, dispatched: bool) -> Allocation {
    changed(|allocation| {
        (allocation.job_id, allocation.job.id) = (id.to_owned(), id.to_owned());
        allocation.job.parent_id = "web".to_owned();
        allocation.job.dispatched = dispatched;
    })
}

#[tokio::test]
async fn what_nomad_made_of_a_job_has_the_jobs_identity() {
    let (scripted, attestor) = region();
    for (id, dispatched, periodic) in
        [("web/periodic-1795496568", false, true), ("web/dispatch-1795-06", true, false)]
    {
        *scripted.0.allocations.lock().unwrap() = Ok(vec![Some(child(id, dispatched))]);
        *scripted.0.job.lock().unwrap() = Ok(Some(Job { periodic, parameterized: !periodic, ..job() }));
        assert_eq!(attestor.ask(&token(|_| {})).await.unwrap().as_str(), WEB);
    }
}

#[tokio::test]
async fn a_parent_of_ones_own_choice_is_refused() {
    let (plain, periodic) = (job(), Job { periodic: true, ..job() });
    let parameterized = Job { parameterized: true, ..job() };
    let foreign = Job { namespace: "bank".to_owned(), ..periodic.clone() };
    for (allocation, parent, words) in [
        (child("web/periodic-1", false), None, "no such job"),
        (child("web/periodic-1", false), Some(foreign), "no such job"),
        (child("web/periodic-1", false), Some(plain.clone()), "not periodic"),
        (child("web/periodic-1", false), Some(parameterized.clone()), "not periodic"),
        (child("web/periodic-x", false), Some(periodic.clone()), "is not of the form"),
        (child("web/periodic-", false), Some(periodic.clone()), "is not of the form"),
        (child("web2", false), Some(periodic.clone()), "is not of the form"),
        (child("thief", false), Some(periodic.clone()), "does not begin with"),
        (child("web/dispatch-1", true), Some(plain), "not parameterized"),
        (child("web/dispatch-1", true), Some(periodic), "not parameterized"),
        (child("web/dispatch-1", false), Some(parameterized), "did not dispatch"),
    ] {
        let (scripted, attestor) = region();
        let name = allocation.job.id.clone();
        *scripted.0.allocations.lock().unwrap() = Ok(vec![Some(allocation)]);
        *scripted.0.job.lock().unwrap() = Ok(parent);
        let answer = attestor.ask(&token(|_| {})).await;
        assert!(answer.as_ref().is_err_and(|refusal| refusal.to_string().contains(&name)), "{answer:?}");
        assert_refused(answer, "nomad_parent", words);
    }
}

#[tokio::test]
async fn a_namespace_that_is_none_of_the_mesh_is_named() {
    let (scripted, attestor) = region();
    let odd = |allocation: &mut Allocation| {
        (allocation.namespace, allocation.job.namespace) = ("a b".to_owned(), "a b".to_owned());
    };
    *scripted.0.allocations.lock().unwrap() = Ok(vec![Some(changed(odd))]);
    let token = token(|claims| {
        (claims["nomad_namespace"], claims["sub"]) = (json!("a b"), json!("eu:a b:web:g:weft-proxy:weft"));
    });
    assert_refused(attestor.ask(&token).await, "nomad_identity", "a b");
}

#[tokio::test]
async fn a_nomad_that_does_not_answer_is_not_the_callers_fault_and_vouches_for_nobody() {
    type Spoil = fn(&Script);
    let down = || "connection refused".to_owned();
    let spoils: [Spoil; 4] = [
        |script| *script.keys.lock().unwrap() = Err("connection refused".to_owned()),
        |script| *script.allocations.lock().unwrap() = Err("connection refused".to_owned()),
        |script| *script.node.lock().unwrap() = Err("connection refused".to_owned()),
        |script| {
            *script.allocations.lock().unwrap() = Ok(vec![Some(child("web/periodic-1", false))]);
            *script.job.lock().unwrap() = Err("connection refused".to_owned());
        },
    ];
    for spoil in spoils {
        let (scripted, attestor) = region();
        spoil(&scripted.0);
        assert_refused(attestor.ask(&token(|_| {})).await, "unavailable", &down());
    }
}

#[tokio::test(start_paused = true)]
async fn a_nomad_that_hangs_holds_nobody_longer_than_eight_seconds_nor_more_than_its_places() {
    let (scripted, attestor) = region_with(true, |_| {});
    let good = token(|_| {});
    let callers = (0..AT_ONCE + 10).map(|_| attestor.ask(&good));
    let began = tokio::time::Instant::now();
    let just_before = async {
        tokio::time::sleep(PATIENCE - Duration::from_secs(1)).await;
        scripted.0.asked.lock().unwrap().len()
    };
    let (asked, answers) = futures::join!(just_before, futures::future::join_all(callers));
    assert_eq!((asked, began.elapsed()), (AT_ONCE, PATIENCE));
    for answer in answers {
        assert_refused(answer, "unavailable", "did not answer in 8 s");
    }
}
