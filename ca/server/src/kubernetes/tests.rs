//! Every rule, against an API server that says what a test wants. Real ones: `integration/tests/kubernetes_identity.rs`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::*;

const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOlsid2VmdCJdfQ.c2lnbmF0dXJl";

/// What the API server says at the moment, and how often it was asked.
#[derive(Clone)]
struct Scripted(Arc<Script>);
struct Script {
    review: Mutex<Result<TokenReview, String>>,
    pod: Mutex<Result<Option<LivePod>, String>>,
    asked: AtomicUsize,
    /// Never answers.
    hangs: bool,
}

impl TokenReviewer for Scripted {
    fn review<'a>(
        &'a self,
        token: &'a str,
        audience: &'a str,
    ) -> BoxFuture<'a, Result<TokenReview, TokenReviewError>> {
        assert_eq!((token, audience), (TOKEN, "weft"));
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        if self.0.hangs {
            return Box::pin(std::future::pending());
        }
        Box::pin(std::future::ready(self.0.review.lock().unwrap().clone().map_err(TokenReviewError)))
    }

    fn pod<'a>(
        &'a self,
        namespace: &'a Namespace,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<LivePod>, TokenReviewError>> {
        assert_eq!((namespace.as_str(), name), ("shop", "web-1"));
        Box::pin(std::future::ready(self.0.pod.lock().unwrap().clone().map_err(TokenReviewError)))
    }
}

/// An honest pod's token, for tests to spoil.
fn token() -> ReviewedToken {
    ReviewedToken {
        username: "system:serviceaccount:shop:web".to_owned(),
        audiences: vec!["weft".to_owned()],
        pod: Some(("web-1".to_owned(), "1234".to_owned())),
        node: Some("node1".to_owned()),
        credential: Some("JTI=1".to_owned()),
    }
}

fn pod() -> LivePod {
    LivePod {
        uid: "1234".to_owned(),
        node: Some("node1".to_owned()),
        service_account: "web".to_owned(),
        ending: false,
    }
}

fn cluster(hangs: bool) -> (Scripted, KubernetesAttestor) {
    let scripted = Scripted(Arc::new(Script {
        review: Mutex::new(Ok(TokenReview::Accepted(token()))),
        pod: Mutex::new(Ok(Some(pod()))),
        asked: AtomicUsize::new(0),
        hangs,
    }));
    let cluster = KubernetesCluster { audience: "weft".to_owned(), reviewer: Box::new(scripted.clone()) };
    let clusters = BTreeMap::from([("kubernetes/prod".parse().unwrap(), cluster)]);
    (scripted, KubernetesAttestor::new("weft.test".parse().unwrap(), clusters))
}

/// What becomes of a caller when the API server says this.
async fn attest(
    review: Result<TokenReview, String>,
    pod: Result<Option<LivePod>, String>,
) -> Result<SpiffeId, KubernetesRefusal> {
    let (scripted, attestor) = cluster(false);
    *scripted.0.review.lock().unwrap() = review;
    *scripted.0.pod.lock().unwrap() = pod;
    attestor.attest("kubernetes/prod", TOKEN).await
}

async fn of_token(token: ReviewedToken) -> Result<SpiffeId, KubernetesRefusal> {
    attest(Ok(TokenReview::Accepted(token)), Ok(Some(pod()))).await
}

async fn of_pod(pod: Option<LivePod>) -> Result<SpiffeId, KubernetesRefusal> {
    attest(Ok(TokenReview::Accepted(token())), Ok(pod)).await
}

async fn said(words: &str) -> KubernetesRefusal {
    attest(Ok(TokenReview::Rejected(words.to_owned())), Ok(Some(pod()))).await.unwrap_err()
}

/// The reason that is counted, and that the log line has these words and not the token.
fn assert_refused(answer: Result<SpiffeId, KubernetesRefusal>, reason: &str, words: &str) {
    let refusal = answer.expect_err(words);
    let text = refusal.to_string();
    assert_eq!(refusal.reason(), reason, "{text}");
    assert!(text.contains(words) && !text.contains(TOKEN), "{text}");
}

#[tokio::test]
async fn a_living_pods_token_proves_its_service_account() {
    assert_eq!(of_token(token()).await.unwrap().as_str(), "spiffe://weft.test/ns/shop/sa/web");
    let old_server = ReviewedToken { node: None, credential: None, ..token() };
    assert_eq!(of_token(old_server).await.unwrap().as_str(), "spiffe://weft.test/ns/shop/sa/web");
}

#[tokio::test]
async fn a_token_for_another_audience_is_refused_also_by_us() {
    let refused = said(
        "[invalid bearer token, token audiences [\"vault\"] is invalid for the target audiences [\"weft\"]]",
    );
    assert_refused(Err(refused.await), "kubernetes_audience", "vault");
    for audiences in [vec![], vec!["weft2".to_owned(), "WEFT".to_owned()]] {
        assert_refused(
            of_token(ReviewedToken { audiences, ..token() }).await,
            "kubernetes_audience",
            "\"weft\"",
        );
    }
}

#[tokio::test]
async fn what_the_api_server_does_not_vouch_for_is_refused_with_its_words() {
    for words in
        ["[invalid bearer token, error in cryptographic primitive]", "service account token has expired", ""]
    {
        assert_refused(Err(said(words).await), "kubernetes_token", words);
    }
    let unreadable = said("line\nbreak").await.to_string();
    assert!(unreadable.contains("linebreak"), "{unreadable}");
    for words in [
        "service account token has been invalidated",
        "pod UID (1) does not match service account pod ref claim (2)",
    ] {
        assert_refused(Err(said(words).await), "kubernetes_pod_gone", words);
    }
}

