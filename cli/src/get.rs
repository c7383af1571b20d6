//! `weft get`: services, workloads and proxies as the control plane serves them.
//!
//! The control plane says everything; what is asked for is chosen here, so that tables, JSON and YAML choose alike.
//! A name that nothing has is an error, not an empty list: a typing mistake must not look like an outage.

use anyhow::{Result, bail};
use serde::Serialize;
use weft_control_api::{ProxyDump, ProxyStatus, ProxySync, ServiceView, path};
use weft_model::{Health, Namespace, PortName, Protocol, Tunnel, Workload, WorkloadPort};

use crate::control::Control;
use crate::output::{self, Cell, Format, Style, Table, Tone};
use crate::status::of_all;

/// `weft get`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Services, with their ports and how many of their workloads can be used.
    #[command(visible_alias = "service")]
    Services(Choice),
    /// Workloads: each instance with its address, health and identity. NAME is an instance id or a service.
    #[command(visible_alias = "workload")]
    Workloads(Choice),
    /// Connected proxies. With NAME (its id, or its instance's name) all that is known of that one.
    #[command(visible_alias = "proxy")]
    Proxies(Choice),
}

#[derive(Debug, Default, clap::Args)]
struct Choice {
    /// Only this one: NAME or NAMESPACE/NAME.
    name: Option<String>,
    /// Only what is in this namespace; default: all of them.
    #[arg(short, long)]
    namespace: Option<Namespace>,
}

impl Choice {
    fn in_namespace(&self, namespace: &str) -> bool {
        self.namespace.as_ref().is_none_or(|wanted| wanted.as_str() == namespace)
    }

    fn service(&self, namespace: &str, name: &str) -> bool {
        let named = |wanted: &str| wanted == name || wanted.split_once('/') == Some((namespace, name));
        self.in_namespace(namespace) && self.name.as_deref().is_none_or(named)
    }

    fn workload(&self, workload: &Workload) -> bool {
        let by_id = self.name.as_deref() == Some(workload.id.as_str());
        workload.services.keys().any(|key| {
            let (namespace, name) = (key.namespace.as_str(), key.name.as_str());
            if by_id { self.in_namespace(namespace) } else { self.service(namespace, name) }
        })
    }

    fn proxy(&self, proxy: &ProxyStatus) -> bool {
        let (namespace, account) = service_account(&proxy.identity);
        let named = |wanted: &str| {
            wanted == proxy.name
                || wanted == proxy.instance
                || wanted.split_once('/') == Some((namespace, account))
        };
        self.in_namespace(namespace) && self.name.as_deref().is_none_or(named)
    }

    /// That nothing fits is an error only where a name was given.
    fn found(&self, any: bool, kind: &str) -> Result<()> {
        let Some(name) = self.name.as_deref().filter(|_| !any) else { return Ok(()) };
        let within = self.namespace.as_ref().map_or(String::new(), |ns| format!(" in namespace {ns}"));
        bail!("nothing is called {name:?}{within}: `weft get {kind}` lists all {kind}");
    }
}

/// Runs it.
pub(crate) async fn run(args: Args, control: &Control, format: Format, style: Style) -> Result<()> {
    let text = match args.what {
        What::Services(choice) => {
            let mut services: Vec<ServiceView> = control.get(path::SERVICES).await?;
            services.retain(|view| {
                choice.service(view.service.key.namespace.as_str(), view.service.key.name.as_str())
            });
            choice.found(!services.is_empty(), "services")?;
            show(&services, services_table, format, style)?
        }
        What::Workloads(choice) => {
            let mut workloads: Vec<Workload> = control.get(path::WORKLOADS).await?;
            workloads.retain(|workload| choice.workload(workload));
            choice.found(!workloads.is_empty(), "workloads")?;
            show(&workloads, workloads_table, format, style)?
        }
        What::Proxies(choice) => proxies(&choice, control, format, style).await?,
    };
    output::print(&text)
}

async fn proxies(choice: &Choice, control: &Control, format: Format, style: Style) -> Result<String> {
    // The whole status for its clock: ages are told by the control plane's.
    let mut status = of_all(control).await?;
    status.proxies.retain(|proxy| choice.proxy(proxy));
    choice.found(!status.proxies.is_empty(), "proxies")?;
    let now = status.control_plane.now_unix_ms;
    if choice.name.is_none() {
        return show(&status.proxies, |proxies| proxies_table(proxies, now), format, style);
    }
    let mut dumps: Vec<ProxyDump> = Vec::new();
    for proxy in &status.proxies {
        dumps.push(control.get(&path::of(path::PROXIES, &proxy.name)).await?);
    }
    match format {
        Format::Table => {
            Ok(dumps.iter().map(|dump| dump_text(dump, now, style)).collect::<Vec<_>>().join("\n"))
        }
        _ => output::document(&dumps, format),
    }
}

