//! Two network namespaces with a link between them: a pod, and whatever is far from it.
//!
//! Sockets are opened by threads that are in a namespace and are a user, since that is what the rules look at. All of it
//! goes with the [`World`].

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::net::sockopt;
use rustix::thread::{
    Gid, LinkNameSpaceType, Uid, move_into_link_name_space, set_thread_res_gid, set_thread_res_uid,
};
use weft_redirect::RedirectSettings;
use weft_redirect::netlink::Kernel;

/// How long anything here may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// The proxy's user and group.
pub(crate) const PROXY: User = User(1337, 1337);
/// An application's.
pub(crate) const APP: User = User(1000, 1000);

/// A user and a group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct User(pub(crate) u32, pub(crate) u32);

/// One of the namespaces.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    name: String,
}

/// A pod at 10.77.0.2 and fd77::2, and something far at 10.77.0.1, fd77::1, 10.96.0.10, 192.0.2.50 and fd99::50.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) pod: Place,
    pub(crate) far: Place,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl World {
    /// Makes one, or says why this test is skipped.
    pub(crate) fn new(test: &str) -> Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            weft_integration::skipped(test, "not root: it needs network namespaces");
            return Ok(None);
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let place = |end: &str| Place { name: format!("weft-capture-{}-{number}-{end}", std::process::id()) };
        let world = Self { pod: place("pod"), far: place("far") };
        world.build()?;
        Ok(Some(world))
    }

    fn build(&self) -> Result<()> {
        let (pod, far) = (&self.pod.name, &self.far.name);
        ip(&format!("netns add {pod}"))?;
        ip(&format!("netns add {far}"))?;
        ip(&format!("link add eth0 netns {pod} type veth peer name eth0 netns {far}"))?;
        for (place, address) in [
            (pod, "10.77.0.2/24 dev eth0"),
            (pod, "fd77::2/64 dev eth0 nodad"),
            (far, "10.77.0.1/24 dev eth0"),
            (far, "fd77::1/64 dev eth0 nodad"),
            (far, "10.96.0.10/32 dev lo"),
            (far, "192.0.2.50/32 dev lo"),
            (far, "fd99::50/128 dev lo"),
        ] {
            ip(&format!("-n {place} addr add {address}"))?;
        }
        for place in [pod, far] {
            ip(&format!("-n {place} link set lo up"))?;
            ip(&format!("-n {place} link set eth0 up"))?;
        }
        // A new namespace forwards where the machine does, and would then say itself that a destination is not there.
        let stay = "echo 0 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv6/conf/all/forwarding";
        ensure!(self.far.run("sh", &["-c", stay])?.status.success(), "{far} goes on forwarding");
        ip(&format!("-n {pod} route add default via 10.77.0.1"))?;
        ip(&format!("-n {pod} -6 route add default via fd77::1"))
    }

    /// Applies these settings, given as JSON without the version, in the pod.
    pub(crate) fn apply(&self, json: &str) -> Result<RedirectSettings> {
        let settings = settings(json)?;
        self.pod.kernel()?.apply(&settings.ruleset())?;
        Ok(settings)
    }

    /// Listeners at the proxy's ports in the pod, as the proxy.
    pub(crate) fn proxy(&self) -> Result<Vec<Listener>> {
        ["127.0.0.1:15001", "[::1]:15001", "0.0.0.0:15006", "[::]:15006"]
            .map(|at| self.pod.listen(PROXY, at, if at.ends_with('1') { "outbound" } else { "inbound" }))
            .into_iter()
            .collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for place in [&self.pod, &self.far] {
            // Nothing can be done about a failure here.
            let _ = ip(&format!("netns del {}", place.name));
        }
    }
}

/// Settings from JSON without the version: `"dns_port":15053`.
pub(crate) fn settings(json: &str) -> Result<RedirectSettings> {
    let comma = if json.is_empty() { "" } else { "," };
    Ok(RedirectSettings::parse(&format!("{{\"version\":1{comma}{json}}}"))?)
}

impl Place {
    /// The namespace's file.
    pub(crate) fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// Its nf_tables.
    pub(crate) fn kernel(&self) -> Result<Kernel> {
        Ok(Kernel::in_namespace(&self.path())?)
    }

