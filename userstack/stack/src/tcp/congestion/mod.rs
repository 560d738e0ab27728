//! Congestion control: one small trait, and NewReno (RFC 5681), CUBIC (RFC 9438) with HyStart++ (RFC 9406) and BBR
//! behind it.
//!
//! Loss recovery decides when; an algorithm only decides how wide the window is, and one that measures deliveries also
//! how fast it is used.

mod algorithm;
mod bbr;
mod cubic;
mod hystart;
mod newreno;
pub(crate) mod rate;

pub(crate) use algorithm::{Acked, Algorithm, Window, initial_window};
use bbr::Bbr;
use cubic::Cubic;
use newreno::NewReno;
use rate::RateSampler;

use super::Congestion;

/// The algorithm of one connection. BBR's model is large and rare: it lies apart.
#[derive(Clone, Debug)]
pub(crate) enum Control {
    NewReno(NewReno),
    Cubic(Cubic),
    Bbr(Box<Bbr>),
}

impl Control {
    pub(crate) fn new(choice: Congestion) -> Self {
        match choice {
            Congestion::NewReno => Self::NewReno(NewReno::default()),
            Congestion::Cubic => Self::Cubic(Cubic::default()),
            Congestion::Bbr => Self::Bbr(Box::default()),
        }
    }

    pub(crate) fn algorithm(&mut self) -> &mut dyn Algorithm {
        match self {
            Self::NewReno(newreno) => newreno,
            Self::Cubic(cubic) => cubic,
            Self::Bbr(bbr) => bbr.as_mut(),
        }
    }

    /// Segments are stamped for it. A match and not a call: it is asked for each segment.
    pub(crate) fn sampler(&mut self) -> Option<&mut RateSampler> {
        match self {
            Self::Bbr(bbr) => bbr.sampler(),
            Self::NewReno(_) | Self::Cubic(_) => None,
        }
    }

    /// It owns its window: neither proportional rate reduction nor restart after idle is for it.
    pub(crate) fn owns_window(&self) -> bool {
        matches!(self, Self::Bbr(_))
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::NewReno(_) => Congestion::NewReno,
            Self::Cubic(_) => Congestion::Cubic,
            Self::Bbr(_) => Congestion::Bbr,
        }
        .name()
    }
}
