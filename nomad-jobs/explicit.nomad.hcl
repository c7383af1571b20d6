# Two services, of which `web` calls `api` at 127.0.0.1:9000, without any privilege: no capture, no bridge, no root on the
# nodes. A call of /relay at web shows who called api, as api's proxy proved it.
#
#   weft nomad run --var-file mesh.vars.hcl explicit.nomad.hcl

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

job "explicit" {
  datacenters = var.datacenters

  group "web" {
    meta = {
      "weft.dev/inject"    = "true"
      "weft.dev/upstreams" = "api=9000"
      "weft.dev/protocol"  = "http1"
    }
    network {
      port "http" {}
    }
    service {
      name     = "web"
      port     = "http"
      provider = "nomad"
      check {
        type     = "http"
        path     = "/"
        interval = "5s"
        timeout  = "2s"
      }
    }
    task "web" {
      driver = var.driver
      config {
        command = var.weft
        args = [
          "workload", "http", "--name", "web", "--version", "v1",
          "--listen", "${NOMAD_IP_http}:${NOMAD_PORT_http}",
          "--upstream", "http://127.0.0.1:9000",
        ]
      }
      resources {
        cpu    = 50
        memory = 64
      }
    }
  }

  group "api" {
    meta = {
      "weft.dev/inject"   = "true"
      "weft.dev/protocol" = "http1"
    }
    network {
      port "http" {}
    }
    service {
      name     = "api"
      port     = "http"
      provider = "nomad"
    }
    task "api" {
      driver = var.driver
      config {
        command = var.weft
        args = [
          "workload", "http", "--name", "api", "--version", "v1",
          "--listen", "${NOMAD_IP_http}:${NOMAD_PORT_http}",
        ]
      }
      resources {
        cpu    = 50
        memory = 64
      }
    }
  }
}