    /// Runs a program there.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(program_ip());
        command.args(["netns", "exec", &self.name, program]).args(arguments);
        command.output().with_context(|| program.to_owned())
    }

    /// What `nft` says there.
    pub(crate) fn nft(&self, arguments: &str) -> Result<String> {
        let output = self.run("nft", &arguments.split(' ').collect::<Vec<_>>())?;
        ensure!(output.status.success(), "nft {arguments}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Does something there as a user, on a thread of its own.
    pub(crate) fn thread<T: Send + 'static>(
        &self,
        User(uid, gid): User,
        run: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<JoinHandle<Result<T>>> {
        let namespace = File::open(self.path())?;
        Ok(thread::spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            set_thread_res_gid(gid, gid, gid)?;
            set_thread_res_uid(uid, uid, uid)?;
            run()
        }))
    }

    /// As [`Self::thread`], and waits for it.
    pub(crate) fn within<T: Send + 'static>(
        &self,
        user: User,
        run: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        joined(self.thread(user, run)?)
    }

    /// Connects as a user and reads who answered.
    pub(crate) fn ask(&self, user: User, to: &str) -> Result<String> {
        let to: SocketAddr = to.parse()?;
        self.within(user, move || answer(&mut TcpStream::connect_timeout(&to, PATIENCE)?))
    }

    /// Asks by a UDP datagram from this source port (0: any) and reads who answered.
    pub(crate) fn ask_udp(&self, user: User, from: u16, to: &str) -> Result<(String, u16)> {
        let to: SocketAddr = to.parse()?;
        self.within(user, move || {
            let any = if to.is_ipv4() { "0.0.0.0" } else { "::" };
            let socket = UdpSocket::bind((any, from))?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.connect(to)?;
            socket.send(b"?")?;
            let mut buffer = [0; 100];
            let length = socket.recv(&mut buffer)?;
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            Ok((text, socket.local_addr()?.port()))
        })
    }

    /// Listens as a user. Who connects reads the name and the address that the connection was for.
    pub(crate) fn listen(&self, user: User, at: &str, name: &'static str) -> Result<Listener> {
        self.listen_with(user, at, move |stream| {
            let text = match original(stream) {
                Some(destination) => format!("{name} {destination}"),
                None => name.to_owned(),
            };
            stream.write_all(text.as_bytes())
        })
    }

    /// Listens as a user; `serve` is what becomes of each connection.
    pub(crate) fn listen_with(
        &self,
        user: User,
        at: &str,
        serve: impl Fn(&mut TcpStream) -> io::Result<()> + Send + 'static,
    ) -> Result<Listener> {
        let at: SocketAddr = at.parse()?;
        let listener = Arc::new(self.within(user, move || bind(at))?);
        let accepting = Arc::clone(&listener);
        let thread = self.thread(user, move || {
            while let Ok((mut stream, _)) = accepting.accept() {
                // Who asked may have gone, also without a word: that must not hold the whole run.
                let _ = stream.set_read_timeout(Some(PATIENCE)).and_then(|()| serve(&mut stream));
            }
            Ok(())
        })?;
        Ok(Listener { listener, thread: Some(thread) })
    }

    /// Answers `count` datagrams as a user.
    pub(crate) fn answer_udp(
        &self,
        user: User,
        at: &str,
        name: &'static str,
        count: usize,
    ) -> Result<JoinHandle<Result<()>>> {
        let at: SocketAddr = at.parse()?;
        let socket = self.within(user, move || Ok(UdpSocket::bind(at)?))?;
        socket.set_read_timeout(Some(PATIENCE * 3))?;
        self.thread(user, move || {
            let mut buffer = [0; 100];
            for _ in 0..count {
                let (_, from) = socket.recv_from(&mut buffer)?;
                socket.send_to(name.as_bytes(), from)?;
            }
            Ok(())
        })
    }
}

/// A listener, which ends with its handle.
#[derive(Debug)]
pub(crate) struct Listener {
    listener: Arc<TcpListener>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Wakes the one that waits in `accept`.
        let _ = rustix::net::shutdown(&*self.listener, rustix::net::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What a thread gave.
pub(crate) fn joined<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    thread.join().map_err(|_| anyhow::anyhow!("the thread panicked"))?
}

/// Reads to the end.
pub(crate) fn answer(stream: &mut TcpStream) -> Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Where a connection was going before it was redirected; `None` where it was not.
fn original(stream: &TcpStream) -> Option<SocketAddr> {
    let local = stream.local_addr().ok()?;
    let original = match local {
        SocketAddr::V4(_) => sockopt::ip_original_dst(stream).ok().map(SocketAddr::from),
        SocketAddr::V6(_) => sockopt::ipv6_original_dst(stream).ok().map(SocketAddr::from),
    };
    original.filter(|original| *original != local)
}

/// IPv6 alone on `[::]`, as the proxy has it.
fn bind(at: SocketAddr) -> Result<TcpListener> {
    use rustix::net::{AddressFamily, SocketType, bind, listen, socket};
    let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket(family, SocketType::STREAM, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if at.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &at)?;
    listen(&socket, 16)?;
    Ok(socket.into())
}

#[allow(clippy::disallowed_methods)] // how cargo xtask test says where the tools are
fn program_ip() -> OsString {
    std::env::var_os("WEFT_IP").unwrap_or_else(|| "ip".into())
}

fn ip(arguments: &str) -> Result<()> {
    let output = Command::new(program_ip()).args(arguments.split(' ')).output().context("ip")?;
    ensure!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
