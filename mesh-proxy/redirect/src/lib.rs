//! The rules that lead traffic through the proxy.
