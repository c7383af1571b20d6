//! Makes a failing run smaller: fewer hosts, fewer kinds of faults, less time, as long as the same sentence fails.

use crate::plan::Plan;
use crate::trace::Trace;

/// The smallest plan found that violates the same invariant as `plan` does, in at most `tries` runs.
pub fn shrink(plan: &Plan, tries: usize) -> Plan {
    let Err(violation) = crate::run(plan, Trace::Off) else { return plan.clone() };
    let mut smallest = plan.clone();
    let mut left = tries;
    loop {
        let fails = |plan: &Plan| {
            crate::run(plan, Trace::Off).is_err_and(|other| other.invariant == violation.invariant)
        };
        let smaller = smallest.smaller().into_iter().take(left).enumerate().find(|(_, plan)| fails(plan));
        let Some((tried, smaller)) = smaller else { return smallest };
        left = left.saturating_sub(tried + 1);
        smallest = smaller;
    }
}
