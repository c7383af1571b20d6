//! What Nomad says of a token's allocation, held against what the token claims and what the proxy says: that it runs, with a
//! sidecar, there, and whose it is.
//!
//! A token is good as long as its allocation runs and no longer; nobody but Nomad knows that.

use weft_registry_nomad::attest::{Allocation, Job, Node};
use weft_registry_nomad::sidecar::{IDENTITY_NAME, SIDECAR_TASK};

use super::claims::Claims;
use super::refusal::{NomadRefusal, shown};

/// The sidecar's token is there a moment before its node has told the servers that it runs.
pub(super) fn is_starting(allocation: &Allocation) -> bool {
    let sidecar = allocation.task_states.get(SIDECAR_TASK).map_or("pending", |task| task.state.as_str());
    allocation.desired_status == "run"
        && matches!(allocation.client_status.as_str(), "pending" | "running")
        && sidecar == "pending"
}

/// That it runs, and its sidecar does.
pub(super) fn check_running(allocation: &Allocation) -> Result<(), NomadRefusal> {
    let Allocation { id, desired_status, client_status, task_states, .. } = allocation;
    let not_running = |found| Err(NomadRefusal::NotRunning { allocation: id.clone(), found });
    if desired_status != "run" {
        return not_running(format!("its desired status is {:?}", shown(desired_status)));
    }
    if !matches!(client_status.as_str(), "pending" | "running") {
        return not_running(format!("its client status is {:?}", shown(client_status)));
    }
    match task_states.get(SIDECAR_TASK).map(|task| task.state.as_str()) {
        Some("running") => Ok(()),
        Some(other) => not_running(format!("its task {SIDECAR_TASK:?} is {:?}", shown(other))),
        None => not_running(format!("its task {SIDECAR_TASK:?} has no state")),
    }
}

/// That it is the one that the token speaks of. Names of jobs and groups may hold colons: the subject is not taken apart but
/// written again, of what Nomad says.
pub(super) fn check_claims(
    claims: &Claims,
    allocation: &Allocation,
    region: Option<&str>,
) -> Result<(), NomadRefusal> {
    let Allocation { id, namespace, job_id, task_group, job, .. } = allocation;
    let (own, region) = (job_for_identity(job), region.unwrap_or(&job.region));
    let subject = format!("{region}:{namespace}:{own}:{task_group}:{SIDECAR_TASK}:{IDENTITY_NAME}");
    for (claim, claimed, found) in [
        ("nomad_allocation_id", &claims.allocation, id.as_str()),
        ("nomad_namespace", &claims.namespace, namespace),
        ("nomad_namespace", &claims.namespace, &job.namespace),
        ("nomad_job_id", &claims.job, own),
        ("sub", &claims.subject, &subject),
    ] {
        if claimed != found {
            let (claimed, found) = (shown(claimed), shown(found));
            return Err(NomadRefusal::Contradiction { claim, claimed, found });
        }
    }
    // Both come from Nomad; a proxy before it could mix two answers up.
    if *job_id != job.id {
        let (claimed, found) = (shown(job_id), shown(&job.id));
        return Err(NomadRefusal::Contradiction { claim: "allocation's JobID", claimed, found });
    }
    Ok(())
}

/// Nomad's tokens of a job that was made of another one name the other one (`Job.GetIDforWorkloadIdentity`).
pub(super) fn job_for_identity(job: &Job) -> &str {
    if job.parent_id.is_empty() { &job.id } else { &job.parent_id }
}

/// That it is where the proxy says, on a node that Nomad hears of.
pub(super) fn check_node(allocation: &Allocation, claimed: &str) -> Result<(), NomadRefusal> {
    if allocation.node_id == claimed {
        return Ok(());
    }
    Err(NomadRefusal::OtherNode {
        allocation: allocation.id.clone(),
        claimed: shown(claimed),
        found: shown(&allocation.node_id),
    })
}

/// That Nomad hears of the node.
pub(super) fn check_node_status(allocation: &Allocation, node: Option<&Node>) -> Result<(), NomadRefusal> {
    let found = match node {
        Some(node) if node.id == allocation.node_id => match node.status.as_str() {
            // One that registers anew runs what it ran before.
            "ready" | "initializing" => return Ok(()),
            other => shown(other),
        },
        _ => "unknown".to_owned(),
    };
    let (allocation, node) = (allocation.id.clone(), shown(&allocation.node_id));
    Err(NomadRefusal::NodeAway { allocation, node, found })
}

/// That Nomad itself made `job` of the parent that it names. A job that is registered over HTTP has no parent; over the servers'
/// RPC whoever may submit jobs can name any, and Nomad's tokens follow it. One that was dispatched says so, and none that was
/// registered can; of the clock's there is only the name.
pub(super) fn check_parent(job: &Job, parent: Option<&Job>) -> Result<(), NomadRefusal> {
    let refused = |why| NomadRefusal::Parent { job: shown(&job.id), parent: shown(&job.parent_id), why };
    let parent = parent.filter(|parent| parent.id == job.parent_id && parent.namespace == job.namespace);
    let parent = parent.ok_or_else(|| refused("there is no such job in its namespace"))?;
    let rest = job.id.strip_prefix(&job.parent_id);
    let rest = rest.ok_or_else(|| refused("its id does not begin with its parent's"))?;
    let launched = rest
        .strip_prefix("/periodic-")
        .is_some_and(|at| !at.is_empty() && at.bytes().all(|b| b.is_ascii_digit()));
    match (launched, rest.starts_with("/dispatch-")) {
        (true, _) if parent.periodic => Ok(()),
        (_, true) if parent.parameterized && job.dispatched => Ok(()),
        (true, _) => Err(refused("which is not periodic")),
        (_, true) if parent.parameterized => Err(refused("which did not dispatch it")),
        (_, true) => Err(refused("which is not parameterized")),
        _ => Err(refused("its id is not of the form PARENT/periodic-TIME or PARENT/dispatch-ID")),
    }
}

/// What the job says it is, the group before the job. The group must have the sidecar.
pub(super) fn claimed_identity(allocation: &Allocation) -> Result<Option<&str>, NomadRefusal> {
    let job = &allocation.job;
    let group = job.task_groups.iter().find(|group| group.name == allocation.task_group);
    let group = group.filter(|group| group.tasks.iter().any(|task| task.name == SIDECAR_TASK));
    let group = group.ok_or_else(|| NomadRefusal::NoSidecar(allocation.id.clone()))?;
    Ok([&group.meta, &job.meta].into_iter().find_map(|meta| meta.get(IDENTITY_META)).map(String::as_str))
}

/// The key of `meta` by which a job says what it is.
const IDENTITY_META: &str = "weft.dev/identity";
