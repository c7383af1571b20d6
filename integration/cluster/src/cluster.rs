//! Starting a cluster: the folder, the namespaces, the link, the files, the word to begin. Where one step fails, what the
//! earlier ones made is taken away again.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::components::Tools;
use crate::files::Folder;
use crate::record::{Name, Process, Record};
use crate::running::Cluster;
use crate::{cgroups, command, end, link, ready};

/// For `unshare` to have made the namespaces.
const PATIENCE: Duration = Duration::from_secs(10);

/// A cluster to be.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What it is called; one of a name under a home.
    pub name: Name,
    /// Where the folders of clusters are.
    pub home: PathBuf,
    /// The programs that it is made of.
    pub tools: Tools,
    /// The program `weft-cluster`, which runs inside as well.
    pub program: PathBuf,
}

/// How long a cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// As long as its handle, or at most as the process that has it.
    WithHandle,
    /// Until somebody ends it.
    UntilDown,
}

/// Starts a cluster; returns when its node is Ready and its DNS answers.
///
/// # Errors
/// When one of this name is there, when rights or programs are missing, or when it does not become ready; with the
/// ends of its logs then.
pub fn start(plan: &Plan, keep: Keep) -> Result<Cluster> {
    let begun = Instant::now();
    end::sweep(&plan.home)?;
    let (folder, record) = claim(plan)?;
    let begun = namespaces(plan, &folder, record, keep).and_then(|(record, child)| {
        let child = (keep == Keep::WithHandle).then_some(child);
        Cluster::new(folder.clone(), record, child, begun).context("the cluster has no network")
    });
    let mut cluster = match begun {
        Ok(cluster) => cluster,
        Err(error) => {
            end::remove(&folder).context("taking away what a failed start left")?;
            return Err(error);
        }
    };
    if let Err(error) = ready::bring_up(&cluster) {
        let words = cluster.last_words();
        cluster.end()?;
        bail!("{error:#}\n{words}");
    }
    cluster.is_ready();
    Ok(cluster)
}

/// Takes the name: the folder appears whole, with a record in it, so that nobody takes it for a dead one.
fn claim(plan: &Plan) -> Result<(Folder, Record)> {
    let own = Process::of(std::process::id()).context("this process is not in /proc")?;
    let record = Record { name: plan.name.clone(), tools: plan.tools.clone(), first: own, network: None };
    std::fs::create_dir_all(&plan.home).with_context(|| format!("making {}", plan.home.display()))?;
    let home = plan.home.canonicalize().context("the clusters' home")?;
    let draft = Folder(home.join(format!(".{}.{}", plan.name, own.pid)));
    let folder = Folder(home.join(plan.name.as_str()));
    draft.make()?;
    record.write(&draft)?;
    if std::fs::rename(&draft.0, &folder.0).is_err() {
        std::fs::remove_dir_all(&draft.0)?;
        bail!("a cluster {} is there already: {}", plan.name, folder.0.display());
    }
    Ok((folder, record))
}

/// Makes the namespaces with the node's first process in them, gives it its network and files, and lets it begin.
fn namespaces(plan: &Plan, folder: &Folder, mut record: Record, keep: Keep) -> Result<(Record, Child)> {
    let mut child = unshare(&plan.program, folder)?;
    let mut word = child.stdin.take().context("standard input is a pipe")?;
    // From here on everything that fails ends the node: its input closes before it may begin.
    record.first = inside(&mut child, folder)?;
    record.write(folder)?;
    let network = link::claim(record.first.pid, &folder.0)?;
    record.network = Some(network);
    record.write(folder)?;
    link::route(network).context("the host's routes")?;
    cgroups::make(network).context("the pods' control group")?;
    folder.write(plan.name.as_str(), network)?;
    match keep {
        Keep::UntilDown => writeln!(word, "begin")?,
        Keep::WithHandle => {
            writeln!(word, "begin, owned")?;
            child.stdin = Some(word);
        }
    }
    Ok((record, child))
}

/// A session of its own, as a terminal's end is not the cluster's.
fn unshare(program: &Path, folder: &Folder) -> Result<Child> {
    let log = File::create(folder.log("node"))?;
    let mut command = command::of("setsid");
    command.args(["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.args(["--propagation", "private", "--"]).arg(program).arg("node").arg(&folder.0);
    command.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
    command.spawn().with_context(|| format!("starting {}", command::line(&command)))
}

/// The first process inside, as the host numbers it: the only child of `unshare`, in namespaces that are not ours.
fn inside(child: &mut Child, folder: &Folder) -> Result<Process> {
    let (pid, start) = (child.id(), Instant::now());
    let own = std::fs::read_link("/proc/self/ns/net").context("this process's namespace")?;
    while start.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait()? {
            let said = std::fs::read_to_string(folder.log("node")).unwrap_or_default();
            bail!("no namespaces for a cluster ({status}): {}", said.trim());
        }
        let children =
            std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let first = children.split_ascii_whitespace().next().and_then(|word| word.parse().ok());
        if let Some(first) = first.and_then(Process::of) {
            let its = std::fs::read_link(format!("/proc/{}/ns/net", first.pid));
            if its.is_ok_and(|its| its != own) {
                return Ok(first);
            }
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    bail!("no process in the new namespaces within {} s", PATIENCE.as_secs())
}
