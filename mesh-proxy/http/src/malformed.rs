//! Why a message was refused: the kinds that are counted and logged.
//!
//! One list for both versions of HTTP, so that one metric's label has few values and an operator learns them once. Which
//! answer a kind gets is decided here too; how it is written is the connection's business.

/// A kind of malformed or hostile message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Malformed {
    /// The request line or the status line is not one.
    StartLine,
}

impl Malformed {
    /// Every kind, for the metric's series.
    pub const ALL: [Self; 1] = [Self::StartLine];

    /// The value of the metric's label `kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StartLine => "start_line",
        }
    }
}
