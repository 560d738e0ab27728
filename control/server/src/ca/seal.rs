//! The CA's private key at rest: AES-256-GCM under a key that is not in the store.

use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The environment's variable, for those who have no file.
pub const KEY_VARIABLE: &str = "RINGWAY_CA_KEY";
const KEY_BYTES: usize = 32;
const HOW: &str = "make one with: head -c 32 /dev/urandom | base64";

/// Where the sealing key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    File(PathBuf),
    /// [`KEY_VARIABLE`]'s value.
    Text(String),
}

#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error(
        "the CA's private key is kept sealed, and there is no key for that: give --ca-key-file FILE or {KEY_VARIABLE}; {HOW}"
    )]
    NoKey,
    #[error("--ca-key-file {path}: {problem}")]
    File { path: String, problem: String },
    #[error("{0}: is not 32 bytes in base64 or hexadecimal; {HOW}")]
    Form(String),
    #[error(
        "the CA's private key in the store was sealed with another key than that of --ca-key-file or {KEY_VARIABLE}, or it was altered"
    )]
    WrongKey,
    #[error("cannot seal the CA's private key")]
    Failed,
}

/// Seals and opens private keys.
pub struct SealingKey(RandomizedNonceKey);

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealingKey")
    }
}

impl SealingKey {
    pub fn load(source: Option<&KeySource>) -> Result<SealingKey, SealError> {
        match source {
            None => Err(SealError::NoKey),
            Some(KeySource::File(path)) => SealingKey::parse(&read(path)?, &path.display().to_string()),
            Some(KeySource::Text(text)) => SealingKey::parse(text, KEY_VARIABLE),
        }
    }

    fn parse(text: &str, place: &str) -> Result<SealingKey, SealError> {
        let text = text.trim();
        let bytes = identity::encode::from_hex(text).or_else(|| STANDARD.decode(text).ok());
        let bytes = bytes.filter(|bytes| bytes.len() == KEY_BYTES);
        let bytes = bytes.ok_or_else(|| SealError::Form(place.to_owned()))?;
        RandomizedNonceKey::new(&AES_256_GCM, &bytes).map(SealingKey).map_err(|_| SealError::Failed)
    }

    /// `about` is what the key belongs to; it opens for the same only.
    pub fn seal(&self, secret: &[u8], about: &str) -> Result<String, SealError> {
        let mut sealed = secret.to_vec();
        let nonce =
            self.0.seal_in_place_append_tag(Aad::from(about), &mut sealed).map_err(|_| SealError::Failed)?;
        Ok(STANDARD.encode([nonce.as_ref().as_slice(), sealed.as_slice()].concat()))
    }

    pub fn open(&self, sealed: &str, about: &str) -> Result<Vec<u8>, SealError> {
        let bytes = STANDARD.decode(sealed).map_err(|_| SealError::WrongKey)?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN).ok_or(SealError::WrongKey)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::WrongKey)?;
        let mut opened = sealed.to_vec();
        let length = self
            .0
            .open_in_place(nonce, Aad::from(about), &mut opened)
            .map_err(|_| SealError::WrongKey)?
            .len();
        opened.truncate(length);
        Ok(opened)
    }
}

fn read(path: &Path) -> Result<String, SealError> {
    std::fs::read_to_string(path)
        .map_err(|error| SealError::File { path: path.display().to_string(), problem: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SealingKey {
        SealingKey::parse(&STANDARD.encode([byte; 32]), "test").unwrap()
    }

    #[test]
    fn what_was_sealed_opens_with_the_same_key_for_the_same_purpose_only() {
        let sealed = key(1).seal(b"secret", "root 1").unwrap();
        assert!(!sealed.contains("secret"));
        assert_eq!(key(1).open(&sealed, "root 1").unwrap(), b"secret");
        assert!(matches!(key(2).open(&sealed, "root 1"), Err(SealError::WrongKey)));
        assert!(matches!(key(1).open(&sealed, "root 2"), Err(SealError::WrongKey)));
        assert_ne!(key(1).seal(b"secret", "root 1").unwrap(), sealed, "a nonce is used once");
        for broken in ["", "AAAA", "!"] {
            assert!(matches!(key(1).open(broken, "root 1"), Err(SealError::WrongKey)));
        }
    }

    #[test]
    fn a_key_is_32_bytes_in_either_form_and_its_absence_is_told() {
        assert!(SealingKey::parse(&"0a".repeat(32), "test").is_ok());
        for bad in ["", "0a", &"0a".repeat(33), "not base64!"] {
            assert!(matches!(SealingKey::parse(bad, "test"), Err(SealError::Form(_))), "{bad}");
        }
        let told = SealingKey::load(None).unwrap_err().to_string();
        assert!(told.contains("--ca-key-file") && told.contains("/dev/urandom"), "{told}");
        let nowhere = KeySource::File("/nowhere/key".into());
        assert!(SealingKey::load(Some(&nowhere)).unwrap_err().to_string().contains("/nowhere/key"));
    }
}
