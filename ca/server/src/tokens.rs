//! Join tokens: single-use, bound to one identity, stored hashed, one file each.
//!
//! A token is used by renaming its file to the `used` directory before anything is issued: the file system lets one of
//! several users win, a crash in between costs a token and never issues twice, and a full disk can't lose one.
//! Files and not one list, so that `token create` works beside a running CA.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use weft_identity::{JoinToken, RootPin, StoredToken, TokenState, UnfitToken};
use weft_model::SpiffeId;

use crate::flush::Flush;
use crate::state::{StateDir, StateError};

/// Why a token was not made, listed or revoked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// There can be no such token.
    #[error(transparent)]
    Unfit(#[from] UnfitToken),
    /// What several CAs share can't be reached.
    #[error("shared tokens: {0}")]
    Away(String),
    /// What is kept of a token is damaged.
    #[error("token {id}: what is kept of it is damaged: {cause}; revoke it and make another")]
    Damaged {
        /// Which token.
        id: String,
        /// What serde says.
        cause: serde_json::Error,
    },
}

/// Why a token does not prove an identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenRefusal {
    /// Not the text of a token.
    #[error(transparent)]
    Invalid(#[from] weft_identity::InvalidToken),
    /// No such token: never made, revoked, or over for long.
    #[error("token {0} is not known here")]
    Unknown(String),
    /// Right id, wrong secret.
    #[error("token {0} was presented with a wrong secret")]
    WrongSecret(String),
    /// Its time is over.
    #[error("token {id} for {identity} expired")]
    Expired {
        /// Which token.
        id: String,
        /// For whom it was.
        identity: SpiffeId,
    },
    /// It was used before: it was copied, or a proxy lost its state.
    #[error(
        "token {id} for {identity} is presented a second time: it was stolen, or its user lost its state"
    )]
    Used {
        /// Which token.
        id: String,
        /// For whom it was.
        identity: SpiffeId,
    },
    /// Where tokens are kept; not the caller's mistake.
    #[error(transparent)]
    Store(#[from] TokenError),
}

/// A token as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenRecord {
    /// Its id; not secret.
    pub id: String,
    /// For whom it is.
    pub identity: SpiffeId,
    /// Until when it can be used.
    pub expires: SystemTime,
    /// What became of it.
    pub state: TokenState,
}

/// The tokens of a state directory.
pub struct JoinTokens {
    directory: StateDir,
    // Another one once a new root signs.
    pin: Mutex<RootPin>,
    /// Makes uses durable: many at a time, since one flush of the disk serves all that came before it.
    flush: Flush,
    /// When old tokens were last looked for, in Unix seconds.
    tidied: AtomicU64,
}

impl JoinTokens {
    /// The tokens in the authority's state directory. `pin` is its [`root_pin`](crate::Authority::root_pin).
    ///
    /// # Errors
    /// When the directory can't be made or is open to others.
    pub fn open(state_dir: &Path, pin: RootPin) -> Result<Self, StateError> {
        let directory = StateDir::open(state_dir)?.directory("tokens")?;
        directory.directory(USED)?;
        let flush = Flush::of([directory.path(""), directory.path(USED)]);
        Ok(Self { directory, pin: Mutex::new(pin), flush, tidied: AtomicU64::new(0) })
    }

    /// What new tokens pin from now on: the root that the control plane presents.
    pub fn set_pin(&self, pin: RootPin) {
        *self.pin.lock().unwrap_or_else(PoisonError::into_inner) = pin;
    }

    /// Makes a token for one identity. It is on disk, hashed, before it is returned.
    ///
    /// # Errors
    /// When the life is out of range, the id reserved, or the disk full.
    pub fn create(
        &self,
        identity: &SpiffeId,
        ttl: Duration,
        now: SystemTime,
    ) -> Result<JoinToken, TokenError> {
        let token = JoinToken::random(*self.pin.lock().unwrap_or_else(PoisonError::into_inner));
        let stored = StoredToken::new(&token, identity, ttl, now)?;
        // Each look reads every token, so not with each one that is made.
        if unix(now) >= self.tidied.load(Ordering::Relaxed) + TIDY_EVERY.as_secs() {
            self.tidied.store(unix(now), Ordering::Relaxed);
            self.forget_old(now)?;
        }
        let text = serde_json::to_string(&stored)
            .map_err(|cause| TokenError::Damaged { id: token.id().to_owned(), cause })?;
        self.directory.write(&file_of(token.id()), &text)?;
        Ok(token)
    }

    /// What is stored of the unused token of this id.
    ///
    /// # Errors
    /// When its file can't be read or is damaged.
    pub fn record(&self, id: &str, now: SystemTime) -> Result<Option<TokenRecord>, TokenError> {
        Ok(self.read("", id)?.map(|stored| record(stored, id.to_owned(), now)))
    }

