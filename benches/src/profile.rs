//! What functions cost with all that they call, read from callgrind's file: how the text's part of a segment's cost, which
//! grows with its length, is told from the rest.

use std::collections::HashMap;

/// Functions that only copy or sum text: the stack and the benches keep them out of line for this. A header is copied and
/// summed elsewhere.
const COPY: [&str; 2] = ["stack::tcp::memory::copy_text", "benches::stack::copy_text"];
const CHECKSUM: [&str; 1] = ["stack::checksum::sum_of"];

/// Instructions of all calls.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct TextCost {
    pub copy: u64,
    pub checksum: u64,
}

/// A call is three lines: `cfn=` names the callee, `calls=` counts, and the next has the cost of them, callees included.
/// A name stands in full where it comes first, as `(number) name`, and afterwards as its number alone.
pub fn text_cost(callgrind: &str) -> TextCost {
    let mut names: HashMap<&str, &str> = HashMap::new();
    let mut cost = TextCost::default();
    let (mut callee, mut is_call) = ("", false);
    for line in callgrind.lines() {
        if let Some(name) = line.strip_prefix("cfn=").or_else(|| line.strip_prefix("fn=")) {
            let (number, name) = name.split_once(' ').unwrap_or((name, ""));
            let name = if name.is_empty() { names.get(number).copied().unwrap_or("") } else { name };
            names.insert(number, name);
            if line.starts_with('c') {
                callee = name;
            }
        } else if line.starts_with("calls=") {
            is_call = true;
        } else if std::mem::take(&mut is_call) {
            let instructions = line.split(' ').nth(1).and_then(|count| count.parse().ok()).unwrap_or(0);
            if COPY.contains(&callee) {
                cost.copy += instructions;
            } else if CHECKSUM.contains(&callee) {
                cost.checksum += instructions;
            }
        }
    }
    cost
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_summed_by_what_is_called_with_its_callees() {
        let text = "events: Ir\nfl=(1) a.rs\nfn=(1) main\n10 5\ncfn=(2) stack::tcp::memory::copy_text\ncalls=2 20\n11 70\n\
                    fn=(2)\n20 8\ncfn=(3) memcpy\ncalls=2 1\n21 62\nfn=(4) stack::checksum::sum_of\n30 40\n\
                    fn=(1)\ncfn=(4)\ncalls=1 30\n+1 40\ncfn=(2)\ncalls=1 20\n* 30\n";
        assert_eq!(text_cost(text), TextCost { copy: 100, checksum: 40 });
        assert_eq!(text_cost(""), TextCost::default());
    }
}
