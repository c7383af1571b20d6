//! Reading from the API server: pages of a list, and the lines of a watch, over kube's client.
//!
//! kube carries the requests (TLS, tokens, kubeconfig); its list and watch calls are not used, since they hide what this
//! adapter must tell apart: that a watch was taken up again, how long the server asks us to wait, and a version that is of
//! the server's former life. Every wait here is bounded. When to ask again is `watch/follow.rs`'s business.

use std::future::Future;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use kube::core::Request;
use kube::core::params::{ListParams, WatchParams};
use tokio::time::timeout;

use weft_registry::causes;

use crate::error::KubernetesError;
use crate::object::{Page, Source, WatchLine, decode_line, decode_page};
use crate::settings::KubernetesSettings;

/// One source of one API server.
pub(crate) struct Api<'a> {
    pub(crate) client: &'a Client,
    pub(crate) settings: &'a KubernetesSettings,
    pub(crate) source: &'a Source,
}

impl Api<'_> {
    /// Reads a page: the first, or the one that an earlier page named.
    pub(crate) async fn page(&self, rest: Option<String>) -> Result<Page, KubernetesError> {
        let params = ListParams {
            label_selector: self.selector(),
            limit: Some(self.settings.page_size),
            continue_token: rest,
            ..ListParams::default()
        };
        let mut body = self.get(Request::new(self.source.path()).list(&params)).await?;
        let read = self.collect(&mut body, LARGEST_PAGE).await?;
        decode_page(self.source.kind, &read).map_err(|error| KubernetesError::garbage(&self.what(), &error))
    }

    /// Watches from `version` on; without one, the server first sends what there is, and marks its end.
    pub(crate) async fn watch(&self, version: Option<&str>) -> Result<Watch, KubernetesError> {
        let seconds = u32::try_from(self.settings.watch.as_secs()).unwrap_or(u32::MAX);
        let params = WatchParams {
            label_selector: self.selector(),
            timeout: Some(seconds),
            bookmarks: true,
            send_initial_events: version.is_none(),
            ..WatchParams::default()
        };
        // An empty version asks for the most recent state, which is never older than what another server told us.
        let request = Request::new(self.source.path()).watch(&params, version.unwrap_or_default());
        let body = self.get(request).await?;
        Ok(Watch { body, buffer: BytesMut::new(), searched: 0 })
    }

    /// The next line of a watch; `None` where it has ended or nothing came for `idle`.
    pub(crate) async fn next(
        &self,
        watch: &mut Watch,
        idle: Duration,
    ) -> Result<Option<WatchLine>, KubernetesError> {
        let Ok(line) = timeout(idle, watch.line()).await else { return Ok(None) };
        let garbage = |error| KubernetesError::garbage(&self.what(), &error);
        match line.map_err(|reason| KubernetesError::down(self.what(), reason))? {
            Some(line) => decode_line(self.source.kind, &line).map_err(garbage).map(|line| {
                // A type that we do not know changes nothing.
                Some(line.unwrap_or(WatchLine::Bookmark { version: String::new(), complete: false }))
            }),
            None => Ok(None),
        }
    }

    fn what(&self) -> String {
        self.source.to_string()
    }

    fn selector(&self) -> Option<String> {
        let selects = self.source.kind == crate::object::Kind::Namespaces;
        self.settings.namespaces.selector.clone().filter(|_| selects)
    }

    /// Sends a request; what comes back is a success.
    async fn get(
        &self,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<Body, KubernetesError> {
        let what = self.what();
        let mut request =
            request.map_err(|error| KubernetesError::down(&*what, causes(&error)))?.map(Body::from);
        let headers = request.headers_mut();
        headers.insert(http::header::ACCEPT, http::HeaderValue::from_static("application/json"));
        let sent = self.within(async { Ok(self.client.send(request).await) }).await?;
        let response = sent.map_err(|error| KubernetesError::of_client(&what, &error))?;
        let (head, mut body) = response.into_parts();
        if head.status.is_success() {
            return Ok(body);
        }
        let retry_after = head.headers.get(http::header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after =
            retry_after.and_then(|seconds| seconds.trim().parse().ok()).map(Duration::from_secs);
        // What it says is worth a wait, but not the outcome.
        let text = self.collect(&mut body, LARGEST_REFUSAL).await.unwrap_or_default();
        Err(KubernetesError { retry_after, ..KubernetesError::of_status(&what, head.status.as_u16(), &text) })
    }

    async fn collect(&self, body: &mut Body, most: usize) -> Result<BytesMut, KubernetesError> {
        let fail = |reason: String| KubernetesError::down(self.what(), reason);
        let mut read = BytesMut::new();
        while let Some(frame) = self.within(async { Ok(body.frame().await) }).await? {
            let frame = frame.map_err(|error| fail(format!("the answer was cut off: {}", causes(&error))))?;
            if let Ok(data) = frame.into_data() {
                read.extend_from_slice(&data);
            }
            if read.len() > most {
                return Err(fail(format!("the answer has more than {most} bytes")));
            }
        }
        Ok(read)
    }

    async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, KubernetesError>>,
    ) -> Result<T, KubernetesError> {
        let most = self.settings.answer_timeout;
        timeout(most, work).await.unwrap_or_else(|_| {
            Err(KubernetesError::down(
                self.what(),
                format!("no answer within {}", humantime::format_duration(most)),
            ))
        })
    }
}

/// An open watch.
pub(crate) struct Watch {
    body: Body,
    buffer: BytesMut,
    /// So much of the buffer holds no end of a line.
    searched: usize,
}

impl Watch {
    /// The next line that is not empty. Cancel safe. A broken connection is an end as any other: whoever takes the watch up
    /// again finds out.
    async fn line(&mut self) -> Result<Option<BytesMut>, String> {
        loop {
            let unseen = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(at) = memchr::memchr(b'\n', unseen) {
                let line = self.buffer.split_to(self.searched + at);
                self.buffer.advance(1);
                self.searched = 0;
                if !line.is_empty() {
                    return Ok(Some(line));
                }
                continue;
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > LARGEST_LINE {
                return Err(format!("a line of the watch has more than {LARGEST_LINE} bytes"));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                // What is left is no line, or an answer of somebody else.
                None if !self.buffer.is_empty() => return Ok(Some(std::mem::take(&mut self.buffer))),
                Some(Err(_)) | None => return Ok(None),
            }
        }
    }
}

/// etcd holds objects of 1.5 MiB by default, and no server is known that allows ten times as much.
const LARGEST_LINE: usize = 16 << 20;
/// 5,000 objects of 50 kB.
const LARGEST_PAGE: usize = 256 << 20;
const LARGEST_REFUSAL: usize = 64 << 10;