/// One proxy at length: its line, and each resource type of its stream.
fn dump_text(dump: &ProxyDump, now_unix_ms: u64, style: Style) -> String {
    let mut lines = proxies_table(std::slice::from_ref(&dump.proxy), now_unix_ms).lines(style, "");
    let mut types = Table::new(&["TYPE", "SUBSCRIBED", "HELD", "WAITING", "SENT", "ACKNOWLEDGED", "REFUSED"]);
    let revision =
        |revision: Option<u64>| Cell::from(revision.map_or(String::new(), |revision| revision.to_string()));
    for one in &dump.types {
        let refused = one.refused.len();
        types.row(vec![
            (&one.resource_type).into(),
            one.subscribed.into(),
            one.held.into(),
            one.waiting.into(),
            revision(one.sent_revision),
            revision(one.acked_revision),
            Cell::toned(refused, if refused == 0 { Tone::Plain } else { Tone::Bad }),
        ]);
    }
    lines.push(String::new());
    lines.extend(types.lines(style, "  "));
    lines.join("\n") + "\n"
}

fn show<T: Serialize>(
    items: &[T],
    table: impl FnOnce(&[T]) -> Table,
    format: Format,
    style: Style,
) -> Result<String> {
    if format != Format::Table {
        return output::document(&items, format);
    }
    let table = table(items);
    if table.is_empty() {
        return Ok("There are none.\n".to_owned());
    }
    Ok(table.lines(style, "").join("\n") + "\n")
}

fn services_table(services: &[ServiceView]) -> Table {
    let mut table = Table::new(&["NAMESPACE", "NAME", "PORTS", "USABLE", "REGISTRIES"]);
    for view in services {
        let (usable, total) = (view.workloads.usable(), view.workloads.total());
        let tone = match usable {
            0 => Tone::Bad,
            _ if usable < total => Tone::Warning,
            _ => Tone::Good,
        };
        let ports =
            view.service.ports.iter().map(|port| port_text(port.name.as_ref(), port.number, port.protocol));
        table.row(vec![
            (&view.service.key.namespace).into(),
            (&view.service.key.name).into(),
            ports.collect::<Vec<_>>().join(",").into(),
            Cell::toned(format!("{usable}/{total}"), tone),
            join(&view.registries).into(),
        ]);
    }
    table
}

fn workloads_table(workloads: &[Workload]) -> Table {
    let mut table =
        Table::new(&["SERVICE", "ADDRESS", "PORTS", "HEALTH", "WEIGHT", "TUNNEL", "IDENTITY", "INSTANCE"]);
    for workload in workloads {
        for (service, ports) in &workload.services {
            table.row(vec![
                service.into(),
                workload.addresses.first().map_or(String::new(), ToString::to_string).into(),
                ports.iter().map(workload_port).collect::<Vec<_>>().join(",").into(),
                health_cell(workload.health),
                workload.weight.into(),
                tunnel_text(workload.tunnel).into(),
                workload.identity.as_ref().map_or(String::new(), ToString::to_string).into(),
                (&workload.id).into(),
            ]);
        }
    }
    table
}

/// The proxies as `weft get proxies` and `weft status` show them.
pub(crate) fn proxies_table(proxies: &[ProxyStatus], now_unix_ms: u64) -> Table {
    let mut table =
        Table::new(&["NAMESPACE", "SERVICE ACCOUNT", "INSTANCE", "ADDRESS", "CONNECTED", "REVISION", "SYNC"]);
    for proxy in proxies {
        let tone = match proxy.sync {
            ProxySync::InSync => Tone::Good,
            ProxySync::Behind => Tone::Warning,
            ProxySync::Refused => Tone::Bad,
        };
        let (namespace, account) = service_account(&proxy.identity);
        let sync = match proxy.reasons.is_empty() {
            true => proxy.sync.as_str().to_owned(),
            false => format!("{}: {}", proxy.sync.as_str(), proxy.reasons.join("; ")),
        };
        table.row(vec![
            namespace.into(),
            account.into(),
            (&proxy.instance).into(),
            proxy.address.into(),
            output::age(now_unix_ms, proxy.connected_unix_ms).into(),
            proxy.applied_revision.map_or(String::new(), |revision| revision.to_string()).into(),
            Cell::toned(sync, tone),
        ]);
    }
    table
}

fn service_account(identity: &str) -> (&str, &str) {
    let path = identity.split_once("/ns/").map_or("", |(_, path)| path);
    path.split_once("/sa/").unwrap_or(("", identity))
}

fn workload_port(port: &WorkloadPort) -> String {
    port_text(port.name.as_ref(), port.number, port.protocol)
}

fn port_text(name: Option<&PortName>, number: u16, protocol: Protocol) -> String {
    let name = name.map_or(String::new(), |name| format!("{name}:"));
    // 0: the registry gives the service no number of its own.
    let number = if number == 0 { String::new() } else { number.to_string() };
    match (name.as_str(), number.as_str()) {
        ("", "") => protocol.to_string(),
        (name, "") => format!("{}/{protocol}", name.trim_end_matches(':')),
        (name, number) => format!("{name}{number}/{protocol}"),
    }
}

fn tunnel_text(tunnel: Tunnel) -> String {
    match tunnel {
        Tunnel::None => "none".to_owned(),
        Tunnel::Port(port) => port.to_string(),
    }
}

fn health_cell(health: Health) -> Cell {
    let tone = match health {
        Health::Healthy => Tone::Good,
        Health::Unknown => Tone::Plain,
        Health::Draining => Tone::Warning,
        Health::Unhealthy => Tone::Bad,
    };
    Cell::toned(health, tone)
}

fn join<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests;
