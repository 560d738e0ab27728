//! F-RTO (RFC 5682, section 3.1, the variant with SACK, and section 2.1 where the peer has none): was the retransmission
//! timeout spurious? After it one segment is sent again, then new text; what is acknowledged next tells.
//!
//! ```text
//!   timeout, the first segment goes again
//!      --> AwaitsFirst --SND.UNA moves: new text goes out--> AwaitsSecond --text sent once, of before the timeout--> Spurious
//!              |                                                  |
//!              | all acknowledged, a plain duplicate              | new text, a plain duplicate, no new text to send
//!              v                                                  v
//!             Off                                                Off: the conventional way
//! ```

/// Where the algorithm is.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Forward {
    #[default]
    Off,
    /// Step 2: until the retransmission is acknowledged.
    AwaitsFirst,
    /// Step 3: until the next acknowledgement; nothing is sent again meanwhile.
    AwaitsSecond,
}

/// What an acknowledgement says to it. The point is SND.NXT as it was at the timeout.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Heard {
    /// SND.UNA moved.
    pub advanced: bool,
    /// It is at the point or beyond.
    pub all: bool,
    /// Something beyond the point was delivered.
    pub beyond: bool,
    /// Something up to the point was delivered that was never sent again.
    pub original: bool,
    /// A duplicate acknowledgement of a peer that has no SACK to say what it is for.
    pub plain_duplicate: bool,
}

/// What follows from it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Undecided,
    /// New text is to be sent in place of what is taken as lost.
    SendNew,
    /// All is acknowledged, late or lost: nobody will know (step 2a).
    All,
    /// The segments were only late.
    Spurious,
    /// They were lost (step 3a).
    Real,
}

impl Forward {
    pub(crate) fn on_acknowledgement(&mut self, heard: Heard) -> Verdict {
        match *self {
            Self::AwaitsFirst if heard.plain_duplicate => *self = Self::Off, // 2.1 (2a)
            Self::AwaitsFirst if heard.all => {
                *self = Self::Off; // 3.1 (2a)
                return Verdict::All;
            }
            Self::AwaitsFirst if heard.advanced => {
                *self = Self::AwaitsSecond; // 3.1 (2b)
                return Verdict::SendNew;
            }
            Self::AwaitsSecond if heard.beyond || heard.plain_duplicate => {
                *self = Self::Off; // 3.1 (3a)
                return Verdict::Real;
            }
            Self::AwaitsSecond if heard.original => {
                *self = Self::Off; // 3.1 (3b)
                return Verdict::Spurious;
            }
            _ => {}
        }
        Verdict::Undecided
    }

    /// Nothing is sent again until the verdict.
    pub(crate) fn holds_back(self) -> bool {
        self == Self::AwaitsSecond
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Heard =
        Heard { advanced: false, all: false, beyond: false, original: false, plain_duplicate: false };
    const ADVANCED: Heard = Heard { advanced: true, ..NOTHING };

    #[test]
    fn two_acknowledgements_of_late_segments_show_a_spurious_timeout() {
        let mut forward = Forward::AwaitsFirst;
        assert_eq!(forward.on_acknowledgement(NOTHING), Verdict::Undecided);
        assert_eq!(forward.on_acknowledgement(ADVANCED), Verdict::SendNew);
        assert!(forward.holds_back());
        assert_eq!(forward.on_acknowledgement(NOTHING), Verdict::Undecided, "it says nothing new");
        let original = Heard { original: true, ..ADVANCED };
        assert_eq!(forward.on_acknowledgement(original), Verdict::Spurious);
        assert_eq!(forward, Forward::Off);
    }

    #[test]
    fn new_text_that_overtakes_the_old_shows_a_loss() {
        for second in [Heard { beyond: true, ..NOTHING }, Heard { plain_duplicate: true, ..NOTHING }] {
            let mut forward = Forward::AwaitsSecond;
            assert_eq!(forward.on_acknowledgement(second), Verdict::Real);
            assert_eq!(forward, Forward::Off);
        }
    }

    #[test]
    fn an_acknowledgement_of_all_or_a_plain_duplicate_leaves_the_question_open() {
        let (all, plain) = (Heard { all: true, ..ADVANCED }, Heard { plain_duplicate: true, ..NOTHING });
        for (first, verdict) in [(all, Verdict::All), (plain, Verdict::Undecided)] {
            let mut forward = Forward::AwaitsFirst;
            assert_eq!(forward.on_acknowledgement(first), verdict);
            assert_eq!(forward, Forward::Off);
        }
    }
}