    /// All tokens that are remembered, used and expired ones too. Damaged files are left out; a use of one says so.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub fn list(&self, now: SystemTime) -> Result<Vec<TokenRecord>, TokenError> {
        let mut records = Vec::new();
        for (prefix, used) in [("", false), ("used/", true)] {
            for id in self.ids(used)? {
                let Ok(Some(mut stored)) = self.read(prefix, &id) else { continue };
                stored.used = used;
                records.push(record(stored, id, now));
            }
        }
        records.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(records)
    }

    /// Makes an unused token unusable; `false` if there is none of this id.
    ///
    /// # Errors
    /// When the file can't be removed.
    pub fn revoke(&self, id: &str) -> Result<bool, TokenError> {
        // The id is a part of a path.
        let is_id = id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit());
        Ok(is_id && self.directory.remove(&file_of(id))?)
    }

    /// Whose a token is, if it can be used now. Does not use it.
    ///
    /// # Errors
    /// Why it can't be used.
    pub fn check(&self, token: &JoinToken, now: SystemTime) -> Result<SpiffeId, TokenRefusal> {
        let id = token.id().to_owned();
        let (mut stored, used) = match self.read("", &id)? {
            Some(stored) => (stored, false),
            None => (self.read("used/", &id)?.ok_or_else(|| TokenRefusal::Unknown(id.clone()))?, true),
        };
        stored.used = used;
        judge(&stored, token, now)
    }

    /// Uses a token: from here on nobody can. Call it before issuing.
    ///
    /// # Errors
    /// As [`JoinTokens::check`]; also when somebody else used it in between.
    pub fn redeem(&self, token: &JoinToken, now: SystemTime) -> Result<SpiffeId, TokenRefusal> {
        self.redeem_if(token, now, |_| Ok(()))
    }

    /// Uses a token unless `may` refuses whose it is: then it can still be used.
    ///
    /// # Errors
    /// As [`JoinTokens::redeem`], and what `may` says.
    pub fn redeem_if<E: From<TokenRefusal>>(
        &self,
        token: &JoinToken,
        now: SystemTime,
        may: impl FnOnce(&SpiffeId) -> Result<(), E>,
    ) -> Result<SpiffeId, E> {
        let identity = self.check(token, now)?;
        may(&identity)?;
        Ok(self.take(token.id(), identity)?)
    }

    /// Makes the token of this id a used one, for good.
    fn take(&self, id: &str, identity: SpiffeId) -> Result<SpiffeId, TokenRefusal> {
        let name = file_of(id);
        let taken = self.directory.take(&name, &format!("{USED}/{name}")).map_err(TokenError::from)?;
        if !taken {
            return Err(TokenRefusal::Used { id: id.to_owned(), identity });
        }
        self.flush.wait().map_err(TokenError::from)?;
        Ok(identity)
    }

    fn ids(&self, used: bool) -> Result<Vec<String>, StateError> {
        let directory = if used { self.directory.directory(USED)? } else { self.directory.clone() };
        let names = directory.names()?;
        Ok(names.iter().filter_map(|name| Some(name.strip_suffix(".json")?.to_owned())).collect())
    }

    fn read(&self, prefix: &str, id: &str) -> Result<Option<StoredToken>, TokenError> {
        let Some(text) = self.directory.read(&format!("{prefix}{}", file_of(id)))? else { return Ok(None) };
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|cause| TokenError::Damaged { id: id.to_owned(), cause })
    }

    /// Removes tokens that are over for so long that nobody will ask what became of them.
    fn forget_old(&self, now: SystemTime) -> Result<(), TokenError> {
        for record in self.list(now)? {
            let prefix = if record.state == TokenState::Used { "used/" } else { "" };
            if self.read(prefix, &record.id)?.is_some_and(|stored| stored.is_forgotten(now)) {
                self.directory.remove(&format!("{prefix}{}", file_of(&record.id)))?;
            }
        }
        Ok(())
    }
}

/// Whose the token is that `stored` was kept of, if it can be used now.
pub(crate) fn judge(
    stored: &StoredToken,
    token: &JoinToken,
    now: SystemTime,
) -> Result<SpiffeId, TokenRefusal> {
    let (id, identity) = (token.id().to_owned(), stored.identity.clone());
    if !stored.is_of(token) {
        return Err(TokenRefusal::WrongSecret(id));
    }
    if stored.used {
        return Err(TokenRefusal::Used { id, identity });
    }
    match stored.is_expired(now) {
        true => Err(TokenRefusal::Expired { id, identity }),
        false => Ok(identity),
    }
}

fn record(stored: StoredToken, id: String, now: SystemTime) -> TokenRecord {
    TokenRecord { id, expires: stored.expires(), state: stored.state(now), identity: stored.identity }
}

impl fmt::Debug for JoinTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("JoinTokens").field(&self.directory).finish()
    }
}

fn file_of(id: &str) -> String {
    format!("{id}.json")
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

const USED: &str = "used";
const TIDY_EVERY: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests;
