//! Bytes as text: hexadecimal, and certificates as PEM (RFC 7468).

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Certificates in one file: a bundle in the overlap of a rotation, with intermediates, has a handful.
const MOST_CERTIFICATES: usize = 64;

const CERTIFICATE: &str = "CERTIFICATE";

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    #[error("not PEM: {0}")]
    Form(String),
    #[error("holds no certificate")]
    Empty,
    #[error("holds more than {MOST_CERTIFICATES} certificates")]
    TooMany,
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

pub fn certificates_to_pem(certificates: &[CertificateDer<'_>]) -> String {
    let blocks = certificates.iter().map(|certificate| pem::Pem::new(CERTIFICATE, certificate.to_vec()));
    pem::encode_many_config(
        &blocks.collect::<Vec<_>>(),
        pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF),
    )
}

/// Every certificate of a PEM text, in its order; other blocks are passed over.
pub fn certificates_from_pem(text: &str) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let mut certificates = Vec::new();
    for found in CertificateDer::pem_slice_iter(text.as_bytes()) {
        certificates.push(found.map_err(|error| PemError::Form(error.to_string()))?);
        if certificates.len() > MOST_CERTIFICATES {
            return Err(PemError::TooMany);
        }
    }
    if certificates.is_empty() { Err(PemError::Empty) } else { Ok(certificates) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_comes_back_and_other_text_does_not() {
        assert_eq!(hex(&[0, 0x7f, 0xff]), "007fff");
        assert_eq!(from_hex("007fff"), Some(vec![0, 0x7f, 0xff]));
        for bad in ["0", "0g", "\u{e9}", "+1"] {
            assert_eq!(from_hex(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_text_without_certificates_is_refused() {
        assert_eq!(certificates_from_pem("hello"), Err(PemError::Empty));
    }
}
