//! Reads the lines of a segment script. Segments are written as tcpdump and packetdrill write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

#[derive(Clone, Debug)]
pub(super) enum Line {
    /// `<`: the peer sends it.
    Inbound {
        after: Duration,
        segment: Segment,
    },
    /// `>`: the engine must send it.
    Outbound {
        after: Duration,
        segment: Segment,
    },
    Command {
        after: Duration,
        words: Vec<String>,
    },
}

impl Line {
    pub fn after(&self) -> Duration {
        match self {
            Self::Inbound { after, .. } | Self::Outbound { after, .. } | Self::Command { after, .. } => {
                *after
            }
        }
    }
}

/// The nine control bits, NS highest (RFC 9293, section 3.1; RFC 3540), as a script writes them.
#[derive(Copy, Clone, Default, PartialEq, Eq)]
pub(super) struct Bits(pub u16);

impl Bits {
    pub const SYN: Self = Self(0x02);
    const LETTERS: [(char, u16); 9] = [
        ('S', 0x02),
        ('F', 0x01),
        ('R', 0x04),
        ('P', 0x08),
        ('U', 0x20),
        ('E', 0x40),
        ('W', 0x80),
        ('N', 0x100),
        ('.', 0x10),
    ];

    /// Of a header as it is on the wire.
    pub fn of(header: &[u8]) -> Self {
        Self(u16::from_be_bytes([header[12], header[13]]) & 0x1ff)
    }

    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text == "-" {
            return Ok(Self::default());
        }
        text.chars().try_fold(Self::default(), |bits, letter| {
            let found = Self::LETTERS.iter().find(|(known, _)| *known == letter);
            found.map(|(_, bit)| Self(bits.0 | bit)).ok_or_else(|| format!("`{letter}` is no flag"))
        })
    }
}

impl fmt::Debug for Bits {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters: String =
            Self::LETTERS.iter().filter(|(_, bit)| self.0 & bit != 0).map(|(letter, _)| *letter).collect();
        formatter.write_str(if letters.is_empty() { "-" } else { &letters })
    }
}

/// The peer's end of a connection: `host 3` is the address that ends in 3.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Endpoint {
    pub host: u8,
    pub port: u16,
}

impl Default for Endpoint {
    fn default() -> Self {
        Self { host: 2, port: 5000 }
    }
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Window {
    /// The field as it is on the wire.
    Field(u16),
    /// What it means, in bytes.
    Bytes(u32),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Segment {
    pub bits: Bits,
    pub start: u32,
    pub len: u32,
    pub ack: Option<u32>,
    pub window: Option<Window>,
    pub urgent: u16,
    /// The two ECN bits of the IP header (RFC 3168, section 5).
    pub ecn: u8,
    /// `None`: the script does not say.
    pub options: Option<OptionList>,
    /// A data offset that is not that of the options, in words.
    pub data_offset: Option<u8>,
    pub peer: Endpoint,
    /// Our port, when it is not the connection's.
    pub at: Option<u16>,
    /// Another text than the pattern.
    pub other_text: bool,
}

/// A number in an option; `None` is `*`.
type Open<T> = Option<T>;

#[derive(Clone, Debug, Default)]
pub(super) struct OptionList {
    pub mss: Option<Open<u16>>,
    pub window_scale: Option<Open<u8>>,
    pub sack_permitted: bool,
    /// Value and echo.
    pub timestamps: Option<(Open<u32>, Open<u32>)>,
    pub sack: Vec<(u32, u32)>,
    /// Bytes as they are, behind the others.
    pub raw: Vec<u8>,
}

pub(super) fn parse_line(text: &str) -> Result<Line, String> {
    let (after, rest) = match text.strip_prefix('+') {
        Some(timed) => {
            let (time, rest) = timed.split_once(char::is_whitespace).ok_or("a time needs something to do")?;
            (duration(time)?, rest.trim())
        }
        None => (Duration::ZERO, text),
    };
    if let Some(segment) = rest.strip_prefix("< ") {
        return Ok(Line::Inbound { after, segment: parse_segment(segment)? });
    }
    if let Some(segment) = rest.strip_prefix("> ") {
        return Ok(Line::Outbound { after, segment: parse_segment(segment)? });
    }
    let words = rest.split_whitespace().map(str::to_string).collect();
    Ok(Line::Command { after, words })
}

/// `P. 1:1001(1000) ack 1 win 512 <sack 1:2 5:6,TS val 1 ecr *> port 5001`
fn parse_segment(text: &str) -> Result<Segment, String> {
    let (head, options, tail) = match (text.find('<'), text.find('>')) {
        (Some(open), Some(close)) if open < close => {
            (&text[..open], Some(parse_options(&text[open + 1..close])?), &text[close + 1..])
        }
        _ => (text, None, ""),
    };
    let mut words = head.split_whitespace().chain(tail.split_whitespace());
    let bits = Bits::parse(words.next().ok_or("flags are missing")?)?;
    let (start, len) = parse_span(words.next().ok_or("START:END(LEN) is missing")?)?;
    let mut segment = Segment { bits, start, len, options, ..Segment::default() };
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("`{word}` needs a value"))?;
        match word {
            "ack" => segment.ack = Some(number(value)?),
            "win" => segment.window = Some(Window::Field(number(value)?)),
            "window" => segment.window = Some(Window::Bytes(number(value)?)),
            "urg" => segment.urgent = number(value)?,
            "ecn" => segment.ecn = parse_ecn(value)?,
            "port" => segment.peer.port = number(value)?,
            "host" => segment.peer.host = number(value)?,
            "at" => segment.at = Some(number(value)?),
            "offset" => segment.data_offset = Some(number(value)?),
            "text" if value == "other" => segment.other_text = true,
            _ => return Err(format!("`{word}` is not part of a segment")),
        }
    }
    Ok(segment)
}

