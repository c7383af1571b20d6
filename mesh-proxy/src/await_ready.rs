//! `weft-proxy --await-ready`: waits until the proxy beside it is ready.
//!
//! For platforms that start an application when a command has ended: Kubernetes' `postStart`, a prestart task. It asks
//! the health port, so it needs neither a shell nor `curl` in the image.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// A proxy that is not ready by then has a reason that waiting does not take away.
const PATIENCE: Duration = Duration::from_mins(10);
/// For one question.
const ANSWER: Duration = Duration::from_secs(2);
const BETWEEN: Duration = Duration::from_millis(100);

/// Waits for the proxy whose health port is at `address`.
///
/// # Errors
/// When it is not ready within ten minutes, with what it said last.
pub(crate) fn run(address: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting")?;
    runtime.block_on(wait(address, PATIENCE))
}

async fn wait(address: SocketAddr, patience: Duration) -> Result<()> {
    let mut last = String::from("it was not asked");
    let ready = async {
        loop {
            match timeout(ANSWER, ask(address)).await {
                Ok(Ok(status)) if status == "200" => return,
                Ok(Ok(status)) => last = format!("it answers {status}"),
                Ok(Err(error)) => last = error.to_string(),
                Err(_) => last = "it does not answer".to_owned(),
            }
            sleep(BETWEEN).await;
        }
    };
    if timeout(patience, ready).await.is_err() {
        bail!("the proxy at {address} is not ready after {} s: {last}", patience.as_secs());
    }
    Ok(())
}

/// The status of `/ready`.
async fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
    // "HTTP/1.1 200", which is all of interest.
    let mut line = [0; 12];
    stream.read_exact(&mut line).await?;
    Ok(String::from_utf8_lossy(&line).split(' ').nth(1).unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// Answers each connection with the next status; `None` closes it without one.
    async fn answers(listener: TcpListener, statuses: Vec<Option<&'static str>>) {
        for status in statuses {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            assert!(stream.read(&mut head).await.unwrap() > 0);
            if let Some(status) = status {
                stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn it_ends_with_the_first_yes_and_not_before() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let statuses = vec![Some("503 Service Unavailable"), None, Some("200 OK")];
        let server = tokio::spawn(answers(listener, statuses));
        wait(address, Duration::from_secs(20)).await.unwrap();
        server.await.unwrap();
    }

    #[tokio::test]
    async fn a_proxy_that_never_is_ready_ends_it_with_what_it_said() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(answers(listener, vec![Some("503 Service Unavailable"); 1000]));
        let error = wait(address, Duration::from_millis(500)).await.unwrap_err();
        assert!(error.to_string().ends_with("it answers 503"), "{error}");
        server.abort();
    }
}
