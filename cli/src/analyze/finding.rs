//! What was found, and the list of all that can be: each kind of finding has a code that stays the same for ever.

use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// It does not work.
    Error,
    /// It does not do what was probably meant.
    Warning,
    /// Worth knowing.
    Info,
}

impl Severity {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// One kind of finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Code(pub(crate) &'static str);

pub(crate) const NOT_ASKED: Code = Code("WEFT0101");
pub(crate) const NO_PROXY: Code = Code("WEFT0102");
pub(crate) const LEFT_ALONE: Code = Code("WEFT0103");
pub(crate) const REFUSED: Code = Code("WEFT0104");
pub(crate) const DOUBTFUL: Code = Code("WEFT0105");
pub(crate) const DRIFTED: Code = Code("WEFT0106");
pub(crate) const NO_UPSTREAM: Code = Code("WEFT0107");
pub(crate) const SERVICE: Code = Code("WEFT0201");
pub(crate) const DETECTED: Code = Code("WEFT0202");
pub(crate) const NO_TARGET: Code = Code("WEFT0203");
pub(crate) const NOT_CAPTURED: Code = Code("WEFT0204");
pub(crate) const TWO_PROTOCOLS: Code = Code("WEFT0205");
pub(crate) const NO_SELECTOR: Code = Code("WEFT0206");
pub(crate) const DEFAULT_ACCOUNT: Code = Code("WEFT0301");
pub(crate) const SHARED_ACCOUNT: Code = Code("WEFT0302");
pub(crate) const NO_IDENTITY: Code = Code("WEFT0303");
pub(crate) const NO_WEBHOOK: Code = Code("WEFT0401");
pub(crate) const NO_CA_BUNDLE: Code = Code("WEFT0402");
pub(crate) const FAILS_OPEN: Code = Code("WEFT0403");
pub(crate) const NOT_READY: Code = Code("WEFT0404");
pub(crate) const TUNNEL_CLOSED: Code = Code("WEFT0501");
pub(crate) const RESTRICTED: Code = Code("WEFT0502");

/// All of them; the documentation has a row for each.
#[cfg(test)]
pub(crate) const ALL: [Code; 22] = [
    NOT_ASKED,
    NO_PROXY,
    LEFT_ALONE,
    REFUSED,
    DOUBTFUL,
    DRIFTED,
    NO_UPSTREAM,
    SERVICE,
    DETECTED,
    NO_TARGET,
    NOT_CAPTURED,
    TWO_PROTOCOLS,
    NO_SELECTOR,
    DEFAULT_ACCOUNT,
    SHARED_ACCOUNT,
    NO_IDENTITY,
    NO_WEBHOOK,
    NO_CA_BUNDLE,
    FAILS_OPEN,
    NOT_READY,
    TUNNEL_CLOSED,
    RESTRICTED,
];

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    /// `Deployment shop/web`.
    pub(crate) object: String,
    pub(crate) code: &'static str,
    /// Where in it: `spec.ports[0]`; empty where it is about the whole.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) field: String,
    /// What is so.
    pub(crate) message: String,
    /// What to do; empty where nothing need be done.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) fix: String,
}

impl Finding {
    /// One about an object.
    pub(crate) fn new(
        severity: Severity,
        code: Code,
        object: impl ToString,
        message: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            object: object.to_string(),
            code: code.0,
            field: String::new(),
            message: message.into(),
            fix: String::new(),
        }
    }

    /// Where.
    pub(crate) fn at(self, field: impl Into<String>) -> Self {
        Self { field: field.into(), ..self }
    }

    /// What to do.
    pub(crate) fn fix(self, fix: impl Into<String>) -> Self {
        Self { fix: fix.into(), ..self }
    }
}
