//! Who reads what is sent.

use model::table::GATEWAY_CLASS;

/// `user_agent_name` of our data plane.
pub const USER_AGENT: &str = "ringwayd";

/// Who reads the resources. They differ in what they accept, not in what the table means.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Audience {
    /// Our data plane: everything.
    Ringway,
    /// Envoy: what arrives from outside ([`GATEWAY_CLASS`]), because one address and port can be bound once only.
    Envoy,
    /// gRPC's own client: no listener but API listeners, prefixes that end with a slash, round robin.
    Grpc,
}

impl Audience {
    /// By the `user_agent_name` of the client's `Node` message.
    pub fn of(user_agent_name: &str) -> Audience {
        match user_agent_name {
            USER_AGENT => Audience::Ringway,
            name if name.starts_with("gRPC") => Audience::Grpc,
            _ => Audience::Envoy,
        }
    }

    /// Whether it is told of a listener of this class.
    pub(super) fn listens(self, class: &str) -> bool {
        match self {
            Audience::Ringway => true,
            Audience::Envoy => class == GATEWAY_CLASS,
            Audience::Grpc => false,
        }
    }
}
