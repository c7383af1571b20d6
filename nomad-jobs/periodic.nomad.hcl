# The same on every node, every night. All runs have the identity of this job, not of the children that Nomad makes of it.
#
#   weft nomad run --var-file mesh.vars.hcl periodic.nomad.hcl

variable "weft" {
  description = "Where the program weft is on the nodes; here it is the application."
  type        = string
  default     = "/usr/local/bin/weft"
}

variable "driver" {
  description = "What runs the application: raw_exec, exec."
  type        = string
  default     = "raw_exec"
}

variable "datacenters" {
  description = "Where it may run."
  type        = list(string)
  default     = ["*"]
}

job "sweep" {
  type        = "sysbatch"
  datacenters = var.datacenters

  periodic {
    crons            = ["0 3 * * *"]
    prohibit_overlap = true
  }

  group "sweep" {
    meta = {
      "weft.dev/inject"    = "true"
      "weft.dev/upstreams" = "api=9000"
    }
    task "sweep" {
      driver = var.driver
      config {
        command = "/usr/bin/env"
        args    = ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:9000/').read()"]
      }
      resources {
        cpu    = 50
        memory = 64
      }
    }
  }
}
