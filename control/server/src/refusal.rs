//! Why somebody was refused: one name a reason, one counter a name, shown by `ringway status`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use identity::SvidError;

macro_rules! refusals {
    ($($variant:ident = $name:literal,)*) => {
        /// Beside the reasons of [`SvidError`], which are counted here too.
        #[derive(Copy, Clone, Debug, PartialEq, Eq)]
        pub enum Refusal {
            /// A certificate or a signing request is not good.
            Svid(SvidError),
            $($variant,)*
        }

        impl Refusal {
            const OWN: &'static [(Refusal, &'static str)] = &[$((Refusal::$variant, $name),)*];
        }
    };
}

refusals! {
    Handshake = "handshake_failed",
    HandshakeTimeout = "handshake_timeout",
    HandshakesFull = "handshakes_full",
    NoCredential = "no_credential",
    OperatorTokenUnknown = "operator_token_unknown",
    OperatorTokenExpired = "operator_token_expired",
    Role = "role",
    TablesOfAnother = "tables_of_another",
    ReportOfAnother = "report_of_another",
    JoinTokenUnknown = "join_token_unknown",
    JoinTokenUsed = "join_token_used",
    JoinTokenExpired = "join_token_expired",
    JoinTokenOtherNode = "join_token_other_node",
    JoinMachine = "join_machine",
    WorkloadUnknown = "workload_unknown",
    WorkloadElsewhere = "workload_elsewhere",
    AuthorityFailed = "authority_failed",
    AuthorityAnswer = "authority_answer",
}

impl Refusal {
    pub fn name(self) -> &'static str {
        match self {
            Refusal::Svid(reason) => reason.name(),
            own => Refusal::OWN.iter().find(|(one, _)| *one == own).map_or("", |(_, name)| name),
        }
    }

    fn index(self) -> usize {
        match self {
            Refusal::Svid(reason) => SvidError::ALL.iter().position(|one| *one == reason).unwrap_or(0),
            own => SvidError::ALL.len() + Refusal::OWN.iter().position(|(one, _)| *one == own).unwrap_or(0),
        }
    }
}

/// The counters.
#[derive(Debug)]
pub struct Refusals(Vec<AtomicU64>);

impl Default for Refusals {
    fn default() -> Refusals {
        let all = SvidError::ALL.len() + Refusal::OWN.len();
        Refusals(std::iter::repeat_with(AtomicU64::default).take(all).collect())
    }
}

impl Refusals {
    pub fn count(&self, refusal: Refusal) {
        self.0[refusal.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// Those that happened.
    pub fn by_name(&self) -> BTreeMap<String, u64> {
        let svid = SvidError::ALL.iter().map(|reason| Refusal::Svid(*reason));
        let all = svid.chain(Refusal::OWN.iter().map(|(own, _)| *own));
        let counted = all.map(|refusal| (refusal, self.0[refusal.index()].load(Ordering::Relaxed)));
        counted.filter(|(_, count)| *count > 0).map(|(one, count)| (one.name().to_owned(), count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_counter_of_its_own() {
        let refusals = Refusals::default();
        let all = SvidError::ALL.iter().map(|reason| Refusal::Svid(*reason));
        let all: Vec<Refusal> = all.chain(Refusal::OWN.iter().map(|(own, _)| *own)).collect();
        for refusal in &all {
            refusals.count(*refusal);
        }
        let counted = refusals.by_name();
        assert_eq!(counted.len(), all.len(), "names differ");
        assert!(counted.values().all(|count| *count == 1), "{counted:?}");
    }
}
