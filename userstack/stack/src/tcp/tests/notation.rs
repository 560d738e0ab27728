//! Reads the lines of a segment script. Segments are written as tcpdump and packetdrill write them.

use std::time::Duration;

use super::script::number;
use crate::tcp::header::Flags;

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

#[derive(Clone, Debug, Default)]
pub(super) struct Segment {
    pub flags: Flags,
    pub start: u32,
    pub len: u32,
    pub ack: Option<u32>,
    pub window: Option<u16>,
    /// `None`: the script does not say.
    pub options: Option<OptionList>,
    pub port: Option<u16>,
    /// The two bits of the IP header.
    pub ecn: u8,
}

#[derive(Clone, Debug, Default)]
pub(super) struct OptionList {
    pub mss: Option<u16>,
    pub window_scale: Option<u8>,
    pub sack_permitted: bool,
    /// Value and echo; `None` in them is `*`.
    pub timestamps: Option<(Option<u32>, Option<u32>)>,
    pub sack: Vec<(u32, u32)>,
}

/// One line; `None` when there is nothing on it.
pub(super) fn parse_line(text: &str) -> Result<Option<Line>, String> {
    let text = text.split('#').next().unwrap_or_default().trim();
    if text.is_empty() {
        return Ok(None);
    }
    let (after, rest) = match text.strip_prefix('+') {
        Some(timed) => {
            let (seconds, rest) =
                timed.split_once(char::is_whitespace).ok_or("a time needs something to do")?;
            (Duration::from_secs_f64(number(seconds)?), rest.trim())
        }
        None => (Duration::ZERO, text),
    };
    if let Some(segment) = rest.strip_prefix("< ") {
        return Ok(Some(Line::Inbound { after, segment: parse_segment(segment)? }));
    }
    if let Some(segment) = rest.strip_prefix("> ") {
        return Ok(Some(Line::Outbound { after, segment: parse_segment(segment)? }));
    }
    let words = rest.split_whitespace().map(str::to_string).collect();
    Ok(Some(Line::Command { after, words }))
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
    let flags = parse_flags(words.next().ok_or("flags are missing")?)?;
    let (start, len) = parse_span(words.next().ok_or("START:END(LEN) is missing")?)?;
    let mut segment = Segment { flags, start, len, options, ..Segment::default() };
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("`{word}` needs a value"))?;
        match word {
            "ack" => segment.ack = Some(number(value)?),
            "win" => segment.window = Some(number(value)?),
            "port" => segment.port = Some(number(value)?),
            "ecn" => segment.ecn = parse_ecn(value)?,
            _ => return Err(format!("`{word}` is not part of a segment")),
        }
    }
    Ok(segment)
}

fn parse_flags(text: &str) -> Result<Flags, String> {
    text.chars().try_fold(Flags::default(), |flags, letter| {
        Ok(flags.with(match letter {
            'S' => Flags::SYN,
            'F' => Flags::FIN,
            'R' => Flags::RST,
            'P' => Flags::PSH,
            'U' => Flags::URG,
            '.' => Flags::ACK,
            'E' => Flags::ECE,
            'W' => Flags::CWR,
            '-' => Flags::default(),
            _ => return Err(format!("`{letter}` is no flag")),
        }))
    })
}

fn parse_ecn(name: &str) -> Result<u8, String> {
    match name {
        "ect0" => Ok(0b10),
        "ect1" => Ok(0b01),
        "ce" => Ok(0b11),
        _ => Err(format!("`{name}` is not ect0, ect1 or ce")),
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
            ["mss", value] => options.mss = Some(number(value)?),
            ["wscale", value] => options.window_scale = Some(number(value)?),
            ["sackOK"] => options.sack_permitted = true,
            ["nop"] => {}
            ["TS", "val", value, "ecr", echo] => options.timestamps = Some((any(value)?, any(echo)?)),
            ["sack", ref blocks @ ..] => {
                for block in blocks {
                    let (left, right) = block.split_once(':').ok_or("a block is LEFT:RIGHT")?;
                    options.sack.push((number(left)?, number(right)?));
                }
            }
            _ => return Err(format!("`{option}` is no option")),
        }
    }
    Ok(options)
}

/// `*` leaves it open.
fn any(word: &str) -> Result<Option<u32>, String> {
    if word == "*" { Ok(None) } else { number(word).map(Some) }
}
