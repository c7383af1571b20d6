//! Wall-clock times as the admin API tells them: Unix milliseconds.

use std::time::{SystemTime, UNIX_EPOCH};

/// `at` in Unix milliseconds; 0 for what is before 1970.
pub(crate) fn unix_ms(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
