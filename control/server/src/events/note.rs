//! What is said on an object, and the Event of the API that says it. Pure.
//!
//! Several control planes say the same, without asking each other: an Event's name follows from the object and the text, so
//! the second one finds that it has been said. What comes from a review is anybody's word: names that are none of the API's
//! are not used, and no text of theirs is repeated.

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use sha2::{Digest, Sha256};
use weft_injector::{Owner, Reviewed, Verdict};
use weft_model::Severity;
use weft_registry::Problem;
use weft_registry_kubernetes::Subject;

/// A text and the object that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    pub(super) about: About,
    reason: &'static str,
    message: String,
}

/// An object of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct About {
    api_version: String,
    pub(super) kind: String,
    pub(super) namespace: String,
    pub(super) name: String,
    /// Where it is known already.
    pub(super) uid: Option<String>,
}

/// Tells notes apart: the object, by its name, and the text.
pub(super) type Key = [u8; 16];

impl Note {
    /// What is said of a problem; `None` where it is about no single object.
    pub(crate) fn of_problem(problem: &Problem) -> Option<Self> {
        let Subject { kind, namespace, name } = Subject::of(problem)?;
        let (api_version, kind) = (kind.api_version().to_owned(), kind.as_str().to_owned());
        let about = About { api_version, kind, namespace, name, uid: None };
        let reason = match problem.severity {
            Severity::Error => "WeftInvalid",
            Severity::Warning => "WeftIgnored",
        };
        Self::new(about, reason, text(problem))
    }

    /// What is said of a pod that was let through as it is, against expectation: on the pod, or where it has no name yet, on
    /// its controller.
    pub(crate) fn of_review(reviewed: &Reviewed) -> Option<Self> {
        let Verdict::Skipped(skip) = &reviewed.verdict else { return None };
        if !skip.is_surprise() || reviewed.is_dry_run {
            return None;
        }
        let namespace = reviewed.namespace.clone();
        let (about, message) = match (reviewed.is_named, &reviewed.owner) {
            (true, _) => {
                let (api_version, kind) = ("v1".to_owned(), "Pod".to_owned());
                let about = About { api_version, kind, namespace, name: reviewed.pod.clone(), uid: None };
                (about, format!("no proxy was put in: {skip}"))
            }
            (false, Some(Owner { api_version, kind, name, uid })) => {
                let (api_version, kind) = (api_version.clone(), kind.clone());
                let about =
                    About { api_version, kind, namespace, name: name.clone(), uid: Some(uid.clone()) };
                (about, format!("no proxy was put into its pods: {skip}"))
            }
            (false, None) => return None,
        };
        Self::new(about, "WeftNotInjected", message)
    }

    /// What is said of a Secret that should be a registry and can't be.
    pub(crate) fn of_secret(namespace: &str, name: &str, uid: Option<String>, problem: &str) -> Option<Self> {
        let (api_version, kind) = ("v1".to_owned(), "Secret".to_owned());
        let about = About { api_version, kind, namespace: namespace.to_owned(), name: name.to_owned(), uid };
        Self::new(about, "WeftInvalid", format!("this registry can't be followed: {problem}"))
    }

    fn new(about: About, reason: &'static str, message: String) -> Option<Self> {
        let message = cut(&message, MAX_MESSAGE).to_owned();
        about.is_legal().then_some(Self { about, reason, message })
    }

    pub(super) fn key(&self) -> Key {
        self.hash("")
    }

    fn hash(&self, uid: &str) -> Key {
        let About { api_version, kind, namespace, name, .. } = &self.about;
        let mut hash = Sha256::new();
        for part in [api_version, kind, namespace, name, uid, self.reason, &self.message] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        let hash: [u8; 32] = hash.finalize().into();
        let mut key = Key::default();
        key.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        key
    }

    /// The Event, on the object of this uid where it is known: `kubectl describe` shows no other's.
    pub(super) fn event(&self, uid: Option<String>, now: Timestamp) -> Event {
        let About { api_version, kind, namespace, name, .. } = &self.about;
        let hash = hex::encode(self.hash(uid.as_deref().unwrap_or_default()));
        // As other components name theirs: the object, a dot, what tells them apart.
        let start = cut(name, MAX_NAME - 1 - hash.len()).trim_end_matches(['-', '.']);
        let time = Some(Time(now));
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{start}.{hash}")),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some(api_version.clone()),
                kind: Some(kind.clone()),
                namespace: Some(namespace.clone()),
                name: Some(name.clone()),
                uid,
                ..ObjectReference::default()
            },
            type_: Some("Warning".to_owned()),
            reason: Some(self.reason.to_owned()),
            message: Some(self.message.clone()),
            source: Some(EventSource { component: Some(COMPONENT.to_owned()), host: None }),
            reporting_component: Some(COMPONENT.to_owned()),
            first_timestamp: time.clone(),
            last_timestamp: time,
            count: Some(1),
            ..Event::default()
        }
    }
}

