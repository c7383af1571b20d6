//! The whole job: each group by itself, and all that is wrong at once.

use serde_json::Value;
use weft_injector::Refused;

use crate::{NomadInjectorSettings, group, job};

/// A job with its sidecars.
#[derive(Debug, Clone, PartialEq)]
pub struct Injection {
    /// The job.
    pub job: Value,
    /// The groups that have a sidecar now.
    pub groups: Vec<String>,
    /// What its owner should look at, a sentence each.
    pub warnings: Vec<String>,
}

/// Puts the groups of a job whose `meta` says `weft.dev/inject = "true"` into the mesh. What an earlier injection added is
/// taken away first, so that doing it again changes nothing, or only what the settings changed.
///
/// # Errors
/// With everything that is wrong with the job, each with its group; also where no group asks for a sidecar.
pub fn inject(job: &Value, settings: &NomadInjectorSettings) -> Result<Injection, Refused> {
    let problems = settings.problems();
    Refused::if_any(problems.into_iter().map(|problem| format!("setting {problem}")).collect())?;
    Refused::if_any(job::misshapen(job).into_iter().collect())?;
    let mut changed = take_away(job);
    let (mut groups, mut warnings, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    let whole = changed.clone();
    for one in job::each_mut(&mut changed, "TaskGroups") {
        let name = job::text(one, "Name").to_owned();
        let (mut wrong, mut doubtful) = (Vec::new(), Vec::new());
        if group::inject(&whole, one, settings, &mut wrong, &mut doubtful) {
            groups.push(name.clone());
        }
        problems.extend(wrong.into_iter().map(|problem| format!("group {name:?}: {problem}")));
        warnings.extend(doubtful.into_iter().map(|warning| format!("group {name:?}: {warning}")));
    }
    if groups.is_empty() && problems.is_empty() {
        problems.push(
            "no group asks for a sidecar: write meta = { \"weft.dev/inject\" = \"true\" } into a group or the job".to_owned(),
        );
    }
    Refused::if_any(problems)?;
    Ok(Injection { job: changed, groups, warnings })
}

/// The job without what an injection added to it. What has not the shape of a job stays as it is.
pub fn take_away(job: &Value) -> Value {
    let mut job = job.clone();
    if job::misshapen(&job).is_some() {
        return job;
    }
    job::each_mut(&mut job, "TaskGroups").for_each(group::take_away);
    job
}
