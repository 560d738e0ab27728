//! What a Service and a Gateway may say of TCP.

use super::report::Report;
use crate::metadata::Metadata;
use crate::tcp::{TcpSettings, UnknownWord};

pub(super) fn settings(report: &mut Report, metadata: &Metadata) {
    for UnknownWord { annotation, word, expected } in TcpSettings::unknown(&metadata.annotations) {
        let field = format!("metadata.annotations[{annotation}]");
        report.refuse(field, format!("{word:?} is not supported; expected {expected}"));
    }
}
