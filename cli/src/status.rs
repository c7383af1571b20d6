//! `weft status`: whether the control plane, each registry and each proxy are in order, and why not.
//!
//! The answer is made of what the control plane says; nothing is judged twice. `--check` turns it into an exit status
//! for scripts and monitoring.

use anyhow::{Context, Result, bail};
use weft_control_api::{ControlPlaneStatus, ProxySync, RegistryState, RegistryStatus, Status, path};

use weft_model::Severity;

use crate::control::Control;
use crate::get::proxies_table;
use crate::output::{self, Cell, Format, Style, Table, Tone, printable};

/// `weft status`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Fail with status 1 unless everything is in order.
    #[arg(long)]
    check: bool,
}

/// Runs it.
pub(crate) async fn run(args: Args, control: &Control, format: Format, style: Style) -> Result<()> {
    let status = of_all(control).await?;
    match format {
        Format::Table => output::print(&text(&status, style))?,
        _ => output::print(&output::document(&status, format)?)?,
    }
    match disorders(&status) {
        0 => Ok(()),
        _ if !args.check => Ok(()),
        1 => bail!("1 thing is not in order"),
        count => bail!("{count} things are not in order"),
    }
}

/// The status of the mesh: where there are several control planes, of all of them as one.
pub(crate) async fn of_all(control: &Control) -> Result<Status> {
    let (all, silent) = control.get_all::<Status>(path::STATUS).await?;
    let count = all.len() + silent.len();
    let mut merged = all.into_iter().reduce(merge).context("no control plane answered")?;
    if count > 1 {
        merged.control_plane.ready &= silent.is_empty();
        merged.control_plane.notes.push(format!("{count} control planes, shown as one: the worst of each"));
        merged.control_plane.notes.extend(silent.iter().map(ToString::to_string));
        merged.proxies.sort_by(|a, b| a.name.cmp(&b.name));
    }
    Ok(merged)
}

/// The worse of two, with the proxies of both.
fn merge(mut one: Status, other: Status) -> Status {
    if one.control_plane.ready && !other.control_plane.ready {
        one.control_plane = other.control_plane;
    }
    for registry in other.registries {
        let is_well = registry.state == RegistryState::Synced && registry.held_reset.is_none();
        match one.registries.iter_mut().find(|known| known.id == registry.id) {
            Some(known) if !is_well => *known = registry,
            Some(_) => {}
            None => one.registries.push(registry),
        }
    }
    for proxy in other.proxies {
        match one.proxies.iter_mut().find(|known| known.name == proxy.name) {
            // It went from one to the other, and the first has not noticed yet.
            Some(known) if known.connected_unix_ms < proxy.connected_unix_ms => *known = proxy,
            Some(_) => {}
            None => one.proxies.push(proxy),
        }
    }
    one
}

/// How many things want somebody's attention.
fn disorders(status: &Status) -> usize {
    let registry = |registry: &RegistryStatus| {
        let broken = registry.state != RegistryState::Synced || registry.held_reset.is_some();
        broken || registry.problems.iter().any(|problem| problem.severity == Severity::Error)
    };
    usize::from(!status.control_plane.ready)
        + status.registries.iter().filter(|r| registry(r)).count()
        + status.proxies.iter().filter(|proxy| proxy.sync == ProxySync::Refused).count()
}

/// The three sections.
fn text(status: &Status, style: Style) -> String {
    let now = status.control_plane.now_unix_ms;
    let mut lines = vec![style.paint("Control plane", Tone::Heading)];
    lines.extend(control_plane(&status.control_plane, style));
    lines.extend([String::new(), style.paint("Registries", Tone::Heading)]);
    if status.registries.is_empty() {
        lines.push("  none: weft-control's settings name no [[registry]]".to_owned());
    } else {
        lines.extend(registries_table(&status.registries, now).lines(style, "  "));
        lines.extend(status.registries.iter().flat_map(|registry| details(registry, now, style)));
    }
    lines.extend([String::new(), style.paint("Proxies", Tone::Heading)]);
    if status.proxies.is_empty() {
        lines.push("  none is connected".to_owned());
    } else {
        lines.extend(proxies_table(&status.proxies, now).lines(style, "  "));
    }
    lines.join("\n") + "\n"
}

