//! The runtime's list of plugins, with ours at its end, or without it.
//!
//! The file is somebody else's, so it is edited as the text that it is: our entry is put behind the last plugin's and cut
//! out again with exactly what was put in. Everything else stays byte for byte, and after the removal all of it.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Our plugin's type: the name of its program.
pub(crate) const TYPE: &str = "weft-cni";

/// Why a list can't be edited.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConflistError {
    /// It is not JSON of this shape.
    #[error("it is not a network configuration list: {0}")]
    Unreadable(String),
    /// It configures one plugin alone.
    #[error(
        "it is a configuration of one plugin and not a list (.conflist), so nothing can be chained to it"
    )]
    NoList,
    /// There is nothing to come after.
    #[error("it has no plugin to which ours could be chained")]
    Empty,
}

#[derive(Deserialize)]
struct List<'a> {
    #[serde(borrow)]
    plugins: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct Plugin {
    #[serde(rename = "type")]
    kind: String,
}

/// A plugin's place in the text.
struct Entry {
    place: Range<usize>,
    ours: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ours<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    kubeconfig: &'a str,
    exclude_namespaces: &'a [String],
}

/// Our entry, on one line.
pub(crate) fn entry(kubeconfig: &str, exclude_namespaces: &[String]) -> String {
    let ours = Ours { kind: TYPE, kubeconfig, exclude_namespaces };
    serde_json::to_string(&ours).expect("texts are JSON")
}

/// The list with this entry of ours as its last plugin; `None` where it is that already.
pub(crate) fn with(text: &str, entry: &str) -> Result<Option<String>, ConflistError> {
    let entries = entries(text)?;
    let ours: Vec<_> = entries.iter().filter(|entry| entry.ours).collect();
    let last = entries.last().ok_or(ConflistError::Empty)?;
    if let [only] = ours.as_slice()
        && only.place.end == last.place.end
        && entries.len() > 1
        && text.get(only.place.clone()) == Some(entry)
    {
        return Ok(None);
    }
    let base = without(text)?.unwrap_or_else(|| text.to_owned());
    let end = self::entries(&base)?.last().ok_or(ConflistError::Empty)?.place.end;
    let (before, after) = base.split_at(end);
    Ok(Some(format!("{before},\n    {entry}{after}")))
}

/// The list without ours; `None` where it is not in there.
pub(crate) fn without(text: &str) -> Result<Option<String>, ConflistError> {
    let mut base: Option<String> = None;
    loop {
        let text = base.as_deref().unwrap_or(text);
        let entries = entries(text)?;
        let Some(at) = entries.iter().position(|entry| entry.ours) else { return Ok(base) };
        let place = |at: usize| entries.get(at).map(|entry| entry.place.clone());
        let Some(own) = place(at) else { return Ok(base) };
        // With the comma before it, which came with it; of the first, with the comma after it.
        let cut = match (at.checked_sub(1).and_then(place), place(at + 1)) {
            (Some(before), _) => before.end..own.end,
            (None, Some(after)) => own.start..after.start,
            (None, None) => own,
        };
        let kept = [text.get(..cut.start), text.get(cut.end..)];
        base = Some(kept.into_iter().flatten().collect());
    }
}

/// Whether ours is the last plugin of the list, as `entry`.
pub(crate) fn has(text: &str, entry: &str) -> bool {
    with(text, entry) == Ok(None)
}

