//! Requests that Ringway and Envoy read differently, and on purpose: said again, so that one reads them as the other
//! read the original. Then both must answer alike; so what differs is that reading and nothing else.

use crate::generate::Request;
use crate::wire::Answer;

/// The one field by which rules match and which a request may have twice.
const REPEATED: &str = "x-v";

/// How a request is read in two ways.
#[derive(Debug)]
pub struct Reading {
    /// Its section in `docs/envoy-differences.md`.
    pub name: &'static str,
    /// What Ringway reads as Envoy reads the original, which is one of these: each value of a field by itself, escapes
    /// as the bytes that they are written with.
    pub as_envoy: Vec<Request>,
    /// What Envoy reads as Ringway reads the original: values joined, escapes decoded. `None`: it cannot be sent.
    pub as_ringway: Option<Request>,
}

/// `None`: both read it alike.
pub fn read_differently(request: &Request) -> Option<Reading> {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let values: Vec<&String> =
        request.fields.iter().filter(|(name, _)| is_repeated(name)).map(|(_, value)| value).collect();
    let name = match (query.contains('%'), values.len() > 1) {
        (true, _) => "escapes-in-queries",
        (false, true) => "repeated-fields",
        (false, false) => return None,
    };
    let with = |query: &str, value: Option<&str>| {
        let mut again = request.clone();
        if !query.is_empty() {
            again.target = format!("{path}?{query}");
        }
        again.fields.retain(|(name, _)| !is_repeated(name));
        again.fields.extend(value.map(|value| (REPEATED, value.to_owned())));
        again
    };
    let escaped = query.replace('%', "%25");
    let as_envoy = match values.as_slice() {
        [] => vec![with(&escaped, None)],
        values => values.iter().map(|value| with(&escaped, Some(value))).collect(),
    };
    let joined = values.iter().map(|value| value.as_str()).collect::<Vec<_>>().join(",");
    let decoded = decode(query);
    let can_be_sent = !decoded.contains(' ');
    let as_ringway = can_be_sent.then(|| with(&decoded, (!values.is_empty()).then_some(joined.as_str())));
    Some(Reading { name, as_envoy, as_ringway })
}

/// The answer without what says only how the request was put: its query at an end, and the field that was repeated.
pub fn without_wording(answer: &Answer, request: &Request) -> Answer {
    let mut answer = answer.clone();
    let Some((_, query)) = request.target.split_once('?') else { return without_repeated(answer) };
    let cut = |text: &mut String| {
        if let Some(rest) = text.strip_suffix(query) {
            *text = rest.to_owned();
        }
    };
    answer.fields.iter_mut().filter(|(name, _)| name == "location").for_each(|(_, value)| cut(value));
    if let Some(seen) = &mut answer.seen {
        cut(&mut seen.target);
    }
    without_repeated(answer)
}

fn without_repeated(mut answer: Answer) -> Answer {
    if let Some(seen) = &mut answer.seen {
        seen.fields.retain(|(name, _)| !is_repeated(name));
    }
    answer
}

fn is_repeated(name: &str) -> bool {
    name.eq_ignore_ascii_case(REPEATED)
}

/// Escapes of ASCII, which are all that are generated.
fn decode(query: &str) -> String {
    let mut parts = query.split('%');
    let mut decoded = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let byte = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(char::from(byte.expect("generated escapes have two digits")));
        decoded.push_str(&part[2..]);
    }
    decoded
}

#[test]
fn a_request_is_said_again_as_each_of_them_reads_it() {
    let request = |target: &str, values: &[&str]| Request {
        port: 80,
        method: "GET",
        target: target.to_owned(),
        fields: values.iter().map(|value| (REPEATED, (*value).to_owned())).collect(),
        body: "",
    };
    let both = read_differently(&request("/a?q=%31", &["1", "2"])).expect("it is read in two ways");
    let said = |request: &Request| format!("{} {:?}", request.target, request.fields);
    assert_eq!(
        both.as_envoy.iter().map(said).collect::<Vec<_>>(),
        [r#"/a?q=%2531 [("x-v", "1")]"#, r#"/a?q=%2531 [("x-v", "2")]"#]
    );
    assert_eq!(both.as_ringway.as_ref().map(said).as_deref(), Some(r#"/a?q=1 [("x-v", "1,2")]"#));
    assert!(read_differently(&request("/a%20b?q=1", &["1"])).is_none());
    assert!(read_differently(&request("/?q=a%20b", &[])).expect("an escape").as_ringway.is_none());
}
