//! Capture on a real kernel: a host of its own whose traffic the kernel leads to its proxy, and applications that know
//! nothing of it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, UdpSocket};
use weft_integration::{
    Answer, App, FarHost, Host, Mesh, MeshPlan, Process, Proxy, ProxyPlan, count_system_calls, eventually,
    figure, free_port, skipped, skipped_on,
};

/// The address that stands for the service `api`.
const VIRTUAL: &str = "198.18.0.1";
/// Who is not the proxy: the kernel tells them apart by the user.
const NOBODY: &str = "65534";
/// The proxy of these tests runs as root, as the tests do; in a pod it has a user of its own.
const RULES: &str = r#"{"version":1,"exclude_uids":[0]}"#;
const WEB: &str = "spiffe://test.weft/ns/default/sa/web";

/// A mesh with `api` on this host, and a host whose traffic is captured for `web`.
struct World {
    far: FarHost,
    mesh: Mesh,
    api: Proxy,
    api_app: App,
    web: Proxy,
    /// The health port of web's proxy.
    health: u16,
}

async fn world(what: &str, more: &str) -> Result<Option<World>> {
    let far = match FarHost::new().await {
        Ok(far) => far,
        Err(error) => {
            skipped(what, &format!("{error:#}"));
            return Ok(None);
        }
    };
    run(&far.host, "ip", &["route", "add", "default", "via", &far.gateway.to_string()]).await?;
    let plan = MeshPlan { listen: Some(IpAddr::from([0, 0, 0, 0])), ..MeshPlan::default() };
    let mesh = Mesh::start(plan).await?;
    let api_app = mesh.http_app("api", "v1").await?;
    let near = Host::at(far.gateway);
    let port = api_app.address.port();
    let api = mesh.proxy(ProxyPlan::new("api-v1", "api").inbound(port, "http1").on(&near)).await?;
    mesh.register("api-v1.yaml", &api.object("api", "v1", port, "http1"))?;
    let service = format!(
        "kind: Service\nname: api\naddresses: [{VIRTUAL}]\nports: [{{name: main, number: 80, protocol: http1}}]\n"
    );
    mesh.register("api.yaml", &service)?;
    let health = SocketAddr::new(far.host.address, free_port());
    let capture = "\n[capture]\noutbound = [\"127.0.0.1:15001\", \"[::1]:15001\"]\n\
                   inbound = [\"0.0.0.0:15006\", \"[::]:15006\"]\n";
    let plan = ProxyPlan::new("web", "web")
        .on(&far.host)
        .more(&format!("{capture}{more}[health]\nlisten = \"{health}\"\n"));
    let web = mesh.proxy_at(plan, far.gateway).await?;
    // Its admin port is on the far host's loopback.
    eventually("the proxy is ready", async || {
        let ready = reqwest::get(format!("http://{health}/ready")).await?.error_for_status();
        Ok(Some(ready.map(drop)?))
    })
    .await?;
    let dns = if more.contains("[dns]") { r#","dns_port":15053"# } else { "" };
    let rules = format!(
        r#"{{"version":1,"exclude_uids":[0],"tunnel_port":{},"admin_port":{},"health_port":{}{dns}}}"#,
        web.tunnel.port(),
        web.admin_address().port(),
        health.port()
    );
    redirect(&far.host, &["apply", "--settings", &rules]).await?;
    Ok(Some(World { far, mesh, api, api_app, web, health: health.port() }))
}

async fn redirect(host: &Host, arguments: &[&str]) -> Result<String> {
    let program = Process::program("weft-redirect")?;
    let output = host.command(&program).args(arguments).output().await?;
    finished(&format!("weft-redirect {arguments:?}"), &output)
}

async fn run(host: &Host, program: &str, arguments: &[&str]) -> Result<String> {
    let output = host.command(Path::new(program)).args(arguments).output().await?;
    finished(&format!("{program} {arguments:?}"), &output)
}

fn finished(what: &str, output: &std::process::Output) -> Result<String> {
    ensure!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What an application of the host reads that connects to `to`, says `said` and reads until the end.
async fn says(host: &Host, to: SocketAddr, said: &str) -> Result<String> {
    const PROGRAM: &str = "exec 3<>/dev/tcp/$0/$1; printf %s \"$2\" >&3; cat <&3";
    let user = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".to_owned()];
    let mut command = host.command(Path::new("setpriv"));
    command.args(user).args(["bash", "-c", PROGRAM, &to.ip().to_string(), &to.port().to_string(), said]);
    finished(&format!("a call to {to}"), &command.output().await?)
}

async fn get(host: &Host, to: SocketAddr) -> Result<Answer> {
    let said = says(host, to, "GET / HTTP/1.1\r\nhost: whoever\r\nconnection: close\r\n\r\n").await?;
    let Some((head, body)) = said.split_once("\r\n\r\n") else { bail!("no answer: {said:?}") };
    ensure!(head.starts_with("HTTP/1.1 200"), "{said}");
    let start = body.find('{').context("no JSON")?;
    let end = body.rfind('}').context("no JSON")?;
    Ok(serde_json::from_str(&body[start..=end])?)
}

#[tokio::test]
async fn a_call_to_a_services_or_an_instances_own_address_goes_through_the_mesh() -> Result<()> {
    let Some(world) = world("capture of outbound calls", "").await? else { return Ok(()) };
    let called = get(&world.far.host, SocketAddr::new(VIRTUAL.parse()?, 80)).await?;
    assert_eq!((called.name.as_str(), called.caller.as_deref()), ("api", Some(WEB)));
    // The application listens on loopback alone: without the tunnel nobody would answer.
    let instance = SocketAddr::new(world.api.tunnel.ip(), world.api_app.address.port());
    let called = get(&world.far.host, instance).await?;
    assert_eq!((called.name.as_str(), called.caller.as_deref()), ("api", Some(WEB)));
    let asked = "GET /config_dump HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let dump = says(&world.far.host, world.web.admin_address(), asked).await?;
    let dump = dump.split_once("\r\n\r\n").context("no answer")?.1;
    let dump: Value = serde_json::from_str(dump)?;
    assert_eq!(dump["addresses"][format!("default/{VIRTUAL}")]["service"], "default/api", "{dump}");
    Ok(())
}

#[tokio::test]
async fn what_is_nobodys_is_passed_on_as_it_came_and_the_server_may_speak_first() -> Result<()> {
    let Some(world) = world("capture of calls to nobody in the mesh", "").await? else { return Ok(()) };
    // A program of the same host as api's proxy, which has nothing to do with it.
    let listener = TcpListener::bind(SocketAddr::new(world.far.gateway, 0)).await?;
    let to = listener.local_addr()?;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        stream.write_all(b"hello first\n").await?;
        let mut said = [0; 4];
        stream.read_exact(&mut said).await?;
        anyhow::Ok(String::from_utf8_lossy(&said).into_owned())
    });
    assert_eq!(says(&world.far.host, to, "ping").await?, "hello first\n");
    assert_eq!(server.await??, "ping");
    Ok(())
}

