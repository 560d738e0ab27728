//! Join tokens: one use, ten minutes, one node's name. The store has their SHA-256, so that whoever reads it cannot join.
//!
//! ```text
//! rwj1.SECRET.PIN.NODE     secret and pin in hexadecimal; the node's name may have dots
//! ```

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use identity::{Pin, encode};
use serde::{Deserialize, Serialize};

use super::records::Records;
use crate::refusal::Refusal;
use crate::store::StoreError;

/// DEFAULTS: SPIRE's join token, 600 s.
pub const LIFETIME: Duration = Duration::from_secs(600);
/// A token that was used or is old is known as such for so long after its end.
const REMEMBERED: u64 = 3_600;
/// Tokens in the store: operators join some nodes at a time, not a data centre in ten minutes.
const MOST_TOKENS: usize = 4_096;
const SECRET_BYTES: usize = 32;
const FORM: &str = "rwj1";
const PREFIX: &str = "node-token/";

/// What an operator carries to a node.
#[derive(Clone, PartialEq, Eq)]
pub struct NodeToken {
    secret: [u8; SECRET_BYTES],
    pub pin: Pin,
    pub node: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Stored {
    node: String,
    expires_unix: u64,
    used: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Counted by its name.
    #[error("{1}")]
    Refused(Refusal, &'static str),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All tokens that are out. Blocking.
#[derive(Debug)]
pub struct NodeTokens {
    records: Arc<Records>,
}

impl NodeTokens {
    pub fn new(records: Arc<Records>) -> NodeTokens {
        NodeTokens { records }
    }

    /// A fresh token for `node`, and when it ends.
    pub fn create(&self, node: &str, pin: Pin, now_unix: u64) -> Result<(NodeToken, u64), StoreError> {
        let mut secret = [0; SECRET_BYTES];
        rand::fill(&mut secret).map_err(|_| StoreError::Failed("no random bytes".to_owned()))?;
        let expires_unix = now_unix + LIFETIME.as_secs();
        self.forget(now_unix)?;
        self.records.change(|change| {
            if change.count(PREFIX)? >= MOST_TOKENS {
                return Err(StoreError::Failed(format!("{MOST_TOKENS} join tokens are out: let some end")));
            }
            change.put(&key(&secret), &Stored { node: node.to_owned(), expires_unix, used: false })
        })?;
        Ok((NodeToken { secret, pin, node: node.to_owned() }, expires_unix))
    }

    /// Uses a token up; of two who try at once, one is told that it was used.
    pub fn redeem(&self, token: &str, node: &str, now_unix: u64) -> Result<(), TokenError> {
        let unknown = (Refusal::JoinTokenUnknown, "the join token is not one of this control plane's");
        let Ok(token) = token.parse::<NodeToken>() else {
            return Err(TokenError::Refused(unknown.0, unknown.1));
        };
        let verdict = self.records.change(|change| {
            let Some(stored) = change.read::<Stored>(&key(&token.secret))? else { return Ok(Err(unknown)) };
            if stored.used {
                return Ok(Err((
                    Refusal::JoinTokenUsed,
                    "the join token was used already: ask for a new one",
                )));
            }
            if stored.expires_unix < now_unix {
                return Ok(Err((Refusal::JoinTokenExpired, "the join token has expired: ask for a new one")));
            }
            if stored.node != node {
                return Ok(Err((Refusal::JoinTokenOtherNode, "the join token is for another node")));
            }
            change.put(&key(&token.secret), &Stored { used: true, ..stored })?;
            Ok(Ok(()))
        })?;
        verdict.map_err(|(refusal, says)| TokenError::Refused(refusal, says))
    }

    /// Tokens of a node that is revoked are worth nothing.
    pub fn forget_node(&self, node: &str) -> Result<(), StoreError> {
        self.forget_where(|stored| stored.node == node)
    }

    fn forget(&self, now_unix: u64) -> Result<(), StoreError> {
        self.forget_where(|stored| stored.expires_unix + REMEMBERED < now_unix)
    }

    fn forget_where(&self, which: impl Fn(&Stored) -> bool) -> Result<(), StoreError> {
        let gone: Vec<String> = self
            .records
            .list::<Stored>(PREFIX)?
            .into_iter()
            .filter(|(_, stored)| which(stored))
            .map(|(sum, _)| format!("{PREFIX}{sum}"))
            .collect();
        self.records.change(|change| gone.iter().try_for_each(|key| change.delete(key)))
    }
}

fn key(secret: &[u8]) -> String {
    format!("{PREFIX}{}", encode::hex(&identity::pin::sha256(secret)))
}

impl FromStr for NodeToken {
    type Err = ();

    fn from_str(text: &str) -> Result<NodeToken, ()> {
        let mut parts = text.splitn(4, '.');
        let (form, secret, pin, node) = (parts.next(), parts.next(), parts.next(), parts.next());
        let (Some(FORM), Some(secret), Some(pin), Some(node)) = (form, secret, pin, node) else {
            return Err(());
        };
        let secret = encode::from_hex(secret).and_then(|bytes| bytes.try_into().ok()).ok_or(())?;
        let pin = format!("sha256:{pin}").parse().map_err(|_| ())?;
        Ok(NodeToken { secret, pin, node: node.to_owned() })
    }
}

impl fmt::Display for NodeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pin = self.pin.to_string();
        let pin = pin.trim_start_matches("sha256:");
        write!(f, "{FORM}.{}.{pin}.{}", encode::hex(&self.secret), self.node)
    }
}

impl fmt::Debug for NodeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeToken of {}", self.node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    const NOW: u64 = 1_800_000_000;

