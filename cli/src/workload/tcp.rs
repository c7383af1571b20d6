//! A store over raw TCP in which the server speaks first, as MySQL's and SMTP's do.
//!
//! It greets, then answers `set K V`, `get K` and anything else with one line each; at the end of the client's half it says
//! `bye` with the number of lines it read and closes its own half: a proxy that loses half-close shows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::Serve;

type Values = Arc<Mutex<HashMap<String, String>>>;

pub(super) async fn serve(serve: Serve) -> Result<()> {
    let listener = super::listen(&serve).await?;
    let values = Values::default();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                connections.spawn(converse(accepted?.0, serve.clone(), values.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse(stream: TcpStream, serve: Serve, values: Values) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (from, mut to) = stream.into_split();
    to.write_all(format!("{} {} ready\n", serve.name, serve.version).as_bytes()).await?;
    let mut lines = BufReader::new(from).lines();
    let mut count = 0;
    while let Some(line) = lines.next_line().await? {
        count += 1;
        let answer = answer(&line, &values);
        to.write_all(format!("{answer}\n").as_bytes()).await?;
    }
    to.write_all(format!("bye {count}\n").as_bytes()).await?;
    to.shutdown().await
}

fn answer(line: &str, values: &Values) -> String {
    let mut values = values.lock().unwrap_or_else(PoisonError::into_inner);
    let words: Vec<&str> = line.splitn(3, ' ').collect();
    match words.as_slice() {
        ["set", key, value] => {
            values.insert((*key).to_owned(), (*value).to_owned());
            "ok".to_owned()
        }
        ["get", key] => values.get(*key).cloned().unwrap_or_else(|| "nothing".to_owned()),
        _ => format!("echo {line}"),
    }
}
