//! A kubeconfig that others than this machine's operator wrote, as one out of a Secret: its text, and what of it is refused.
//!
//! A kubeconfig may name programs to run and files to read. Whoever may write the Secret must not run or read anything
//! here by that, so all that is not data in the text itself is refused, used or not.

use std::fmt;
use std::sync::Arc;

use kube::config::Kubeconfig;
use weft_registry::{RegistryErrorKind, causes};

use crate::error::KubernetesError;

/// The text of a kubeconfig. It holds credentials, which are in no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct InlineKubeconfig {
    /// Where it is from, for people: `Secret weft-system/east`.
    origin: Arc<str>,
    text: Arc<str>,
}

impl InlineKubeconfig {
    /// Of this text.
    ///
    /// # Errors
    /// When it is no kubeconfig, or names a program, a file of this machine, or a proxy.
    pub fn new(origin: &str, text: &str) -> Result<Self, KubernetesError> {
        let inline = Self { origin: origin.into(), text: text.into() };
        inline.parse()?;
        Ok(inline)
    }

    pub(crate) fn parse(&self) -> Result<Kubeconfig, KubernetesError> {
        // Where, and not what: a parser's own words may repeat a credential.
        let parsed = Kubeconfig::from_yaml(&self.text)
            .map_err(|_| self.fail("it is not YAML in the form of a kubeconfig".to_owned()))?;
        match reaches_out(&parsed) {
            Some(field) => Err(self.fail(format!(
                "{field} is not allowed there: it names a program, a file or a proxy of the control plane's own machine; \
                 put the data itself in (…-data, token)"
            ))),
            None => Ok(parsed),
        }
    }

    pub(crate) fn fail(&self, reason: String) -> KubernetesError {
        KubernetesError::new(RegistryErrorKind::Garbage, self.about(), reason)
    }

    pub(crate) fn about(&self) -> String {
        format!("kubeconfig of {}", self.origin)
    }

    pub(crate) fn of_kube(&self, error: &kube::config::KubeconfigError) -> KubernetesError {
        self.fail(causes(error))
    }
}

impl fmt::Debug for InlineKubeconfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InlineKubeconfig({})", self.origin)
    }
}

/// The first field by which a kubeconfig would reach beyond its own text.
fn reaches_out(config: &Kubeconfig) -> Option<String> {
    let is_set = |value: &Option<String>| value.as_ref().is_some_and(|value| !value.is_empty());
    for named in &config.auth_infos {
        let Some(user) = &named.auth_info else { continue };
        let fields = [
            ("exec", user.exec.is_some()),
            ("auth-provider", user.auth_provider.is_some()),
            ("tokenFile", is_set(&user.token_file)),
            ("client-certificate", is_set(&user.client_certificate)),
            ("client-key", is_set(&user.client_key)),
        ];
        if let Some((field, _)) = fields.into_iter().find(|(_, set)| *set) {
            return Some(format!("users[{}].user.{field}", named.name));
        }
    }
    for named in &config.clusters {
        let Some(cluster) = &named.cluster else { continue };
        let fields = [
            ("certificate-authority", is_set(&cluster.certificate_authority)),
            ("proxy-url", is_set(&cluster.proxy_url)),
        ];
        if let Some((field, _)) = fields.into_iter().find(|(_, set)| *set) {
            return Some(format!("clusters[{}].cluster.{field}", named.name));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "apiVersion: v1\nkind: Config\ncurrent-context: east\n\
        clusters: [{name: east, cluster: {server: 'https://10.0.0.1:6443'}}]\n\
        users: [{name: weft, user: {token: s3cret}}]\n\
        contexts: [{name: east, context: {cluster: east, user: weft}}]\n";

    fn refused(text: &str) -> String {
        InlineKubeconfig::new("Secret weft-system/east", text).expect_err(text).to_string()
    }

    #[test]
    fn what_would_run_a_program_or_read_a_file_here_is_refused_by_its_field() {
        assert!(InlineKubeconfig::new("Secret weft-system/east", GOOD).is_ok());
        for (user, field) in [
            (
                "exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/sh}",
                "users[weft].user.exec",
            ),
            ("auth-provider: {name: gcp, config: {cmd-path: /bin/sh}}", "users[weft].user.auth-provider"),
            ("tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token", "users[weft].user.tokenFile"),
            ("client-certificate: /etc/passwd", "users[weft].user.client-certificate"),
            ("client-key: /var/lib/weft/ca/root.pem", "users[weft].user.client-key"),
        ] {
            let error = refused(&GOOD.replace("token: s3cret", user));
            assert!(error.contains(field) && error.contains("Secret weft-system/east"), "{error}");
        }
        for (cluster, field) in [
            ("certificate-authority: /etc/passwd", "certificate-authority"),
            ("proxy-url: 'http://p:1'", "proxy-url"),
        ] {
            let error = refused(&GOOD.replace("6443'", &format!("6443', {cluster}")));
            assert!(error.contains(&format!("clusters[east].cluster.{field}")), "{error}");
        }
        // Also a user that no context uses.
        let unused = GOOD.replace("users: [", "users: [{name: other, user: {exec: {command: x}}}, ");
        assert!(refused(&unused).contains("users[other].user.exec"));
    }

    #[test]
    fn neither_an_error_nor_debug_repeats_a_credential() {
        let inline = InlineKubeconfig::new("Secret weft-system/east", GOOD).unwrap();
        assert!(!format!("{inline:?}").contains("s3cret"));
        let broken = refused(&GOOD.replace("{token: s3cret}", "[s3cret"));
        assert!(!broken.contains("s3cret"), "{broken}");
    }
}
