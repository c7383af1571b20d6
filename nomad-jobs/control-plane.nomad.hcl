# The control plane as a job: one instance, whose certificate authority lives on a host volume. It reads this Nomad with a
# token of its own (policies/registry.policy.hcl), from a Nomad variable.
#
# Once, on the node that has the volume (client configuration):
#
#   client {
#     host_volume "weft" {
#       path = "/opt/weft"
#     }
#   }
#
#   nomad acl policy apply weft-registry policies/registry.policy.hcl
#   nomad var put nomad/jobs/weft-control token=$(nomad acl token create -name weft-control -policy weft-registry -json | jq -r .SecretID)
#   nomad job run control-plane.nomad.hcl

variable "control" {
  description = "Where the program weft-control is on the node."
  type        = string
  default     = "/usr/local/bin/weft-control"
}

variable "driver" {
  description = "What runs it: raw_exec, exec."
  type        = string
  default     = "raw_exec"
}

variable "trust_domain" {
  description = "The mesh's trust domain. It is part of every identity, so it can't change later."
  type        = string
  default     = "weft.local"
}

variable "nomad" {
  description = "The API of this Nomad, as the node reaches it."
  type        = string
  default     = "http://127.0.0.1:4646"
}

variable "token" {
  description = "Whether Nomad's ACLs are on, so that the control plane needs its token."
  type        = bool
  default     = true
}

variable "state" {
  description = "The host volume's path on the node."
  type        = string
  default     = "/opt/weft"
}

job "weft-control" {
  type = "service"

  group "weft-control" {
    # One: replicas need a store that they share, as in a cluster of Kubernetes.
    count = 1

    network {
      port "discovery" {
        static = 15010
      }
    }

    volume "state" {
      type   = "host"
      source = "weft"
    }

    service {
      name     = "weft-control"
      port     = "discovery"
      provider = "nomad"
      check {
        type     = "tcp"
        interval = "5s"
        timeout  = "2s"
      }
    }

    task "weft-control" {
      driver       = var.driver
      kill_signal  = "SIGTERM"
      kill_timeout = "15s"

      config {
        command = var.control
        args    = ["--config", "${NOMAD_TASK_DIR}/control.toml"]
      }

      template {
        destination = "local/control.toml"
        change_mode = "restart"
        data        = <<EOF
listen = "0.0.0.0:15010"
trust_domain = "${var.trust_domain}"
state_dir = "${var.state}"

[[registry]]
id = "nomad/default"
required = true
[registry.nomad]
address = "${var.nomad}"
%{ if var.token }token_file = "{{ env "NOMAD_SECRETS_DIR" }}/token"
%{ endif }
[ca.nomad."nomad/default"]
EOF
      }

      dynamic "template" {
        for_each = var.token ? ["token"] : []
        content {
          destination = "secrets/token"
          change_mode = "noop"
          perms       = "600"
          data        = "{{ with nomadVar \"nomad/jobs/weft-control\" }}{{ .token }}{{ end }}"
        }
      }

      resources {
        cpu    = 200
        memory = 256
      }
    }
  }
}
