//! The settings of injection from the command line: the defaults, and `--set` over them.

use anyhow::{Context, Result, anyhow};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads `KEY=VALUE` each over `defaults`; a value is YAML, so that lists and numbers can be written.
pub(crate) fn read<T: Serialize + DeserializeOwned>(defaults: &T, set: &[String]) -> Result<T> {
    let mut settings = serde_json::to_value(defaults).context("writing the default settings")?;
    for text in set {
        let wrong = || anyhow!("--set {text}: expected KEY=VALUE, as in cni=true");
        let (key, value) = text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(wrong)?;
        let value: Value = serde_saphyr::from_str(value).with_context(|| format!("--set {text}"))?;
        let fields = settings.as_object_mut().ok_or_else(wrong)?;
        fields.insert(key.to_owned(), value);
        // Each by itself, so that the error can say which.
        serde_json::from_value::<T>(settings.clone()).with_context(|| format!("--set {text}"))?;
    }
    serde_json::from_value(settings).context("reading the settings")
}

#[cfg(test)]
mod tests {
    use weft_injector::InjectorSettings;

    use super::*;

    fn read_all(set: &[&str]) -> Result<InjectorSettings> {
        let set: Vec<String> = set.iter().map(|text| (*text).to_owned()).collect();
        super::super::checked(read(&InjectorSettings::default(), &set)?)
    }

    #[test]
    fn every_kind_of_value_can_be_set() {
        let settings =
            read_all(&["image=a/b:1", "cni=true", "skip_outbound_ports=[25, 587]", "drain=1m", "cpu=0.5"]);
        assert_eq!(
            format!("{:#}", settings.unwrap_err()),
            "--set cpu=0.5: invalid type: floating point `0.5`, expected a string"
        );
        let settings =
            read_all(&["image=a/b:1", "cni=true", "skip_outbound_ports=[25, 587]", "drain=1m", "cpu=500m"])
                .unwrap();
        assert_eq!((settings.image.as_str(), settings.cni), ("a/b:1", true));
        assert_eq!(Vec::from_iter(settings.skip_outbound_ports), [25, 587]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (wrong, named) in [
            ("imagee=x", "imagee"),
            ("cni=maybe", "cni=maybe"),
            ("cni", "expected KEY=VALUE"),
            ("control=[nowhere]", "\"nowhere\" is not host:port"),
        ] {
            let error = format!("{:#}", read_all(&[wrong]).unwrap_err());
            assert!(error.contains(named), "{error}");
        }
    }
}
