//! Mistakes in `Meta`: the instance keeps its last good state, and its owner reads why.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use weft_integration::{eventually, get};
use weft_registry_consul::testkit::ConsulOptions;

use crate::world::{NEWEST, World, on_consul};

#[tokio::test]
async fn a_bad_value_keeps_the_last_good_state_and_is_named_with_what_is_allowed() -> Result<()> {
    on_consul(NEWEST, ConsulOptions::default(), "mistakes in Meta", async |consul| {
        let world = World::start(consul, "", "").await?;
        let (members, web) = world.shop().await?;
        let member = members.first().context("a member")?;
        let good = web.endpoints("default/api").await?;

        let mut bad = member.definition();
        bad["Meta"]["weft-protocol"] = json!("htp");
        bad["Meta"]["weft-colour"] = json!("blue");
        world.register(&bad).await?;
        let said = world.until_status(&["weft-protocol", "weft-colour"]).await?;
        let line = |part: &str| said.lines().find(|line| line.contains(part)).context("a line about it");
        // The field, what it was and what is allowed.
        let (bad_value, unknown) = (line("Meta.weft-protocol")?, line("Meta.weft-colour")?);
        for word in ["error", "node-1/api-v1", "\"htp\"", "http1", "detect"] {
            assert!(bad_value.contains(word), "{word} is missing: {bad_value}");
        }
        for word in ["warning", "node-1/api-v1", "unknown key", "weft-locality"] {
            assert!(unknown.contains(word), "{word} is missing: {unknown}");
        }
        // A new instance with the same mistake has no good state to keep.
        let mut new = bad.clone();
        new["ID"] = json!("api-v3");
        world.register(&new).await?;
        world.until_status(&["node-1/api-v3"]).await?;
        assert_eq!(web.endpoints("default/api").await?, good);
        for _ in 0..20 {
            get(web.upstream("api"), "/").await?;
        }

        world.consul.put("agent/service/deregister/api-v3", &json!(null)).await?;
        world.register(&member.definition()).await?;
        eventually("the complaints go with their cause", async || {
            let said = world.consul_status().await?;
            ensure!(!said.contains("weft-"), "{said}");
            Ok(Some(()))
        })
        .await?;
        assert_eq!(web.endpoints("default/api").await?, good);
        Ok(())
    })
    .await
}
