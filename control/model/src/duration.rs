//! The Gateway API's duration (GEP-2257): `10s`, `1h30m`, `500ms`; one to four parts of up to five digits each.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A duration in GEP-2257's form; milliseconds are its finest unit.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(Duration);

/// GEP-2257: `^([0-9]{1,5}(h|m|s|ms)){1,4}$`.
const MOST_DIGITS: usize = 5;
const MOST_PARTS: usize = 4;

const RIGHT_FORM: &str = "expected a duration such as 10s, 1m30s or 500ms (GEP-2257)";

/// Each unit with its length in milliseconds, longest first; `ms` is found before `m` by its length.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Span {
    pub fn from_millis(milliseconds: u64) -> Span {
        Span(Duration::from_millis(milliseconds))
    }

    pub fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        let mut rest = text;
        let mut milliseconds = 0u64;
        for _ in 0..MOST_PARTS {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            if digits == 0 || digits > MOST_DIGITS {
                break;
            }
            let (number, after) = rest.split_at(digits);
            let letters = after.bytes().take_while(u8::is_ascii_lowercase).count();
            let (unit, after) = after.split_at(letters);
            let Some((_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else { break };
            let number: u64 = number.parse().map_err(|_| wrong(text))?;
            milliseconds += number * scale;
            rest = after;
            if rest.is_empty() {
                return Ok(Span::from_millis(milliseconds));
            }
        }
        Err(wrong(text))
    }
}

fn wrong(text: &str) -> String {
    format!("{text:?}: {RIGHT_FORM}")
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, scale) in UNITS {
            if rest >= scale {
                write!(f, "{}{unit}", rest / scale)?;
                rest %= scale;
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Span, String> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> String {
        span.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_and_print_back() {
        for (text, milliseconds) in
            [("10s", 10_000), ("1h30m", 5_400_000), ("500ms", 500), ("1m1s1ms", 61_001), ("0s", 0)]
        {
            let span: Span = text.parse().unwrap();
            assert_eq!(span, Span::from_millis(milliseconds), "{text}");
            assert_eq!(span.to_string(), text);
        }
    }

    #[test]
    fn what_gep_2257_does_not_allow_is_refused() {
        for text in ["", "10", "s", "1.5s", "-1s", "100000s", "1d", "1s1s1s1s1s", "1µs", "10s "] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
