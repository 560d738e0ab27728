//! Why something is not as it was asked for: the reasons of conditions, in the Gateway API's words.

/// Why a condition is not what one would wish, for programs and for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub reason: Reason,
    pub message: String,
}

impl Refusal {
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Refusal {
        Refusal { reason, message: message.into() }
    }
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    // Routes, Accepted.
    NoMatchingParent,
    NotAllowedByListeners,
    NoMatchingListenerHostname,
    UnsupportedValue,
    /// A route of another kind, or an older one, has the place. The specification asks for Accepted=False and gives
    /// no reason's name.
    RouteConflict,
    // Routes, ResolvedRefs.
    InvalidKind,
    RefNotPermitted,
    BackendNotFound,
    // Routes' ResolvedRefs and listeners' Accepted.
    UnsupportedProtocol,
    // Listeners.
    PortUnavailable,
    HostnameConflict,
    ProtocolConflict,
    InvalidRouteKinds,
    // Gateways and GatewayClasses.
    InvalidParameters,
    UnsupportedAddress,
    ListenersNotValid,
    AddressNotUsable,
    NoResources,
    Invalid,
    Pending,
    // Workloads.
    NodeNotFound,
    HealthCheckDiffers,
}

impl Reason {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Reason::NoMatchingParent => "NoMatchingParent",
            Reason::NotAllowedByListeners => "NotAllowedByListeners",
            Reason::NoMatchingListenerHostname => "NoMatchingListenerHostname",
            Reason::UnsupportedValue => "UnsupportedValue",
            Reason::RouteConflict => "RouteConflict",
            Reason::InvalidKind => "InvalidKind",
            Reason::RefNotPermitted => "RefNotPermitted",
            Reason::BackendNotFound => "BackendNotFound",
            Reason::UnsupportedProtocol => "UnsupportedProtocol",
            Reason::PortUnavailable => "PortUnavailable",
            Reason::HostnameConflict => "HostnameConflict",
            Reason::ProtocolConflict => "ProtocolConflict",
            Reason::InvalidRouteKinds => "InvalidRouteKinds",
            Reason::InvalidParameters => "InvalidParameters",
            Reason::UnsupportedAddress => "UnsupportedAddress",
            Reason::ListenersNotValid => "ListenersNotValid",
            Reason::AddressNotUsable => "AddressNotUsable",
            Reason::NoResources => "NoResources",
            Reason::Invalid => "Invalid",
            Reason::Pending => "Pending",
            Reason::NodeNotFound => "NodeNotFound",
            Reason::HealthCheckDiffers => "HealthCheckDiffers",
        }
    }
}
