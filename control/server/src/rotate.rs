//! The shell of a root's replacement: asks the connected proxies' streams whether they have the bundle, takes the step
//! that `weft_ca::Rotation` names, and hands the result on: to the own certificate, the bundle's resource and new tokens.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use prost::Message;
use tokio::time::{MissedTickBehavior, interval};
use weft_ca::{Authority, JoinTokens, Rotation, RotationPhase, RotationStep};
use weft_control_api as api;
use weft_identity::{CONTROL_PLANE_PATH, SvidSource, TrustBundles};
use weft_model::TrustDomain;
use weft_proto::ResourceType;
use weft_proto::mesh::v1 as wire;

use crate::clock::unix_ms;
use crate::proxies::Proxies;
use crate::publish::Readers;

/// What a replacement works on. A clone works on the same.
#[derive(Clone)]
pub(crate) struct Rotator {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) authority: Arc<Authority>,
    pub(crate) tokens: Arc<JoinTokens>,
    pub(crate) identity: SvidSource,
    pub(crate) proxies: Proxies,
    pub(crate) published: Readers,
    /// The root is kept where other control planes take it from.
    pub(crate) shared_root: bool,
}

impl Rotator {
    /// Takes each step when it is time, for ever. A step that fails is tried again.
    pub(crate) async fn run(self) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.advance(SystemTime::now()).await {
                tracing::error!(
                    error = format!("{error:#}"),
                    "a step of the root's replacement failed; it is tried again"
                );
            }
        }
    }

    async fn advance(&self, now: SystemTime) -> Result<()> {
        let Some(rotation) = self.authority.rotation() else { return Ok(()) };
        // Asked only while the answer matters: it looks at every stream.
        let waiting = rotation.phase == RotationPhase::Announced && !self.not_acknowledged().is_empty();
        match rotation.step(!waiting, self.authority.leaf_ttl(), now) {
            RotationStep::Wait { .. } => Ok(()),
            RotationStep::Switch => {
                self.on_disk(move |authority| authority.switch_root(now)).await?;
                tracing::warn!(phase = "switched", "the new root of the CA signs from now on");
                self.hand_on(now)
            }
            RotationStep::Retire => {
                self.on_disk(move |authority| authority.retire_root(now)).await?;
                tracing::warn!(phase = "retired", "the old root of the CA is no longer trusted");
                self.hand_on(now)
            }
        }
    }

    /// Begins a replacement, or with `force` takes the next step of the one under way at once.
    pub(crate) async fn rotate(&self, force: bool) -> Result<Option<Rotation>> {
        ensure!(
            !self.shared_root,
            "the root is kept in a Secret (ca.secret), which other control planes use too: replacing it there is not supported"
        );
        let now = SystemTime::now();
        if force {
            let forced = self.on_disk(move |authority| authority.force_rotation(now)).await?;
            self.advance(now).await?;
            return Ok(forced);
        }
        let begun = self.on_disk(move |authority| authority.announce_root(now)).await?;
        if begun.is_some() {
            tracing::warn!(phase = "announced", "a new root of the CA is announced; the old one signs on");
            self.hand_on(now)?;
        }
        Ok(begun)
    }

    /// Files and keys: not on a thread that serves others.
    async fn on_disk<T: Send + 'static>(
        &self,
        step: impl FnOnce(&Authority) -> Result<T, weft_ca::AuthorityError> + Send + 'static,
    ) -> Result<T> {
        let authority = Arc::clone(&self.authority);
        Ok(tokio::task::spawn_blocking(move || step(&authority)).await.context("the step was cut off")??)
    }

    fn hand_on(&self, now: SystemTime) -> Result<()> {
        let own = self.authority.issue_own(CONTROL_PLANE_PATH, now).context("issuing the own certificate")?;
        // Ingestion wakes by it and publishes the bundle.
        self.identity.set(own, TrustBundles::from_iter([self.authority.bundle()]));
        if let Some(pin) = self.authority.root_pin() {
            self.tokens.set_pin(pin);
        }
        Ok(())
    }

    /// Connected proxies that do not have today's bundle for certain.
    pub(crate) fn not_acknowledged(&self) -> Vec<String> {
        let publication = Arc::clone(&self.published.state.borrow());
        let domain = self.trust_domain.as_str();
        let bundle = publication.resources.resources.bundle(domain);
        let is_todays = |encoded: &[u8]| {
            let roots = wire::TrustBundle::decode(encoded).map(|bundle| bundle.roots).unwrap_or_default();
            let today = self.authority.bundle().roots;
            roots.len() == today.len() && today.iter().all(|root| roots.iter().any(|one| **one == **root))
        };
        let version = bundle.filter(|bundle| is_todays(&bundle.encoded)).map(|bundle| bundle.version);
        self.proxies.without(|stream| {
            version.is_some_and(|version| stream.has_acknowledged(ResourceType::TrustBundle, domain, version))
        })
    }

    /// `/v1/ca`.
    pub(crate) fn view(&self, roots: Vec<api::RootView>) -> api::CaView {
        let rotation = self.authority.rotation();
        let next = rotation.as_ref().map(|rotation| unix_ms(rotation.earliest(self.authority.leaf_ttl())));
        let phase = rotation.as_ref().map(|rotation| rotation.phase);
        api::CaView {
            signing_root_sha256: self.authority.root_pin().map(|pin| pin.to_string()).unwrap_or_default(),
            roots,
            rotation: match phase {
                None => api::RotationPhase::None,
                Some(RotationPhase::Announced) => api::RotationPhase::Announced,
                Some(RotationPhase::Switched) => api::RotationPhase::Switched,
                Some(RotationPhase::Retired) => api::RotationPhase::Retired,
            },
            since_unix_ms: rotation.as_ref().map(|rotation| rotation.since * 1000),
            next_step_unix_ms: next,
            not_acknowledged: match phase {
                Some(RotationPhase::Announced) => self.not_acknowledged(),
                _ => Vec::new(),
            },
        }
    }
}

/// Steps are hours apart, and seconds in tests.
const LOOK: Duration = Duration::from_secs(1);
