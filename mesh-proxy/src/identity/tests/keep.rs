//! From the first attestation to renewal, absence of the CA, refusal and expiry. Certificates live by the real clock
//! (rustls checks them by it), so they live for seconds here.

use std::time::Instant;

use tokio::task::JoinSet;
use weft_identity::{JoinToken, RootPin};

use super::ca::{self, Ca};
use super::*;
use crate::state::JOINED;

/// A proxy's identity that is kept until it is dropped.
struct Kept {
    shared: Arc<Shared>,
    state: Arc<StateDir>,
    status: watch::Receiver<IdentityStatus>,
    directory: tempfile::TempDir,
    tasks: JoinSet<()>,
}

fn start(ca: &Ca, settings: &str) -> Kept {
    start_with(&format!("control.addresses = ['{}']\n{settings}", ca.address))
}

/// Starts with an empty state directory. `{dir}` in the settings stands for it.
fn start_with(settings: &str) -> Kept {
    weft_identity::install_crypto_provider();
    let directory = tempfile::tempdir().unwrap();
    let settings = settings.replace("{dir}", &directory.path().display().to_string());
    let shared = Arc::new(Shared::for_tests(&settings));
    let state = Arc::new(StateDir::open(&directory.path().join("state")).unwrap());
    let (sender, status) = watch::channel(IdentityStatus::default());
    let mut tasks = JoinSet::new();
    tasks.spawn(keep(shared.clone(), state.clone(), sender));
    Kept { shared, state, status, directory, tasks }
}

impl Kept {
    async fn generation(&self, wanted: u64) {
        let mut changes = self.shared.svids.subscribe();
        within(changes.wait_for(|generation| *generation >= wanted)).await.unwrap();
    }

    async fn status(&mut self, wanted: impl Fn(&IdentityStatus) -> bool) -> IdentityStatus {
        within(self.status.wait_for(|status| wanted(status))).await.unwrap().clone()
    }

    fn validity(&self) -> Result<(), &'static str> {
        validity(&self.shared.svids.current().unwrap().svid, SystemTime::now())
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.unwrap()
}

#[tokio::test]
async fn a_certificate_is_renewed_at_half_life_and_serves_on_while_the_ca_is_away() {
    let ca = Ca::start(Duration::from_secs(8)).await;
    let mut kept = start(&ca, &format!("identity.join_token = '{}'", ca.token()));
    kept.generation(1).await;
    let joined = Instant::now();
    kept.generation(2).await;
    let after = joined.elapsed().as_secs_f64();
    assert!((2.5..7.0).contains(&after), "renewed after {after} s");

    ca.go_away(true);
    let status = kept.status(|status| status.failures >= 2).await;
    assert!(status.last_error.contains(&ca.address.to_string()), "{status:?}");
    assert_eq!(kept.validity(), Ok(()), "two failed renewals change nothing");
    ca.go_away(false);
    kept.generation(3).await;
    let status = kept.status(|status| status.last_error.is_empty()).await;
    assert!(status.failures >= 2);
    assert_eq!(ca.asked(), ["token", "renewal", "renewal"]);
    assert_eq!(kept.state.read(JOINED).unwrap().map(|id| id.len()), Some(16));
}

#[tokio::test]
async fn a_used_join_token_is_not_sent_again_and_a_new_one_in_its_file_ends_the_wait() {
    let ca = Ca::start(Duration::from_secs(3)).await;
    let mut kept = start(&ca, "identity.join_token_file = '{dir}/token'");
    let missing = kept.status(|status| status.failures >= 1).await;
    assert!(missing.last_error.contains("identity.join_token_file"), "{missing:?}");
    let file = kept.directory.path().join("token");
    std::fs::write(&file, ca.token().to_string()).unwrap();
    kept.generation(1).await;

    ca.go_away(true);
    let status = kept.status(|status| status.last_error.contains("has used its join token")).await;
    assert!(status.last_error.contains("`weft token create`"), "{status:?}");
    assert!(status.last_error.contains(&file.display().to_string()), "{status:?}");
    assert_eq!(kept.validity(), Err("expired"));
    ca.go_away(false);
    kept.status(|now| now.failures > status.failures).await;
    std::fs::write(&file, ca.token().to_string()).unwrap();
    kept.generation(2).await;
    assert_eq!(kept.validity(), Ok(()));
    assert_eq!(ca.asked(), ["token", "token"]);
}

