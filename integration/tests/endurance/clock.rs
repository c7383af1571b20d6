//! The clock of one program after the other is wrong by an hour: first the callee's proxy, then all, then back.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weft_integration::{Mesh, MeshPlan, eventually, skipped};

use crate::world::{Shop, Traffic, lasts};

const WHAT: &str = "a clock step of an hour";

/// The library that shifts a process's wall clock by what a file says, and not its monotonic one.
#[allow(clippy::disallowed_methods)] // how cargo xtask test says where the tools are
fn library() -> Option<PathBuf> {
    let named = std::env::var_os("WEFT_FAKETIME").map(PathBuf::from);
    let installed = || {
        let machine = std::env::consts::ARCH;
        PathBuf::from(format!("/usr/lib/{machine}-linux-gnu/faketime/libfaketimeMT.so.1"))
    };
    Some(named.unwrap_or_else(installed)).filter(|path| path.exists())
}

/// What a process with a clock of its own is started with.
fn environment(library: &Path, clock: &Path) -> Vec<(String, String)> {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    vec![
        pair("LD_PRELOAD", &library.display().to_string()),
        pair("FAKETIME_TIMESTAMP_FILE", &clock.display().to_string()),
        pair("FAKETIME_NO_CACHE", "1"),
        pair("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        pair("DONT_FAKE_MONOTONIC", "1"),
    ]
}

#[tokio::test]
async fn a_clock_step_of_an_hour_either_way_costs_no_request() -> Result<()> {
    let Some(library) = library() else {
        skipped(WHAT, "no libfaketime (cargo xtask tools gets it)");
        return Ok(());
    };
    let top = tempfile::tempdir()?;
    let clocks = ["control", "callees", "caller"].map(|name| top.path().join(name));
    let set = |clock: &Path, by: &str| -> Result<()> {
        let draft = top.path().join("draft");
        std::fs::write(&draft, by)?;
        Ok(std::fs::rename(&draft, clock)?)
    };
    let [control, callees, caller] = &clocks;
    for clock in &clocks {
        set(clock, "+0")?;
    }
    let environment = |clock: &Path| environment(&library, clock);
    let plan = MeshPlan { environment: environment(control), ..MeshPlan::default() };
    let shop = Shop::with(Mesh::start(plan).await?, &|mut plan| {
        let clock = if plan.name() == "web" { caller } else { callees };
        for (name, value) in environment(clock) {
            plan = plan.environment(&name, &value);
        }
        // Each step meets new connections, whose certificates are checked.
        plan.more("[timeouts]\nconnection_age = \"1s\"\n")
    })
    .await?;
    let traffic = Traffic::start(&shop.web).await?;
    for by in ["+3600", "+0", "-3600", "+0"] {
        for clock in [callees, caller, control] {
            set(clock, by)?;
            traffic.meets(500).await?;
        }
        // Whoever starts now obtains a certificate by this clock, and meets those of the others.
        if by != "+0" {
            set(control, by)?;
            lasts(Duration::from_secs(1)).await;
        }
    }
    set(callees, "-3600")?;
    let left = shop.api.first().context("a proxy")?.metric("weft_svid_expires_seconds", &[]).await?;
    ensure!(left > 24.5 * 3600.0, "the clock was not set back: {left} s are left");
    set(callees, "+0")?;
    eventually("all are in sync", async || Ok(shop.mesh.in_sync(4).await.ok())).await?;
    traffic.unharmed("clock steps of an hour, forth and back, of each program", "").await?;
    Ok(())
}
