//! A root's replacement and a client that never acknowledges: it is named, it delays, and it can be overruled.

use anyhow::{Result, ensure};
use weft_integration::eventually;
use weft_proto::ResourceType;

use crate::world::World;

#[tokio::test]
async fn who_does_not_acknowledge_the_new_root_is_named_and_delays_the_switch_until_forced() -> Result<()> {
    let world = World::start("[ca]\nleaf_ttl = \"10s\"\n[limits]\nack_timeout = \"10m\"\n").await?;
    let (deaf, good) = (world.member("default/evil").await?, world.member("default/web").await?);
    let (mut deaf, mut good) = (deaf.stream("deaf").await?, good.stream("good").await?);
    for client in [&mut deaf, &mut good] {
        client.subscribe(ResourceType::TrustBundle, &["*"]).await;
        let bundle = client.next().await?;
        client.acknowledge(&bundle).await;
    }
    world.mesh.weft(&["ca", "rotate"]).await?;
    let bundle = good.next().await?;
    good.acknowledge(&bundle).await;
    let named = eventually("only the deaf one is named", async || {
        let said = world.mesh.admin("/v1/ca").await?;
        let names = said["not_acknowledged"].as_array().cloned().unwrap_or_default();
        ensure!(names.len() == 1 && names[0].to_string().contains("~deaf"), "{said}");
        Ok(Some(said))
    })
    .await?;
    ensure!(named["rotation"] == "announced", "{named}");
    let told = world.mesh.weft(&["ca", "rotate", "--force"]).await?;
    ensure!(told.contains("switched"), "{told}");
    ensure!(world.mesh.weft(&["ca", "status"]).await?.contains("switched"));
    Ok(())
}
