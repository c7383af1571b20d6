# A batch job that calls `api` through its proxy and ends; the proxy does not keep it from being complete.
#
#   weft nomad run --var-file mesh.vars.hcl batch.nomad.hcl

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

job "report" {
  type        = "batch"
  datacenters = var.datacenters

  group "report" {
    meta = {
      "weft.dev/inject"    = "true"
      "weft.dev/upstreams" = "api=9000"
    }
    task "report" {
      driver = var.driver
      config {
        command = "/usr/bin/env"
        args    = ["python3", "-c", "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9000/').read().decode())"]
      }
      resources {
        cpu    = 50
        memory = 64
      }
    }
  }
}
