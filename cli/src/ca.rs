//! `weft ca`: the mesh's certificate authority. `rotate` replaces its root without a failed call; `status` says how far that is.

use std::time::{Duration, UNIX_EPOCH};

use anyhow::Result;
use weft_control_api::{CaView, Rotate, RotationPhase, path};

use crate::control::Control;
use crate::output::{self, Format};

/// `weft ca`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: CaCommand,
}

#[derive(Debug, clap::Subcommand)]
enum CaCommand {
    /// Show the roots, and how far a replacement is and what it waits for.
    Status,
    /// Replace the root: announce a new one, let it sign when everybody knows it, take the old one out when its last
    /// certificate is over. Takes two lives of a certificate; the control plane goes on with it by itself.
    Rotate {
        /// Take the next step of the replacement under way now, whoever has not acknowledged: calls may fail.
        #[arg(long)]
        force: bool,
    },
}

/// Runs it.
pub(crate) async fn run(args: Args, control: &Control, format: Format) -> Result<()> {
    let view: CaView = match args.command {
        CaCommand::Status => control.get(path::CA).await?,
        CaCommand::Rotate { force } => control.post(path::ROTATION, &Rotate { force }).await?,
    };
    match format {
        Format::Table => output::print(&text(&view)),
        _ => output::print(&output::document(&view, format)?),
    }
}

fn text(view: &CaView) -> String {
    let mut lines = Vec::new();
    for root in &view.roots {
        let signs = if root.sha256 == view.signing_root_sha256 { "   signs" } else { "" };
        let expires = root.expires_unix_ms.map_or_else(|| "?".to_owned(), time);
        lines.push(format!("root {}   expires {expires}{signs}", root.sha256));
    }
    let next = view.next_step_unix_ms.map(time).unwrap_or_default();
    lines.push(match view.rotation {
        RotationPhase::None => "no replacement is under way".to_owned(),
        RotationPhase::Announced => {
            format!("announced: both roots are trusted, the old one signs. The new one signs from {next} at the earliest")
        }
        RotationPhase::Switched => {
            format!("switched: both roots are trusted, the new one signs. The old one is trusted until {next}")
        }
        RotationPhase::Retired => "retired: the old root is not trusted any more".to_owned(),
    });
    if !view.not_acknowledged.is_empty() {
        lines.push(format!("{} proxies have not acknowledged both roots:", view.not_acknowledged.len()));
        lines.extend(view.not_acknowledged.iter().map(|name| format!("  {name}")));
    }
    lines.join("\n") + "\n"
}

fn time(unix_ms: u64) -> String {
    let at = UNIX_EPOCH.checked_add(Duration::from_millis(unix_ms / 1000 * 1000));
    at.map_or_else(|| unix_ms.to_string(), |at| humantime::format_rfc3339_seconds(at).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_control_api::RootView;

    #[test]
    fn who_has_not_acknowledged_is_named() {
        let root =
            |sha256: &str| RootView { sha256: sha256.to_owned(), expires_unix_ms: Some(1_000_000_000_000) };
        let view = CaView {
            signing_root_sha256: "aa".to_owned(),
            roots: vec![root("aa"), root("bb")],
            rotation: RotationPhase::Announced,
            since_unix_ms: Some(0),
            next_step_unix_ms: Some(1_000_000_000_000),
            not_acknowledged: vec!["spiffe://td/ns/a/sa/b~1".to_owned()],
        };
        let text = text(&view);
        assert!(text.contains("root aa   expires 2001-09-09T01:46:40Z   signs\n"), "{text}");
        assert!(text.contains("root bb   expires 2001-09-09T01:46:40Z\n"), "{text}");
        assert!(
            text.contains("1 proxies have not acknowledged both roots:\n  spiffe://td/ns/a/sa/b~1\n"),
            "{text}"
        );
    }
}
