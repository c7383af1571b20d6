# A rolling update with a canary. Before it is promoted, it is an instance of the service like the others, with the version
# that its tag says: `weft get workloads canary` shows which it is.
#
#   weft nomad run --var-file mesh.vars.hcl --var version=v2 canary.nomad.hcl
#   nomad deployment promote ID

variable "version" {
  description = "The version of the software."
  type        = string
  default     = "v1"
}

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

job "canary" {
  datacenters = var.datacenters

  group "canary" {
    count = 2
    meta = {
      "weft.dev/inject"   = "true"
      "weft.dev/protocol" = "http1"
    }
    update {
      canary           = 1
      max_parallel     = 1
      min_healthy_time = "5s"
      healthy_deadline = "1m"
    }
    network {
      mode = "bridge"
      port "http" {
        to = 8080
      }
    }
    service {
      name     = "canary"
      port     = "http"
      provider = "nomad"
      tags        = ["weft.dev/version=${var.version}"]
      canary_tags = ["weft.dev/version=${var.version}", "canary"]
      check {
        type     = "http"
        path     = "/"
        interval = "5s"
        timeout  = "2s"
      }
    }
    task "canary" {
      driver = var.driver
      config {
        command = var.weft
        args = [
          "workload", "http", "--name", "canary", "--version", "${var.version}",
          "--listen", "0.0.0.0:8080",
        ]
      }
      resources {
        cpu    = 50
        memory = 64
      }
    }
  }
}
