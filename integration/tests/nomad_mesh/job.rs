//! The jobs of the tests, in HCL, as a user writes them.

use crate::world::World;

/// A job with one group, whose application answers with what reached it.
pub(crate) struct Job {
    name: String,
    kind: &'static str,
    /// `weft.dev/…` keys and their values.
    meta: Vec<(&'static str, String)>,
    bridge: bool,
    count: usize,
    version: String,
    /// Blocks of the group.
    more: String,
}

impl Job {
    /// One instance that speaks HTTP, in the allocation's own network and all of its traffic through its proxy.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: "http",
            meta: vec![("inject", "true".to_owned()), ("protocol", "http1".to_owned())],
            bridge: true,
            count: 1,
            version: "v1".to_owned(),
            more: String::new(),
        }
    }

    /// It speaks something else: `grpc`, `tcp`.
    pub(crate) fn speaks(mut self, kind: &'static str) -> Self {
        self.kind = kind;
        self.meta.retain(|(key, _)| *key != "protocol");
        self.meta("protocol", kind)
    }

    pub(crate) fn meta(mut self, key: &'static str, value: &str) -> Self {
        self.meta.push((key, value.to_owned()));
        self
    }

    /// In the node's network: nothing is captured.
    pub(crate) fn in_host(mut self) -> Self {
        self.bridge = false;
        self
    }

    pub(crate) fn count(mut self, count: usize) -> Self {
        self.count = count;
        self
    }

    pub(crate) fn version(mut self, version: &str) -> Self {
        self.version = version.to_owned();
        self
    }

    pub(crate) fn more(mut self, blocks: &str) -> Self {
        self.more.push_str(blocks);
        self
    }

    /// The job file.
    pub(crate) fn hcl(&self, world: &World) -> String {
        let Self { name, kind, count, version, more, .. } = self;
        let meta: Vec<String> =
            self.meta.iter().map(|(key, value)| format!("\"weft.dev/{key}\" = \"{value}\"")).collect();
        let (network, listen) = match self.bridge {
            true => ("mode = \"bridge\"\n      port \"http\" {\n        to = 8080\n      }", "0.0.0.0:8080"),
            false => ("port \"http\" {\n      }", "${NOMAD_IP_http}:${NOMAD_PORT_http}"),
        };
        let check = match *kind {
            "http" => "type = \"http\"\n        path = \"/\"",
            _ => "type = \"tcp\"",
        };
        let upstream = if *kind == "http" { ", \"--upstream\", \"http://127.0.0.1:9000\"" } else { "" };
        format!(
            r#"
job "{name}" {{
  group "{name}" {{
    count = {count}
    meta = {{
      {meta}
    }}
    network {{
      {network}
    }}
    restart {{
      attempts = 3
      delay = "1s"
    }}
    service {{
      name = "{name}"
      port = "http"
      provider = "nomad"
      tags = ["weft.dev/version={version}"]
      check {{
        {check}
        interval = "1s"
        timeout = "1s"
      }}
    }}
    task "app" {{
      driver = "raw_exec"
      config {{
        command = "{app}"
        args = ["workload", "{kind}", "--name", "{name}", "--version", "{version}", "--listen", "{listen}"{upstream}]
      }}
      resources {{
        cpu = 20
        memory = 32
      }}
    }}
    {more}
  }}
}}
"#,
            meta = meta.join("\n      "),
            app = world.app(),
        )
    }
}
