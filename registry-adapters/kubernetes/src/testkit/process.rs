//! The two processes: their files, ports and flags.

use std::fs::{self, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// A child that is killed with its value.
#[derive(Debug)]
pub(super) struct Running(Child);

impl Running {
    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nothing can be done about a failure here; one that was stopped by a signal is killed as well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ports that nobody has at this moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    etcd: u16,
    peer: u16,
    pub(super) server: u16,
}

impl Ports {
    /// They are below the range that the system gives to outgoing connections: a restarted process must find its own ports
    /// free. All are held until the last is known.
    pub(super) fn free() -> io::Result<Self> {
        let free = || {
            let free = (0..1000)
                .map(|_| rand::random_range(20_000..32_000))
                .find_map(|port: u16| Some((port, TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?)));
            free.ok_or_else(|| io::Error::other("no free port from 20000 to 32000"))
        };
        let (etcd, peer, server) = (free()?, free()?, free()?);
        Ok(Self { etcd: etcd.0, peer: peer.0, server: server.0 })
    }
}

/// A certificate authority, the server's certificate, a key for service accounts, and who has which token.
pub(super) fn write_files(directory: &Path, [admin, weft]: [&str; 2]) -> io::Result<()> {
    let key = || KeyPair::generate().map_err(io::Error::other);
    let (authority_key, server_key, accounts) = (key()?, key()?, key()?);
    let mut authority = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = authority.self_signed(&authority_key).map_err(io::Error::other)?;
    let issuer = Issuer::new(authority, authority_key);
    let server = CertificateParams::new(vec!["127.0.0.1".to_owned()]).map_err(io::Error::other)?;
    let server = server.signed_by(&server_key, &issuer).map_err(io::Error::other)?;
    let tokens = format!("{admin},admin,1,\"system:masters\"\n{weft},weft,2\n");
    for (name, text) in [
        ("ca.pem", root.pem()),
        ("server.pem", server.pem()),
        ("server.key", server_key.serialize_pem()),
        ("accounts.key", accounts.serialize_pem()),
        ("accounts.pub", accounts.public_key_pem()),
        ("tokens.csv", tokens),
    ] {
        fs::write(directory.join(name), text)?;
    }
    Ok(())
}

pub(super) fn etcd(binary: &Path, directory: &Path, ports: Ports) -> io::Result<Running> {
    let (clients, peers) =
        (format!("http://127.0.0.1:{}", ports.etcd), format!("http://127.0.0.1:{}", ports.peer));
    let mut command = Command::new(binary);
    command
        .args(["--name=test", "--unsafe-no-fsync", "--log-level=warn", "--data-dir=etcd"])
        .arg(format!("--listen-client-urls={clients}"))
        .arg(format!("--advertise-client-urls={clients}"))
        .arg(format!("--listen-peer-urls={peers}"))
        .arg(format!("--initial-advertise-peer-urls={peers}"))
        .arg(format!("--initial-cluster=test={peers}"));
    spawn(command, directory, "etcd.log")
}

pub(super) fn server(binary: &Path, directory: &Path, ports: Ports) -> io::Result<Running> {
    let mut command = Command::new(binary);
    command
        .args([
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
        ])
        .arg(format!("--secure-port={}", ports.server))
        .arg(format!("--etcd-servers=http://127.0.0.1:{}", ports.etcd))
        .args(["--tls-cert-file=server.pem", "--tls-private-key-file=server.key", "--cert-dir=certificates"])
        .args([
            "--service-account-issuer=https://kubernetes.default.svc",
            "--api-audiences=https://kubernetes.default.svc,weft",
        ])
        .args(["--service-account-signing-key-file=accounts.key", "--service-account-key-file=accounts.pub"])
        .args([
            "--token-auth-file=tokens.csv",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.96.0.0/16",
        ])
        // Nobody makes the default service accounts here.
        .args(["--disable-admission-plugins=ServiceAccount", "--profiling=false"]);
    spawn(command, directory, "server.log")
}

fn spawn(mut command: Command, directory: &Path, log: &str) -> io::Result<Running> {
    let log = OpenOptions::new().create(true).append(true).open(directory.join(log))?;
    command.current_dir(directory).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().map(Running)
}
