//! The application behind the proxy: keeps every head that reached it, byte for byte.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A recording application. It ends with its handle.
pub(crate) struct Recorder {
    pub(crate) address: SocketAddr,
    heads: Heads,
    _tasks: JoinSet<()>,
}

type Heads = Arc<Mutex<Vec<String>>>;

impl Recorder {
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, heads) = (listener.local_addr()?, Heads::default());
        let mut tasks = JoinSet::new();
        let record = heads.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                connections.spawn(serve(stream, record.clone()));
            }
        });
        Ok(Self { address, heads, _tasks: tasks })
    }

    /// Everything that reached it, and forgets it.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.heads.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// HTTP/1.1 without bodies of requests. `/big/N` is answered with N bytes.
async fn serve(mut stream: TcpStream, heads: Heads) {
    let mut bytes = Vec::new();
    while let Ok(read) = stream.read_buf(&mut bytes).await {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if read == 0 {
            if !text.is_empty() {
                heads.lock().unwrap_or_else(PoisonError::into_inner).push(text);
            }
            return;
        }
        let Some(end) = text.find("\r\n\r\n") else { continue };
        let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
        heads.lock().unwrap_or_else(PoisonError::into_inner).push(text);
        bytes.drain(..end + 4);
        let size = path.strip_prefix("/big/").and_then(|size| size.parse().ok()).unwrap_or(2);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n");
        if answer(&mut stream, &head, size).await.is_err() {
            return;
        }
    }
}

async fn answer(stream: &mut TcpStream, head: &str, mut size: usize) -> std::io::Result<()> {
    stream.write_all(head.as_bytes()).await?;
    while size > 0 {
        let piece = PIECE.get(..size).unwrap_or(PIECE);
        stream.write_all(piece).await?;
        size -= piece.len();
    }
    Ok(())
}

/// A part of a body.
const PIECE: &[u8] = &[b'o'; 16 << 10];
