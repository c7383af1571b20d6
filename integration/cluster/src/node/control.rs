//! The socket by which a running node is told to start and to stop a component: one line there, one line back.

use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::supervisor::Supervisor;
use crate::files::Folder;

/// Longer than a node needs to kill anything.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn socket(folder: &Folder) -> PathBuf {
    folder.path("control.sock")
}

/// Answers for ever, one after the other.
pub(super) fn serve(listener: &UnixListener, supervisor: &Supervisor) {
    for stream in listener.incoming().filter_map(Result::ok) {
        if let Err(error) = answer(stream, supervisor) {
            eprintln!("control: {error:#}");
        }
    }
}

fn answer(mut stream: UnixStream, supervisor: &Supervisor) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream.try_clone()?).read_line(&mut line)?;
    let done = match line.trim().split_once(' ') {
        Some(("start", name)) => supervisor.start(name),
        Some(("stop", name)) => supervisor.stop(name),
        _ => Err(anyhow::anyhow!("{:?} is neither start nor stop and a name", line.trim())),
    };
    let said = done.map_or_else(|error| format!("{error:#}").replace('\n', " "), |()| "done".to_owned());
    Ok(writeln!(stream, "{said}")?)
}

/// Tells a node; returns when it is done.
pub(crate) fn tell(folder: &Folder, verb: &str, component: &str) -> Result<()> {
    let mut stream = UnixStream::connect(socket(folder)).context("the node does not listen")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    writeln!(stream, "{verb} {component}")?;
    stream.shutdown(Shutdown::Write)?;
    let mut said = String::new();
    BufReader::new(stream).read_line(&mut said).with_context(|| format!("{verb} {component}"))?;
    match said.trim() {
        "done" => Ok(()),
        other => bail!("{verb} {component}: {other:?}"),
    }
}
