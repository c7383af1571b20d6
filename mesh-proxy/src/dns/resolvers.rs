//! Who is asked for names that are not the mesh's: the settings' servers, or those of resolv.conf as it is now.
//!
//! The file is looked at again after a while, as a host may move between networks. This proxy's own listeners are left out:
//! a host whose resolver is the proxy needs `dns.nameservers`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::settings::DnsSettings;

/// For how long what was read counts.
const FRESH: Duration = Duration::from_secs(5);

/// The servers.
pub(super) struct Resolvers {
    fixed: Vec<SocketAddr>,
    file: PathBuf,
    own: Vec<SocketAddr>,
    read: Mutex<Read>,
}

/// What the file said last.
#[derive(Default)]
struct Read {
    at: Option<Instant>,
    servers: Vec<SocketAddr>,
    /// As it was last complained of, so that it is said once.
    complaint: String,
}

impl Resolvers {
    pub(super) fn new(settings: &DnsSettings, own: &[SocketAddr]) -> Self {
        Self {
            fixed: settings.nameservers.clone(),
            file: settings.resolv_conf.clone(),
            own: own.to_vec(),
            read: Mutex::default(),
        }
    }

    /// In the order in which they are asked.
    pub(super) fn servers(&self, now: Instant) -> Vec<SocketAddr> {
        let mut servers = if self.fixed.is_empty() { self.of_file(now) } else { self.fixed.clone() };
        servers.retain(|server| !self.own.contains(server));
        servers
    }

    fn of_file(&self, now: Instant) -> Vec<SocketAddr> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.at.is_none_or(|at| now.saturating_duration_since(at) >= FRESH) {
            read.at = Some(now);
            let complaint = match std::fs::read_to_string(&self.file) {
                Ok(text) => {
                    let found = weft_dns::nameservers(&text);
                    read.servers = found.servers;
                    match found.not_understood.as_slice() {
                        [] if read.servers.is_empty() => "it names no nameserver".to_owned(),
                        [] => String::new(),
                        words => format!("no addresses: nameserver {}", words.join(", ")),
                    }
                }
                // What it said before is better than nothing.
                Err(error) => error.to_string(),
            };
            if read.complaint != complaint && !complaint.is_empty() {
                tracing::warn!(file = %self.file.display(), "the host's resolvers: {complaint}");
            }
            read.complaint = complaint;
        }
        read.servers.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_servers_are_followed_and_stay_when_it_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("resolv.conf");
        std::fs::write(&file, "nameserver 10.0.0.1\n").unwrap();
        let settings = DnsSettings { resolv_conf: file.clone(), ..DnsSettings::default() };
        let resolvers = Resolvers::new(&settings, &[]);
        let (start, later) = (Instant::now(), Instant::now() + FRESH);
        assert_eq!(resolvers.servers(start), ["10.0.0.1:53".parse().unwrap()]);
        std::fs::write(&file, "nameserver 10.0.0.2\n").unwrap();
        assert_eq!(resolvers.servers(start), ["10.0.0.1:53".parse().unwrap()], "not read again so soon");
        assert_eq!(resolvers.servers(later), ["10.0.0.2:53".parse().unwrap()]);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(resolvers.servers(later + FRESH), ["10.0.0.2:53".parse().unwrap()]);
    }

    #[test]
    fn this_proxy_itself_is_nobody_to_ask() {
        let own: SocketAddr = "127.0.0.1:53".parse().unwrap();
        let other: SocketAddr = "127.0.0.1:5353".parse().unwrap();
        let settings = DnsSettings { nameservers: vec![own, other], ..DnsSettings::default() };
        assert_eq!(Resolvers::new(&settings, &[own]).servers(Instant::now()), [other]);
    }
}