#[tokio::test]
async fn a_refused_renewal_is_attested_anew_at_once_where_consul_is_the_witness() {
    let ca = Ca::start(Duration::from_secs(8)).await;
    let mut agents = JoinSet::new();
    let agent = ca::agent(&mut agents).await;
    let consul = format!(
        "control.root_sha256 = ['{}']\nidentity.consul = {{ address = 'http://{agent}', service = 'web', \
         registry = 'consul/dc1' }}",
        ca.pin()
    );
    let kept = start(&ca, &consul);
    kept.generation(1).await;
    ca.refuse();
    let first = kept.shared.svids.current().unwrap();
    kept.generation(2).await;
    assert_eq!(validity(&first.svid, SystemTime::now()), Ok(()), "before the first one was over");
    assert_eq!(ca.asked(), ["consul", "renewal", "consul"]);
    assert_eq!(kept.status.borrow().failures, 0);
    assert_eq!((agents.len(), kept.tasks.len()), (1, 1), "both still run");
}

fn pod(ca: &Ca) -> String {
    format!(
        "control.root_sha256 = ['{}']\nidentity.kubernetes = {{ registry = 'kubernetes/prod', token_file = '{{dir}}/token' }}",
        ca.pin()
    )
}

#[tokio::test]
async fn a_pods_token_is_awaited_read_anew_and_shown_again_when_a_renewal_is_refused() {
    let ca = Ca::start(Duration::from_secs(8)).await;
    let mut kept = start(&ca, &pod(&ca));
    let missing = kept.status(|status| status.failures >= 1).await;
    assert!(missing.last_error.contains("identity.kubernetes.token_file"), "{missing:?}");
    let file = kept.directory.path().join("token");
    std::fs::write(&file, "head.first.signature").unwrap();
    kept.generation(1).await;

    ca.refuse();
    std::fs::write(&file, "head.second.signature").unwrap();
    let first = kept.shared.svids.current().unwrap();
    kept.generation(2).await;
    assert_eq!(validity(&first.svid, SystemTime::now()), Ok(()), "before the first one was over");
    assert_eq!(ca.asked(), ["kubernetes", "renewal", "kubernetes"]);
    assert_eq!(ca.pod_tokens(), ["head.first.signature", "head.second.signature"]);
}

#[tokio::test]
async fn an_allocations_token_is_awaited_read_anew_and_shown_again_when_a_renewal_is_refused() {
    let ca = Ca::start(Duration::from_secs(8)).await;
    let allocation = format!(
        "control.root_sha256 = ['{}']\nidentity.nomad = {{ registry = 'nomad/prod', token_file = '{{dir}}/token', \
         node = '{}' }}",
        ca.pin(),
        ca::NODE
    );
    let mut kept = start(&ca, &allocation);
    let missing = kept.status(|status| status.failures >= 1).await;
    assert!(missing.last_error.contains("identity.nomad.token_file"), "{missing:?}");
    let file = kept.directory.path().join("token");
    std::fs::write(&file, "head.first.signature").unwrap();
    kept.generation(1).await;

    ca.refuse();
    std::fs::write(&file, "head.second.signature").unwrap();
    let first = kept.shared.svids.current().unwrap();
    kept.generation(2).await;
    assert_eq!(validity(&first.svid, SystemTime::now()), Ok(()), "before the first one was over");
    assert_eq!(ca.asked(), ["nomad", "renewal", "nomad"]);
    assert_eq!(ca.pod_tokens(), ["head.first.signature", "head.second.signature"]);
}

