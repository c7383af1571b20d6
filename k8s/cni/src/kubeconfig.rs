//! The plugin's way to the API server: a kubeconfig that the node agent writes and the plugin reads.
//!
//! JSON, which is YAML too, so that `kubectl --kubeconfig` reads it for who looks for a fault. It holds the token itself:
//! the agent's mounted files are not where the plugin runs. So it is for root alone, and written again as the token rotates.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;

/// The way to an API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kubeconfig {
    /// `https://HOST:PORT`.
    pub(crate) server: String,
    /// PEM.
    pub(crate) roots: Vec<u8>,
    /// The bearer token.
    pub(crate) token: String,
}

#[derive(Deserialize)]
struct File {
    clusters: Vec<NamedCluster>,
    users: Vec<NamedUser>,
}

#[derive(Deserialize)]
struct NamedCluster {
    cluster: Cluster,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority_data: String,
}

#[derive(Deserialize)]
struct NamedUser {
    user: User,
}

#[derive(Deserialize)]
struct User {
    token: String,
}

impl Kubeconfig {
    /// As a file.
    pub(crate) fn to_json(&self) -> String {
        let cluster =
            json!({ "server": self.server, "certificate-authority-data": STANDARD.encode(&self.roots) });
        let file = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "cluster", "cluster": cluster }],
            "users": [{ "name": "weft-cni", "user": { "token": self.token } }],
            "contexts": [{ "name": "weft-cni", "context": { "cluster": "cluster", "user": "weft-cni" } }],
            "current-context": "weft-cni",
        });
        format!("{file:#}\n")
    }

    /// Reads what [`Self::to_json`] wrote. The text of an error has nothing of the token.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let named = |error: &dyn std::fmt::Display| format!("kubeconfig {}: {error}", path.display());
        let text = fs::read(path).map_err(|error| named(&error))?;
        Self::parse(&text).map_err(|reason| named(&reason))
    }

    fn parse(text: &[u8]) -> Result<Self, String> {
        let file: File = serde_json::from_slice(text).map_err(|error| {
            // Serde's own text may show the value that it did not expect.
            format!("it is not what the node agent writes (line {}, column {})", error.line(), error.column())
        })?;
        let cluster = file.clusters.into_iter().next().ok_or("it has no cluster")?.cluster;
        let token = file.users.into_iter().next().ok_or("it has no user")?.user.token;
        if !cluster.server.starts_with("https://") {
            return Err(format!("server {:?} is not https", cluster.server));
        }
        let roots = STANDARD.decode(cluster.certificate_authority_data);
        let roots = roots.map_err(|_| "certificate-authority-data is not base64")?;
        Ok(Self { server: cluster.server, roots, token })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let config =
            Kubeconfig { server: "https://10.96.0.1:443".into(), roots: b"PEM".into(), token: "t".into() };
        assert_eq!(Kubeconfig::parse(config.to_json().as_bytes()).unwrap(), config);
    }

    #[test]
    fn a_server_without_tls_is_refused_and_no_error_shows_the_token() {
        let config = Kubeconfig { server: "http://x".into(), roots: Vec::new(), token: "secret".into() };
        assert_eq!(
            Kubeconfig::parse(config.to_json().as_bytes()).unwrap_err(),
            "server \"http://x\" is not https"
        );
        let wrong = config.to_json().replace("\"token\": \"secret\"", "\"token\": [\"secret\"]");
        let error = Kubeconfig::parse(wrong.as_bytes()).unwrap_err();
        assert!(error.contains("line") && !error.contains("secret"), "{error}");
    }
}
