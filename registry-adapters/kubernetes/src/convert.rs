//! From the API's objects to what the mesh means by them. Pure.
//!
//! An object with a wrong value in an annotation is not used as it stands: its last good state stays, where there is one.
//! What this module leaves out and why is the list in `lib.rs`. How the parts make a workload is `view.rs`'s business.

mod pod;
mod service;
mod slice;
mod traffic;

use weft_model::{KeySyntax, Metadata, Namespace, Network, PortName, Protocol, RegistryId, TrustDomain};
use weft_registry::{Problem, Severity};

use crate::object::{ObjectKey, Picked};
use crate::subject::object_name;

pub(crate) use pod::{PodFacts, pod};
pub(crate) use service::{Declared, OWN_API, service};
pub(crate) use slice::{EndpointFacts, SliceFacts, slice};

/// What every conversion needs.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) registry: RegistryId,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) network: Network,
}

/// What was written in an object's annotations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Written {
    Nothing,
    Good(Box<Metadata>),
    /// A value is wrong, and none was ever good.
    Refused,
}

impl Written {
    /// Reads annotations. `before` is what the last ones were read as.
    fn read(
        context: &Context,
        about: &About<'_>,
        annotations: &Picked,
        before: Option<&Written>,
    ) -> (Self, Vec<Problem>) {
        if annotations.is_empty() {
            return (Self::Nothing, Vec::new());
        }
        let (metadata, found) =
            Metadata::parse(KeySyntax::Slash, annotations.iter(), &context.trust_domain, about.namespace);
        let mut problems: Vec<Problem> = found
            .into_iter()
            .map(|problem| {
                let field = format!("metadata.annotations[{}]", problem.key);
                let object = about.object();
                let made = match problem.severity {
                    Severity::Warning => Problem::warning(object, problem.to_string()),
                    Severity::Error => Problem::error(object, problem.to_string()),
                };
                made.in_field(field)
            })
            .collect();
        let is_bad = problems.iter().any(|problem| problem.severity == Severity::Error);
        problems.extend(without_effect(about, annotations));
        let written = match (is_bad, before) {
            (false, _) => Self::Good(Box::new(metadata)),
            (true, Some(before)) => before.clone(),
            (true, None) => Self::Refused,
        };
        (written, problems)
    }

    pub(crate) fn metadata(&self) -> Option<&Metadata> {
        match self {
            Self::Good(metadata) => Some(metadata),
            Self::Nothing | Self::Refused => None,
        }
    }

    pub(crate) fn protocol_for(&self, port: Option<&PortName>) -> Option<Protocol> {
        self.metadata().and_then(|metadata| metadata.protocol_for(port))
    }
}

/// The object that a problem is about.
struct About<'a> {
    kind: &'static str,
    key: &'a ObjectKey,
    namespace: &'a Namespace,
    /// Our keys that mean nothing on this kind of object, and why.
    meaningless: &'a [(&'static str, &'static str)],
}

impl About<'_> {
    fn object(&self) -> String {
        object_name(self.kind, self.key)
    }
}

fn without_effect(about: &About<'_>, annotations: &Picked) -> Vec<Problem> {
    let of = |(key, why): &(&str, &str)| {
        let written = KeySyntax::Slash.written(key);
        annotations.get(&written)?;
        let message = format!("it has no effect here: {why}");
        Some(Problem::warning(about.object(), message).in_field(format!("metadata.annotations[{written}]")))
    };
    about.meaningless.iter().filter_map(of).collect()
}

/// The protocol that Kubernetes itself knows of a port: `appProtocol`, else the start of its name, as `grpc-admin`.
fn known_protocol(app_protocol: Option<&str>, name: &str) -> Option<Protocol> {
    if let Some(named) = app_protocol {
        // Others' values (`example.com/x`) say nothing that we know; the first bytes will.
        return named.to_ascii_lowercase().parse().ok();
    }
    let start = name.split_once('-').map_or(name, |(start, _)| start);
    start.parse().ok().filter(|protocol| *protocol != Protocol::Detect)
}