#[tokio::test]
async fn only_service_accounts_have_an_identity() {
    for username in [
        "kubernetes-admin",
        "system:node:node1",
        "system:serviceaccount:shop",
        "system:serviceaccount:shop:web:admin",
        "",
    ] {
        let refused = of_token(ReviewedToken { username: username.to_owned(), ..token() }).await;
        assert_refused(refused, "kubernetes_account", username);
    }
    for username in
        ["system:serviceaccount:shop:", "system:serviceaccount:shop:a/b", "system:serviceaccount:../x:web"]
    {
        let claim = ReviewedToken { username: username.to_owned(), ..token() };
        let name = username.rsplit(':').next().unwrap().to_owned();
        let pod = LivePod { service_account: name, ..pod() };
        let refused = attest(Ok(TokenReview::Accepted(claim)), Ok(Some(pod))).await;
        assert_refused(refused, "kubernetes_account", "");
    }
}

#[tokio::test]
async fn a_token_that_is_bound_to_no_pod_is_refused() {
    for pod in [None, Some((String::new(), "1234".to_owned())), Some(("web-1".to_owned(), String::new()))] {
        assert_refused(
            of_token(ReviewedToken { pod, ..token() }).await,
            "kubernetes_unbound",
            "not bound to a pod",
        );
    }
}

#[tokio::test]
async fn a_pod_that_is_gone_or_has_a_successor_of_its_name_is_refused() {
    assert_refused(of_pod(None).await, "kubernetes_pod_gone", "shop/web-1");
    let successor = LivePod { uid: "5678".to_owned(), ..pod() };
    assert_refused(of_pod(Some(successor)).await, "kubernetes_pod_gone", "5678");
}

#[tokio::test]
async fn a_pod_that_is_ending_gets_no_first_certificate() {
    assert_refused(
        of_pod(Some(LivePod { ending: true, ..pod() })).await,
        "kubernetes_pod_ending",
        "shop/web-1",
    );
}

#[tokio::test]
async fn a_pod_must_be_on_the_node_that_the_token_says() {
    for node in [Some("node2".to_owned()), None] {
        assert_refused(of_pod(Some(LivePod { node, ..pod() })).await, "kubernetes_node", "node1");
    }
}

#[tokio::test]
async fn a_pod_must_run_as_the_tokens_service_account() {
    let other = LivePod { service_account: "admin".to_owned(), ..pod() };
    assert_refused(of_pod(Some(other)).await, "kubernetes_account", "admin");
}

#[tokio::test]
async fn an_api_server_that_does_not_answer_is_not_the_callers_fault() {
    let down = || "connection refused".to_owned();
    let no_review = attest(Err(down()), Ok(Some(pod()))).await;
    assert_refused(no_review, "unavailable", "connection refused");
    let no_pod = attest(Ok(TokenReview::Accepted(token())), Err(down())).await;
    assert_refused(no_pod, "unavailable", "connection refused");
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_hangs_holds_nobody_longer_than_eight_seconds_nor_more_than_its_places() {
    let (scripted, attestor) = cluster(true);
    let callers = (0..REVIEWS_AT_ONCE + 10).map(|_| attestor.attest("kubernetes/prod", TOKEN));
    let began = tokio::time::Instant::now();
    let just_before = async {
        tokio::time::sleep(PATIENCE - Duration::from_secs(1)).await;
        scripted.0.asked.load(Ordering::Relaxed)
    };
    let (asked, answers) = futures::join!(just_before, futures::future::join_all(callers));
    assert_eq!((asked, began.elapsed()), (REVIEWS_AT_ONCE, PATIENCE));
    for answer in answers {
        assert_refused(answer, "unavailable", "did not answer in 8 s");
    }
}

#[tokio::test]
async fn other_registries_and_what_is_no_token_cost_the_api_server_nothing() {
    let (scripted, attestor) = cluster(false);
    for registry in ["kubernetes/other", "consul/dc1", "garbage", ""] {
        assert_refused(attestor.attest(registry, TOKEN).await, "kubernetes_not_set_up", "attests nobody");
    }
    let long = format!("{}.b.c", "a".repeat(LONGEST_TOKEN));
    for bad in ["", "a", "a.b", "a..c", "a.b.c.d", "a.b.c\n", "a.b.c=", "a b.c.d", &long] {
        assert_refused(
            attestor.attest("kubernetes/prod", bad).await,
            "kubernetes_token",
            "no service account token",
        );
    }
    assert_eq!(scripted.0.asked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_cluster_may_come_and_go_while_this_runs() {
    let (scripted, attestor) = cluster(false);
    let id: RegistryId = "kubernetes/east".parse().unwrap();
    let unknown = attestor.attest("kubernetes/east", TOKEN).await;
    assert_refused(unknown, "kubernetes_not_set_up", "attests nobody here");
    let east = KubernetesCluster { audience: "weft".to_owned(), reviewer: Box::new(scripted) };
    attestor.accept(id.clone(), east);
    assert!(attestor.attest("kubernetes/east", TOKEN).await.is_ok());
    attestor.forget(&id);
    assert!(attestor.attest("kubernetes/east", TOKEN).await.is_err());
    assert!(attestor.attest("kubernetes/prod", TOKEN).await.is_ok(), "nobody else is touched");
}