fn control_plane(control: &ControlPlaneStatus, style: Style) -> Vec<String> {
    let now = control.now_unix_ms;
    let ready = if control.ready { style.paint("yes", Tone::Good) } else { style.paint("no", Tone::Bad) };
    let mut lines = vec![
        format!("  ready         {ready}"),
        format!("  trust domain  {}", control.trust_domain),
        format!("  listens on    {}", control.listen),
        format!(
            "  revision      {}: {} services, {} workloads",
            control.revision, control.services, control.workloads
        ),
        format!(
            "  running       {}, version {}",
            output::age(now, control.started_unix_ms),
            printable(&control.version)
        ),
    ];
    if let Some(at) = control.certificate_expires_unix_ms {
        lines.push(format!("  certificate   {}", expiry(at, now, style)));
    }
    for root in &control.roots {
        let expires =
            root.expires_unix_ms.map_or_else(|| "expiry unknown".to_owned(), |at| expiry(at, now, style));
        lines.push(format!("  root          {expires}, sha256 {}", printable(&root.sha256)));
    }
    lines.extend(control.notes.iter().map(|note| format!("  note          {}", printable(note))));
    lines
}

fn expiry(at_unix_ms: u64, now_unix_ms: u64, style: Style) -> String {
    if at_unix_ms <= now_unix_ms {
        return style.paint(&format!("expired {} ago", output::age(now_unix_ms, at_unix_ms)), Tone::Bad);
    }
    format!("expires in {}", output::age(at_unix_ms, now_unix_ms))
}

fn registries_table(registries: &[RegistryStatus], now: u64) -> Table {
    let mut table = Table::new(&["REGISTRY", "STATE", "SINCE", "LAST EVENT", "ENTRIES", "PROBLEMS"]);
    for registry in registries {
        let tone = match registry.state {
            RegistryState::Synced => Tone::Good,
            RegistryState::Syncing | RegistryState::Stale => Tone::Warning,
            RegistryState::Denied | RegistryState::NotFound => Tone::Bad,
        };
        let last_event =
            registry.last_event_unix_ms.map_or_else(|| "never".to_owned(), |at| output::age(now, at));
        let problems = registry.problems.len();
        let problem_tone = if problems == 0 { Tone::Plain } else { Tone::Warning };
        table.row(vec![
            (&registry.id).into(),
            Cell::toned(registry.state.as_str().replace('_', " "), tone),
            output::age(now, registry.since_unix_ms).into(),
            last_event.into(),
            registry.entries.into(),
            Cell::toned(problems, problem_tone),
        ]);
    }
    table
}

