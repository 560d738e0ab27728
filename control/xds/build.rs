//! Compiles our own protos with protox (no protoc), messages by prost and services by tonic.

use std::io;

const PROTOS: [&str; 5] = [
    "proto/ringway/mesh.proto",
    "proto/ringway/control.proto",
    "proto/ringway/node.proto",
    "proto/ringway/identity.proto",
    "proto/ringway/ca.proto",
];

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(PROTOS, ["proto"]).map_err(io::Error::other)?;
    prost_build::Config::new()
        .enable_type_names()
        .type_name_domain(["."], "type.googleapis.com")
        // `ringway status` prints what nodes report.
        .type_attribute(".ringway.node.v1", "#[derive(serde::Serialize, serde::Deserialize)]")
        .type_attribute(".ringway.node.v1", "#[serde(default)]")
        .service_generator(tonic_prost_build::configure().service_generator())
        .compile_fds(files)
}
