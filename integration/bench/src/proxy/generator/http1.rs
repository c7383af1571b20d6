//! One HTTP/1.1 connection that is used again and again; the answer is compared byte for byte.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::proxy::backend::BODY;

/// A connection and its buffer.
pub(super) struct Client {
    address: SocketAddr,
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(super) async fn connect(address: SocketAddr) -> Result<Self> {
        Ok(Self { address, stream: connect(address).await?, buffer: Vec::with_capacity(4096) })
    }

    pub(super) async fn again(&mut self) -> Result<()> {
        self.stream = connect(self.address).await?;
        Ok(())
    }

    pub(super) async fn exchange(&mut self) -> Result<()> {
        let (stream, buffer) = (&mut self.stream, &mut self.buffer);
        stream
            .write_all(
                b"GET /bench HTTP/1.1\r\nhost: bench.weft\r\nuser-agent: weft-bench\r\naccept: */*\r\n\r\n",
            )
            .await?;
        buffer.clear();
        let body = loop {
            if stream.read_buf(buffer).await? == 0 {
                bail!("the connection ended");
            }
            if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
        };
        if !buffer.starts_with(b"HTTP/1.1 200") {
            bail!("not 200");
        }
        while buffer.len() < body + BODY.len() {
            if stream.read_buf(buffer).await? == 0 {
                bail!("the body ended");
            }
        }
        if buffer.get(body..) != Some(BODY) {
            bail!("not the right body");
        }
        Ok(())
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