/// Below the table: what is wrong with this registry, a line each.
fn details(registry: &RegistryStatus, now: u64, style: Style) -> Vec<String> {
    let mut lines = Vec::new();
    let mut say = |tone: Tone, kind: &str, text: String| {
        lines.push(format!("  {} {}: {}", registry.id, style.paint(kind, tone), printable(&text)));
    };
    // An error that is over is of interest to programs; people read it as one that is not.
    if let Some(error) = registry.last_error.as_ref().filter(|_| registry.state != RegistryState::Synced) {
        say(Tone::Bad, "error", format!("{} ago: {}", output::age(now, error.at_unix_ms), error.message));
    }
    if let Some(held) = &registry.held_reset {
        let age = output::age(now, held.since_unix_ms);
        let (gone, of) = (held.would_remove, held.of);
        say(
            Tone::Warning,
            "held",
            format!("for {age}: a listing without {gone} of {of} workloads waits to be confirmed"),
        );
    }
    for problem in &registry.problems {
        let (tone, severity) = match problem.severity {
            Severity::Error => (Tone::Bad, "error"),
            Severity::Warning => (Tone::Warning, "warning"),
        };
        let field = problem.field.as_ref().map_or(String::new(), |field| format!("{field}: "));
        say(tone, severity, format!("{}: {field}{}", problem.object, problem.message));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status() -> Status {
        serde_json::from_value(json!({
            "control_plane": {"version": "0.1.0", "trust_domain": "td", "listen": "0.0.0.0:15010", "ready": true, "notes": ["did not wait for consul/dc1"],
                "revision": 7, "services": 2, "workloads": 3, "started_unix_ms": 0, "now_unix_ms": 300_000,
                "certificate_expires_unix_ms": 100_000_000u64,
                "roots": [{"sha256": "ab12", "expires_unix_ms": 200_000u64}]},
            "registries": [
                {"id": "consul/dc1", "required": false, "state": "denied", "since_unix_ms": 290_000, "first_sync_unix_ms": null,
                 "last_event_unix_ms": null, "entries": 0, "last_error": {"at_unix_ms": 299_000, "message": "403: the token may not read services"},
                 "problems": [], "held_reset": {"since_unix_ms": 295_000, "would_remove": 9, "of": 10}},
                {"id": "file/local", "required": true, "state": "synced", "since_unix_ms": 60_000, "first_sync_unix_ms": 60_000,
                 "last_event_unix_ms": 60_000, "entries": 5, "last_error": {"at_unix_ms": 1, "message": "long over"},
                 "problems": [{"severity": "error", "object": "web.yaml:12", "field": "ports[0].number", "message": "expected 1 to 65535"}],
                 "held_reset": null}
            ],
            "proxies": []
        }))
        .unwrap()
    }

    #[test]
    fn of_several_control_planes_the_worst_is_shown_and_each_proxy_once() {
        let proxy = |name: &str, since: u64| {
            serde_json::from_value(json!({"name": name, "identity": "spiffe://td/ns/a/sa/b", "instance": "i",
                "address": "10.0.0.1:1", "user_agent": "weft-proxy/0.1.0", "connected_unix_ms": since,
                "applied_revision": 1, "sync": "in_sync", "reasons": [], "subscriptions": 1}))
            .unwrap()
        };
        let (mut one, mut other) = (status(), status());
        one.registries[0].state = RegistryState::Synced;
        one.registries[0].held_reset = None;
        other.control_plane.ready = false;
        (one.proxies, other.proxies) =
            (vec![proxy("a", 1), proxy("b", 5)], vec![proxy("c", 1), proxy("a", 9)]);
        for merged in [merge(one.clone(), other.clone()), merge(other, one)] {
            assert!(!merged.control_plane.ready);
            assert_eq!(merged.registries[0].state, RegistryState::Denied);
            let mut proxies: Vec<_> =
                merged.proxies.iter().map(|proxy| (proxy.name.as_str(), proxy.connected_unix_ms)).collect();
            proxies.sort_unstable();
            assert_eq!(proxies, [("a", 9), ("b", 5), ("c", 1)]);
        }
    }

    #[test]
    fn status_is_told_in_three_sections() {
        let expected = "\
Control plane
  ready         yes
  trust domain  td
  listens on    0.0.0.0:15010
  revision      7: 2 services, 3 workloads
  running       5m, version 0.1.0
  certificate   expires in 27h
  root          expired 100s ago, sha256 ab12
  note          did not wait for consul/dc1

Registries
  REGISTRY     STATE    SINCE   LAST EVENT   ENTRIES   PROBLEMS
  consul/dc1   denied   10s     never        0         0
  file/local   synced   4m      4m           5         1
  consul/dc1 error: 1s ago: 403: the token may not read services
  consul/dc1 held: for 5s: a listing without 9 of 10 workloads waits to be confirmed
  file/local error: web.yaml:12: ports[0].number: expected 1 to 65535

Proxies
  none is connected
";
        assert_eq!(text(&status(), Style { colour: false }), expected);
    }

    #[test]
    fn what_is_not_in_order_is_counted() {
        let mut status = status();
        assert_eq!(disorders(&status), 2);
        status.control_plane.ready = false;
        assert_eq!(disorders(&status), 3);
        status.registries.clear();
        status.control_plane.ready = true;
        assert_eq!(disorders(&status), 0);
    }
}
