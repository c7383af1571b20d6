//! The object of the API that a [`Problem`] is about: who tells its owner there needs its kind, namespace and name.
//!
//! A problem names its object as people find it again (`pod shop/web-0`), and that is enough: it is read back here, beside
//! those who write it. What a problem of the whole source is about (`pods in namespace shop`) is no object.

use weft_registry::Problem;

use crate::object::ObjectKey;

/// An object that a problem can be about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// What it is.
    pub kind: SubjectKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The kinds of objects that can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubjectKind {
    /// A pod.
    Pod,
    /// A Service.
    Service,
    /// An EndpointSlice.
    EndpointSlice,
}

impl Subject {
    /// The object that `problem` is about; `None` where it is about no single one.
    pub fn of(problem: &Problem) -> Option<Self> {
        let (kind, key) = problem.object.split_once(' ')?;
        let kind = SubjectKind::ALL.into_iter().find(|known| known.word() == kind)?;
        let (namespace, name) = key.split_once('/')?;
        Some(Self { kind, namespace: namespace.to_owned(), name: name.to_owned() })
    }
}

impl SubjectKind {
    const ALL: [Self; 3] = [Self::Pod, Self::Service, Self::EndpointSlice];

    /// In a problem's text.
    fn word(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Service => "service",
            Self::EndpointSlice => "endpointslice",
        }
    }

    /// The API's name of the kind.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pod => "Pod",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
        }
    }

    /// The group and version of the kind.
    pub fn api_version(self) -> &'static str {
        match self {
            Self::Pod | Self::Service => "v1",
            Self::EndpointSlice => "discovery.k8s.io/v1",
        }
    }
}

/// An object as a user finds it again: `pod shop/web-0`.
pub(crate) fn object_name(kind: &str, key: &ObjectKey) -> String {
    format!("{kind} {key}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problems_text_leads_back_to_its_object() {
        for kind in SubjectKind::ALL {
            let object = object_name(kind.word(), &ObjectKey::new("shop", "web-0"));
            let subject = Subject { kind, namespace: "shop".to_owned(), name: "web-0".to_owned() };
            assert_eq!(Subject::of(&Problem::error(object, "bad")), Some(subject));
        }
    }

    #[test]
    fn a_problem_of_the_whole_source_is_about_no_object() {
        for text in ["pods", "pods in namespace shop", "nodes", "", "node /n1", "pod web-0"] {
            assert_eq!(Subject::of(&Problem::error(text, "bad")), None, "{text:?}");
        }
    }
}
