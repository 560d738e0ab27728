//! Resources for tests, from text as users write it.

use crate::read::read_each;
use crate::{Resource, Resources, read_documents};

/// All documents of `text`, which must be good.
pub(crate) fn resources(text: &str) -> Resources {
    read_documents("test", text).unwrap_or_else(|errors| panic!("{}", errors[0])).into_iter().collect()
}

pub(crate) fn resource(text: &str) -> Resource {
    read_documents("test", text).unwrap_or_else(|errors| panic!("{}", errors[0])).remove(0)
}

/// What is wrong with the one document of `text`: `field: problem` each.
pub(crate) fn errors(text: &str) -> Vec<String> {
    let mut documents = read_each("test", text);
    assert_eq!(documents.len(), 1, "{text}");
    let errors = documents.remove(0).err().unwrap_or_default();
    errors.iter().map(|error| error.error.to_string()).collect()
}
