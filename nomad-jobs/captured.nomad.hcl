# A service all of whose traffic goes through its proxy: what it calls by a name of the mesh, and what calls it. The nodes
# need the CNI plugins, and the users `weft` (useradd --system weft).
#
#   weft nomad run --var-file mesh.vars.hcl captured.nomad.hcl

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

job "captured" {
  datacenters = var.datacenters

  group "captured" {
    count = 1
    meta = {
      "weft.dev/inject"   = "true"
      "weft.dev/protocol" = "http1"
    }
    network {
      mode = "bridge"
      port "http" {
        to = 8080
      }
    }
    service {
      name     = "captured"
      port     = "http"
      provider = "nomad"
      check {
        type     = "http"
        path     = "/"
        interval = "5s"
        timeout  = "2s"
      }
    }
    task "captured" {
      driver = var.driver
      config {
        command = var.weft
        args = [
          "workload", "http", "--name", "captured", "--version", "v1",
          "--listen", "0.0.0.0:8080",
          "--upstream", "http://api.default.mesh",
        ]
      }
      resources {
        cpu    = 50
        memory = 64
      }
    }
  }
}
