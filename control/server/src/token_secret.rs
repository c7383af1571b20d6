//! Join tokens in a Kubernetes Secret: what makes one that is shown to any replica used up at all of them.
//!
//! One object with a key for each token, so that the control plane needs rights on that name alone. Who wins is the API
//! server's word: a patch (RFC 6902) that first tests the value and then replaces it is refused as a whole when it is
//! another by now. `weft --control kubernetes token` writes the object; here nothing is made or taken away.

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tokio::time::{Duration, timeout};
use weft_ca::SharedTokens;
use weft_registry::causes;

/// The Secret, and how to reach it.
#[derive(Clone)]
pub(crate) struct TokenSecret {
    pub(crate) api: Api<Secret>,
    pub(crate) name: String,
}

/// A joining proxy waits meanwhile, and asks again by itself.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the API server answers where a patch's test does not hold.
const TEST_FAILED: u16 = 422;

impl SharedTokens for TokenSecret {
    fn read<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<String>, String>> {
        async move {
            let found = self.within(self.api.get_opt(&self.name)).await?;
            let data = found.ok().flatten().and_then(|secret| secret.data);
            let Some(ByteString(kept)) = data.and_then(|mut data| data.remove(id)) else { return Ok(None) };
            String::from_utf8(kept).map(Some).map_err(|_| format!("{id} in Secret {} is no text", self.name))
        }
        .boxed()
    }

    fn replace<'a>(&'a self, id: &'a str, old: &'a str, new: &'a str) -> BoxFuture<'a, Result<bool, String>> {
        async move {
            let value = |text: &str| json!(ByteString(text.as_bytes().to_vec()));
            let path = format!("/data/{id}");
            let patch = json!([
                { "op": "test", "path": path, "value": value(old) },
                { "op": "replace", "path": path, "value": value(new) },
            ]);
            let patch = Patch::Json::<()>(serde_json::from_value(patch).map_err(|error| error.to_string())?);
            let params = PatchParams::default();
            let patching = self.api.patch(&self.name, &params, &patch);
            Ok(self.within(patching).await?.is_ok())
        }
        .boxed()
    }
}

impl TokenSecret {
    /// What the API server said; `Err(())` where the object or the value is another one than was asked for.
    async fn within<T>(
        &self,
        answer: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<Result<T, ()>, String> {
        match timeout(PATIENCE, answer).await {
            Ok(Ok(answer)) => Ok(Ok(answer)),
            Ok(Err(kube::Error::Api(status))) if [404, TEST_FAILED].contains(&status.code) => Ok(Err(())),
            Ok(Err(error)) => Err(format!("Secret {}: {}", self.name, causes(&error))),
            Err(_) => Err(format!("Secret {}: no answer in {} s", self.name, PATIENCE.as_secs())),
        }
    }
}

impl std::fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TokenSecret").field(&self.name).finish()
    }
}
