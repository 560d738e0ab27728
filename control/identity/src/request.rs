//! Keys and signing requests (PKCS #10, RFC 2986). A key is made where it is used and never leaves; a request shows that
//! its sender has the key, and nothing that it asks for beyond that is looked at: whom a certificate names is decided by
//! the signer.

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::error::SvidError;

/// A request of an RSA key of 8,192 bits with many attributes has less.
const MOST_REQUEST_BYTES: usize = 16 << 10;
/// NIST SP 800-57 part 1: 112 bits of strength.
const LEAST_RSA_BITS: usize = 2_048;

/// RFC 5480, section 2.1.1.1; RFC 8410, section 3; RFC 8017, appendix C.
const P256: &str = "1.2.840.10045.3.1.7";
const P384: &str = "1.3.132.0.34";
const EC: &str = "1.2.840.10045.2.1";
const ED25519: &str = "1.3.101.112";

/// A private key, ECDSA on P-256: what every TLS 1.3 peer verifies (RFC 8446, section 9.1).
pub struct Key(KeyPair);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("key: {0}")]
pub struct KeyError(String);

impl Key {
    pub fn generate() -> Result<Key, KeyError> {
        KeyPair::generate().map(Key).map_err(failed)
    }

    /// The first PKCS #8 block of a text, which may have certificates too.
    pub fn from_pem(text: &str) -> Result<Key, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes());
        let der = der.map_err(|error| KeyError(error.to_string()))?;
        KeyPair::try_from(&der).map(Key).map_err(failed)
    }

    pub fn to_pem(&self) -> String {
        self.0.serialize_pem()
    }

    pub fn to_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.0.serialize_der()))
    }

    /// A request that says nothing but the key, DER.
    pub fn request(&self) -> Result<Vec<u8>, KeyError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let request = params.serialize_request(&self.0).map_err(failed)?;
        Ok(request.der().to_vec())
    }
}

fn failed(error: rcgen::Error) -> KeyError {
    KeyError(error.to_string())
}

/// A request whose sender has shown that he holds the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningRequest {
    /// SubjectPublicKeyInfo, DER.
    pub public_key: Vec<u8>,
    /// The request itself, for a signer elsewhere.
    pub der: Vec<u8>,
}

impl SigningRequest {
    pub fn read(der: &[u8]) -> Result<SigningRequest, SvidError> {
        if der.len() > MOST_REQUEST_BYTES {
            return Err(SvidError::Request);
        }
        let (rest, request) = X509CertificationRequest::from_der(der).map_err(|_| SvidError::Request)?;
        if !rest.is_empty() {
            return Err(SvidError::Request);
        }
        let key = &request.certification_request_info.subject_pki;
        check_key(key)?;
        request.verify_signature().map_err(|_| SvidError::RequestSignature)?;
        Ok(SigningRequest { public_key: key.raw.to_vec(), der: der.to_vec() })
    }
}

/// Curves and sizes that this verifies and that are not weak.
pub(crate) fn check_key(key: &SubjectPublicKeyInfo<'_>) -> Result<(), SvidError> {
    let algorithm = key.algorithm.algorithm.to_id_string();
    let curve = || {
        let parameters = key.algorithm.parameters.as_ref()?;
        Some(parameters.as_oid().ok()?.to_id_string())
    };
    let good = match algorithm.as_str() {
        EC => curve().is_some_and(|curve| curve == P256 || curve == P384),
        ED25519 => true,
        _ => matches!(key.parsed(), Ok(PublicKey::RSA(rsa)) if rsa.key_size() >= LEAST_RSA_BITS),
    };
    if good { Ok(()) } else { Err(SvidError::WeakKey) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_shows_the_key_that_made_it() {
        let key = Key::generate().unwrap();
        let request = SigningRequest::read(&key.request().unwrap()).unwrap();
        assert_eq!(request.public_key, rcgen::PublicKeyData::subject_public_key_info(&key.0));
        let again = Key::from_pem(&key.to_pem()).unwrap();
        assert_eq!(SigningRequest::read(&again.request().unwrap()).unwrap().public_key, request.public_key);
    }

    #[test]
    fn a_request_that_its_key_did_not_sign_is_refused() {
        let mut der = Key::generate().unwrap().request().unwrap();
        let last = der.len() - 1;
        der[last] ^= 1;
        assert_eq!(SigningRequest::read(&der), Err(SvidError::RequestSignature));
    }

    #[test]
    fn what_is_no_request_or_too_large_is_refused() {
        for bytes in [&[][..], b"hello", &[0x30, 0x80, 0, 0], &vec![0x30; MOST_REQUEST_BYTES + 1]] {
            assert_eq!(SigningRequest::read(bytes), Err(SvidError::Request));
        }
        let mut longer = Key::generate().unwrap().request().unwrap();
        longer.push(0);
        assert_eq!(SigningRequest::read(&longer), Err(SvidError::Request));
    }

    #[test]
    fn an_unusual_curve_is_refused() {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
        let request = CertificateParams::default().serialize_request(&key).unwrap();
        assert_eq!(SigningRequest::read(request.der()), Err(SvidError::WeakKey));
    }
}