/// RFC 3168, section 5.
fn parse_ecn(word: &str) -> Result<u8, String> {
    match word {
        "none" => Ok(0),
        "ect1" => Ok(1),
        "ect0" => Ok(2),
        "ce" => Ok(3),
        _ => Err(format!("`{word}` is none of none, ect0, ect1 and ce")),
    }
}

fn parse_span(text: &str) -> Result<(u32, u32), String> {
    let wrong = || format!("`{text}` is not START:END(LEN)");
    let (start, rest) = text.split_once(':').ok_or_else(wrong)?;
    let (end, len) = rest.trim_end_matches(')').split_once('(').ok_or_else(wrong)?;
    let (start, end, len) = (number::<u32>(start)?, number::<u32>(end)?, number::<u32>(len)?);
    if end.wrapping_sub(start) == len { Ok((start, len)) } else { Err(wrong()) }
}

fn parse_options(text: &str) -> Result<OptionList, String> {
    let mut options = OptionList::default();
    for option in text.split(',').map(str::trim).filter(|option| !option.is_empty()) {
        let words: Vec<&str> = option.split_whitespace().collect();
        match words[..] {
            ["mss", value] => options.mss = Some(open(value)?),
            ["wscale", value] => options.window_scale = Some(open(value)?),
            ["sackOK"] => options.sack_permitted = true,
            ["nop"] => options.raw.push(1),
            ["TS", "val", value, "ecr", echo] => options.timestamps = Some((open(value)?, open(echo)?)),
            ["sack", ref blocks @ ..] => {
                for block in blocks {
                    let (left, right) = block.split_once(':').ok_or("a block is LEFT:RIGHT")?;
                    options.sack.push((number(left)?, number(right)?));
                }
            }
            ["raw", hexadecimal] => options.raw.extend(bytes(hexadecimal)?),
            _ => return Err(format!("`{option}` is no option")),
        }
    }
    Ok(options)
}

/// `*` leaves it open.
fn open<T: FromStr>(word: &str) -> Result<Open<T>, String> {
    if word == "*" { Ok(None) } else { number(word).map(Some) }
}

fn bytes(hexadecimal: &str) -> Result<Vec<u8>, String> {
    let wrong = || format!("`{hexadecimal}` is not pairs of hexadecimal digits");
    if !hexadecimal.is_ascii() || !hexadecimal.len().is_multiple_of(2) {
        return Err(wrong());
    }
    let pairs = (0..hexadecimal.len()).step_by(2).map(|at| &hexadecimal[at..at + 2]);
    pairs.map(|pair| u8::from_str_radix(pair, 16).map_err(|_| wrong())).collect()
}

/// `0.2`, `200ms`, `3m`, `2h`, `25d`; seconds where no unit is written.
pub(super) fn duration(word: &str) -> Result<Duration, String> {
    let units = [("ms", 0.001), ("us", 0.000_001), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86_400.0)];
    let unit = units.iter().find_map(|(unit, seconds)| Some((word.strip_suffix(unit)?, *seconds)));
    let (amount, seconds) = unit.unwrap_or((word, 1.0));
    Duration::try_from_secs_f64(number::<f64>(amount)? * seconds).map_err(|_| format!("`{word}` is no time"))
}

pub(super) fn number<T: FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("`{word}` is not a number that fits here"))
}
