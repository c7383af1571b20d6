//! A host vanishes without a word: its link goes down, no FIN comes, and what is sent there is never acknowledged.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hyper::Method;
use weft_integration::{
    App, AppKind, FarHost, Mesh, MeshPlan, ProxyPlan, Steady, Tally, eventually, figure, skipped,
};

use crate::world::{RATE, knows, lasts, member, web};

/// POST requests, which nobody may send twice, beside the others.
const POSTS: u32 = 20;
const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_host_that_vanishes_costs_at_most_what_was_in_flight_and_is_left_within_a_second() -> Result<()> {
    let far = match FarHost::new().await {
        Ok(far) => far,
        Err(error) => {
            skipped("a host that vanishes", &format!("{error:#}"));
            return Ok(());
        }
    };
    let plan = MeshPlan { listen: Some(IpAddr::from([0, 0, 0, 0])), ..MeshPlan::default() };
    let mesh = Mesh::start(plan).await?;
    let near_app = mesh.http_app("api", "near").await?;
    let _near = member(&mesh, &near_app, "near", "http1", &|plan| plan).await?;
    let far_app = App::start_on(&far.host, AppKind::Http, "api", "far", mesh.path()).await?;
    let plan = ProxyPlan::new("api-far", "api").inbound(far_app.address.port(), "http1").on(&far.host);
    let far_proxy = mesh.proxy_at(plan.quiet(), far.gateway).await?;
    mesh.register("api-far.yaml", &far_proxy.object("api", "far", far_app.address.port(), "http1"))?;
    let web = web(&mesh, &|plan| plan).await?;
    knows(&web, 2).await?;

    let requests = Steady::start(web.upstream("api"), "/", RATE);
    let posts = Steady::with(web.upstream("api"), Method::POST, "/", POSTS);
    eventually("both are called", async || {
        Ok((requests.so_far().by_version.len() == 2 && posts.so_far().by_version.len() == 2).then_some(()))
    })
    .await?;
    lasts(3 * SECOND).await;

    let gone = Instant::now();
    far.vanish().await?;
    lasts(8 * SECOND).await;
    let unheard = web.metric("weft_unheard_total", &[]).await?;
    let before = requests.so_far().by_version.get("far").copied();
    far.come_back().await?;
    let back = Instant::now();
    eventually("it is used again", async || {
        Ok((requests.so_far().by_version.get("far").copied() > before).then_some(()))
    })
    .await?;
    let used_again = back.elapsed();
    let at = gone - requests.started();
    let (requests, posts) = (requests.stop().await, posts.stop().await);

    let (moved, moved_posts) = (last_trouble(&requests, at), last_trouble(&posts, at));
    figure(
        "a host vanished",
        &format!(
            "last GET that failed or took over 1 s was due {moved} ms after, last POST {moved_posts} ms after; GET: {}; \
             POST: {}; used again {:.1} s after its return",
            requests.words(),
            posts.words(),
            used_again.as_secs_f64()
        ),
    );
    ensure!(unheard >= 1.0, "it was not noticed");
    ensure!(requests.failures().next().is_none(), "{:?}", requests.failures().next());
    // What came before the link went down shows how slow the machine is.
    let slow = requests.slowest_due(Duration::ZERO..at).as_millis();
    ensure!(moved <= 1000 + slow && moved_posts <= 1000 + slow, "GET {moved} ms, POST {moved_posts} ms");
    Ok(())
}

/// How many milliseconds after `at` the last request was due that failed or took long.
fn last_trouble(tally: &Tally, at: Duration) -> u128 {
    let due = tally.troubles.iter().map(|trouble| trouble.due).max();
    due.map_or(0, |due| due.saturating_sub(at).as_millis())
}
