//! The first process of a cluster's namespaces: mounts, network, then the components, which it starts and reaps.
//!
//! It is told what to do by whoever started it: a line on its standard input lets it begin, and a socket in the cluster's
//! folder starts and stops components later. Where it is owned, it ends when its owner closes the input, by whatever
//! death; the kernel then ends all that runs in the cluster.

pub(crate) mod control;
mod mounts;
mod supervisor;

use std::io::{BufRead, Read};
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use crate::components;
use crate::files::Folder;
use crate::link;
use crate::record::Record;
use supervisor::Supervisor;

/// Runs the node whose folder this is. Returns only with an error.
pub(crate) fn run(folder: &Folder) -> Result<()> {
    if std::process::id() != 1 {
        bail!("a node is the first process of its own namespaces; cargo xtask cluster up starts it");
    }
    let mut word = String::new();
    std::io::stdin().lock().read_line(&mut word).context("waiting for the word to begin")?;
    let owned = match word.trim() {
        "begin, owned" => true,
        "begin" => false,
        other => bail!("told {other:?} to begin"),
    };
    if owned {
        std::thread::spawn(end_with_owner);
    }
    let record = Record::read(folder).context("the folder has no record of a cluster")?;
    let network = record.network.context("the cluster has no network")?;
    mounts::make(folder).context("private mounts")?;
    link::inside(network).context("the node's network")?;
    let components = components::all(record.name.as_str(), folder, network, &record.tools);
    let listener = UnixListener::bind(control::socket(folder)).context("the control socket")?;
    let supervisor = Arc::new(Supervisor::new(components, folder.clone()));
    let commands = Arc::clone(&supervisor);
    std::thread::spawn(move || control::serve(&listener, &commands));
    for name in components::FIRST {
        supervisor.start(name)?;
    }
    supervisor.reap()
}

fn end_with_owner() {
    // Nothing more is ever said; only the end matters.
    let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
    std::process::exit(0);
}
