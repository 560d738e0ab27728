//! Programs and libraries from PyPI, in a virtual environment of the target directory.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A virtual environment that has what a test asked for.
#[derive(Debug)]
pub struct PyPi {
    environment: PathBuf,
}

/// The environment's name in the target's folder for tests: one for all of them, made once.
const FOLDER: &str = "interop-venv";

impl PyPi {
    /// Installs what is missing of `packages`. `None`, with a word to the reader: PyPI is out of reach, and the test is
    /// skipped. `target` is `env!("CARGO_TARGET_TMPDIR")`.
    pub fn with(target: &str, packages: &[&str]) -> Option<Self> {
        let pypi = Self { environment: Path::new(target).join(FOLDER) };
        if pypi.has(packages) {
            return Some(pypi);
        }
        let made = pypi.python().exists()
            || succeeds(Command::new("python3").args(["-m", "venv"]).arg(&pypi.environment));
        let installed = made
            && succeeds(Command::new(pypi.python()).args(["-m", "pip", "install", "-q"]).args(packages))
            && pypi.has(packages);
        if !installed {
            eprintln!("skipped: it needs {} of PyPI, which cannot be installed here", packages.join(", "));
        }
        installed.then_some(pypi)
    }

    pub fn python(&self) -> PathBuf {
        self.program("python")
    }

    /// A program that came with a package.
    pub fn program(&self, name: &str) -> PathBuf {
        self.environment.join("bin").join(name)
    }

    fn has(&self, packages: &[&str]) -> bool {
        const ASK: &str = "import sys, importlib.metadata as m; [m.version(name) for name in sys.argv[1:]]";
        succeeds(Command::new(self.python()).args(["-c", ASK]).args(packages).stderr(Stdio::null()))
    }
}

fn succeeds(command: &mut Command) -> bool {
    command.status().is_ok_and(|status| status.success())
}