#[tokio::test]
async fn where_the_settings_refuse_the_unknown_it_is_closed_and_the_mesh_is_reached() -> Result<()> {
    let Some(world) = world("capture that refuses the unknown", "unknown = \"refuse\"\n").await? else {
        return Ok(());
    };
    let listener = TcpListener::bind(SocketAddr::new(world.far.gateway, 0)).await?;
    let said = says(&world.far.host, listener.local_addr()?, "").await;
    assert_eq!(said.unwrap_or_default(), "", "closed, or reset");
    get(&world.far.host, SocketAddr::new(VIRTUAL.parse()?, 80)).await?;
    Ok(())
}

#[tokio::test]
async fn while_no_control_plane_answers_what_was_called_goes_on_and_a_private_address_is_not_called_in_plaintext()
-> Result<()> {
    let Some(mut world) = world("capture without a control plane", "").await? else { return Ok(()) };
    let known = SocketAddr::new(VIRTUAL.parse()?, 80);
    get(&world.far.host, known).await?;
    world.mesh.kill_control().await?;
    assert_eq!(get(&world.far.host, known).await?.caller.as_deref(), Some(WEB));
    // Private, and nobody can say whose it is: it may be a member's.
    let listener = TcpListener::bind(SocketAddr::new(world.far.gateway, 0)).await?;
    let to = listener.local_addr()?;
    let said = says(&world.far.host, to, "in the clear").await;
    assert_eq!(said.unwrap_or_default(), "");
    let called = tokio::time::timeout(std::time::Duration::from_millis(200), listener.accept()).await;
    assert!(called.is_err(), "it was called in plaintext");
    Ok(())
}

