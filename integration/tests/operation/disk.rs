//! A full disk at the start: it fails by name, and nothing half-written is left. Full disks under load: `endurance/`.
//!
//! The state directories are small file systems in memory. Where those can't be mounted the tests say so and are skipped.

use anyhow::Result;
use weft_integration::{Process, SmallDisk};

use crate::world::run;

#[tokio::test]
async fn a_start_on_a_full_disk_fails_by_name_and_succeeds_when_there_is_space() -> Result<()> {
    let top = tempfile::tempdir()?;
    for program in ["weft-control", "weft-proxy"] {
        let state = top.path().join(program);
        let Some(disk) = SmallDisk::mount(&state, "a start on a full disk")? else { return Ok(()) };
        disk.fill()?;
        let file = top.path().join(format!("{program}.toml"));
        let listen = match program {
            "weft-control" => "listen = \"127.0.0.1:0\"",
            _ => "control.addresses = [\"127.0.0.1:1\"]\nadmin.listen = \"127.0.0.1:0\"",
        };
        std::fs::write(&file, format!("state_dir = {state:?}\n{listen}\n"))?;
        let config = file.display().to_string();
        let ended = run(program, &["--config", &config], &[]).await?;
        println!("{program}: {}", ended.err.trim_end());
        assert_eq!(ended.code, Some(1), "{ended:?}");
        for part in ["No space left", &state.display().to_string()] {
            assert!(ended.err.contains(part), "{program}: {part:?} is not in {}", ended.err);
        }
        assert_eq!(ended.err.matches("No space left").count(), 1, "{}", ended.err);
        // Nothing half-written is left that a later start would stumble over.
        disk.free()?;
        let mut command = tokio::process::Command::new(Process::program(program)?);
        command.args(["--config", &config]);
        let mut process = Process::start(program, command, top.path())?;
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert!(process.ended().is_none(), "{}", process.log());
        process.kill().await?;
    }
    Ok(())
}