/// The plugins of a list.
fn entries(text: &str) -> Result<Vec<Entry>, ConflistError> {
    let unreadable = |error: serde_json::Error| ConflistError::Unreadable(error.to_string());
    let list: List<'_> = serde_json::from_str(text).map_err(unreadable)?;
    let plugins = list.plugins.ok_or(ConflistError::NoList)?;
    let entry = |plugin: &RawValue| {
        let Plugin { kind } = serde_json::from_str(plugin.get()).map_err(unreadable)?;
        // It is borrowed from the text, so where it is in memory says where it is in the text.
        let start = plugin.get().as_ptr().addr() - text.as_ptr().addr();
        Ok(Entry { place: start..start + plugin.get().len(), ours: kind == TYPE })
    };
    plugins.into_iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BRIDGE: &str = include_str!("../testdata/bridge.conflist");
    const BRIDGE_WITH: &str = include_str!("../testdata/bridge.with.conflist");
    const CALICO: &str = include_str!("../testdata/calico.conflist");
    const CALICO_WITH: &str = include_str!("../testdata/calico.with.conflist");

    fn ours() -> String {
        entry("/etc/cni/net.d/weft-cni.kubeconfig", &["kube-system".into(), "weft-system".into()])
    }

    #[test]
    fn our_entry_comes_last_and_goes_without_a_trace() {
        for (text, wanted) in [(BRIDGE, BRIDGE_WITH), (CALICO, CALICO_WITH)] {
            let edited = with(text, &ours()).unwrap().unwrap();
            assert_eq!(edited, wanted);
            assert_eq!(with(&edited, &ours()).unwrap(), None);
            assert!(has(&edited, &ours()) && !has(text, &ours()));
            assert_eq!(without(&edited).unwrap().as_deref(), Some(text));
            assert_eq!(without(text).unwrap(), None);
        }
    }

    #[test]
    fn an_older_entry_of_ours_or_one_that_is_not_last_is_replaced() {
        let old = with(BRIDGE, &entry("/elsewhere", &[])).unwrap().unwrap();
        assert_eq!(with(&old, &ours()).unwrap().as_deref(), Some(BRIDGE_WITH));
        let end = BRIDGE_WITH.rfind("]}").unwrap();
        let (list, rest) = BRIDGE_WITH.split_at(end);
        let more = format!("{list},{{\"type\":\"tuning\"}}{rest}");
        let edited = with(&more, &ours()).unwrap().unwrap();
        assert!(edited.find("tuning") < edited.find(TYPE), "{edited}");
        assert!(has(&edited, &ours()));
    }

    #[test]
    fn every_entry_of_ours_is_removed_wherever_it_stands() {
        let of = |plugins: &str| format!(r#"{{"cniVersion":"1.0.0","name":"n","plugins":[{plugins}]}}"#);
        let (own, other) = (r#"{"type":"weft-cni"}"#, r#"{"type":"bridge"}"#);
        for (with_ours, left) in [
            (format!("{own},{other}"), other.to_owned()),
            (format!("{other} , {own} , {other}"), format!("{other} , {other}")),
            (format!("{own},{own},{other},{own}"), other.to_owned()),
            (own.to_owned(), String::new()),
        ] {
            assert_eq!(without(&of(&with_ours)).unwrap().as_deref(), Some(of(&left).as_str()), "{with_ours}");
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        assert!(matches!(with("{", &ours()), Err(ConflistError::Unreadable(_))));
        assert_eq!(with(r#"{"cniVersion":"1.0.0","type":"bridge"}"#, &ours()), Err(ConflistError::NoList));
        assert_eq!(with(r#"{"plugins":[]}"#, &ours()), Err(ConflistError::Empty));
        assert_eq!(with(r#"{"plugins":[{"type":"weft-cni"}]}"#, &ours()), Err(ConflistError::Empty));
        assert!(with(r#"{"plugins":[{"name":"no type"}]}"#, &ours()).is_err());
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_list_is_what_was_put_in_comes_out_again(
            kinds in proptest::collection::vec("[a-z]{1,8}", 1..5),
            spaces in "[ \\n\\t]{0,4}",
        ) {
            let plugins: Vec<_> = kinds.iter().map(|kind| format!("{{\"type\":{spaces}\"{kind}\"}}")).collect();
            let text = format!("{{{spaces}\"plugins\":[{spaces}{}{spaces}],\"x\":1}}\n", plugins.join(&format!("{spaces},")));
            let edited = with(&text, &ours()).unwrap().unwrap();
            proptest::prop_assert_eq!(with(&edited, &ours()), Ok(None));
            proptest::prop_assert_eq!(without(&edited).unwrap(), Some(text));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,60}") {
            let _ = (with(&text, &ours()), without(&text));
        }
    }
}