#[tokio::test]
async fn a_members_health_port_is_reached_as_it_is_although_its_proxy_takes_every_port() -> Result<()> {
    let Some(world) = world("capture and the health port", "").await? else { return Ok(()) };
    let object = world.api.object("api", "v1", world.api_app.address.port(), "http1");
    world.mesh.register("api-v1.yaml", &format!("{object}redirect: '{{\"version\":1}}'\n"))?;
    // What api's proxy does not take, it refuses: its own settings name one port.
    let other = TcpListener::bind(SocketAddr::new(world.far.gateway, 0)).await?;
    eventually("calls to api's other ports go to its proxy", async || {
        let said = says(&world.far.host, other.local_addr()?, "").await;
        let came = tokio::time::timeout(std::time::Duration::from_millis(100), other.accept()).await;
        Ok((came.is_err() && said.unwrap_or_default().is_empty()).then_some(()))
    })
    .await?;
    let health = TcpListener::bind(SocketAddr::new(world.far.gateway, world.health)).await?;
    let to = health.local_addr()?;
    let server = tokio::spawn(async move { health.accept().await?.0.write_all(b"ready").await });
    assert_eq!(says(&world.far.host, to, "").await?, "ready");
    server.await??;
    Ok(())
}

#[tokio::test]
async fn a_plaintext_caller_reaches_a_captured_application_unless_the_settings_are_strict() -> Result<()> {
    for (more, answered) in [("", true), ("plaintext = \"strict\"\n", false)] {
        let Some(world) = world("capture of inbound calls", more).await? else { return Ok(()) };
        let app = SocketAddr::new(world.far.host.address, free_port());
        let mut command = world.far.host.command(&Process::program("weft")?);
        command.args(["workload", "http", "--name", "web", "--version", "v1", "--listen", &app.to_string()]);
        let _app = Process::start("web-app", command, world.mesh.path())?;
        if answered {
            let plain = eventually("the application answers", async || {
                Ok(Some(weft_integration::get(app, "/").await?))
            })
            .await?;
            assert_eq!((plain.name.as_str(), plain.caller), ("web", None));
        } else {
            // From the host itself nothing is captured, so it is known to be up.
            eventually("the application listens", async || Ok(Some(get(&world.far.host, app).await?)))
                .await?;
            assert!(weft_integration::get(app, "/").await.is_err(), "strict, and answered all the same");
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_rules_are_what_leads_there_and_go_without_a_trace() -> Result<()> {
    let Some(world) = world("rules that are taken away", "").await? else { return Ok(()) };
    redirect(&world.far.host, &["clean", "--settings", RULES]).await?;
    let to = SocketAddr::new(world.api.tunnel.ip(), world.api_app.address.port());
    assert!(get(&world.far.host, to).await.is_err(), "nobody listens there in plaintext");
    Ok(())
}

/// Requests on one connection, one after the other: some to warm up, and with each line on standard input some that count.
const CALLER: &str = r#"
import http.client, os, sys
# The interpreter may be where nobody else reads: what it loads when it connects is loaded before.
"".encode("idna")
os.setgid(int(sys.argv[4]))
os.setuid(int(sys.argv[4]))
calls = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]))
def get(times):
    for _ in range(times):
        calls.request("GET", "/")
        assert calls.getresponse().read()
    print("done", flush=True)
