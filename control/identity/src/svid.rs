//! One certificate held against the X.509-SVID specification, sections 2 to 5. Whether a trusted root stands behind it is
//! `trust`'s question.

use std::time::{Duration, SystemTime};

use model::spiffe::SpiffeId;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Version;

use crate::encode;
use crate::error::SvidError;
use crate::request::check_key;

/// What a leaf certificate says of its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Svid {
    pub id: SpiffeId,
    /// Hexadecimal, as revocation names it.
    pub serial: String,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
    /// The holder's SubjectPublicKeyInfo, DER.
    pub public_key: Vec<u8>,
}

impl Svid {
    /// Reads a leaf; every rule that it alone can break is checked, its signature and its times are not.
    pub fn read(der: &[u8]) -> Result<Svid, SvidError> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| SvidError::Encoding)?;
        if !rest.is_empty() || certificate.version() != X509Version::V3 {
            return Err(SvidError::Encoding);
        }
        let id = only_id(&certificate)?;
        check_usage(&certificate)?;
        let public_key = certificate.public_key();
        check_key(public_key)?;
        Ok(Svid {
            id,
            serial: encode::hex(certificate.raw_serial()),
            not_before: time(certificate.validity().not_before.timestamp()),
            not_after: time(certificate.validity().not_after.timestamp()),
            public_key: public_key.raw.to_vec(),
        })
    }

    /// When half of its life has passed.
    pub fn half_life(&self) -> SystemTime {
        let life = self.not_after.duration_since(self.not_before).unwrap_or_default();
        self.not_before + life / 2
    }
}

