//! What happened, for people: virtual time, who, what. Made only where somebody reads it.

use std::fmt::Display;
use std::time::Duration;

/// Where the lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trace {
    /// Nowhere.
    Off,
    /// Standard output, as they come.
    Print,
}

impl Trace {
    pub(crate) fn say<T: Display>(self, now: Duration, who: &dyn Display, what: impl FnOnce() -> T) {
        if self == Trace::Print {
            println!("{:>10.3}s  {:<12} {}", now.as_secs_f64(), who.to_string(), what());
        }
    }
}
