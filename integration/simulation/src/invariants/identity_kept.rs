//! An identity never expires while the CA was reachable for one renewal window: where a certificate ends, no stretch of its
//! last 45 % was long enough for the attempt that the schedule owes (a quarter of what was left, and one call).
//!
//! A clock that is wrong counts as a CA that can't be reached: no certificate is valid for it.

use std::time::{Duration, SystemTime};

use super::{Violation, holds};
use crate::leaf::Leaf;
use crate::proxy::Proxy;

const INVARIANT: &str = "an identity never expires while the CA was reachable for one renewal window";
/// A control plane that does not answer costs a call so long.
const CALL: Duration = Duration::from_secs(10);
/// Clocks and messages take their time.
const SLACK: Duration = Duration::from_secs(5);

/// Of a leaf that ends at `now`, of one of `planes` control planes.
pub(crate) fn check(proxy: &Proxy, leaf: &Leaf, planes: u32, now: Duration) -> Result<(), Violation> {
    let life = now.saturating_sub(leaf.obtained);
    if proxy.leaf != Some(*leaf) || leaf.wrong_clock || life.is_zero() {
        return Ok(());
    }
    let window = leaf.obtained + life.mul_f64(0.55);
    // A call to all of them may have been under way, and is made once more to all but the one that answers.
    let calls = CALL * (2 * planes - 1) + SLACK;
    for (from, to) in &proxy.reachable {
        let (from, to) = ((*from).max(window), to.unwrap_or(now));
        let owed = (now.saturating_sub(from) / 4).max(Duration::from_secs(2)) + calls;
        holds(INVARIANT, to.saturating_sub(from) < owed, || {
            format!(
                "a certificate of {:.0} s ends; the CA was reachable from {:.3} s to {:.3} s",
                life.as_secs_f64(),
                from.as_secs_f64(),
                to.as_secs_f64()
            )
        })?;
    }
    Ok(())
}

/// Once everything works again, everybody has one.
pub(crate) fn check_valid(proxy: &Proxy, wall: SystemTime) -> Result<(), Violation> {
    let valid = proxy.leaf.map(|leaf| weft_identity::validity(leaf.not_before, leaf.not_after, wall));
    holds(INVARIANT, valid == Some(Ok(())), || format!("long after all is well the certificate is {valid:?}"))
}
