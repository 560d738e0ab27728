//! The network of `scripts/lab`, under names of this test's own, with real programs as its services.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::{Namespace, Process, cleanup, repository, wait_for_port};

/// Where things are; `scripts/lab` draws it.
pub const CLIENT: &str = "10.77.0.2";
/// The kernel's own addresses on the uplink.
pub const NODE: &str = "10.77.0.1";
pub const NODE_V6: &str = "fd77::1";
/// Ringway's own addresses on the uplink.
pub const MESH: &str = "10.77.0.80";
pub const MESH_V6: &str = "fd77::80";
pub const WEB_V1: &str = "10.88.0.11";
pub const WEB_V2: &str = "10.88.0.12";
pub const MEDIA: &str = "10.88.0.13";
/// Where the web services listen.
pub const WEB_PORT: u16 = 8080;

/// The lab's namespaces; gone when this is dropped.
#[derive(Debug)]
pub struct Lab {
    pub client: Namespace,
    pub node: Namespace,
    pub web_v1: Namespace,
    pub web_v2: Namespace,
    pub media: Namespace,
    directory: TempDir,
}

impl Lab {
    pub fn up() -> Self {
        let prefix = cleanup::unique_name();
        // Named before they exist, so that a signal in between finds them.
        let adopt = |name: &str| Namespace::adopt(&format!("{prefix}-{name}"));
        let directory = tempfile::tempdir().expect("a directory can be made");
        cleanup::add_directory(directory.path());
        let lab = Self {
            client: adopt("client"),
            node: adopt("node"),
            web_v1: adopt("web-v1"),
            web_v2: adopt("web-v2"),
            media: adopt("media"),
            directory,
        };
        let script = repository().join("scripts/lab");
        let made =
            Command::new(script).arg("up").env("LAB", &prefix).output().expect("scripts/lab can be started");
        assert!(made.status.success(), "scripts/lab up: {}", String::from_utf8_lossy(&made.stderr));
        lab
    }

    /// A directory for this lab's files.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Both versions of the web service: nginx as it comes, each answering its version's name.
    pub fn start_web(&self) -> [Process; 2] {
        [self.start_nginx(&self.web_v1, "web-v1", ""), self.start_nginx(&self.web_v2, "web-v2", "")]
    }

    /// One nginx that answers `answer`; `settings` are directives of its `server` block.
    pub fn start_nginx(&self, namespace: &Namespace, answer: &str, settings: &str) -> Process {
        let path = self.directory.path().join(format!("{}-{answer}.conf", namespace.name()));
        let pid = path.with_extension("pid");
        let text = format!(
            "daemon off; worker_processes 1; pid {pid}; error_log stderr;\n\
             events {{}}\n\
             http {{ access_log off; default_type text/plain; server {{\n\
               listen {WEB_PORT}; listen [::]:{WEB_PORT};\n\
               {settings}\n\
               location / {{ return 200 \"{answer}\\n\"; }}\n\
             }} }}\n",
            pid = pid.display()
        );
        fs::write(&path, text).expect("a configuration can be written");
        let nginx = Process::start(namespace, "nginx", ["-c", &path.to_string_lossy()]);
        wait_for_port(namespace, "127.0.0.1", WEB_PORT);
        nginx
    }
}
