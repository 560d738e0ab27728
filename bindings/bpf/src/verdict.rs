//! The program's verdicts: one for every frame that an interface received.

/// What the program decided, in the order of `enum verdict` in redirect.c.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// IP to an owned address.
    RedirectedAddress,
    /// TCP or UDP to an intercepted prefix on a workload interface.
    RedirectedIntercepted,
    /// ARP for an owned address.
    RedirectedArp,
    /// Neighbour solicitation for an owned address.
    RedirectedNdp,
    /// To the kernel: an address that is not owned.
    PassedOtherAddress,
    /// To the kernel: neither IP nor ARP, or not TCP or UDP where only these are taken.
    PassedOtherProtocol,
    /// To the kernel: a VLAN that is not ours.
    PassedOtherVlan,
    /// To the kernel: cut short, or with headers that the program does not walk.
    PassedMalformed,
    /// To the kernel: ours, but no socket lives on that queue.
    PassedNoSocket,
    /// Died: a workload's packet to a host that the mesh does not know, where `outbound: deny` says so.
    DeniedOutbound,
    /// Not a frame's verdict: a neighbour's announcement that found the notice ring full.
    NoticeLost,
}

impl Verdict {
    pub const ALL: [Self; 11] = [
        Self::RedirectedAddress,
        Self::RedirectedIntercepted,
        Self::RedirectedArp,
        Self::RedirectedNdp,
        Self::PassedOtherAddress,
        Self::PassedOtherProtocol,
        Self::PassedOtherVlan,
        Self::PassedMalformed,
        Self::PassedNoSocket,
        Self::DeniedOutbound,
        Self::NoticeLost,
    ];

    /// The counter's name in metrics and status.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RedirectedAddress => "redirected_address",
            Self::RedirectedIntercepted => "redirected_intercepted",
            Self::RedirectedArp => "redirected_arp",
            Self::RedirectedNdp => "redirected_ndp",
            Self::PassedOtherAddress => "passed_other_address",
            Self::PassedOtherProtocol => "passed_other_protocol",
            Self::PassedOtherVlan => "passed_other_vlan",
            Self::PassedMalformed => "passed_malformed",
            Self::PassedNoSocket => "passed_no_socket",
            Self::DeniedOutbound => "denied_outbound",
            Self::NoticeLost => "notice_lost",
        }
    }

    /// Whether the frame was handed to a socket.
    pub const fn is_redirected(self) -> bool {
        matches!(
            self,
            Self::RedirectedAddress | Self::RedirectedIntercepted | Self::RedirectedArp | Self::RedirectedNdp
        )
    }
}

/// Frames per verdict since the program was attached, over all CPUs.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdicts([u64; Verdict::ALL.len()]);

impl Verdicts {
    pub fn of(&self, verdict: Verdict) -> u64 {
        self.0[verdict as usize]
    }

    pub fn iter(&self) -> impl Iterator<Item = (Verdict, u64)> + '_ {
        Verdict::ALL.into_iter().map(|verdict| (verdict, self.of(verdict)))
    }

    /// Frames handed to sockets. Those that a socket then could not take are in the socket's own counters.
    pub fn redirected(&self) -> u64 {
        self.iter().filter(|(verdict, _)| verdict.is_redirected()).map(|(_, frames)| frames).sum()
    }

    pub(crate) fn set(&mut self, verdict: Verdict, frames: u64) {
        self.0[verdict as usize] = frames;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_have_the_numbers_of_the_program() {
        for (number, verdict) in Verdict::ALL.into_iter().enumerate() {
            assert_eq!(verdict as usize, number);
        }
        let source = include_str!("program/redirect.c");
        let listed = source.split("enum verdict {").nth(1).and_then(|rest| rest.split("VERDICTS").next());
        let names: Vec<String> = listed
            .expect("the program lists its verdicts")
            .split(',')
            .map(|name| name.trim().to_lowercase())
            .filter(|name| !name.is_empty())
            .collect();
        let ours: Vec<String> = Verdict::ALL.iter().map(|verdict| verdict.name().to_string()).collect();
        assert_eq!(names, ours);
    }

    #[test]
    fn only_redirects_count_as_redirected() {
        let mut verdicts = Verdicts::default();
        verdicts.set(Verdict::RedirectedArp, 2);
        verdicts.set(Verdict::RedirectedAddress, 3);
        verdicts.set(Verdict::PassedNoSocket, 5);
        assert_eq!(verdicts.redirected(), 5);
    }
}
