//! Join tokens that several CAs share, so that one which is shown to any of them is used up at all of them.
//!
//! The keeper offers one thing that counts: a replacement that only one of several wins. Making, listing and revoking is
//! done there by whoever may write there, and not by a CA.

use std::fmt;
use std::time::SystemTime;

use futures::future::BoxFuture;
use weft_identity::{JoinToken, StoredToken, UnfitToken};
use weft_model::SpiffeId;

use crate::tokens::{TokenError, TokenRefusal, judge};

/// Where tokens are kept that several CAs share: a text by id, [`StoredToken`] as JSON.
pub trait SharedTokens: fmt::Debug + Send + Sync {
    /// What is kept under this id. The error says why that can't be said.
    fn read<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<String>, String>>;

    /// Puts `new` in the place of `old`. `false`: what is kept is no longer `old`.
    fn replace<'a>(&'a self, id: &'a str, old: &'a str, new: &'a str) -> BoxFuture<'a, Result<bool, String>>;
}

/// Uses a token unless `may` refuses whose it is: then it can still be used.
///
/// # Errors
/// As [`JoinTokens::redeem_if`](crate::JoinTokens::redeem_if).
pub(crate) async fn redeem_if<E: From<TokenRefusal>>(
    shared: &dyn SharedTokens,
    token: &JoinToken,
    now: SystemTime,
    may: impl FnOnce(&SpiffeId) -> Result<(), E>,
) -> Result<SpiffeId, E> {
    let id = token.id();
    let away = |reason| TokenRefusal::Store(TokenError::Away(reason));
    let old = shared.read(id).await.map_err(away)?;
    let old = old.ok_or_else(|| TokenRefusal::Unknown(id.to_owned()))?;
    let mut stored = read(id, &old).map_err(TokenRefusal::Store)?;
    let identity = judge(&stored, token, now)?;
    may(&identity)?;
    stored.used = true;
    let new = serde_json::to_string(&stored)
        .map_err(|cause| TokenRefusal::Store(TokenError::Damaged { id: id.to_owned(), cause }))?;
    match shared.replace(id, &old, &new).await.map_err(away)? {
        true => Ok(identity),
        false => Err(TokenRefusal::Used { id: id.to_owned(), identity }.into()),
    }
}

/// Others write there: what no CA would have made is not believed.
fn read(id: &str, text: &str) -> Result<StoredToken, TokenError> {
    let stored: StoredToken =
        serde_json::from_str(text).map_err(|cause| TokenError::Damaged { id: id.to_owned(), cause })?;
    match stored.is_reserved() {
        true => Err(UnfitToken::Reserved(stored.identity).into()),
        false => Ok(stored),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;
    use std::time::Duration;

    use futures::FutureExt;
    use weft_identity::CONTROL_PLANE_PATH;

    use super::*;

    /// What is kept, and whether the keeper answers.
    #[derive(Debug, Default)]
    struct Kept(Mutex<BTreeMap<String, String>>, bool);

    impl SharedTokens for Kept {
        fn read<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<String>, String>> {
            let read = || self.0.lock().unwrap().get(id).cloned();
            async move { if self.1 { Err("it is away".to_owned()) } else { Ok(read()) } }.boxed()
        }

        fn replace<'a>(
            &'a self,
            id: &'a str,
            old: &'a str,
            new: &'a str,
        ) -> BoxFuture<'a, Result<bool, String>> {
            async move {
                // The others read meanwhile.
                tokio::task::yield_now().await;
                let mut kept = self.0.lock().unwrap();
                let is_old = kept.get(id).is_some_and(|kept| kept == old);
                if is_old {
                    kept.insert(id.to_owned(), new.to_owned());
                }
                Ok(is_old)
            }
            .boxed()
        }
    }

    const WEB: &str = "spiffe://weft.test/ns/shop/sa/web";

    fn kept(identity: &str, now: SystemTime) -> (Kept, JoinToken) {
        let token = JoinToken::random("ab".repeat(32).parse().unwrap());
        let minute = Duration::from_secs(60);
        let mut stored = StoredToken::new(&token, &WEB.parse().unwrap(), minute, now).unwrap();
        stored.identity = identity.parse().unwrap();
        let text = serde_json::to_string(&stored).unwrap();
        (Kept(Mutex::new([(token.id().to_owned(), text)].into()), false), token)
    }

    async fn redeem(kept: &Kept, token: &JoinToken, now: SystemTime) -> Result<SpiffeId, TokenRefusal> {
        redeem_if(kept, token, now, |_| Ok(())).await
    }

    #[tokio::test]
    async fn of_many_cas_that_are_shown_a_token_at_once_one_lets_its_bearer_in() {
        let now = SystemTime::now();
        let (kept, token) = kept(WEB, now);
        let all = futures::future::join_all((0..8).map(|_| redeem(&kept, &token, now))).await;
        assert_eq!(all.iter().filter(|one| one.is_ok()).count(), 1, "{all:?}");
        let refused: Vec<_> = all.into_iter().filter_map(Result::err).collect();
        assert!(refused.iter().all(|one| matches!(one, TokenRefusal::Used { .. })), "{refused:?}");
        assert!(matches!(redeem(&kept, &token, now).await, Err(TokenRefusal::Used { .. })));
    }

    #[tokio::test]
    async fn one_that_is_refused_for_another_reason_is_not_used_up() {
        let now = SystemTime::now();
        let (kept, token) = kept(WEB, now);
        let late = now + Duration::from_secs(61);
        assert!(matches!(redeem(&kept, &token, late).await, Err(TokenRefusal::Expired { .. })));
        let may_not = |_: &SpiffeId| Err(TokenRefusal::Unknown("as said".to_owned()));
        let refused = redeem_if(&kept, &token, now, may_not).await;
        assert!(matches!(refused, Err(TokenRefusal::Unknown(why)) if why == "as said"));
        assert_eq!(redeem(&kept, &token, now).await.unwrap().as_str(), WEB);
    }

    #[tokio::test]
    async fn what_no_ca_would_have_made_lets_nobody_in_and_an_absent_keeper_is_no_refusal() {
        let now = SystemTime::now();
        let (reserved, token) = kept(&format!("spiffe://weft.test{CONTROL_PLANE_PATH}"), now);
        let refused = redeem(&reserved, &token, now).await.unwrap_err();
        assert!(matches!(refused, TokenRefusal::Store(TokenError::Unfit(_))), "{refused}");
        let (mut kept, token) = kept(WEB, now);
        kept.0.lock().unwrap().values_mut().for_each(|text| *text = text.replace('}', ",\"uses\":2}"));
        let refused = redeem(&kept, &token, now).await.unwrap_err();
        assert!(matches!(refused, TokenRefusal::Store(TokenError::Damaged { .. })), "{refused}");
        kept.1 = true;
        let refused = redeem(&kept, &token, now).await.unwrap_err();
        assert!(matches!(refused, TokenRefusal::Store(TokenError::Away(_))), "{refused}");
    }
}
