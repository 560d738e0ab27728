//! SPIFFE IDs (SPIFFE-ID, sections 2 and 2.3): who a workload, a node, an operator or the control plane is.
//!
//! ```text
//! spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT          a workload
//! spiffe://TRUST-DOMAIN/ringway/node/NAME                a node's data plane
//! spiffe://TRUST-DOMAIN/ringway/operator/ROLE/NAME       an operator
//! spiffe://TRUST-DOMAIN/ringway/control                  the control plane
//! ```

use std::fmt;
use std::str::FromStr;

const SCHEME: &str = "spiffe://";
/// SPIFFE-ID, section 2.3: what every implementation must take, and so what no one may exceed.
const MOST_ID_BYTES: usize = 2_048;
const MOST_TRUST_DOMAIN_BYTES: usize = 255;

/// Where identities are issued by one authority: `example.org`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(String);

/// A name of the form `spiffe://trust-domain/path`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    trust_domain: TrustDomain,
    /// Empty, or segments that each begin with a slash.
    path: String,
}

/// Whom an ID of Ringway's forms names.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Holder<'a> {
    Workload {
        namespace: &'a str,
        account: &'a str,
    },
    Node(&'a str),
    Operator {
        role: &'a str,
        name: &'a str,
    },
    Control,
    /// A form that is not ours: of another trust domain, it may still be a peer.
    Other,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeError {
    #[error("does not begin with spiffe://")]
    Scheme,
    #[error("is longer than {MOST_ID_BYTES} bytes")]
    TooLong,
    #[error(
        "a trust domain has 1 to {MOST_TRUST_DOMAIN_BYTES} lower-case letters, digits, '.', '-' and '_', no user and no port"
    )]
    TrustDomain,
    #[error("a path's segments have letters, digits, '.', '-' and '_', and are not empty, '.' or '..'")]
    Path,
}

impl TrustDomain {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = SpiffeError;

