//! The Nomad attestor: a caller that holds the workload identity token of a running allocation's sidecar is that job.
//!
//! A token is verified here, against the keys that its region publishes; whether its allocation still runs, where, and of which
//! job it is, the region is asked each time. One that does not answer refuses nobody and vouches for nobody; the caller tries
//! again. What a job may call itself is decided by the rules that the registry goes by, too ([`IdentityRules`]).
//!
//! A token is a secret until it has expired: it is in no error, no log line and no `Debug`.

mod allocation;
mod claims;
mod keys;
mod refusal;
mod token;
mod witness;

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use tokio::sync::Semaphore;
use weft_model::{Namespace, RegistryId, SpiffeId, TrustDomain};
use weft_registry_nomad::attest::{Allocation, NomadWitness};
use weft_registry_nomad::{IdentityRules, NomadSettings};

use claims::Claims;
use keys::Keys;
use token::Token;

pub use claims::NomadTokenRules;
pub use refusal::{NomadRefusal, NomadUnavailable};
pub use witness::AllocationWitness;

/// A region whose tokens are accepted.
pub struct NomadRegion {
    /// What its tokens must be like.
    pub rules: NomadTokenRules,
    /// Its name, where the settings say it.
    pub region: Option<String>,
    /// Which identities its jobs may have beside their own names.
    pub identities: IdentityRules,
    /// Its API.
    pub witness: Box<dyn AllocationWitness>,
}

impl NomadRegion {
    /// The region of these settings, as the registry knows it.
    pub fn new(rules: NomadTokenRules, settings: &NomadSettings, witness: NomadWitness) -> Self {
        let (region, identities) = (settings.region.clone(), settings.identities.clone());
        Self { rules, region, identities, witness: Box::new(witness) }
    }
}

/// Attests callers by the workload identity tokens of their allocations.
pub struct NomadAttestor {
    trust_domain: TrustDomain,
    regions: BTreeMap<RegistryId, Region>,
}

struct Region {
    settings: NomadRegion,
    keys: Keys,
    /// For those who ask Nomad.
    places: Semaphore,
}

impl NomadAttestor {
    /// An attestor that issues for `trust_domain`.
    pub fn new(trust_domain: TrustDomain, regions: BTreeMap<RegistryId, NomadRegion>) -> Self {
        let region = |settings| Region { settings, keys: Keys::default(), places: Semaphore::new(AT_ONCE) };
        let regions = regions.into_iter().map(|(id, settings)| (id, region(settings))).collect();
        Self { trust_domain, regions }
    }

    /// Who the caller is, that says it runs on `node`.
    ///
    /// # Errors
    /// Why that is not proven.
    pub async fn attest(
        &self,
        registry: &str,
        token: &str,
        node: &str,
        now: SystemTime,
    ) -> Result<SpiffeId, NomadRefusal> {
        let unknown = || NomadRefusal::UnknownRegistry(registry.chars().take(100).collect());
        let id: RegistryId = registry.parse().map_err(|_| unknown())?;
        let region = self.regions.get(&id).ok_or_else(unknown)?;
        let token = Token::read(token)?;
        let late = |_| NomadUnavailable(format!("it did not answer in {} s", PATIENCE.as_secs()));
        let allocation = tokio::time::timeout(PATIENCE, region.allocation(&id, &token, node, now));
        let allocation = allocation.await.map_err(late)??;
        region.identity(&self.trust_domain, &allocation)
    }
}

impl fmt::Debug for NomadAttestor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.regions.keys()).finish()
    }
}

impl Region {
    /// The token's allocation, which runs with a sidecar where the proxy says.
    async fn allocation(
        &self,
        id: &RegistryId,
        token: &Token<'_>,
        node: &str,
        now: SystemTime,
    ) -> Result<Allocation, NomadRefusal> {
        // Many allocations that start at once must not become as many requests at once.
        let _place = self.places.acquire().await;
        let witness = self.settings.witness.as_ref();
        let key = self.keys.key(token.kid(), witness).await?;
        let unknown = || NomadRefusal::UnknownKey { registry: id.clone(), kid: refusal::shown(token.kid()) };
        let payload = token.verified(key.ok_or_else(unknown)?.as_ref())?;
        let claims = Claims::read(&payload, &self.settings.rules, now)?;
        let found = self.once_started(&claims.allocation).await?;
        let found = found.ok_or_else(|| NomadRefusal::AllocationGone(claims.allocation.clone()))?;
        allocation::check_claims(&claims, &found, self.settings.region.as_deref())?;
        allocation::check_running(&found)?;
        allocation::check_node(&found, node)?;
        allocation::check_node_status(&found, witness.node(&found.node_id).await?.as_ref())?;
        if !found.job.parent_id.is_empty() {
            let parent = witness.job(&found.job.namespace, &found.job.parent_id).await?;
            allocation::check_parent(&found.job, parent.as_ref())?;
        }
        tracing::debug!(registry = %id, allocation = found.id, "an allocation's token is good");
        Ok(found)
    }

    /// The allocation; one whose sidecar starts at this moment is looked at again when it has changed.
    async fn once_started(&self, id: &str) -> Result<Option<Allocation>, NomadUnavailable> {
        let witness = self.settings.witness.as_ref();
        let mut found = witness.allocation(id, None).await?;
        for _ in 0..LOOKS {
            let Some(starting) = found.as_ref().filter(|found| allocation::is_starting(found)) else { break };
            found = witness.allocation(id, Some(starting.index)).await?;
        }
        Ok(found)
    }

    /// What it may call itself.
    fn identity(&self, trust_domain: &TrustDomain, found: &Allocation) -> Result<SpiffeId, NomadRefusal> {
        let namespace: Namespace = found.namespace.parse()?;
        let (job, claimed) = (allocation::job_for_identity(&found.job), allocation::claimed_identity(found)?);
        Ok(self.settings.identities.identity(trust_domain, &namespace, job, claimed)?)
    }
}

/// Nomad's agent lets one client have 100 connections, and the registry needs most of them.
const AT_ONCE: usize = 16;
/// For all questions, and the wait for a place. A proxy gives up after 10 s.
const PATIENCE: Duration = Duration::from_secs(8);
/// A start has some changes: received, its directory built, started.
const LOOKS: usize = 3;

#[cfg(test)]
mod tests;
