//! SYN cookies: a half-open connection that the peer holds for us (RFC 4987, section 3.6). The cookie is our initial
//! sequence; what does not fit it (window scale, SACK, ECN) lies in the low bits of the timestamp, which the peer echoes.
//!
//! ```text
//!   cookie - base = | epoch 5 | mss 3 | keyed hash 24 |       base: a keyed hash, so that the top bits tell nothing
//!   TSval         = | clock in ms, low 6 bits replaced: | ECN 1 | SACK 1 | scale 4, 15 for none |
//! ```

use super::header::Options;
use super::sequence::Seq;
use super::tuple::{Secrets, Tuple};
use crate::Instant;

/// A cookie is good for its own epoch and the one before (Linux: 64 s).
const EPOCH_SECONDS: u64 = 64;
const EPOCH_BITS: u32 = 5;
const HASH_BITS: u32 = 24;
/// Segment sizes that a cookie can tell: the usual links, less their tunnels' headers.
const MSS: [u16; 8] = [216, 536, 1220, 1360, 1440, 1460, 8940, 65_475];
const OPTION_BITS: u32 = 0x3f;
const NO_SCALE: u8 = 15;

/// What a cookie remembers of a SYN.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remembered {
    pub mss: u16,
    pub window_scale: Option<u8>,
    pub sack_permitted: bool,
    pub ecn: bool,
}

/// The initial sequence that answers a SYN of `irs`.
pub(crate) fn make(secrets: &Secrets, tuple: &Tuple, irs: Seq, mss: u16, now: Instant) -> Seq {
    let epoch = epoch(now);
    let index = MSS.iter().rposition(|known| *known <= mss).unwrap_or(0) as u32;
    base(secrets, tuple, irs) + (fields(epoch, index) | hash(secrets, tuple, irs, epoch, index))
}

/// What the cookie `iss` remembers, if we made it for this peer a short while ago.
pub(crate) fn check(secrets: &Secrets, tuple: &Tuple, irs: Seq, iss: Seq, now: Instant) -> Option<u16> {
    let cookie = iss.since(base(secrets, tuple, irs));
    let age = (epoch(now) as u32).wrapping_sub(cookie >> (32 - EPOCH_BITS)) % (1 << EPOCH_BITS);
    if age > 1 {
        return None;
    }
    let index = cookie >> HASH_BITS & 0b111;
    let epoch = epoch(now).checked_sub(u64::from(age))?;
    let expected = fields(epoch, index) | hash(secrets, tuple, irs, epoch, index);
    (cookie == expected).then(|| MSS[index as usize])
}

/// The timestamp to send, at most `value`, with the options in its low bits.
pub(crate) fn encode_options(value: u32, options: &Options, ecn: bool) -> u32 {
    let scale = options.window_scale.unwrap_or(NO_SCALE);
    let bits = u32::from(ecn) << 5 | u32::from(options.sack_permitted) << 4 | u32::from(scale);
    let encoded = value & !OPTION_BITS | bits;
    // Never ahead of the clock, or the next segment's timestamp would go back.
    if (value.wrapping_sub(encoded) as i32) < 0 { encoded.wrapping_sub(OPTION_BITS + 1) } else { encoded }
}

pub(crate) fn decode_options(mss: u16, echo: Option<u32>) -> Remembered {
    let Some(bits) = echo.map(|echo| echo & OPTION_BITS) else {
        return Remembered { mss, window_scale: None, sack_permitted: false, ecn: false };
    };
    let scale = (bits & 0xf) as u8;
    Remembered {
        mss,
        window_scale: (scale != NO_SCALE).then_some(scale),
        sack_permitted: bits >> 4 & 1 == 1,
        ecn: bits >> 5 == 1,
    }
}

fn epoch(now: Instant) -> u64 {
    now.as_millis() / 1000 / EPOCH_SECONDS
}

fn fields(epoch: u64, index: u32) -> u32 {
    (epoch as u32) << (32 - EPOCH_BITS) | index << HASH_BITS
}

fn base(secrets: &Secrets, tuple: &Tuple, irs: Seq) -> Seq {
    Seq(secrets.cookie_hash(tuple, u64::from(irs.0) << 32 | 0xffff_ffff))
}

fn hash(secrets: &Secrets, tuple: &Tuple, irs: Seq, epoch: u64, index: u32) -> u32 {
    let extra = u64::from(irs.0) << 32 | (epoch << 3) & 0x7fff_fff8 | u64::from(index);
    secrets.cookie_hash(tuple, extra) & ((1 << HASH_BITS) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn tuple(port: u16) -> Tuple {
        Tuple::new(([10, 0, 0, 1], 80).into(), ([10, 0, 0, 2], port).into())
    }

    proptest! {
        #[test]
        fn a_cookie_is_known_again_within_its_time_and_by_its_peer_only(
            irs: u32, mss in 216u16.., at_seconds in 0u64..1_000_000, port in 1u16..65_000,
        ) {
            let secrets = Secrets::new(&[3; 32]);
            let now = Instant::ZERO + Duration::from_secs(at_seconds);
            let cookie = make(&secrets, &tuple(port), Seq(irs), mss, now);
            let later = now + Duration::from_secs(EPOCH_SECONDS);
            for when in [now, later] {
                let known = check(&secrets, &tuple(port), Seq(irs), cookie, when).expect("it is fresh");
                prop_assert!(known <= mss);
            }
            let late = now + Duration::from_secs(2 * EPOCH_SECONDS);
            prop_assert_eq!(check(&secrets, &tuple(port), Seq(irs), cookie, late), None);
            prop_assert_eq!(check(&secrets, &tuple(port + 1), Seq(irs), cookie, now), None);
            prop_assert_eq!(check(&secrets, &tuple(port), Seq(irs) + 1, cookie, now), None);
        }

        #[test]
        fn options_come_back_from_the_timestamp(
            value: u32, scale in prop::option::of(0u8..15), sack: bool, ecn: bool,
        ) {
            let options = Options { window_scale: scale, sack_permitted: sack, ..Options::default() };
            let encoded = encode_options(value, &options, ecn);
            prop_assert!(value.wrapping_sub(encoded) < 128);
            let remembered = Remembered { mss: 536, window_scale: scale, sack_permitted: sack, ecn };
            prop_assert_eq!(decode_options(536, Some(encoded)), remembered);
        }
    }
}
