//! `--consul URL`: `api` v2 is registered in that Consul instead of in the files, and deregistered at the end.
//!
//! The Consul may be somebody's, with an `api` of its own. So ours carries a namespace that nobody else has, which the
//! demo's control plane maps to the mesh's; all else in that Consul is moved out of the way. Nothing of it is touched.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::member::Member;

/// A registration at a Consul agent.
pub(super) struct Registration {
    agent: String,
    id: String,
    definition: Value,
}

impl Registration {
    /// The member as a user would register it, with our keys in `Meta`. Nothing is registered yet.
    pub(super) fn of(agent: &str, member: &Member) -> Self {
        let id = format!("{}-{}", own_namespace(), member.name);
        let definition = json!({
            "ID": id,
            "Name": member.service,
            "Address": member.place.host,
            "Port": member.app,
            "Meta": {
                "weft-protocol": member.protocol,
                "weft-tunnel": member.tunnel.to_string(),
                "weft-version": member.version,
                "weft-namespace": own_namespace(),
                "weft-identity": member.spiffe_id(),
            },
        });
        Self { agent: agent.trim_end_matches('/').to_owned(), id, definition }
    }

    /// Registers it.
    pub(super) async fn make(&self) -> Result<()> {
        let asking = || format!("registering {} in the Consul at {}", self.id, self.agent);
        let (status, text) = self.put("register", Some(&self.definition)).await.with_context(asking)?;
        match status {
            200..300 => Ok(()),
            401 | 403 => bail!(
                "{}: {status} {text}: the demo has no ACL token; it needs an agent without ACLs, such as `consul agent -dev`",
                asking()
            ),
            _ => bail!("{}: {status} {text}", asking()),
        }
    }

    /// Takes it back. That it is not there, as `make` was interrupted or the agent was restarted, is what is wanted.
    pub(super) async fn withdraw(&self) -> Result<()> {
        let asking = || format!("deregistering {} from the Consul at {}", self.id, self.agent);
        let (status, text) = self.put(&format!("deregister/{}", self.id), None).await.with_context(asking)?;
        if !(200..300).contains(&status) && !text.to_lowercase().contains("unknown service") {
            bail!("{}: {status} {text}", asking());
        }
        Ok(())
    }

    async fn put(&self, what: &str, body: Option<&Value>) -> Result<(u16, String)> {
        let url = format!("{}/v1/agent/service/{what}", self.agent);
        let request = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build()?.put(&url);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let response = request.send().await?;
        let status = response.status().as_u16();
        Ok((status, response.text().await?.trim().chars().take(300).collect()))
    }
}

/// The control plane's settings of that Consul: these services of ours are those of the mesh's namespace.
pub(super) fn registry(agent: &str, namespace: &str, services: &[&str]) -> String {
    let own = own_namespace();
    let renamed = services.iter().map(|name| format!("\"{own}/{name}\" = \"{namespace}/{name}\""));
    let renamed = renamed.collect::<Vec<_>>().join(", ");
    format!(
        "\n[[registry]]\nid = \"consul/demo\"\n\n\
         [registry.mapping]\nnamespace = \"in-consul\"\nrename = {{ {renamed} }}\n\n\
         [registry.consul]\naddress = {agent:?}\n",
    )
}

/// Unlike that of any other demo which may use the same Consul.
fn own_namespace() -> String {
    format!("weft-demo-{}", std::process::id())
}

/// A Consul that hangs must not keep the demo from ending.
const TIMEOUT: Duration = Duration::from_secs(10);
