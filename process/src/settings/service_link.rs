//! The variables that Kubernetes gives a container for each Service of its namespace, which look like settings where the
//! Service is called as a program of ours: `weft-proxy` brings `WEFT_PROXY_PORT=tcp://10.0.0.7:80`.
//!
//! They are known by what Kubernetes always sets together, so a mistyped setting is still refused.

use std::collections::BTreeSet;
use std::net::IpAddr;

/// Which of the variables are about Services.
// https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
pub(super) fn of_services(variables: &[(String, String)]) -> impl Iterator<Item = &str> {
    let names: BTreeSet<&str> = variables.iter().map(|(name, _)| name.as_str()).collect();
    let services: BTreeSet<&str> = variables
        .iter()
        .filter(|(_, value)| value.parse::<IpAddr>().is_ok())
        .filter_map(|(name, _)| name.strip_suffix(HOST))
        .filter(|service| names.contains(format!("{service}{PORT}").as_str()))
        .collect();
    let about = move |name: &str| {
        let of = |mark| name.match_indices(mark).any(|(at, _)| services.contains(&name[..at]));
        of(HOST) || of(PORT) || of("_PORT")
    };
    variables.iter().map(|(name, _)| name.as_str()).filter(move |name| about(name))
}

const HOST: &str = "_SERVICE_HOST";
const PORT: &str = "_SERVICE_PORT";

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)]) -> Vec<String> {
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        of_services(&variables).map(str::to_owned).collect()
    }

    #[test]
    fn all_that_a_service_brings_is_found_and_nothing_beside_it() {
        let link = [
            ("WEFT_PROXY_SERVICE_HOST", "10.0.0.7"),
            ("WEFT_PROXY_SERVICE_PORT", "80"),
            ("WEFT_PROXY_SERVICE_PORT_HTTP", "80"),
            ("WEFT_PROXY_PORT", "tcp://10.0.0.7:80"),
            ("WEFT_PROXY_PORT_80_TCP", "tcp://10.0.0.7:80"),
            ("WEFT_PROXY_PORT_80_TCP_ADDR", "10.0.0.7"),
        ];
        let settings = [("WEFT_PROXY_ADMIN__LISTEN", "127.0.0.1:15000"), ("WEFT_PROXY_WORKERS", "2")];
        assert_eq!(found(&[&link[..], &settings[..]].concat()), link.map(|(name, _)| name));
        assert_eq!(found(&settings), [""; 0]);
    }

    #[test]
    fn a_service_whose_name_goes_on_is_found_as_well() {
        let variables =
            [("WEFT_PROXY_CANARY_SERVICE_HOST", "fd00::1"), ("WEFT_PROXY_CANARY_SERVICE_PORT", "80")];
        assert_eq!(found(&variables).len(), 2);
    }

    #[test]
    fn a_wrong_setting_is_not_taken_for_a_service() {
        assert_eq!(found(&[("WEFT_PROXY_PORT", "80"), ("WEFT_PROXY_ADMIN_PORT", "15000")]), [""; 0]);
        let no_port = [("WEFT_PROXY_SERVICE_HOST", "10.0.0.7")];
        assert_eq!(found(&no_port), [""; 0]);
    }
}
