//! Inputs that are rows of records: `LENGTH (two bytes, network order) BYTES`, whatever was cut or put in between.

/// More than any input of the corpus has.
const MAX_RECORDS: usize = 200;

/// The records of `input`. A length beyond the end takes what is left.
pub fn records(mut input: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    while let [high, low, rest @ ..] = input {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        all.push(&rest[..length]);
        input = &rest[length..];
        if all.len() == MAX_RECORDS {
            break;
        }
    }
    all
}

/// The input that [`records`] reads these from.
pub fn join<'a>(records: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut input = Vec::new();
    for record in records {
        input.extend_from_slice(&u16::try_from(record.len()).expect("a record is short").to_be_bytes());
        input.extend_from_slice(record);
    }
    input
}
