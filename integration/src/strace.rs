//! System calls of running processes, counted by strace: an exact figure that no other load on the machine changes.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

/// Counts the system calls of some processes while `work` runs. `None` where there is no strace.
///
/// # Errors
/// When strace can't attach, or `work` fails.
pub async fn count_system_calls<T>(
    pids: &[u32],
    work: impl Future<Output = Result<T>>,
) -> Result<Option<(u64, T)>> {
    let table = tempfile::NamedTempFile::new()?;
    let mut command = Command::new(program());
    command.args(["-f", "-c", "-o"]).arg(table.path()).kill_on_drop(true);
    for pid in pids {
        command.args(["-p", &pid.to_string()]);
    }
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let Ok(mut strace) = spawned else { return Ok(None) };
    let mut lines = BufReader::new(strace.stderr.take().context("standard error is piped")?).lines();
    // It says `Process N attached` for each.
    for _ in pids {
        let line = lines.next_line().await?.context("strace ended")?;
        anyhow::ensure!(line.contains("attached"), "strace: {line}");
    }
    // What it says later is of no interest, but the pipe must not fill up.
    let rest = async { while let Ok(Some(_)) = lines.next_line().await {} };
    let counted = async {
        let done = work.await;
        let pid = strace.id().and_then(|id| Pid::from_raw(id.cast_signed())).context("strace ended early")?;
        kill_process(pid, Signal::INT)?;
        strace.wait().await?;
        done
    };
    let (done, ()) = tokio::join!(counted, rest);
    let table = std::fs::read_to_string(table.path())?;
    Ok(Some((total(&table).context("strace's table has no total")?, done?)))
}

#[allow(clippy::disallowed_methods)] // how cargo xtask says where it is
fn program() -> PathBuf {
    std::env::var_os("WEFT_STRACE").map_or_else(|| "strace".into(), PathBuf::from)
}

/// The number of calls in the last line of the table.
fn total(table: &str) -> Option<u64> {
    let line = table.lines().rev().find(|line| line.ends_with("total"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::total;

    #[test]
    fn the_total_is_read_with_and_without_errors() {
        assert_eq!(total("100.00    0.001404           0      1234        12 total\n"), Some(1234));
        assert_eq!(total("100.00    0.001404           0      1234           total\n"), Some(1234));
        assert_eq!(total("nothing"), None);
    }
}
