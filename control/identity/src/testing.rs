//! Certificates for tests: roots of their own, and leaves that a test can spoil.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, SubjectPublicKeyInfo,
};
use rustls::pki_types::CertificateDer;

use crate::encode;

pub struct Root {
    issuer: Issuer<'static, KeyPair>,
    pub der: CertificateDer<'static>,
}

impl Root {
    pub fn new(name: &str) -> Root {
        let params = authority(name);
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        Root { issuer: Issuer::new(params, key), der }
    }

    /// An intermediate below this one.
    pub fn intermediate(&self, name: &str) -> Root {
        let params = authority(name);
        let key = KeyPair::generate().unwrap();
        let der = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Root { issuer: Issuer::new(params, key), der }
    }

    pub fn sign(&self, params: &CertificateParams) -> CertificateDer<'static> {
        params.signed_by(&KeyPair::generate().unwrap(), &self.issuer).unwrap().der().clone()
    }

    pub fn sign_for(
        &self,
        params: &CertificateParams,
        key: &SubjectPublicKeyInfo,
    ) -> CertificateDer<'static> {
        params.signed_by(key, &self.issuer).unwrap().der().clone()
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// A good leaf for `id`, valid from an hour ago for a day.
pub fn leaf(id: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(id.to_owned().try_into().unwrap())];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let now = SystemTime::now();
    params.not_before = (now - Duration::from_secs(3_600)).into();
    params.not_after = (now + Duration::from_secs(82_800)).into();
    params
}

/// A public key of 1,024 bits, which no library here would still make.
pub fn rsa_1024() -> SubjectPublicKeyInfo {
    let head = encode::from_hex("30819f300d06092a864886f70d010101050003818d0030818902818100").unwrap();
    let modulus = [0xc5; 128];
    let exponent = [0x02, 0x03, 0x01, 0x00, 0x01];
    // INTEGER of 129 bytes: a zero before the high bit, then the modulus.
    let der = [&head[..], &modulus, &exponent].concat();
    SubjectPublicKeyInfo::from_der(&der).unwrap()
}
