//! The program as pods run it: with one capability or none, as root and as others.

use std::process::Output;

use anyhow::Result;

use crate::a_world;
use crate::world::Place;

const PROGRAM: &str = env!("CARGO_BIN_EXE_weft-redirect");

/// Runs it with these capabilities at most, as this user; a user other than root has them as ambient ones.
fn run(place: &Place, user: u32, capabilities: &str, arguments: &[&str]) -> Result<Output> {
    let (user, bounding) = (user.to_string(), format!("-all{capabilities}"));
    let mut line = vec!["--reuid", &user, "--regid", &user, "--clear-groups", "--no-new-privs"];
    line.extend(["--bounding-set", &bounding, "--inh-caps", &bounding, "--ambient-caps", &bounding]);
    line.extend(["--", PROGRAM]);
    line.extend(arguments);
    place.run("setpriv", &line)
}

fn said(output: &Output) -> (Option<i32>, String) {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    (output.status.code(), String::from_utf8_lossy(&both).trim().to_owned())
}

#[test]
fn net_admin_is_all_that_it_needs() -> Result<()> {
    let world = a_world!("capabilities of the program");
    for user in [0, 65532] {
        for (arguments, answer) in [
            (["check", "--dns-port", "15053"], (Some(2), "table inet weft: it is missing")),
            (["apply", "--dns-port", "15053"], (Some(0), "")),
            (["check", "--dns-port", "15053"], (Some(0), "the rules are as wanted")),
            (["clean", "--dns-port", "15053"], (Some(0), "the rules are removed")),
            (["clean", "--dns-port", "15053"], (Some(0), "there were no rules")),
        ] {
            let got = said(&run(&world.pod, user, ",+net_admin", &arguments)?);
            assert_eq!((got.0, got.1.as_str()), answer, "{user} {arguments:?}");
        }
    }
    Ok(())
}

#[test]
fn without_net_admin_it_fails_and_names_it() -> Result<()> {
    let world = a_world!("the program without capabilities");
    for (user, command) in [(0, "apply"), (0, "check"), (0, "clean"), (65532, "apply")] {
        let (status, text) = said(&run(&world.pod, user, "", &[command])?);
        assert_eq!(status, Some(1), "{text}");
        assert!(text.contains("CAP_NET_ADMIN is needed"), "{command}: {text}");
    }
    Ok(())
}

#[test]
fn settings_that_are_wrong_change_nothing() -> Result<()> {
    let world = a_world!("the program with wrong settings");
    let wrong = r#"{"version":1,"exclude_ports":[1]}"#;
    let (status, text) = said(&run(&world.pod, 0, ",+net_admin", &["apply", "--settings", wrong])?);
    assert_eq!(status, Some(1));
    assert!(text.contains("unknown field `exclude_ports`"), "{text}");
    assert_eq!(said(&run(&world.pod, 0, ",+net_admin", &["check"])?).0, Some(2));
    Ok(())
}

#[test]
fn an_application_sees_whether_it_is_captured_without_any_privilege() -> Result<()> {
    let world = a_world!("verification");
    let verify = |user, arguments: &[&str]| {
        Ok::<_, anyhow::Error>(said(&run(&world.pod, user, "", &[&["verify"], arguments].concat())?))
    };
    let (status, text) = verify(65532, &[])?;
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("outbound traffic is not captured: a connection to 192.0.2.1:9"), "{text}");
    world.apply("")?;
    assert_eq!(verify(65532, &[])?, (Some(0), "outbound IPv4 is captured, IPv6 is captured".to_owned()));
    // Rules that lead somewhere else are not those of these settings.
    assert_eq!(verify(65532, &["--outbound-port", "16001"])?.0, Some(1));
    let (status, text) = verify(1337, &[])?;
    assert!(status == Some(1) && text.contains("runs as the proxy's user"), "{text}");
    let _proxy = world.proxy()?;
    let (status, text) = verify(65532, &[])?;
    assert!(status == Some(1) && text.contains("before the proxy"), "{text}");
    Ok(())
}

#[test]
fn a_family_without_a_route_is_not_held_against_the_rules() -> Result<()> {
    let world = a_world!("verification without IPv6");
    world.apply("")?;
    world.pod.run("ip", &["-6", "route", "del", "default"])?;
    let (status, text) = said(&run(&world.pod, 65532, "", &["verify"])?);
    assert_eq!((status, text.as_str()), (Some(0), "outbound IPv4 is captured, IPv6 has no route"));
    Ok(())
}
