//! How TCP behaves on the connections of a listener or towards a cluster: said by annotations on a Gateway or a Service,
//! for which the Gateway API has no words.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// On a Service: of what arrives at its addresses from the mesh, and of what goes to its endpoints. On a Gateway: of
/// what arrives at it.
pub const CONGESTION_ANNOTATION: &str = "ringway.mesh/congestion";
pub const PACING_ANNOTATION: &str = "ringway.mesh/pacing";
pub const ECN_ANNOTATION: &str = "ringway.mesh/ecn";

/// What the three annotations say.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TcpSettings {
    pub congestion: Congestion,
    /// Spread what a window lets go over its round trip. BBR always does.
    pub pacing: bool,
    pub ecn: Ecn,
}

/// Congestion control.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Congestion {
    #[default]
    Cubic,
    NewReno,
    Bbr,
}

/// Explicit congestion notification (RFC 3168).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Ecn {
    Off,
    /// Agreed to for who asks.
    #[default]
    Passive,
    /// Asked for as well.
    Active,
}

/// A word that an annotation may not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownWord {
    pub annotation: &'static str,
    pub word: String,
    pub expected: &'static str,
}

impl Congestion {
    pub const ALL: [Self; 3] = [Self::Cubic, Self::NewReno, Self::Bbr];
    pub const EXPECTED: &str = "cubic, newreno or bbr";

    pub fn name(self) -> &'static str {
        match self {
            Self::Cubic => "cubic",
            Self::NewReno => "newreno",
            Self::Bbr => "bbr",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }
}

impl Ecn {
    pub const ALL: [Self; 3] = [Self::Off, Self::Passive, Self::Active];
    pub const EXPECTED: &str = "off, passive or active";

    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Passive => "passive",
            Self::Active => "active",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }
}

impl TcpSettings {
    /// What is not said is the default; a word that is not known counts as not said, and validation has refused it.
    pub fn of(annotations: &BTreeMap<String, String>) -> Self {
        Self {
            congestion: said(annotations, CONGESTION_ANNOTATION, Congestion::from_name).unwrap_or_default(),
            pacing: said(annotations, PACING_ANNOTATION, switch).unwrap_or_default(),
            ecn: said(annotations, ECN_ANNOTATION, Ecn::from_name).unwrap_or_default(),
        }
    }

    /// The words that are not known.
    pub fn unknown(annotations: &BTreeMap<String, String>) -> Vec<UnknownWord> {
        type Known = fn(&str) -> bool;
        let rules: [(&'static str, Known, &'static str); 3] = [
            (CONGESTION_ANNOTATION, |word| Congestion::from_name(word).is_some(), Congestion::EXPECTED),
            (PACING_ANNOTATION, |word| switch(word).is_some(), "on or off"),
            (ECN_ANNOTATION, |word| Ecn::from_name(word).is_some(), Ecn::EXPECTED),
        ];
        let unknown = rules.into_iter().filter_map(|(annotation, known, expected)| {
            let word = annotations.get(annotation).filter(|word| !known(word))?;
            Some(UnknownWord { annotation, word: word.clone(), expected })
        });
        unknown.collect()
    }
}

fn said<T>(
    annotations: &BTreeMap<String, String>,
    annotation: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Option<T> {
    annotations.get(annotation).and_then(|word| read(word))
}

fn switch(word: &str) -> Option<bool> {
    match word {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}
