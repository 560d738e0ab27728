//! TCP's settings <-> their message in the metadata of a listener or a cluster. The defaults are not written.

use model::tcp::{Congestion, Ecn, TcpSettings};

use super::error::FieldError;
use crate::proto::mesh;

pub(super) fn encode(settings: TcpSettings) -> Option<mesh::TcpSettings> {
    (settings != TcpSettings::default()).then(|| mesh::TcpSettings {
        congestion: settings.congestion.name().to_owned(),
        pacing: settings.pacing,
        ecn: settings.ecn.name().to_owned(),
    })
}

pub(super) fn decode(message: Option<mesh::TcpSettings>) -> Result<TcpSettings, FieldError> {
    let Some(message) = message else { return Ok(TcpSettings::default()) };
    let unknown = |field: &str, word: &str| FieldError::unsupported(field, word);
    Ok(TcpSettings {
        congestion: Congestion::from_name(&message.congestion)
            .ok_or_else(|| unknown("metadata.tcp.congestion", &message.congestion))?,
        pacing: message.pacing,
        ecn: Ecn::from_name(&message.ecn).ok_or_else(|| unknown("metadata.tcp.ecn", &message.ecn))?,
    })
}
