//! What is kept of a join token where it can be redeemed: everything but its secret.
//!
//! One form for a CA's own files and for what several CAs share, so that a token is judged by the same words in both.
//! Where it is kept, and how only one of several users wins, is the keeper's part.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use weft_model::SpiffeId;

use crate::{CONTROL_PLANE_PATH, JoinToken};

/// The Kubernetes Secret in which control planes of one cluster share join tokens: one of these by each token's id.
pub const SHARED_TOKENS: &str = "weft-join-tokens";

/// Unknown fields are refused: half-understood is not understood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredToken {
    /// Who the bearer becomes.
    pub identity: SpiffeId,
    secret_sha256: String,
    /// Unix seconds.
    expires: u64,
    /// Whether it was used. A keeper that moves used tokens elsewhere leaves it alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub used: bool,
}

/// What became of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenState {
    /// Can be used.
    Unused,
    /// Was used.
    Used,
    /// Was not used in time.
    Expired,
}

/// Why there can be no such token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnfitToken {
    /// Too short or too long a life.
    #[error("a token's life is {0:?}; expected 1s to 7days")]
    Ttl(Duration),
    /// Nobody joins under this id.
    #[error("{0} is reserved for the control plane")]
    Reserved(SpiffeId),
}

impl StoredToken {
    /// What is to be kept of `token`, which is `identity`'s from `now` on for as long as `ttl`.
    ///
    /// # Errors
    /// When the life is out of range or the id reserved.
    pub fn new(
        token: &JoinToken,
        identity: &SpiffeId,
        ttl: Duration,
        now: SystemTime,
    ) -> Result<Self, UnfitToken> {
        if !TTL.contains(&ttl) {
            return Err(UnfitToken::Ttl(ttl));
        }
        let stored = Self {
            identity: identity.clone(),
            secret_sha256: hex::encode(token.secret_hash()),
            expires: unix(now + ttl),
            used: false,
        };
        if stored.is_reserved() { Err(UnfitToken::Reserved(identity.clone())) } else { Ok(stored) }
    }

    /// Whether nobody may join under its id, whoever wrote it.
    pub fn is_reserved(&self) -> bool {
        self.identity.path() == CONTROL_PLANE_PATH || self.identity.path().is_empty()
    }

    /// Whether `token` is the one that this was made of.
    pub fn is_of(&self, token: &JoinToken) -> bool {
        // Hashes of 256 random bits: how long the comparison takes tells nothing of use.
        self.secret_sha256 == hex::encode(token.secret_hash())
    }

    /// Until when it can be used.
    pub fn expires(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
            .checked_add(Duration::from_secs(self.expires))
            .unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// Whether its time is over.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        now >= self.expires()
    }

    /// What became of it.
    pub fn state(&self, now: SystemTime) -> TokenState {
        match self.used {
            true => TokenState::Used,
            false if self.is_expired(now) => TokenState::Expired,
            false => TokenState::Unused,
        }
    }

    /// Whether it is over for so long that nobody will ask what became of it.
    pub fn is_forgotten(&self, now: SystemTime) -> bool {
        self.expires() + REMEMBERED < now
    }
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A token is for joining now, not for keeping.
const TTL: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(7 * 86_400);
const REMEMBERED: Duration = Duration::from_secs(7 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_knows_its_token_and_its_time_and_survives_its_text() {
        let (token, now) = (JoinToken::random("ab".repeat(32).parse().unwrap()), SystemTime::now());
        let other = JoinToken::random("ab".repeat(32).parse().unwrap());
        let identity = "spiffe://weft.test/ns/shop/sa/web".parse().unwrap();
        let minute = Duration::from_secs(60);
        let stored = StoredToken::new(&token, &identity, minute, now).unwrap();
        assert!(stored.is_of(&token) && !stored.is_of(&other));
        assert!(
            !stored.is_expired(now) && stored.is_expired(now + minute) && !stored.is_forgotten(now + minute)
        );
        assert!(stored.is_forgotten(now + REMEMBERED + 2 * minute));
        let text = serde_json::to_string(&stored).unwrap();
        assert!(
            !text.contains("used") && serde_json::from_str::<StoredToken>(&text).unwrap() == stored,
            "{text}"
        );
        let endless = text.replace(&stored.expires.to_string(), &u64::MAX.to_string());
        assert!(
            serde_json::from_str::<StoredToken>(&endless).unwrap().is_expired(now),
            "no time that there is"
        );
    }

    #[test]
    fn a_life_out_of_range_and_the_control_planes_own_id_are_refused() {
        let (token, now) = (JoinToken::random("ab".repeat(32).parse().unwrap()), SystemTime::now());
        let web = "spiffe://weft.test/ns/shop/sa/web".parse().unwrap();
        for ttl in [Duration::ZERO, Duration::from_secs(8 * 86_400)] {
            assert_eq!(StoredToken::new(&token, &web, ttl, now), Err(UnfitToken::Ttl(ttl)));
        }
        let control: SpiffeId = format!("spiffe://weft.test{CONTROL_PLANE_PATH}").parse().unwrap();
        let made = StoredToken::new(&token, &control, Duration::from_secs(60), now);
        assert_eq!(made, Err(UnfitToken::Reserved(control)));
    }
}
