//! What all tasks of one registry share: the client, and the signal that ends a wait.
//!
//! A kubeconfig that was changed is read when the old one no longer serves: after a failure the file is compared with what
//! the client was made from. A service account's token is read anew by the client itself.

use kube::Client;
use tokio::sync::{Mutex, mpsc, watch};

use super::follow::Report;
use crate::connect;
use crate::error::KubernetesError;
use crate::settings::KubernetesSettings;

pub(super) struct Shared {
    pub(super) settings: KubernetesSettings,
    connection: Mutex<Option<Connection>>,
    reports: mpsc::Sender<Report>,
    pub(super) round: watch::Sender<u64>,
}

struct Connection {
    client: Client,
    /// The kubeconfig that it was made from; empty where there is none.
    text: String,
}

impl Shared {
    pub(super) fn new(settings: KubernetesSettings, reports: mpsc::Sender<Report>) -> Self {
        Self { settings, connection: Mutex::new(None), reports, round: watch::Sender::new(0) }
    }

    /// The client; `failed`: the last attempt with it did.
    pub(super) async fn client(&self, failed: bool) -> Result<Client, KubernetesError> {
        let mut connection = self.connection.lock().await;
        if let Some(connection) =
            connection.as_ref().filter(|_| !failed || self.settings.kubeconfig.is_none())
        {
            return Ok(connection.client.clone());
        }
        let context = self.settings.context.as_deref();
        let made = match (&self.settings.inline, &self.settings.kubeconfig) {
            (Some(inline), _) => {
                let client = connect::connect_inline(inline, context).await?;
                Connection { client, text: String::new() }
            }
            (None, Some(path)) => {
                let text = connect::read(path).await?;
                if let Some(connection) = connection.as_ref().filter(|connection| connection.text == text) {
                    return Ok(connection.client.clone());
                }
                Connection { client: connect::connect_with(path, &text, context).await?, text }
            }
            (None, None) => {
                Connection { client: connect::client(connect::in_cluster()?)?, text: String::new() }
            }
        };
        let client = made.client.clone();
        *connection = Some(made);
        Ok(client)
    }

    pub(super) async fn report(&self, report: Report) {
        // It is gone only when the stream was dropped, and then this task is about to be.
        let _ = self.reports.send(report).await;
    }
}
