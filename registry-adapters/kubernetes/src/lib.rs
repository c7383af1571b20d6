//! The Kubernetes registry.
