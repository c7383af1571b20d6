//! Connections: where each arrives, and what the proxy learns of where it was going.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::Result;

use crate::a_world;
use crate::world::{APP, PATIENCE, PROXY, User, answer, joined};

#[test]
fn an_applications_connection_goes_to_the_proxy_which_learns_its_destination() -> Result<()> {
    let world = a_world!("outbound capture");
    let _proxy = world.proxy()?;
    world.apply("")?;
    for user in [APP, User(0, 0)] {
        assert_eq!(world.pod.ask(user, "192.0.2.50:8080")?, "outbound 192.0.2.50:8080");
        assert_eq!(world.pod.ask(user, "[fd99::50]:8080")?, "outbound [fd99::50]:8080");
        assert_eq!(world.pod.ask(user, "10.77.0.1:443")?, "outbound 10.77.0.1:443");
    }
    Ok(())
}

#[test]
fn the_proxys_own_connections_are_never_captured() -> Result<()> {
    let world = a_world!("the proxy's own connections");
    let _proxy = world.proxy()?;
    let _far = [world.far.listen(APP, "0.0.0.0:8080", "far")?, world.far.listen(APP, "[::]:8080", "far")?];
    world.apply("")?;
    for user in [PROXY, User(1337, 5), User(5, 1337)] {
        assert_eq!(world.pod.ask(user, "192.0.2.50:8080")?, "far", "{user:?}");
        assert_eq!(world.pod.ask(user, "[fd99::50]:8080")?, "far", "{user:?}");
    }
    world.apply(r#""proxy_gid":null"#)?;
    assert_eq!(world.pod.ask(User(5, 1337), "192.0.2.50:8080")?, "outbound 192.0.2.50:8080");
    Ok(())
}

#[test]
fn what_comes_from_outside_goes_to_the_proxy_but_for_its_own_ports_and_the_excluded() -> Result<()> {
    let world = a_world!("inbound capture");
    let _proxy = world.proxy()?;
    let mut listeners = Vec::new();
    for (at, name) in [("0.0.0.0", "direct"), ("[::]", "direct")] {
        for port in [8080, 15008, 15021, 9090] {
            listeners.push(world.pod.listen(APP, &format!("{at}:{port}"), name)?);
        }
    }
    world.apply(r#""exclude_inbound_ports":[9090]"#)?;
    assert_eq!(world.far.ask(APP, "10.77.0.2:8080")?, "inbound 10.77.0.2:8080");
    assert_eq!(world.far.ask(APP, "[fd77::2]:8080")?, "inbound [fd77::2]:8080");
    // Nobody listens there: the proxy gets it all the same, and decides.
    assert_eq!(world.far.ask(APP, "10.77.0.2:8081")?, "inbound 10.77.0.2:8081");
    for port in [15008, 15021, 9090] {
        assert_eq!(world.far.ask(APP, &format!("10.77.0.2:{port}"))?, "direct", "{port}");
        assert_eq!(world.far.ask(APP, &format!("[fd77::2]:{port}"))?, "direct", "{port}");
    }
    Ok(())
}

#[test]
fn what_the_proxy_has_on_loopback_stays_out_of_reach_from_outside() -> Result<()> {
    let world = a_world!("the proxy's loopback ports");
    let _proxy = world.proxy()?;
    let _admin = world.pod.listen(PROXY, "127.0.0.1:15000", "admin")?;
    world.apply("")?;
    assert_eq!(world.pod.ask(APP, "127.0.0.1:15000")?, "admin");
    for port in [15000, 15001] {
        let refused = world.far.ask(APP, &format!("10.77.0.2:{port}")).unwrap_err();
        assert!(refused.to_string().contains("refused"), "{port}: {refused}");
    }
    Ok(())
}

#[test]
fn loopback_and_the_pods_own_addresses_are_reached_directly() -> Result<()> {
    let world = a_world!("loopback and own addresses");
    let _proxy = world.proxy()?;
    let _app = [world.pod.listen(APP, "0.0.0.0:8080", "app")?, world.pod.listen(APP, "[::]:8080", "app")?];
    world.apply("")?;
    for to in ["127.0.0.1:8080", "127.7.7.7:8080", "[::1]:8080", "10.77.0.2:8080", "[fd77::2]:8080"] {
        for user in [APP, PROXY] {
            assert_eq!(world.pod.ask(user, to)?, "app", "{to} {user:?}");
        }
    }
    Ok(())
}

#[test]
fn a_pod_that_calls_its_own_service_reaches_itself_by_the_proxy() -> Result<()> {
    let world = a_world!("a call to the own service");
    let _app = world.pod.listen(APP, "0.0.0.0:8080", "app")?;
    let own: SocketAddr = "10.77.0.2:8080".parse()?;
    // A proxy that knows one service, whose one endpoint is this pod.
    let _proxy = world.pod.listen_with(PROXY, "127.0.0.1:15001", move |client| {
        let mut to_app = TcpStream::connect_timeout(&own, PATIENCE)?;
        let text = answer(&mut to_app).unwrap_or_else(|error| error.to_string());
        client.write_all(format!("by the proxy: {text}").as_bytes())
    })?;
    world.apply("")?;
    assert_eq!(world.pod.ask(APP, "10.96.0.10:80")?, "by the proxy: app");
    Ok(())
}

#[test]
fn excluded_ports_blocks_and_users_go_past_the_proxy() -> Result<()> {
    let world = a_world!("outbound exclusion");
    let _proxy = world.proxy()?;
    let mut far = Vec::new();
    for at in ["0.0.0.0:8080", "[::]:8080", "0.0.0.0:3306"] {
        far.push(world.far.listen(APP, at, "far")?);
    }
    world.apply(
        r#""exclude_outbound_ports":[3306],"exclude_outbound_cidrs":["192.0.2.0/24","fd99::/16"],"exclude_uids":[42]"#,
    )?;
    for to in ["10.77.0.1:3306", "192.0.2.50:8080", "[fd99::50]:8080"] {
        assert_eq!(world.pod.ask(APP, to)?, "far", "{to}");
    }
    for to in ["10.77.0.1:8080", "[fd77::1]:8080", "10.96.0.10:8080"] {
        assert_eq!(world.pod.ask(APP, to)?, format!("outbound {to}"));
        assert_eq!(world.pod.ask(User(42, 42), to)?, "far", "{to}");
    }
    Ok(())
}

#[test]
fn where_only_some_are_included_the_rest_goes_past_the_proxy() -> Result<()> {
    let world = a_world!("inclusion");
    let _proxy = world.proxy()?;
    let mut listeners = vec![world.pod.listen(APP, "0.0.0.0:9090", "app")?];
    for at in ["0.0.0.0:8080", "[::]:8080", "0.0.0.0:8443"] {
        listeners.push(world.far.listen(APP, at, "far")?);
    }
    world.apply(
        r#""include_outbound_ports":[8080],"include_outbound_cidrs":["10.96.0.0/12"],"include_inbound_ports":[80]"#,
    )?;
    assert_eq!(world.pod.ask(APP, "10.96.0.10:8080")?, "outbound 10.96.0.10:8080");
    for past in ["10.96.0.10:8443", "192.0.2.50:8080", "[fd99::50]:8080"] {
        assert_eq!(world.pod.ask(APP, past)?, "far", "{past}");
    }
    assert_eq!(world.far.ask(APP, "10.77.0.2:80")?, "inbound 10.77.0.2:80");
    assert_eq!(world.far.ask(APP, "10.77.0.2:9090")?, "app");
    world.apply(r#""include_outbound_ports":[],"include_inbound_ports":[]"#)?;
    assert_eq!(world.pod.ask(APP, "10.96.0.10:8080")?, "far");
    assert_eq!(world.far.ask(APP, "10.77.0.2:9090")?, "app");
    Ok(())
}

#[test]
fn a_family_that_is_not_captured_is_left_alone() -> Result<()> {
    let world = a_world!("one family alone");
    let _proxy = world.proxy()?;
    let mut listeners = Vec::new();
    for at in ["0.0.0.0:8080", "[::]:8080"] {
        listeners.extend([world.far.listen(APP, at, "far")?, world.pod.listen(APP, at, "app")?]);
    }
    for (family, captured, other) in [("ipv4", 0, 1), ("ipv6", 1, 0)] {
        world.apply(&format!(r#""families":"{family}""#))?;
        let (out, inward) = (["192.0.2.50:8080", "[fd99::50]:8080"], ["10.77.0.2:8080", "[fd77::2]:8080"]);
        assert_eq!(world.pod.ask(APP, out[captured])?, format!("outbound {}", out[captured]));
        assert_eq!(world.far.ask(APP, inward[captured])?, format!("inbound {}", inward[captured]));
        assert_eq!(world.pod.ask(APP, out[other])?, "far", "{family}");
        assert_eq!(world.far.ask(APP, inward[other])?, "app", "{family}");
    }
    Ok(())
}

#[test]
fn dns_goes_to_the_proxy_over_udp_and_tcp_where_it_is_captured() -> Result<()> {
    let world = a_world!("DNS capture");
    let _proxy = world.proxy()?;
    let _dns = world.pod.listen(PROXY, "127.0.0.1:15053", "dns")?;
    let udp = [
        world.pod.answer_udp(PROXY, "127.0.0.1:15053", "dns", 1)?,
        world.pod.answer_udp(PROXY, "[::1]:15053", "dns", 1)?,
        world.far.answer_udp(User(0, 0), "10.96.0.10:53", "far", 2)?,
    ];
    world.apply("")?;
    assert_eq!(world.pod.ask_udp(APP, 0, "10.96.0.10:53")?.0, "far");
    assert_eq!(world.pod.ask(APP, "10.96.0.10:53")?, "outbound 10.96.0.10:53");
    world.apply(r#""dns_port":15053,"exclude_outbound_cidrs":["10.96.0.0/12"]"#)?;
    assert_eq!(world.pod.ask_udp(APP, 0, "10.96.0.10:53")?.0, "dns");
    assert_eq!(world.pod.ask_udp(APP, 0, "[fd99::50]:53")?.0, "dns");
    assert_eq!(world.pod.ask(APP, "10.96.0.10:53")?, "dns 10.96.0.10:53");
    assert_eq!(world.pod.ask_udp(PROXY, 0, "10.96.0.10:53")?.0, "far");
    udp.into_iter().try_for_each(joined)
}

#[test]
fn the_proxys_question_from_a_port_that_an_application_just_used_still_goes_out() -> Result<()> {
    let world = a_world!("DNS from a port used a moment ago");
    let udp = [
        world.pod.answer_udp(PROXY, "127.0.0.1:15053", "dns", 1)?,
        world.far.answer_udp(User(0, 0), "10.96.0.10:53", "far", 1)?,
    ];
    world.apply(r#""dns_port":15053"#)?;
    let (by, port) = world.pod.ask_udp(APP, 0, "10.96.0.10:53")?;
    assert_eq!(by, "dns");
    assert_eq!(world.pod.ask_udp(PROXY, port, "10.96.0.10:53")?.0, "far");
    udp.into_iter().try_for_each(joined)
}

#[test]
fn what_was_open_before_the_rules_came_stays_open_in_both_directions() -> Result<()> {
    let world = a_world!("connections from before");
    let echo = |stream: &mut TcpStream| {
        let mut byte = [0];
        while stream.read(&mut byte)? > 0 {
            stream.write_all(&byte)?;
        }
        Ok(())
    };
    let _far = world.far.listen_with(APP, "0.0.0.0:8080", echo)?;
    let _app = world.pod.listen_with(APP, "0.0.0.0:9090", echo)?;
    let _proxy = world.proxy()?;
    let connect = |to: &str| {
        let to: SocketAddr = to.parse()?;
        Ok::<_, anyhow::Error>(move || Ok(TcpStream::connect_timeout(&to, PATIENCE)?))
    };
    let out = world.pod.within(APP, connect("192.0.2.50:8080")?)?;
    let inward = world.far.within(APP, connect("10.77.0.2:9090")?)?;
    let say = |mut stream: &TcpStream| -> Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"x")?;
        Ok(stream.read_exact(&mut [0])?)
    };
    for settings in ["", "", r#""dns_port":15053"#] {
        say(&out)?;
        say(&inward)?;
        world.apply(settings)?;
    }
    say(&out)?;
    say(&inward)
}

#[test]
fn what_the_proxy_carries_survives_that_the_rules_are_applied_again() -> Result<()> {
    let world = a_world!("captured connections and a second apply");
    let _proxy = world.pod.listen_with(PROXY, "127.0.0.1:15001", |stream| {
        let mut byte = [0];
        while stream.read(&mut byte)? > 0 {
            stream.write_all(&byte)?;
        }
        Ok(())
    })?;
    world.apply("")?;
    let to: SocketAddr = "192.0.2.50:8080".parse()?;
    let mut stream = world.pod.within(APP, move || Ok(TcpStream::connect_timeout(&to, PATIENCE)?))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    for _ in 0..20 {
        stream.write_all(b"x")?;
        stream.read_exact(&mut [0])?;
        world.apply("")?;
    }
    Ok(())
}
