//! Operators: their roles, and tokens for those who have no certificate. Blocking.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::rand;
use identity::encode;
use serde::{Deserialize, Serialize};

use super::records::Records;
use crate::refusal::Refusal;
use crate::store::StoreError;

const PREFIX: &str = "operator-token/";
/// Told from join tokens at sight.
const FORM: &str = "rwo1.";
const MOST_TOKENS: usize = 4_096;

/// What an operator may do; each role may do what those before it may.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Read resources and status.
    Viewer,
    /// Change resources.
    Editor,
    /// Admit and revoke nodes and operators, rotate the CA, read the audit log.
    Admin,
}

impl Role {
    pub const ALL: [Role; 3] = [Role::Viewer, Role::Editor, Role::Admin];

    pub fn name(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Editor => "editor",
            Role::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Role, String> {
        let found = Role::ALL.into_iter().find(|role| role.name() == text);
        found.ok_or_else(|| format!("no role {text:?}: there are viewer, editor and admin"))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorRecord {
    pub name: String,
    pub role: Role,
    pub expires_unix: u64,
}

/// The tokens that are out.
#[derive(Debug)]
pub struct Operators {
    records: Arc<Records>,
}

impl Operators {
    pub fn new(records: Arc<Records>) -> Operators {
        Operators { records }
    }

    pub fn create(&self, record: &OperatorRecord) -> Result<String, StoreError> {
        let mut secret = [0; 32];
        rand::fill(&mut secret).map_err(|_| StoreError::Failed("no random bytes".to_owned()))?;
        let token = format!("{FORM}{}", encode::hex(&secret));
        self.records.change(|change| {
            if change.count(PREFIX)? >= MOST_TOKENS {
                return Err(StoreError::Failed(format!(
                    "{MOST_TOKENS} operators' tokens are out: revoke some"
                )));
            }
            change.put(&key(&token), record)
        })?;
        Ok(token)
    }

    /// Whose token this is.
    pub fn find(&self, token: &str, now_unix: u64) -> Result<OperatorRecord, Refusal> {
        let found = self.records.read::<OperatorRecord>(&key(token)).ok().flatten();
        let found = found.ok_or(Refusal::OperatorTokenUnknown)?;
        if found.expires_unix < now_unix { Err(Refusal::OperatorTokenExpired) } else { Ok(found) }
    }

    pub fn list(&self) -> Result<Vec<OperatorRecord>, StoreError> {
        Ok(self.records.list(PREFIX)?.into_iter().map(|(_, record)| record).collect())
    }

    /// Takes all tokens of this name away; returns how many there were.
    pub fn revoke(&self, name: &str) -> Result<usize, StoreError> {
        let all = self.records.list::<OperatorRecord>(PREFIX)?;
        let gone: Vec<String> = all
            .into_iter()
            .filter(|(_, record)| record.name == name)
            .map(|(sum, _)| format!("{PREFIX}{sum}"))
            .collect();
        self.records.change(|change| gone.iter().try_for_each(|key| change.delete(key)))?;
        Ok(gone.len())
    }
}

fn key(token: &str) -> String {
    format!("{PREFIX}{}", encode::hex(&identity::pin::sha256(token.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    #[test]
    fn a_token_is_its_operators_until_it_expires_or_is_revoked() {
        let operators = Operators::new(Arc::new(Records::new(Arc::new(MemoryStore::default()))));
        let ann = OperatorRecord { name: "ann".to_owned(), role: Role::Editor, expires_unix: 100 };
        let token = operators.create(&ann).unwrap();
        assert_eq!(operators.find(&token, 100), Ok(ann));
        assert_eq!(operators.find(&token, 101), Err(Refusal::OperatorTokenExpired));
        assert_eq!(operators.find("rwo1.00", 1), Err(Refusal::OperatorTokenUnknown));
        assert_eq!(operators.revoke("ann").unwrap(), 1);
        assert_eq!(operators.find(&token, 1), Err(Refusal::OperatorTokenUnknown));
    }

    #[test]
    fn roles_include_those_below_them() {
        assert!(Role::Admin > Role::Editor && Role::Editor > Role::Viewer);
        for role in Role::ALL {
            assert_eq!(role.name().parse(), Ok(role));
        }
        assert!("root".parse::<Role>().is_err());
    }
}