get(20)
sys.stdin.readline()
get(int(sys.argv[3]))
"#;

/// The system calls of web's proxy for each request of an application to `to`; `None` where there is no strace.
async fn system_calls(world: &World, to: SocketAddr) -> Result<Option<f64>> {
    const COUNTED: u32 = 400;
    let mut command = world.far.host.command(Path::new("python3"));
    let (address, port) = (to.ip().to_string(), to.port().to_string());
    command.args(["-c", CALLER, &address, &port, &COUNTED.to_string(), NOBODY]).kill_on_drop(true);
    let mut caller = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(caller.stdout.take().context("a pipe")?).lines();
    let mut stdin = caller.stdin.take().context("a pipe")?;
    ensure!(lines.next_line().await?.as_deref() == Some("done"), "no calls to {to}");
    let work = async {
        stdin.write_all(b"\n").await?;
        ensure!(lines.next_line().await?.as_deref() == Some("done"), "the calls to {to} broke");
        Ok(())
    };
    let counted = count_system_calls(&[world.web.process.pid()?], work).await?;
    Ok(counted.map(|(calls, ())| calls as f64 / f64::from(COUNTED)))
}

#[tokio::test]
async fn a_captured_request_costs_no_system_call_more_than_one_to_a_listener() -> Result<()> {
    let what = "system calls of a captured request";
    let listener: SocketAddr = "127.0.0.1:16000".parse()?;
    let upstream = format!("[[upstream]]\nservice = \"api\"\nlisten = \"{listener}\"\n");
    let Some(world) = world(what, &upstream).await? else { return Ok(()) };
    let explicit = system_calls(&world, listener).await?;
    let captured = system_calls(&world, SocketAddr::new(VIRTUAL.parse()?, 80)).await?;
    let (Some(explicit), Some(captured)) = (explicit, captured) else {
        skipped_on("strace", what);
        return Ok(());
    };
    figure(what, &format!("{captured:.2}, and {explicit:.2} of one to a listener"));
    // One more would be one in each request; on a busy machine a wait more or less is one in some of them.
    ensure!(captured <= explicit + 0.5, "{captured} system calls a request, and {explicit} by a listener");
    Ok(())
}

/// A resolver's address in the host's network. Nobody is there: what is asked of it comes to the proxy.
const NAMESERVER: &str = "10.96.0.10";

/// What an application of the host is answered that asks the resolver over `udp` or `tcp`: code and address.
async fn lookup(host: &Host, transport: &str, name: &str) -> Result<(u8, Option<Ipv4Addr>)> {
    const PROGRAM: &str = "exec 3<>/dev/$0/$1/53; printf \"$2\" >&3; \
                           timeout 5 dd bs=600 count=1 status=none <&3 | od -An -v -tx1";
    let mut message = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len())?);
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    let skip = if transport == "tcp" { 2 } else { 0 };
    let length = u16::try_from(message.len())?.to_be_bytes();
    let sent = [length.get(..skip).unwrap_or_default(), &message].concat();
    let escaped: String = sent.iter().map(|byte| format!("\\x{byte:02x}")).collect();
    let user = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".to_owned()];
    let mut command = host.command(Path::new("setpriv"));
    command.args(user).args(["bash", "-c", PROGRAM, transport, NAMESERVER, &escaped]);
    let said = finished(&format!("asking for {name}"), &command.output().await?)?;
    let bytes: Vec<u8> =
        said.split_whitespace().map(|hex| u8::from_str_radix(hex, 16)).collect::<Result<_, _>>()?;
    let answer = bytes.get(skip..).filter(|answer| answer.len() >= message.len()).context("no answer")?;
    ensure!(answer[..2] == message[..2], "another id: {answer:?}");
    let last: [u8; 4] = answer[answer.len() - 4..].try_into()?;
    Ok((answer[3] & 15, (answer[7] == 1).then(|| last.into())))
}

