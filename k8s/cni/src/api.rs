//! One question to the API server: the pod.
//!
//! What may pass by itself is asked again for a while, as a kubelet that is told to try later waits longer than that;
//! what will not pass is said at once. The kubeconfig is read at each attempt, since its token rotates.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::StatusCode;

use crate::answer::{Code, PluginError};
use crate::kubeconfig::Kubeconfig;
use crate::request::PodName;

/// One attempt.
const ATTEMPT: Duration = Duration::from_secs(4);
/// All attempts. A runtime gives a plugin more than that.
const ALL: Duration = Duration::from_secs(8);
const PAUSE: Duration = Duration::from_millis(300);
/// etcd takes objects of 1.5 MiB.
const MAX_POD: usize = 4 * 1024 * 1024;

/// Why an attempt failed.
struct Failed {
    text: String,
    /// It may pass by itself.
    passing: bool,
}

/// The pod as JSON.
pub(crate) async fn pod(kubeconfig: &Path, pod: &PodName) -> Result<Vec<u8>, PluginError> {
    let start = Instant::now();
    loop {
        let failed = match attempt(kubeconfig, pod).await {
            Ok(json) => return Ok(json),
            Err(failed) => failed,
        };
        if !failed.passing || start.elapsed() + PAUSE > ALL {
            let PodName { namespace, name, .. } = pod;
            let text = format!(
                "whether pod {namespace}/{name} is in the mesh cannot be asked, so it does not start yet: {}",
                failed.text
            );
            return Err(PluginError::new(Code::Later, text));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn attempt(kubeconfig: &Path, pod: &PodName) -> Result<Vec<u8>, Failed> {
    let config = Kubeconfig::read(kubeconfig).map_err(passing)?;
    let client = client(&config).map_err(passing)?;
    let url = format!("{}/api/v1/namespaces/{}/pods/{}", config.server, pod.namespace, pod.name);
    let request = client.get(url).bearer_auth(&config.token).header("accept", "application/json");
    let mut response = request.send().await.map_err(|error| passing(chain(&error)))?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::FORBIDDEN => {
            let text = "the API server forbids it: the service account of weft-cni needs get on pods";
            return Err(Failed { text: text.to_owned(), passing: false });
        }
        // Unauthorised: the token was rotated, and the agent is about to write the new one.
        status => return Err(passing(format!("the API server answers {status}"))),
    }
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(|error| passing(chain(&error)))? {
        if body.len() + part.len() > MAX_POD {
            return Err(passing(format!("the API server's answer has more than {MAX_POD} bytes")));
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

fn client(config: &Kubeconfig) -> Result<reqwest::Client, String> {
    let roots = reqwest::Certificate::from_pem_bundle(&config.roots);
    let roots = roots.ok().filter(|roots| !roots.is_empty());
    let roots = roots.ok_or("the kubeconfig's certificate-authority-data holds no PEM certificate")?;
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(ATTEMPT)
        .tls_certs_only(roots)
        .build()
        .map_err(|error| chain(&error))
}

fn passing(text: String) -> Failed {
    Failed { text, passing: true }
}

/// An error with its causes.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
