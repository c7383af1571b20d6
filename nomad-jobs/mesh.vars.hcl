# What is the same for all jobs of this Nomad: give it to each by --var-file mesh.vars.hcl.

weft        = "/usr/local/bin/weft"
driver      = "raw_exec"
datacenters = ["*"]