fn time(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// Section 2: exactly one URI, which is the SPIFFE ID. Section 4.1: a leaf's has a path.
fn only_id(certificate: &X509Certificate<'_>) -> Result<SpiffeId, SvidError> {
    let names = certificate.subject_alternative_name().map_err(|_| SvidError::Encoding)?;
    let names = names.ok_or(SvidError::NoSan)?;
    let mut uris = Vec::new();
    for name in &names.value.general_names {
        match name {
            GeneralName::URI(uri) => uris.push(*uri),
            GeneralName::Invalid(..) => return Err(SvidError::BadId),
            _ => {}
        }
    }
    let [uri] = uris[..] else {
        return Err(if uris.is_empty() { SvidError::NoSan } else { SvidError::SeveralSans });
    };
    let id: SpiffeId = uri.parse().map_err(|_| SvidError::BadId)?;
    if id.path().is_empty() { Err(SvidError::RootPath) } else { Ok(id) }
}

/// Sections 4.1 to 4.4: no CA, digital signature and no signing of certificates, both ends of TLS.
fn check_usage(certificate: &X509Certificate<'_>) -> Result<(), SvidError> {
    let constraints = certificate.basic_constraints().map_err(|_| SvidError::Encoding)?;
    let usage = certificate.key_usage().map_err(|_| SvidError::Encoding)?.ok_or(SvidError::KeyUsage)?.value;
    if constraints.is_some_and(|constraints| constraints.value.ca)
        || usage.key_cert_sign()
        || usage.crl_sign()
    {
        return Err(SvidError::SignsCertificates);
    }
    if !usage.digital_signature() {
        return Err(SvidError::KeyUsage);
    }
    let extended = certificate.extended_key_usage().map_err(|_| SvidError::Encoding)?;
    let extended = extended.ok_or(SvidError::ExtendedKeyUsage)?.value;
    if extended.server_auth && extended.client_auth { Ok(()) } else { Err(SvidError::ExtendedKeyUsage) }
}

/// What a certificate that is no SVID calls its holder.
pub(crate) fn machine_names(der: &[u8]) -> Result<Vec<String>, SvidError> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| SvidError::Encoding)?;
    check_key(certificate.public_key())?;
    let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    let names = certificate.subject_alternative_name().map_err(|_| SvidError::Encoding)?;
    let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    let dns = names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(*name),
        _ => None,
    });
    Ok(common.chain(dns).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use rcgen::{ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};

    use super::*;
    use crate::testing::{self, Root, leaf};

    /// The refusal of a certificate that differs from a good one by `spoil`.
    fn refusal(spoil: impl FnOnce(&mut rcgen::CertificateParams)) -> SvidError {
        let mut params = leaf("spiffe://mesh.local/ns/default/sa/web");
        spoil(&mut params);
        Svid::read(&Root::new("root").sign(&params)).unwrap_err()
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.to_owned().try_into().unwrap())
    }

    #[test]
    fn a_good_leaf_is_read_with_its_holder_and_times() {
        let der = Root::new("root").sign(&leaf("spiffe://mesh.local/ns/default/sa/web"));
        let svid = Svid::read(&der).unwrap();
        assert_eq!(svid.id.to_string(), "spiffe://mesh.local/ns/default/sa/web");
        assert!(svid.not_before < svid.half_life() && svid.half_life() < svid.not_after);
        assert!(!svid.serial.is_empty());
    }

    #[test]
    fn a_leaf_without_a_uri_or_with_two_is_refused() {
        assert_eq!(refusal(|params| params.subject_alt_names.clear()), SvidError::NoSan);
        let dns = SanType::DnsName("web.example".to_owned().try_into().unwrap());
        assert_eq!(refusal(|params| params.subject_alt_names = vec![dns]), SvidError::NoSan);
        let second = uri("spiffe://mesh.local/ns/default/sa/other");
        assert_eq!(refusal(|params| params.subject_alt_names.push(second)), SvidError::SeveralSans);
    }

    #[test]
    fn an_id_that_is_none_is_refused() {
        for bad in ["https://mesh.local/a", "spiffe://mesh.local/a\0b", "spiffe://mesh.local/a/../b"] {
            assert_eq!(
                refusal(|params| params.subject_alt_names = vec![uri(bad)]),
                SvidError::BadId,
                "{bad:?}"
            );
        }
        let root = uri("spiffe://mesh.local");
        assert_eq!(refusal(|params| params.subject_alt_names = vec![root]), SvidError::RootPath);
    }

    #[test]
    fn bytes_beyond_ascii_in_a_san_are_refused() {
        // RFC 5280, section 4.2.1.6: a SEQUENCE of one [6] IA5String, here with a byte that IA5 has not.
        let text = b"spiffe://mesh.local/a\xc3\xa9";
        let mut value = vec![0x30, text.len() as u8 + 2, 0x86, text.len() as u8];
        value.extend_from_slice(text);
        let san = rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 17], value);
        let refused = refusal(|params| {
            params.subject_alt_names.clear();
            params.custom_extensions.push(san);
        });
        assert_eq!(refused, SvidError::BadId);
    }

    #[test]
    fn a_leaf_that_signs_or_is_for_something_else_is_refused() {
        assert_eq!(
            refusal(|params| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained)),
            SvidError::SignsCertificates
        );
        assert_eq!(
            refusal(|params| params.key_usages.push(KeyUsagePurpose::KeyCertSign)),
            SvidError::SignsCertificates
        );
        assert_eq!(refusal(|params| params.key_usages.clear()), SvidError::KeyUsage);
        let agreement = vec![KeyUsagePurpose::KeyAgreement];
        assert_eq!(refusal(|params| params.key_usages = agreement), SvidError::KeyUsage);
        for usages in
            [vec![], vec![ExtendedKeyUsagePurpose::ServerAuth], vec![ExtendedKeyUsagePurpose::CodeSigning]]
        {
            assert_eq!(refusal(|params| params.extended_key_usages = usages), SvidError::ExtendedKeyUsage);
        }
    }

    #[test]
    fn a_weak_key_is_refused() {
        let params = leaf("spiffe://mesh.local/ns/default/sa/web");
        let der = Root::new("root").sign_for(&params, &testing::rsa_1024());
        assert_eq!(Svid::read(&der), Err(SvidError::WeakKey));
    }

    #[test]
    fn cut_or_extended_bytes_are_refused() {
        let good = Root::new("root").sign(&leaf("spiffe://mesh.local/a"));
        for length in [0, 1, good.len() / 2, good.len() - 1] {
            assert_eq!(Svid::read(&good[..length]), Err(SvidError::Encoding));
        }
        let more = [good.as_ref(), &[0]].concat();
        assert_eq!(Svid::read(&more), Err(SvidError::Encoding));
    }
}
