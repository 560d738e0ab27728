//! Why a certificate, or a request for one, is not believed. Each reason is a counter of whoever refuses by it.

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $says:literal;)*) => {
        #[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
        pub enum SvidError {
            $($(#[$doc])* #[error($says)] $variant,)*
        }

        impl SvidError {
            pub const ALL: &'static [SvidError] = &[$(SvidError::$variant,)*];

            /// The counter's name.
            pub fn name(self) -> &'static str {
                match self {
                    $(SvidError::$variant => $name,)*
                }
            }
        }
    };
}

reasons! {
    Encoding = "svid_encoding", "the certificate is not well-formed X.509 version 3";
    NoSan = "svid_no_san", "the certificate has no URI among its subject alternative names";
    SeveralSans = "svid_several_uri_sans", "the certificate has several URIs among its subject alternative names";
    /// Of NUL, of bytes beyond ASCII, of dot segments too.
    BadId = "svid_bad_id", "the certificate's URI is not a SPIFFE ID";
    RootPath = "svid_root_path", "the certificate's SPIFFE ID names a trust domain and nobody in it";
    SignsCertificates = "svid_signs_certificates", "the certificate may sign others; a leaf may not";
    KeyUsage = "svid_key_usage", "the certificate's key usage is not digital signature";
    ExtendedKeyUsage = "svid_extended_key_usage", "the certificate is not for both ends of TLS";
    WeakKey = "svid_weak_key", "the key is not P-256, P-384, Ed25519, or RSA of at least 2048 bits";
    ForeignTrustDomain = "svid_foreign_trust_domain", "no root is trusted for the certificate's trust domain";
    UnknownIssuer = "svid_unknown_issuer", "the certificate was not issued under a trusted root";
    BadSignature = "svid_bad_signature", "a signature of the certificate's chain is wrong";
    Expired = "svid_expired", "a certificate of the chain has expired";
    NotYetValid = "svid_not_yet_valid", "a certificate of the chain is not valid yet";
    Chain = "svid_chain", "the certificate's chain is too long, loops, or breaks a constraint of its own";
    Revoked = "svid_revoked", "the certificate has been revoked";
    OtherHolder = "svid_other_holder", "the certificate is good, but not of the peer that is wanted here";
    Pin = "svid_pin", "none of the peer's certificates has the SHA-256 that it was pinned to";
    Request = "csr_encoding", "the signing request is not well-formed PKCS #10";
    RequestSignature = "csr_signature", "the signing request is not signed by its own key";
}

/// For rustls, which carries it to whoever asked for the handshake.
impl From<SvidError> for rustls::Error {
    fn from(error: SvidError) -> rustls::Error {
        rustls::Error::InvalidCertificate(rustls::CertificateError::Other(rustls::OtherError(
            std::sync::Arc::new(error),
        )))
    }
}

impl SvidError {
    /// The reason that a failed handshake carries, if it is one of these.
    pub fn of_handshake(error: &(dyn std::error::Error + 'static)) -> Option<SvidError> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref::<SvidError>() {
                return Some(*found);
            }
            if let Some(rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other))) =
                error.downcast_ref::<rustls::Error>()
            {
                return other.0.downcast_ref::<SvidError>().copied();
            }
            // An io::Error's source is its cause's source: the cause itself has to be asked for.
            next = match error.downcast_ref::<std::io::Error>() {
                Some(io) => io.get_ref().map(|cause| cause as &(dyn std::error::Error + 'static)),
                None => error.source(),
            };
        }
        None
    }
}