    fn tokens() -> NodeTokens {
        NodeTokens::new(Arc::new(Records::new(Arc::new(MemoryStore::default()))))
    }

    fn refusal(redeemed: Result<(), TokenError>) -> Refusal {
        match redeemed.unwrap_err() {
            TokenError::Refused(refusal, _) => refusal,
            TokenError::Store(error) => panic!("{error}"),
        }
    }

    #[test]
    fn a_token_is_good_once_for_its_node_in_its_time() {
        let tokens = tokens();
        let (token, expires) = tokens.create("node-1.rack", Pin::of(b"ca"), NOW).unwrap();
        assert_eq!(expires, NOW + 600);
        let text = token.to_string();
        assert_eq!(text.parse(), Ok(token));
        assert_eq!(refusal(tokens.redeem(&text, "node-2", NOW)), Refusal::JoinTokenOtherNode);
        tokens.redeem(&text, "node-1.rack", NOW + 600).unwrap();
        assert_eq!(refusal(tokens.redeem(&text, "node-1.rack", NOW)), Refusal::JoinTokenUsed);
    }

    #[test]
    fn a_token_that_has_expired_or_was_never_made_is_refused() {
        let tokens = tokens();
        let (token, _) = tokens.create("a", Pin::of(b"ca"), NOW).unwrap();
        assert_eq!(refusal(tokens.redeem(&token.to_string(), "a", NOW + 601)), Refusal::JoinTokenExpired);
        let other = NodeToken { secret: [7; 32], ..token };
        for text in [other.to_string().as_str(), "", "rwj1", "rwj1.x.y.z", "rwj2.a.b.c"] {
            assert_eq!(refusal(tokens.redeem(text, "a", NOW)), Refusal::JoinTokenUnknown, "{text}");
        }
    }

    #[test]
    fn tokens_of_a_revoked_node_and_old_ones_are_forgotten() {
        let tokens = tokens();
        let (token, _) = tokens.create("a", Pin::of(b"ca"), NOW).unwrap();
        tokens.forget_node("a").unwrap();
        assert_eq!(refusal(tokens.redeem(&token.to_string(), "a", NOW)), Refusal::JoinTokenUnknown);
        tokens.create("b", Pin::of(b"ca"), NOW).unwrap();
        tokens.create("c", Pin::of(b"ca"), NOW + 600 + REMEMBERED + 1).unwrap();
        assert_eq!(tokens.records.list::<Stored>(PREFIX).unwrap().len(), 1);
    }
}
