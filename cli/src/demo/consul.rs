//! `--consul URL`: `api` v2 is registered in that Consul instead of in the files, and deregistered at the end.

use anyhow::{Result, bail};
use serde_json::json;

use super::stage::Member;

/// A registration at a Consul agent.
pub(super) struct Registration {
    agent: String,
    id: String,
}

impl Registration {
    /// Registers the member as a user would, with our keys in `Meta`.
    pub(super) async fn make(agent: &str, member: &Member) -> Result<Self> {
        let registration = Self {
            agent: agent.trim_end_matches('/').to_owned(),
            id: format!("weft-demo-{}-{}", member.name, std::process::id()),
        };
        let body = json!({
            "ID": registration.id,
            "Name": member.service,
            "Address": "127.0.0.1",
            "Port": member.app,
            "Meta": {
                "weft-protocol": member.protocol,
                "weft-tunnel": member.tunnel.to_string(),
                "weft-version": member.version,
                "weft-identity": member.service,
            },
        });
        registration.put("register", Some(body)).await?;
        Ok(registration)
    }

    /// Takes the registration back.
    pub(super) async fn withdraw(&self) -> Result<()> {
        self.put(&format!("deregister/{}", self.id), None).await
    }

    async fn put(&self, what: &str, body: Option<serde_json::Value>) -> Result<()> {
        let url = format!("{}/v1/agent/service/{what}", self.agent);
        let request = reqwest::Client::new().put(&url);
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        let response = request.send().await?;
        let status = response.status();
        if !status.is_success() {
            bail!(
                "Consul answered {status} to PUT {url}: {}",
                response.text().await.unwrap_or_default().trim()
            );
        }
        Ok(())
    }
}
