//! Compiles the XDP program with clang into OUT_DIR. Needs the Debian packages clang, libbpf-dev and linux-libc-dev.

use std::env;
use std::path::PathBuf;
use std::process::Command;

const SOURCE: &str = "src/program/redirect.c";

fn main() {
    println!("cargo:rerun-if-changed={SOURCE}");
    println!("cargo:rerun-if-env-changed=CLANG");
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".into());
    let out_dir = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR for build scripts"));
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets the target's architecture");
    // <asm/types.h> lies below the multiarch directory, which clang does not search for the target bpf.
    let multiarch = format!("/usr/include/{arch}-linux-gnu");
    let status = Command::new(&clang)
        .args(["-O2", "-g", "-Wall", "-Wextra", "-Werror", "-target", "bpf", "-idirafter", &multiarch])
        .args(["-c", SOURCE, "-o"])
        .arg(out_dir.join("redirect.o"))
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => {
            panic!("{clang} could not compile {SOURCE} ({status}); it needs libbpf-dev and linux-libc-dev")
        }
        Err(error) => {
            panic!("{clang} did not start ({error}); install the Debian package clang, or set CLANG")
        }
    }
}
