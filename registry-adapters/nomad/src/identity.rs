//! Which identity a job has: its own name, or what its `meta` says where a rule allows that.
//!
//! Whoever may submit a job writes its `meta`, so `meta` alone proves nothing: without a rule a job is itself and nobody else.
//! The registry tells callers whom to expect and the certificate authority issues certificates by the same function, so the
//! two can't differ.

use serde::{Deserialize, Serialize};
use weft_model::{Namespace, ServiceName, SpiffeId, TrustDomain};

/// Which identities jobs may have beside their own names; empty: none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IdentityRules(Vec<IdentityRule>);

/// Allows some jobs of a namespace some service accounts of that namespace. `*` at the end of a pattern stands for anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityRule {
    /// The Nomad namespace; a pattern.
    pub namespace: String,
    /// The job's id, of a periodic or dispatched job its parent's; a pattern.
    pub job: String,
    /// The service accounts that it may be; patterns.
    pub identities: Vec<String>,
}

/// Why a job has no identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobIdentityError {
    /// The job's id can't be a service account.
    #[error(
        "job {job:?} can't be a service account ({reason}): give it one by meta weft.dev/identity and a rule in the \
         registry's identities"
    )]
    JobName {
        /// The job.
        job: String,
        /// Why not.
        reason: String,
    },
    /// No rule allows it.
    #[error(
        "job {job:?} of namespace {namespace} claims identity {claimed:?}, which no rule in the registry's identities \
         allows it"
    )]
    NotAllowed {
        /// Its namespace.
        namespace: Namespace,
        /// The job.
        job: String,
        /// What it claims.
        claimed: String,
    },
}

impl IdentityRules {
    /// The identity of a job that claims `claimed` in its `meta`, or claims nothing. `job` is its id, or its parent's where
    /// Nomad made it of a periodic or parameterized one: never taken from the form of an id, which anybody may choose.
    ///
    /// # Errors
    /// Where it may not be what it claims, or its own name is no service account.
    pub fn identity(
        &self,
        trust_domain: &TrustDomain,
        namespace: &Namespace,
        job: &str,
        claimed: Option<&str>,
    ) -> Result<SpiffeId, JobIdentityError> {
        let account = match claimed {
            Some(claimed) if claimed != job => self.claimed(namespace, job, claimed)?,
            _ => job.parse::<ServiceName>().map_err(|error| JobIdentityError::JobName {
                job: job.to_owned(),
                reason: error.reason.clone(),
            })?,
        };
        Ok(SpiffeId::of_service(trust_domain, namespace, &account))
    }

    fn claimed(
        &self,
        namespace: &Namespace,
        job: &str,
        claimed: &str,
    ) -> Result<ServiceName, JobIdentityError> {
        let refused = || JobIdentityError::NotAllowed {
            namespace: namespace.clone(),
            job: job.to_owned(),
            claimed: claimed.chars().take(100).collect(),
        };
        let allows = |rule: &IdentityRule| {
            matches(&rule.namespace, namespace.as_str())
                && matches(&rule.job, job)
                && rule.identities.iter().any(|pattern| matches(pattern, claimed))
        };
        let account: ServiceName = claimed.parse().map_err(|_| refused())?;
        if self.0.iter().any(allows) { Ok(account) } else { Err(refused()) }
    }
}

impl FromIterator<IdentityRule> for IdentityRules {
    fn from_iter<I: IntoIterator<Item = IdentityRule>>(rules: I) -> Self {
        Self(rules.into_iter().collect())
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => text.starts_with(start),
        None => pattern == text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(rules: &[(&str, &str, &[&str])]) -> IdentityRules {
        let rule = |(namespace, job, identities): &(&str, &str, &[&str])| IdentityRule {
            namespace: (*namespace).to_owned(),
            job: (*job).to_owned(),
            identities: identities.iter().map(|one| (*one).to_owned()).collect(),
        };
        rules.iter().map(rule).collect()
    }

    fn identity(rules: &IdentityRules, job: &str, claimed: Option<&str>) -> Result<String, String> {
        let (domain, namespace) = ("weft.test".parse().unwrap(), "shop".parse().unwrap());
        let id = rules.identity(&domain, &namespace, job, claimed);
        id.map(|id| id.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn without_a_rule_a_job_is_itself_and_nobody_else() {
        let none = IdentityRules::default();
        assert_eq!(identity(&none, "web", None).unwrap(), "spiffe://weft.test/ns/shop/sa/web");
        assert_eq!(identity(&none, "web", Some("web")).unwrap(), "spiffe://weft.test/ns/shop/sa/web");
        let error = identity(&none, "web", Some("billing")).unwrap_err();
        assert!(error.contains("\"web\"") && error.contains("\"billing\"") && error.contains("identities"));
    }

    #[test]
    fn a_rule_allows_what_it_names_and_no_more() {
        let some = rules(&[("shop", "web-*", &["web", "front-*"])]);
        assert_eq!(identity(&some, "web-eu", Some("web")).unwrap(), "spiffe://weft.test/ns/shop/sa/web");
        assert!(identity(&some, "web-eu", Some("front-a")).is_ok());
        assert!(identity(&some, "web-eu", Some("billing")).is_err());
        assert!(identity(&some, "api", Some("web")).is_err(), "another job");
        assert!(identity(&rules(&[("bank", "*", &["*"])]), "web", Some("api")).is_err(), "another namespace");
        let odd = identity(&rules(&[("*", "*", &["*"])]), "web", Some("../api"));
        assert!(odd.is_err(), "no service account: {odd:?}");
    }

    #[test]
    fn a_job_whose_name_is_no_service_account_is_told_what_to_do() {
        let error = identity(&IdentityRules::default(), "a job", None).unwrap_err();
        assert!(error.contains("weft.dev/identity"), "{error}");
    }
}