impl About {
    /// Whether the API could have such an object: the names go into paths.
    fn is_legal(&self) -> bool {
        let is_name = |name: &str| {
            let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
            let outer = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
            let bytes = name.as_bytes();
            name.len() <= MAX_NAME
                && bytes.iter().all(|b| allowed(*b))
                && outer(bytes.first().copied())
                && outer(bytes.last().copied())
        };
        let is_word = |text: &str, allowed: &[u8]| {
            (1..=MAX_NAME).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || allowed.contains(&b))
        };
        let is_label = self.namespace.len() <= 63 && !self.namespace.contains('.');
        is_name(&self.name)
            && is_name(&self.namespace)
            && is_label
            && is_word(&self.kind, b"")
            && is_word(&self.api_version, b"./-")
            && self.uid.as_deref().is_none_or(|uid| is_word(uid, b"-"))
    }
}

/// Field and message; not the field where the message begins with the annotation's name.
fn text(problem: &Problem) -> String {
    let Problem { field, message, .. } = problem;
    match field {
        Some(field) if field.split_once('[').is_none_or(|(_, key)| !repeats(message, key)) => {
            format!("{field}: {message}")
        }
        _ => message.clone(),
    }
}

fn repeats(message: &str, key: &str) -> bool {
    let key = key.trim_end_matches(']');
    !key.is_empty() && message.strip_prefix(key).is_some_and(|rest| rest.starts_with(' '))
}

/// At most so many bytes of it.
fn cut(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or(text)
}

/// Of the Event's reporter.
const COMPONENT: &str = "weft-control";
/// RFC 1123 subdomains.
const MAX_NAME: usize = 253;
/// What events.k8s.io allows for a note (1 KiB), to which the server converts it.
const MAX_MESSAGE: usize = 1000;

#[cfg(test)]
mod tests {
    use weft_injector::Skip;

    use super::*;

    fn weight(object: &str) -> Problem {
        let message = "weft.dev/weight is \"x\": expected a whole number from 0 to 1000";
        Problem::error(object, message).in_field("metadata.annotations[weft.dev/weight]")
    }

    fn event(note: &Note, uid: Option<&str>) -> Event {
        note.event(uid.map(str::to_owned), Timestamp::UNIX_EPOCH)
    }

    fn skipped(is_named: bool) -> Reviewed {
        let text = str::to_owned;
        let owner = Owner {
            api_version: text("apps/v1"),
            kind: text("DaemonSet"),
            name: text("agent"),
            uid: text("u-1"),
        };
        Reviewed {
            body: Vec::new(),
            namespace: text("shop"),
            pod: text(if is_named { "agent-0" } else { "agent-" }),
            is_named,
            owner: Some(owner),
            is_dry_run: false,
            verdict: Verdict::Skipped(Skip::HostNetwork),
        }
    }

    #[test]
    fn an_error_is_an_event_on_its_object_with_the_key_and_what_is_expected() {
        let note = Note::of_problem(&weight("pod shop/web-0")).unwrap();
        let event = event(&note, Some("u-1"));
        let about = &event.involved_object;
        assert_eq!(
            (about.api_version.as_deref(), about.kind.as_deref(), about.uid.as_deref()),
            (Some("v1"), Some("Pod"), Some("u-1"))
        );
        assert_eq!((about.namespace.as_deref(), about.name.as_deref()), (Some("shop"), Some("web-0")));
        assert_eq!(event.metadata.namespace.as_deref(), Some("shop"));
        assert_eq!((event.type_.as_deref(), event.reason.as_deref()), (Some("Warning"), Some("WeftInvalid")));
        let expected = "weft.dev/weight is \"x\": expected a whole number from 0 to 1000";
        assert_eq!(event.message.as_deref(), Some(expected), "the field is not said twice");
    }

