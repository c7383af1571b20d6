//! What a workload identity token claims, and the rules that need no other witness: for whom, from when until when, of whom.
//!
//! Nomad's own form (`nomad/structs/workload_id.go`); the same claim twice is an error. What it claims of its allocation is held
//! against the allocation itself (`allocation.rs`).

use std::time::{Duration, SystemTime};

use serde::Deserialize;
use weft_process::settings::duration;
use weft_registry_nomad::sidecar::{IDENTITY_NAME, SIDECAR_TASK};

use super::refusal::{NomadRefusal, shown};
use crate::settings::DEFAULT_AUDIENCE;

/// What tokens must be like: `[ca.nomad."nomad/prod"]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NomadTokenRules {
    /// What they must be meant for, and nothing else: who else may see one could show it to us.
    pub audience: String,
    /// Who must have issued them; Nomad says it only where its servers have an `oidc_issuer`.
    pub issuer: Option<String>,
    /// How long they may live, from their making to their end. Nomad knows no limit of its own.
    #[serde(deserialize_with = "duration")]
    pub max_lifetime: Duration,
}

impl Default for NomadTokenRules {
    fn default() -> Self {
        // A day: whoever finds an old token finds one that is over.
        let (audience, max_lifetime) = (DEFAULT_AUDIENCE.to_owned(), Duration::from_hours(24));
        Self { audience, issuer: None, max_lifetime }
    }
}

impl NomadTokenRules {
    /// Checks what no type can.
    ///
    /// # Errors
    /// Which setting is wrong, and what was expected.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.audience.is_empty() {
            return Err("audience is empty; expected one that is the control plane's alone");
        }
        if self.issuer.as_ref().is_some_and(String::is_empty) {
            return Err("issuer is empty; expected Nomad's oidc_issuer, or nothing where it has none");
        }
        if self.max_lifetime.is_zero() {
            return Err("max_lifetime is 0; expected more, such as 24h");
        }
        Ok(())
    }
}

/// What a token of an allocation's sidecar claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claims {
    /// The id of its allocation, which has the form of one.
    pub(super) allocation: String,
    /// The namespace of its job.
    pub(super) namespace: String,
    /// Its job's id, or its job's parent's where it has one.
    pub(super) job: String,
    /// Of all of it.
    pub(super) subject: String,
}

#[derive(Deserialize)]
struct Wire {
    aud: Audience,
    iss: Option<String>,
    sub: String,
    exp: Option<u64>,
    nbf: u64,
    iat: u64,
    nomad_namespace: String,
    nomad_job_id: String,
    nomad_allocation_id: String,
    nomad_task: Option<String>,
    nomad_service: Option<String>,
}

/// RFC 7519, 4.1.3.
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Claims {
    /// Reads what a key has vouched for, and checks it.
    pub(super) fn read(
        payload: &[u8],
        rules: &NomadTokenRules,
        now: SystemTime,
    ) -> Result<Self, NomadRefusal> {
        let wire: Wire = serde_json::from_slice(payload)
            .map_err(|_| NomadRefusal::NotAToken("its claims are not those of a workload identity"))?;
        wire.check_audience(rules)?;
        wire.check_times(rules, now)?;
        wire.check_issuer(rules)?;
        wire.check_task()?;
        if !is_uuid(&wire.nomad_allocation_id) {
            return Err(NomadRefusal::NotAToken("its nomad_allocation_id is no id"));
        }
        Ok(Self {
            allocation: wire.nomad_allocation_id,
            namespace: wire.nomad_namespace,
            job: wire.nomad_job_id,
            subject: wire.sub,
        })
    }
}

impl Wire {
    fn check_audience(&self, rules: &NomadTokenRules) -> Result<(), NomadRefusal> {
        let found = match &self.aud {
            Audience::One(one) => std::slice::from_ref(one),
            Audience::Several(several) => several,
        };
        if found == std::slice::from_ref(&rules.audience) {
            return Ok(());
        }
        let found = found.iter().take(8).map(|one| shown(one)).collect();
        Err(NomadRefusal::OtherAudience { expected: rules.audience.clone(), found })
    }

    /// The end is taken at its word, since Nomad replaces tokens long before it; that clocks differ a little is allowed for at
    /// the beginning, where a fresh token would be refused.
    fn check_times(&self, rules: &NomadTokenRules, now: SystemTime) -> Result<(), NomadRefusal> {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let [issued, begins] = [self.iat, self.nbf].map(Duration::from_secs);
        let end = Duration::from_secs(self.exp.ok_or(NomadRefusal::NoEnd)?);
        if end <= now {
            return Err(NomadRefusal::Expired(now - end));
        }
        let latest = issued.max(begins);
        if latest > now.saturating_add(LEEWAY) {
            return Err(NomadRefusal::NotYet(latest - now));
        }
        let (lifetime, allowed) = (end.saturating_sub(issued), rules.max_lifetime);
        if lifetime > allowed {
            return Err(NomadRefusal::TooLong { lifetime, allowed });
        }
        Ok(())
    }

    fn check_issuer(&self, rules: &NomadTokenRules) -> Result<(), NomadRefusal> {
        match &rules.issuer {
            Some(expected) if self.iss.as_ref() != Some(expected) => Err(NomadRefusal::OtherIssuer {
                expected: expected.clone(),
                found: self.iss.as_deref().map(shown),
            }),
            _ => Ok(()),
        }
    }

    /// Nobody but the sidecar, and of its identities none but ours. A name of an identity holds no colon.
    fn check_task(&self) -> Result<(), NomadRefusal> {
        match (&self.nomad_task, &self.nomad_service) {
            (Some(task), None) if task == SIDECAR_TASK => {}
            (Some(task), None) => return Err(NomadRefusal::OtherTask(format!("task {:?}", shown(task)))),
            (_, Some(service)) => {
                return Err(NomadRefusal::OtherTask(format!("service {:?}", shown(service))));
            }
            (None, None) => return Err(NomadRefusal::OtherTask("no task".to_owned())),
        }
        match self.sub.ends_with(&format!(":{SIDECAR_TASK}:{IDENTITY_NAME}")) {
            true => Ok(()),
            false => Err(NomadRefusal::OtherIdentity(shown(&self.sub))),
        }
    }
}

/// As Nomad writes ids of allocations and nodes.
pub(super) fn is_uuid(text: &str) -> bool {
    let digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.len() == 36
        && text.bytes().enumerate().all(|(n, byte)| match n {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => digit(&byte),
        })
}

/// Of clocks that differ.
const LEEWAY: Duration = Duration::from_secs(30);
