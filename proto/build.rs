//! Compiles the schema in Rust: no protoc on any machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files =
        ["weft/mesh/v1/mesh.proto", "weft/ca/v1/ca.proto", "envoy/service/discovery/v3/discovery.proto"];
    for file in files {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["."])?;
    // Byte fields share their buffer instead of copying it. What holds a token is shown by `secret.rs`.
    let secret = [".weft.ca.v1.JoinToken", ".weft.ca.v1.KubernetesToken"];
    tonic_prost_build::configure().bytes(".").skip_debug(secret).compile_fds(descriptors)?;
    Ok(())
}