    #[test]
    fn a_warning_says_its_field_and_has_another_reason() {
        let problem = Problem::warning("endpointslice shop/web-x", "it is left out").in_field("addressType");
        let event = event(&Note::of_problem(&problem).unwrap(), None);
        assert_eq!(event.reason.as_deref(), Some("WeftIgnored"));
        assert_eq!(event.message.as_deref(), Some("addressType: it is left out"));
        assert_eq!(event.involved_object.api_version.as_deref(), Some("discovery.k8s.io/v1"));
    }

    #[test]
    fn two_control_planes_give_the_same_event_the_same_name() {
        let name =
            |problem: &Problem, uid| event(&Note::of_problem(problem).unwrap(), uid).metadata.name.unwrap();
        let web = weight("pod shop/web-0");
        assert_eq!(name(&web, Some("u-1")), name(&web, Some("u-1")));
        let other_text = Problem { message: "other".to_owned(), ..web.clone() };
        let other_reason = Problem { severity: Severity::Warning, ..web.clone() };
        let names = [
            name(&web, Some("u-1")),
            name(&web, Some("u-2")),
            name(&web, None),
            name(&other_text, Some("u-1")),
            name(&other_reason, Some("u-1")),
            name(&weight("service shop/web-0"), Some("u-1")),
        ];
        assert!(names.iter().all(|name| name.starts_with("web-0.")), "{names:?}");
        assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), names.len(), "{names:?}");
    }

    #[test]
    fn long_names_and_texts_are_cut_to_what_the_api_takes() {
        let name = format!("{}-{}", "a".repeat(219), "b".repeat(33));
        let problem = Problem::error(format!("pod shop/{name}"), "é".repeat(2000));
        let event = event(&Note::of_problem(&problem).unwrap(), None);
        let made = event.metadata.name.unwrap();
        assert!(made.len() <= MAX_NAME && made.starts_with(&format!("{}.", "a".repeat(219))), "{made}");
        assert_eq!(event.message.unwrap().len(), MAX_MESSAGE);
        assert_eq!(event.involved_object.name, Some(name), "the object keeps its name");
    }

    #[test]
    fn a_pod_left_out_hears_it_itself_where_it_has_a_name_and_else_its_controller_does() {
        let on = |reviewed: &Reviewed| {
            let note = Note::of_review(reviewed).unwrap();
            (note.about.kind, note.about.name, note.about.uid, note.message)
        };
        let (kind, name, uid, message) = on(&skipped(true));
        assert_eq!((kind.as_str(), name.as_str(), uid), ("Pod", "agent-0", None));
        assert!(message.starts_with("no proxy was put in: ") && message.contains("host's network"));
        let (kind, name, uid, message) = on(&skipped(false));
        assert_eq!((kind.as_str(), name.as_str(), uid.as_deref()), ("DaemonSet", "agent", Some("u-1")));
        assert!(message.starts_with("no proxy was put into its pods: "), "{message}");
        assert_eq!(Note::of_review(&Reviewed { owner: None, ..skipped(false) }), None);
    }

    #[test]
    fn nothing_is_said_of_a_dry_run_or_of_what_was_asked_for_or_is_shown_by_kubernetes() {
        assert_eq!(Note::of_review(&Reviewed { is_dry_run: true, ..skipped(true) }), None);
        for verdict in [
            Verdict::Injected,
            Verdict::NotAPod,
            Verdict::Refused("bad".to_owned()),
            Verdict::Skipped(Skip::OptedOut),
        ] {
            assert_eq!(Note::of_review(&Reviewed { verdict, ..skipped(true) }), None);
        }
    }

    #[test]
    fn names_that_the_api_could_not_have_are_not_used() {
        for bad in ["", "..", "a/b", "../x", "web?x=y", "Web", "-a", "a-", &"a".repeat(254)] {
            assert_eq!(Note::of_review(&Reviewed { pod: bad.to_owned(), ..skipped(true) }), None, "{bad}");
            assert_eq!(
                Note::of_review(&Reviewed { namespace: bad.to_owned(), ..skipped(true) }),
                None,
                "{bad}"
            );
            let owner = skipped(false).owner.map(|owner| Owner { name: bad.to_owned(), ..owner });
            assert_eq!(Note::of_review(&Reviewed { owner, ..skipped(false) }), None, "{bad}");
        }
        let owner = skipped(false).owner.map(|owner| Owner { kind: "a b".to_owned(), ..owner });
        assert_eq!(Note::of_review(&Reviewed { owner, ..skipped(false) }), None);
    }
}
