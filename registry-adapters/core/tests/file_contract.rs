//! The file adapter against the contract, on a real directory.

#![allow(clippy::unwrap_used, reason = "a test that panics says what it wanted")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use weft_registry::file::{FileRegistry, FileSettings};
use weft_registry::testkit::{Backend, Fault, Instance, Shown};
use weft_registry::{Registry, contract_tests};

/// A directory with one file an instance.
struct Directory {
    root: tempfile::TempDir,
    there: Vec<Instance>,
    fault: Option<Fault>,
}

async fn directory() -> Directory {
    let root = tempfile::tempdir().unwrap();
    let backend = Directory { root, there: Vec::new(), fault: None };
    fs::create_dir(backend.path()).unwrap();
    backend
}

impl Directory {
    fn path(&self) -> PathBuf {
        self.root.path().join("services")
    }

    fn allow(&self, allow: bool) {
        let mode = if allow { 0o755 } else { 0o000 };
        // It may be away.
        let _ = fs::set_permissions(self.path(), fs::Permissions::from_mode(mode));
    }

    fn write(&self, instance: Instance) {
        let Instance { service, name, port, health } = instance;
        let text = format!(
            "kind: Workload\nname: {name}\nservice: {service}\naddresses: [127.0.0.1]\n\
             ports: [{{name: http, number: {port}}}]\nhealth: {health}\n"
        );
        // As tools do: written elsewhere, moved into place.
        let hidden = self.path().join(format!(".{name}.tmp"));
        fs::write(&hidden, text).unwrap();
        fs::rename(hidden, self.path().join(format!("{name}.yaml"))).unwrap();
    }
}

impl Backend for Directory {
    fn registry(&self) -> Box<dyn Registry> {
        let settings = FileSettings::new(self.path());
        Box::new(FileRegistry::new("file/kit".parse().unwrap(), settings, "weft.local".parse().unwrap()))
    }

    async fn put(&mut self, instance: Instance) {
        self.there.retain(|there| there.name != instance.name);
        self.there.push(instance);
        if self.fault.is_none() {
            self.write(instance);
        }
    }

    async fn remove(&mut self, instance: Instance) {
        self.there.retain(|there| there.name != instance.name);
        if self.fault.is_none() {
            fs::remove_file(self.path().join(format!("{}.yaml", instance.name))).unwrap();
        }
    }

    async fn fault(&mut self, fault: Fault) -> Shown {
        self.fault = Some(fault);
        match fault {
            Fault::Down => fs::rename(self.path(), self.root.path().join("away")).unwrap(),
            Fault::Empty => {
                // As an unmounted volume leaves it.
                fs::rename(self.path(), self.root.path().join("away")).unwrap();
                fs::create_dir(self.path()).unwrap();
            }
            Fault::Garbage => {
                for (i, instance) in self.there.iter().enumerate() {
                    let garbage: [&[u8]; 3] = [b"kind: [", b"\xff\xfe\0", b"kind: Gateway\nname: x\n"];
                    let path = self.path().join(format!("{}.yaml", instance.name));
                    fs::write(path, garbage[i % garbage.len()]).unwrap();
                }
            }
            Fault::Denied => {
                self.allow(false);
                if fs::read_dir(self.path()).is_ok() {
                    self.allow(true);
                    return Shown::CannotShow("this test runs as root, whom no directory refuses");
                }
            }
            Fault::NotFound => {
                return Shown::CannotShow("a directory that is not there is a source that is down");
            }
            Fault::Hang => return Shown::CannotShow("a local file system can't be made to hang"),
        }
        Shown::Yes
    }

    async fn heal(&mut self) {
        self.fault = None;
        self.allow(true);
        let _ = fs::create_dir(self.path());
        for entry in fs::read_dir(self.path()).unwrap() {
            let path = entry.unwrap().path();
            if !self.there.iter().any(|there| path.ends_with(format!("{}.yaml", there.name))) {
                fs::remove_file(path).unwrap();
            }
        }
        self.there.iter().for_each(|instance| self.write(*instance));
    }
}

contract_tests!(directory);
