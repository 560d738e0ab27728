//! What Ringway's tests stand on: network namespaces and programs that are always cleared away, the lab's network, a
//! mesh that runs in it, the runner of fuzz targets, and the checks of `scripts/tidy`.
//!
//! Tests that need root say so and pass without looking when they are not root; `scripts/test` runs as root. Traffic
//! stays inside namespaces that the test made itself.
#![forbid(unsafe_code)]

pub mod cleanup;
pub mod fuzz;
pub mod lab;
pub mod mesh;
pub mod namespace;
pub mod process;
pub mod pypi;
pub mod tidy;
pub mod wait;

pub use lab::Lab;
pub use mesh::Mesh;
pub use namespace::{Namespace, Outcome};
pub use process::Process;
pub use pypi::PyPi;
pub use wait::{eventually, wait_for_port};

use std::path::{Path, PathBuf};

/// False, with a word to the reader, when this test cannot run here.
pub fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: network namespaces need root; ./scripts/test runs it");
    }
    root
}

/// The repository's root.
pub fn repository() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the crate `tests` lies in the repository's root").to_owned()
}

/// One of Ringway's binaries: from the same build as this test, or from the folder that `RINGWAY_BIN` names.
pub fn binary(name: &str) -> PathBuf {
    if let Some(folder) = std::env::var_os("RINGWAY_BIN") {
        return Path::new(&folder).join(name);
    }
    let test = std::env::current_exe().expect("a test knows its own path");
    let profile = test.parent().and_then(Path::parent).expect("a test lies in target/PROFILE/deps");
    let path = profile.join(name);
    assert!(path.exists(), "{} is missing: build it in the same profile as the tests", path.display());
    path
}