    fn from_str(text: &str) -> Result<TrustDomain, SpiffeError> {
        let allowed = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_')
        };
        let good = (1..=MOST_TRUST_DOMAIN_BYTES).contains(&text.len()) && text.bytes().all(allowed);
        if good { Ok(TrustDomain(text.to_owned())) } else { Err(SpiffeError::TrustDomain) }
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl SpiffeId {
    /// `namespace` and `account` are names of resources, whose characters every path may have.
    pub fn workload(domain: &TrustDomain, namespace: &str, account: &str) -> Result<SpiffeId, SpiffeError> {
        SpiffeId::of(domain, &["ns", namespace, "sa", account])
    }

    pub fn node(domain: &TrustDomain, name: &str) -> Result<SpiffeId, SpiffeError> {
        SpiffeId::of(domain, &["ringway", "node", name])
    }

    pub fn operator(domain: &TrustDomain, role: &str, name: &str) -> Result<SpiffeId, SpiffeError> {
        SpiffeId::of(domain, &["ringway", "operator", role, name])
    }

    pub fn control(domain: &TrustDomain) -> SpiffeId {
        SpiffeId { trust_domain: domain.clone(), path: "/ringway/control".to_owned() }
    }

    fn of(domain: &TrustDomain, segments: &[&str]) -> Result<SpiffeId, SpiffeError> {
        if !segments.iter().all(|segment| is_segment(segment)) {
            return Err(SpiffeError::Path);
        }
        let path = segments.iter().map(|segment| format!("/{segment}")).collect();
        let id = SpiffeId { trust_domain: domain.clone(), path };
        if id.to_string().len() > MOST_ID_BYTES { Err(SpiffeError::TooLong) } else { Ok(id) }
    }

    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Empty for the trust domain's own ID.
    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn holder(&self) -> Holder<'_> {
        let mut parts = self.path.split('/').skip(1);
        let parts = [parts.next(), parts.next(), parts.next(), parts.next(), parts.next()];
        match parts {
            [Some("ns"), Some(namespace), Some("sa"), Some(account), None] => {
                Holder::Workload { namespace, account }
            }
            [Some("ringway"), Some("node"), Some(name), None, None] => Holder::Node(name),
            [Some("ringway"), Some("operator"), Some(role), Some(name), None] => {
                Holder::Operator { role, name }
            }
            [Some("ringway"), Some("control"), None, None, None] => Holder::Control,
            _ => Holder::Other,
        }
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeError;

    fn from_str(text: &str) -> Result<SpiffeId, SpiffeError> {
        if text.len() > MOST_ID_BYTES {
            return Err(SpiffeError::TooLong);
        }
        let rest = text.strip_prefix(SCHEME).ok_or(SpiffeError::Scheme)?;
        let (domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let trust_domain = domain.parse()?;
        // A path that begins with a slash has an empty part before it; no path has no part at all.
        if !path.is_empty() && !path.split('/').skip(1).all(is_segment) {
            return Err(SpiffeError::Path);
        }
        Ok(SpiffeId { trust_domain, path: path.to_owned() })
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}{}", self.trust_domain, self.path)
    }
}

/// SPIFFE-ID, section 2.2: no percent-encoding, no dot segments, no empty ones.
fn is_segment(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !text.is_empty() && text != "." && text != ".." && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> SpiffeError {
        text.parse::<SpiffeId>().unwrap_err()
    }

    #[test]
    fn ids_are_read_and_written_back_as_they_were() {
        for text in ["spiffe://mesh.local", "spiffe://a_b-1/ns/default/sa/web", "spiffe://t/A/b.c/x_y-z"] {
            assert_eq!(text.parse::<SpiffeId>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_the_specification_forbids_is_refused() {
        for text in ["http://t/a", "SPIFFE//t", "", "spiffe:/t/a", "spiffe:"] {
            assert_eq!(refused(text), SpiffeError::Scheme, "{text}");
        }
        for text in [
            "spiffe://",
            "spiffe:///a",
            "spiffe://T/a",
            "spiffe://u@t/a",
            "spiffe://t:1/a",
            "spiffe://t\u{e9}/a",
        ] {
            assert_eq!(refused(text), SpiffeError::TrustDomain, "{text}");
        }
        for text in [
            "spiffe://t/",
            "spiffe://t/a/",
            "spiffe://t//a",
            "spiffe://t/./a",
            "spiffe://t/../a",
            "spiffe://t/a%41",
            "spiffe://t/a?b",
            "spiffe://t/a#b",
            "spiffe://t/a\0b",
            "spiffe://t/\u{e9}",
            "spiffe://t/a b",
        ] {
            assert_eq!(refused(text), SpiffeError::Path, "{text:?}");
        }
        assert_eq!(refused(&format!("spiffe://t/{}", "a".repeat(2_048))), SpiffeError::TooLong);
        assert_eq!(refused(&format!("spiffe://{}/a", "a".repeat(256))), SpiffeError::TrustDomain);
    }

    #[test]
    fn holders_are_told_apart_by_the_whole_path() {
        let domain: TrustDomain = "mesh.local".parse().unwrap();
        let id = SpiffeId::workload(&domain, "default", "web").unwrap();
        assert_eq!(id.to_string(), "spiffe://mesh.local/ns/default/sa/web");
        assert_eq!(id.holder(), Holder::Workload { namespace: "default", account: "web" });
        assert_eq!(SpiffeId::node(&domain, "node-1").unwrap().holder(), Holder::Node("node-1"));
        let operator = SpiffeId::operator(&domain, "admin", "ann").unwrap();
        assert_eq!(operator.holder(), Holder::Operator { role: "admin", name: "ann" });
        assert_eq!(SpiffeId::control(&domain).holder(), Holder::Control);
        for other in
            ["spiffe://t/ns/a/sa", "spiffe://t/ns/a/sa/b/c", "spiffe://t/ringway/control/x", "spiffe://t"]
        {
            assert_eq!(other.parse::<SpiffeId>().unwrap().holder(), Holder::Other, "{other}");
        }
        assert_eq!(SpiffeId::node(&domain, "a/b"), Err(SpiffeError::Path));
        assert_eq!(SpiffeId::workload(&domain, "..", "b"), Err(SpiffeError::Path));
    }
}
