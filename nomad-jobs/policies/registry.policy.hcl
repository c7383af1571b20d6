# What the control plane needs of Nomad: to read services, allocations and jobs, and where they run. It changes nothing.
namespace "*" {
  capabilities = ["read-job", "list-jobs"]
}

node {
  policy = "read"
}