#[tokio::test]
async fn a_pods_token_is_shown_to_no_stranger() {
    let ca = Ca::start(Duration::from_secs(60)).await;
    let stranger = RootPin::of(&TestAuthority::new("weft.test").bundle().roots[0]);
    let mut kept = start(&ca, &pod(&ca).replace(&ca.pin().to_string(), &stranger.to_string()));
    std::fs::write(kept.directory.path().join("token"), "head.first.signature").unwrap();
    let wrong = kept.status(|status| status.last_error.contains("is the pinned root")).await;
    assert!(!wrong.last_error.contains("head.first"), "{wrong:?}");
    assert_eq!(ca.asked(), [""; 0]);
}

#[tokio::test]
async fn a_restarted_container_goes_on_with_the_certificate_of_its_pods_directory() {
    let ca = Ca::start(Duration::from_secs(86_400)).await;
    let kept = start(&ca, &pod(&ca));
    std::fs::write(kept.directory.path().join("token"), "head.first.signature").unwrap();
    kept.generation(1).await;
    let before = kept.shared.svids.current().unwrap();
    drop(kept.tasks);

    let shared =
        Arc::new(Shared::for_tests(&format!("control.addresses = ['{}']\n{}", ca.address, pod(&ca))));
    restore(&kept.state, &shared.svids);
    let (sender, status) = watch::channel(IdentityStatus::default());
    let mut tasks = JoinSet::new();
    tasks.spawn(keep(shared.clone(), kept.state.clone(), sender));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(shared.svids.current().unwrap().svid.chain(), before.svid.chain());
    assert_eq!((ca.asked(), status.borrow().failures), (vec!["kubernetes"], 0));
}

#[tokio::test]
async fn a_refused_renewal_without_another_proof_waits_on() {
    let ca = Ca::start(Duration::from_secs(6)).await;
    let mut kept = start(&ca, &format!("identity.join_token = '{}'", ca.token()));
    kept.generation(1).await;
    ca.refuse();
    let status = kept.status(|status| status.failures >= 1).await;
    assert!(status.last_error.contains("refused: not attested"), "{status:?}");
    assert_eq!(kept.validity(), Ok(()));
    assert_eq!(ca.asked()[..2], ["token", "renewal"]);
}

#[tokio::test]
async fn a_refused_join_token_is_sent_once_and_its_successor_too() {
    let ca = Ca::start(Duration::from_secs(60)).await;
    ca.refuse();
    let mut kept = start(&ca, "identity.join_token_file = '{dir}/token'");
    let file = kept.directory.path().join("token");
    std::fs::write(&file, ca.token().to_string()).unwrap();
    let status = kept.status(|status| status.failures >= 3).await;
    assert!(status.last_error.contains("refused: not attested"), "{status:?}");
    assert!(status.last_error.contains("`weft token create`"), "{status:?}");
    assert_eq!(ca.asked(), ["token"], "a second time is an alarm at the control plane");
    std::fs::write(&file, ca.token().to_string()).unwrap();
    kept.status(|now| now.failures > status.failures + 1).await;
    assert_eq!(ca.asked(), ["token", "token"]);
}

#[tokio::test]
async fn a_wrong_pin_and_a_control_plane_that_is_not_there_say_what_to_look_at() {
    let ca = Ca::start(Duration::from_secs(60)).await;
    let stranger = RootPin::of(&TestAuthority::new("weft.test").bundle().roots[0]);
    let mut kept = start(&ca, &format!("identity.join_token = '{}'", JoinToken::random(stranger)));
    let wrong = kept.status(|status| status.failures >= 1).await.last_error;
    assert!(wrong.contains("is the pinned root") && !wrong.contains("OtherError"), "{wrong}");
    assert!(wrong.contains("control.root_sha256") && wrong.contains("`weft status`"), "{wrong}");
    assert_eq!(ca.asked(), [""; 0], "no token goes to a stranger");

    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let nobody = format!("control.addresses = ['{free}']\nidentity.join_token = '{}'", ca.token());
    let mut kept = start_with(&nobody);
    let nobody = kept.status(|status| status.failures >= 1).await.last_error;
    assert!(nobody.contains("refused") && nobody.contains("does weft-control run there"), "{nobody}");
}
