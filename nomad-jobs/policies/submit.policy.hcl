# What `weft nomad inject`, `plan`, `run` and `doctor` need, of the people who use them, for their namespace.
namespace "default" {
  capabilities = ["parse-job", "submit-job", "read-job", "list-jobs"]
}

node {
  policy = "read"
}
