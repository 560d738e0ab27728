//! A script's text as the lines that are played: comments are gone, repetitions are written out, and a handshake
//! that is like all others stands for its segments.

use super::notation::number;

/// Over which addresses a script is played.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Numbered {
    pub number: usize,
    pub text: String,
}

/// `set family ipv6` and `set family both`; IPv4 where a script does not say.
pub(super) fn families(script: &str) -> &'static [Family] {
    let said = script.lines().filter_map(|line| line.trim().strip_prefix("set family ")).next();
    match said.map(|said| said.split_whitespace().next().unwrap_or_default()) {
        Some("ipv6") => &[Family::V6],
        Some("both") => &[Family::V4, Family::V6],
        _ => &[Family::V4],
    }
}

pub(super) fn unfold(script: &str) -> Result<Vec<Numbered>, String> {
    let mut played = Vec::new();
    let mut block: Option<(usize, Vec<(usize, &str)>)> = None;
    for (index, text) in script.lines().enumerate() {
        let (number_of_line, text) = (index + 1, text.split('#').next().unwrap_or_default().trim());
        let failed = |error| format!("line {number_of_line}: `{text}`: {error}");
        if text.is_empty() {
            continue;
        }
        match (text.strip_prefix("repeat "), text == "end", &mut block) {
            (Some(_), _, Some(_)) => return Err(failed("a repetition holds no other".into())),
            (Some(times), _, None) => block = Some((number(times).map_err(failed)?, Vec::new())),
            (None, true, _) => {
                let (times, lines) = block.take().ok_or_else(|| failed("ends nothing".into()))?;
                for turn in 0..times {
                    for (number_of_line, text) in &lines {
                        push(&mut played, *number_of_line, text, turn as i64).map_err(failed)?;
                    }
                }
            }
            (None, false, Some((_, lines))) => lines.push((number_of_line, text)),
            (None, false, None) => push(&mut played, number_of_line, text, 0).map_err(failed)?,
        }
    }
    if block.is_some() { Err("a repetition has no end".into()) } else { Ok(played) }
}

fn push(played: &mut Vec<Numbered>, number: usize, text: &str, turn: i64) -> Result<(), String> {
    let text = fill_in(text, turn)?;
    match text.strip_prefix("established") {
        Some(rest) if rest.is_empty() || rest.starts_with(' ') => {
            played.extend(handshake(rest)?.into_iter().map(|text| Numbered { number, text }));
        }
        _ => played.push(Numbered { number, text }),
    }
    Ok(())
}

/// `{1+1460*$}`: sums of products of whole numbers, in which `$` counts the turns of a repetition from 0.
fn fill_in(text: &str, turn: i64) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (sum, behind) = after.split_once('}').ok_or("a `{` without its `}`")?;
        let terms = sum.split('+').map(|term| {
            term.split('*').try_fold(1, |product: i64, factor| {
                let factor = factor.trim();
                Ok::<_, String>(product * if factor == "$" { turn } else { number(factor)? })
            })
        });
        let sum: i64 = terms.sum::<Result<i64, String>>()?;
        filled = filled + before + &sum.to_string();
        rest = behind;
    }
    Ok(filled + rest)
}

/// `established [<options>] [win N]`: the peer opens a connection with a round trip of 10 ms, and it is accepted.
fn handshake(rest: &str) -> Result<Vec<String>, String> {
    let (options, tail) = match rest.trim().strip_prefix('<') {
        Some(text) => text.split_once('>').ok_or("a `<` without its `>`")?,
        None => ("mss 1460,sackOK", rest),
    };
    let window = match tail.split_whitespace().collect::<Vec<_>>()[..] {
        [] => "65535",
        ["win", window] => window,
        _ => return Err("after the options of `established` stands `win N` or nothing".into()),
    };
    let timestamp =
        options.split_once("TS val ").map(|(_, value)| value.split_whitespace().next().unwrap_or(""));
    let echoing = match timestamp {
        Some(value) => format!("<TS val {} ecr *>", number::<u32>(value)?.wrapping_add(10)),
        None => "<>".into(),
    };
    Ok(vec![
        "listen".into(),
        format!("+0 < S 0:0(0) win 65535 <{options}>"),
        "+0 > S. 0:0(0) ack 1".into(),
        format!("+0.01 < . 1:1(0) ack 1 win {window} {echoing}"),
        "accept".into(),
    ])
}

#[test]
fn a_repetition_is_written_out_with_its_numbers() {
    let lines =
        unfold("repeat 2 # twice\n< . {1+100*$}:{101+100*$}(100) port {5000+$}\nend\nwait 1\n").unwrap();
    let texts: Vec<_> = lines.iter().map(|line| (line.number, line.text.as_str())).collect();
    let expected = [(2, "< . 1:101(100) port 5000"), (2, "< . 101:201(100) port 5001"), (4, "wait 1")];
    assert_eq!(texts, expected);
}
