//! The test's own Nomad: it runs jobs, survives being killed, and leaves nothing behind.

use std::time::Duration;

use serde_json::Value;
use weft_registry_nomad::testkit::{NomadOptions, NomadServer};

const JOB: &str = r#"
job "sleep" {
  group "g" {
    network {
      port "http" {}
    }
    service {
      name     = "sleep"
      port     = "http"
      provider = "nomad"
    }
    task "sleep" {
      driver = "raw_exec"
      config {
        command = "sleep"
        args    = ["1000"]
      }
    }
  }
}
"#;

#[tokio::test]
async fn a_job_runs_and_survives_its_agent_but_not_its_test() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let options = NomadOptions { acl: true, ..NomadOptions::default() };
    let Some(mut nomad) = NomadServer::start(options).await.unwrap() else { return };
    let job = nomad.parse(JOB).await.unwrap();
    nomad.run(&job).await.unwrap();
    let alloc = running(&nomad).await;
    nomad.restart().await.unwrap();
    assert_eq!(running(&nomad).await, alloc);
    let directory = nomad.directory().to_owned();
    drop(nomad);
    assert!(!directory.exists(), "mounts are left");
    let marked = std::fs::read_dir("/proc").unwrap().flatten().any(|process| {
        let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
        String::from_utf8_lossy(&environment).contains(&*directory.to_string_lossy())
    });
    assert!(!marked, "a process is left");
}

async fn running(nomad: &NomadServer) -> String {
    for _ in 0..600 {
        let services = nomad.get("service/sleep").await.unwrap_or(Value::Null);
        let allocs = nomad.get("job/sleep/allocations").await.unwrap_or(Value::Null);
        if let (Some(alloc), "running") =
            (services[0]["AllocID"].as_str(), allocs[0]["ClientStatus"].as_str().unwrap_or_default())
        {
            return alloc.to_owned();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the job does not run: {:?}", nomad.get("job/sleep/allocations").await)
}
