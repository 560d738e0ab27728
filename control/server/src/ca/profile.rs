//! What our certificates look like: X.509-SVID, sections 2 to 4, and RFC 5280.

use std::time::SystemTime;

use aws_lc_rs::rand;
use identity::CertificateDer;
use model::spiffe::TrustDomain;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, SerialNumber, SubjectPublicKeyInfo,
};

use super::{AuthorityError, Order};

/// RFC 5280, section 4.1.2.2, allows 20 bytes; 16 cannot be guessed or met twice.
const SERIAL_BYTES: usize = 16;

/// A leaf as `order` wants it, below `issuer`.
pub fn sign(order: &Order, issuer: &Issuer<'_, KeyPair>) -> Result<CertificateDer<'static>, AuthorityError> {
    let key = SubjectPublicKeyInfo::from_der(&order.request.public_key).map_err(failed)?;
    let mut params = blank()?;
    // The subject stays empty, as section 4.2.1.6 of RFC 5280 allows beside a SAN: the URI alone says who it is.
    params.subject_alt_names = vec![uri(&order.id.to_string())?];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = order.not_before.into();
    params.not_after = order.not_after.into();
    params.use_authority_key_identifier_extension = true;
    Ok(params.signed_by(&key, issuer).map_err(failed)?.der().clone())
}

/// A root that signs leaves, and once the root that follows it.
pub fn root(
    domain: &TrustDomain,
    generation: u64,
    key: &KeyPair,
    valid: (SystemTime, SystemTime),
) -> Result<CertificateDer<'static>, AuthorityError> {
    Ok(authority(domain, generation, valid)?.self_signed(key).map_err(failed)?.der().clone())
}

/// The same root as its predecessor certifies it (RFC 4210, section 4.4: new with old).
pub fn cross(
    domain: &TrustDomain,
    generation: u64,
    key: &KeyPair,
    old: &Issuer<'_, KeyPair>,
    valid: (SystemTime, SystemTime),
) -> Result<CertificateDer<'static>, AuthorityError> {
    Ok(authority(domain, generation, valid)?.signed_by(key, old).map_err(failed)?.der().clone())
}

fn authority(
    domain: &TrustDomain,
    generation: u64,
    valid: (SystemTime, SystemTime),
) -> Result<CertificateParams, AuthorityError> {
    let mut params = blank()?;
    params.distinguished_name.push(DnType::CommonName, format!("Ringway CA {generation} of {domain}"));
    params.subject_alt_names = vec![uri(&format!("spiffe://{domain}"))?];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = valid.0.into();
    params.not_after = valid.1.into();
    Ok(params)
}

fn blank() -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(SerialNumber::from_slice(&serial()?));
    Ok(params)
}

/// Positive, and of one length: the first byte is 64 to 127.
fn serial() -> Result<[u8; SERIAL_BYTES], AuthorityError> {
    let mut serial = [0; SERIAL_BYTES];
    rand::fill(&mut serial).map_err(|_| AuthorityError::Sign("no random bytes".to_owned()))?;
    serial[0] = serial[0] & 0x3f | 0x40;
    Ok(serial)
}

fn uri(text: &str) -> Result<SanType, AuthorityError> {
    Ok(SanType::URI(text.to_owned().try_into().map_err(failed)?))
}

fn failed(error: rcgen::Error) -> AuthorityError {
    AuthorityError::Sign(error.to_string())
}
