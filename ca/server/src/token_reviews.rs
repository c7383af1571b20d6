//! Tokens reviewed by a real API server, over the client of the Kubernetes adapter.

use futures::FutureExt;
use futures::future::BoxFuture;
use weft_model::Namespace;
use weft_registry_kubernetes::attest::{self, TokenReviewStatus, TokenReviews, extra};

use crate::kubernetes::{LivePod, ReviewedToken, TokenReview, TokenReviewError, TokenReviewer};

impl TokenReviewer for TokenReviews {
    fn review<'a>(
        &'a self,
        token: &'a str,
        audience: &'a str,
    ) -> BoxFuture<'a, Result<TokenReview, TokenReviewError>> {
        let status = Self::review(self, token, audience);
        async { status.await.map(review_of).map_err(|error| TokenReviewError(error.to_string())) }.boxed()
    }

    fn pod<'a>(
        &'a self,
        namespace: &'a Namespace,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<LivePod>, TokenReviewError>> {
        let pod = Self::pod(self, namespace.as_str(), name);
        let read = |pod: Option<attest::LivePod>| pod.map(live_pod_of);
        async move { pod.await.map(read).map_err(|error| TokenReviewError(error.to_string())) }.boxed()
    }
}

fn review_of(status: TokenReviewStatus) -> TokenReview {
    if !status.authenticated {
        return TokenReview::Rejected(status.error);
    }
    // Each of ours has one value.
    let of = |key| status.user.extra.get(key).and_then(|values| values.first()).cloned();
    TokenReview::Accepted(ReviewedToken {
        pod: of(extra::POD_NAME).zip(of(extra::POD_UID)),
        node: of(extra::NODE_NAME),
        credential: of(extra::CREDENTIAL_ID),
        username: status.user.username,
        audiences: status.audiences,
    })
}

fn live_pod_of(pod: attest::LivePod) -> LivePod {
    let attest::LivePod { uid, node, service_account, terminating, finished } = pod;
    LivePod { uid, node, service_account, ending: terminating || finished }
}