/// The address of a service's name.
async fn service(host: &Host, name: &str) -> Result<Ipv4Addr> {
    let (code, address) = lookup(host, "udp", name).await?;
    address.with_context(|| format!("{name}: code {code}"))
}

fn names(resolv_conf: &Path) -> String {
    format!("[dns]\nlisten = [\"127.0.0.1:15053\", \"[::1]:15053\"]\nresolv_conf = {resolv_conf:?}\n")
}

#[tokio::test]
async fn a_service_is_called_by_its_name_in_the_mesh_and_other_names_are_the_hosts_resolvers() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("resolv.conf");
    let Some(world) = world("capture of DNS", &names(&file)).await? else { return Ok(()) };
    let host = &world.far.host;
    let at = service(host, "Api.default.mesh").await?;
    assert_eq!(at.octets()[..2], [240, 240]);
    assert_eq!(lookup(host, "tcp", "api.mesh").await?, (0, Some(at)), "its own namespace is meant");
    let called = get(host, SocketAddr::new(at.into(), 80)).await?;
    assert_eq!((called.name.as_str(), called.caller.as_deref()), ("api", Some(WEB)));
    assert_eq!(lookup(host, "udp", "nobody.default.mesh").await?, (3, None));
    // Not one that a name was answered with: the next one.
    let other = SocketAddr::new(Ipv4Addr::from(u32::from(at) ^ 1).into(), 80);
    assert_eq!(says(host, other, "").await.unwrap_or_default(), "");
    eventually("it is refused, and not passed on", async || {
        let refused = |line: &Value| {
            line.to_string().contains(&format!("{other} is in dns.range and stands for no service"))
        };
        Ok(world.web.access_log().iter().any(refused).then_some(()))
    })
    .await?;

    let resolver = UdpSocket::bind(SocketAddr::new(world.far.gateway, 53)).await?;
    std::fs::write(&file, format!("nameserver {}\n", world.far.gateway))?;
    let serving = async {
        let mut message = vec![0; 600];
        let (length, from) = resolver.recv_from(&mut message).await?;
        message.truncate(length);
        (message[2], message[3], message[7]) = (0x81, 0x80, 1);
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7]);
        resolver.send_to(&message, from).await?;
        anyhow::Ok(from.ip())
    };
    let (answered, from) = tokio::join!(lookup(host, "udp", "www.example.com"), serving);
    assert_eq!(answered?, (0, Some(Ipv4Addr::new(192, 0, 2, 7))));
    assert_eq!(from?, host.address, "the host's own address asked");
    Ok(())
}

#[tokio::test]
async fn a_name_keeps_its_address_while_the_control_plane_is_away_and_the_proxy_starts_anew() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("resolv.conf");
    let Some(mut world) = world("names without a control plane", &names(&file)).await? else { return Ok(()) };
    let at = service(&world.far.host, "api.default.mesh").await?;
    let called = get(&world.far.host, SocketAddr::new(at.into(), 80)).await?;
    assert_eq!(called.caller.as_deref(), Some(WEB));
    // What it knows is on its disk a second later at the latest, and then some.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    world.mesh.kill_control().await?;
    assert_eq!(service(&world.far.host, "api.default.mesh").await?, at);
    world.web.process.kill().await?;
    world.web.start_again()?;
    eventually("the proxy answers again", async || {
        Ok((service(&world.far.host, "api.default.mesh").await? == at).then_some(()))
    })
    .await?;
    let called = get(&world.far.host, SocketAddr::new(at.into(), 80)).await?;
    assert_eq!((called.name.as_str(), called.caller.as_deref()), ("api", Some(WEB)));
    // Nobody can say whether there is one.
    assert_eq!(lookup(&world.far.host, "udp", "other.default.mesh").await?, (2, None));
    Ok(())
}
