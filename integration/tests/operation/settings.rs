//! Wrong settings end a program at once, with the source, the key and what was expected.

use std::path::Path;

use anyhow::Result;
use tokio::net::TcpStream;
use tokio::process::Command;
use weft_integration::{Mesh, Process, eventually, free_port};

use crate::world::{Ended, run};

/// A settings file and what the message must hold.
type Case = (&'static str, &'static [&'static str]);

const CONTROL: [Case; 6] = [
    ("lisen = \"127.0.0.1:0\"\n", &["lisen", "listen", "settings.toml"]),
    ("listen = 5\n", &["listen", "socket address", "settings.toml"]),
    ("[shutdown]\ndeadline = \"10 parsecs\"\n", &["shutdown.deadline", "10 parsecs", "settings.toml"]),
    ("[shutdown]\ndeadline = 10\n", &["shutdown.deadline", "settings.toml"]),
    ("[[registry]]\nid = \"file/a\"\n", &["registry[0].directory", "file/a"]),
    ("trust_domain = \"a\"\nlisten = \n", &["settings.toml", "line 2"]),
];

const PROXY: [Case; 6] = [
    ("worker = 2\n", &["worker", "workers", "settings.toml"]),
    ("workers = \"many\"\n", &["workers", "many", "settings.toml"]),
    ("[drain]\ndeadline = \"soon\"\n", &["drain.deadline", "soon", "settings.toml"]),
    ("[[upstream]]\nservice = \"a\"\nlisten = \"9001\"\n", &["upstream", "listen", "settings.toml"]),
    ("[identity]\njoin_token = \"x\"\njoin_token_file = \"y\"\n", &["join_token", "join_token_file"]),
    ("workers = 1\n[drain\n", &["settings.toml", "line 2"]),
];

fn refused(what: &str, ended: &Ended, code: i32, parts: &[&str]) {
    println!("{what}: {}", ended.err.trim_end());
    assert_eq!(ended.code, Some(code), "{what}: {ended:?}");
    for part in parts {
        assert!(ended.err.contains(part), "{what}: {part:?} is not in: {}", ended.err);
    }
    assert!(!ended.err.contains("panicked"), "{what}: {}", ended.err);
    assert!(ended.err.matches("(os error").count() <= 1, "{what}: the cause is there twice: {}", ended.err);
}

async fn files(program: &str, cases: &[Case]) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("settings.toml");
    for (toml, parts) in cases {
        std::fs::write(&file, toml)?;
        let ended = run(program, &["--config", &file.display().to_string()], &[]).await?;
        refused(&format!("{program}, {toml:?}"), &ended, 1, parts);
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_settings_file_is_named_with_its_key_and_what_was_expected() -> Result<()> {
    files("weft-control", &CONTROL).await?;
    files("weft-proxy", &PROXY).await
}

#[tokio::test]
async fn wrong_flags_and_variables_and_a_missing_file_are_named_too() -> Result<()> {
    let missing = "/nonexistent/weft.toml";
    for (program, variable, key, other) in [
        (
            "weft-control",
            "WEFT_CONTROL_SHUTDOWN__DEADLINE",
            "shutdown.deadline",
            "WEFT_CONTROL_SHUTDOWN__DEADLIN",
        ),
        ("weft-proxy", "WEFT_PROXY_DRAIN__DEADLINE", "drain.deadline", "WEFT_PROXY_DRAIN__DEADLIN"),
    ] {
        let ended = run(program, &["--config", missing], &[]).await?;
        refused("a missing file", &ended, 1, &[missing, "No such file"]);
        let ended = run(program, &[], &[(variable, "soon")]).await?;
        refused(variable, &ended, 1, &["soon", "environment variable"]);
        assert!(ended.err.to_lowercase().contains(key), "{key} is not in {}", ended.err);
        let ended = run(program, &[], &[(other, "1s")]).await?;
        refused(other, &ended, 1, &["deadlin", "deadline", "environment variable"]);
        let flag = format!("{key}=soon");
        let ended = run(program, &["--set", &flag], &[]).await?;
        refused(&flag, &ended, 1, &[key, "--set", "soon"]);
        let ended = run(program, &["--set", "nonsense"], &[]).await?;
        refused("--set nonsense", &ended, 1, &["nonsense", "KEY=VALUE"]);
        let ended = run(program, &["--sett", "a=b"], &[]).await?;
        refused("--sett", &ended, 2, &["--sett"]);
    }
    Ok(())
}

async fn open(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).await.is_ok()
}

#[tokio::test]
async fn the_environment_overrides_the_proxys_file_and_a_flag_overrides_both() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (in_file, in_environment, in_flag) = (free_port(), free_port(), free_port());
    let file = directory.path().join("proxy.toml");
    let top = directory.path().display();
    std::fs::write(
        &file,
        format!(
            "state_dir = \"{top}/state\"\ncontrol.addresses = [\"127.0.0.1:1\"]\n[admin]\nlisten = \"127.0.0.1:{in_file}\"\n"
        ),
    )?;
    for (flag, wanted) in [(None, in_environment), (Some(in_flag), in_flag)] {
        let mut command = Command::new(Process::program("weft-proxy")?);
        command.arg("--config").arg(&file);
        command.env("WEFT_PROXY_ADMIN__LISTEN", format!("127.0.0.1:{in_environment}"));
        if let Some(port) = flag {
            command.args(["--set", &format!("admin.listen=127.0.0.1:{port}")]);
        }
        let mut process = Process::start("proxy", command, directory.path())?;
        eventually("the admin port is open", async || Ok(open(wanted).await.then_some(()))).await?;
        for other in [in_file, in_environment, in_flag].into_iter().filter(|port| *port != wanted) {
            assert!(!open(other).await, "{other} is open as well");
        }
        process.kill().await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_environment_overrides_the_control_planes_file_and_a_flag_overrides_both() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name);
    let (file, port) = (path("control.toml"), free_port());
    std::fs::write(
        &file,
        format!(
            "listen = \"127.0.0.1:{port}\"\ntrust_domain = \"{}\"\nstate_dir = \"{}\"\n[admin]\nsocket = \"{}\"\n",
            Mesh::TRUST_DOMAIN,
            path("state").display(),
            path("file.sock").display()
        ),
    )?;
    for (flag, wanted) in [(false, "environment.sock"), (true, "flag.sock")] {
        let mut command = Command::new(Process::program("weft-control")?);
        command.arg("--config").arg(&file).env("WEFT_CONTROL_ADMIN__SOCKET", path("environment.sock"));
        if flag {
            command.args(["--set", &format!("admin.socket={}", path("flag.sock").display())]);
        }
        let mut process = Process::start("control", command, directory.path())?;
        answers(&path(wanted)).await?;
        assert!(!path("file.sock").exists(), "the file's socket is there");
        assert!(flag || !path("flag.sock").exists());
        process.kill().await?;
    }
    Ok(())
}

async fn answers(socket: &Path) -> Result<()> {
    eventually("the control plane answers there", async || {
        let ended = run("weft", &["--control", &socket.display().to_string(), "status"], &[]).await?;
        anyhow::ensure!(ended.code == Some(0), "{ended:?}");
        Ok(Some(()))
    })
    .await
}
