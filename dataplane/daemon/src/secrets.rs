//! Secrets that a successor must share: ISNs, cookies, ports and steering stay predictable to us alone, and the same
//! after a restart.

use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Reads the node's secret, or makes one from the kernel's random source and keeps it, readable by root alone.
pub fn load(state: &Path) -> io::Result<[u8; 32]> {
    let path = state.join("secret");
    let mut secret = [0; 32];
    match std::fs::File::open(&path) {
        Ok(mut file) => {
            file.read_exact(&mut secret)?;
            return Ok(secret);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    std::fs::File::open("/dev/urandom")?.read_exact(&mut secret)?;
    let fresh = state.join("secret.new");
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(&secret)?;
    file.sync_all()?;
    std::fs::rename(fresh, path)?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_is_made_once_and_kept_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let state = std::env::temp_dir().join(format!("ringway-secret-{}", std::process::id()));
        std::fs::create_dir_all(&state).unwrap();
        let first = load(&state).unwrap();
        assert_eq!(load(&state).unwrap(), first);
        assert_ne!(first, [0; 32]);
        let mode = std::fs::metadata(state.join("secret")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::remove_dir_all(&state).unwrap();
    }
}
