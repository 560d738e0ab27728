//! A root's SHA-256: 32 bytes that can be copied by hand, by which a node that has never met its control plane knows it.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;

use crate::encode;

const PREFIX: &str = "sha256:";

/// The SHA-256 of a certificate's DER form.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pin([u8; 32]);

#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a pin is sha256: and 64 hexadecimal digits")]
pub struct PinError;

impl Pin {
    pub fn of(certificate: &[u8]) -> Pin {
        Pin(sha256(certificate))
    }
}

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut sum = [0; 32];
    sum.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    sum
}

impl FromStr for Pin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Pin, PinError> {
        let hex = text.strip_prefix(PREFIX).ok_or(PinError)?;
        let bytes = encode::from_hex(hex).ok_or(PinError)?;
        bytes.try_into().map(Pin).map_err(|_| PinError)
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", encode::hex(&self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_written_as_it_is_read() {
        let pin = Pin::of(b"abc");
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(pin.to_string(), text);
        assert_eq!(text.parse(), Ok(pin));
        for bad in ["ba78", "sha256:", "sha256:ba", &text[..70], &text.replace('b', "x"), "sha1:ba7816"] {
            assert_eq!(bad.parse::<Pin>(), Err(PinError), "{bad}");
        }
    }
}
