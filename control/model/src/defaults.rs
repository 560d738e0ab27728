//! The defaults that users meet, with units and reasons: what `ringway defaults` prints, and the constants that the
//! model itself uses.

use std::time::Duration;

/// Envoy's default.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Envoy's `udp_proxy` and Quilkin agree.
pub const UDP_SESSION_IDLE: Duration = Duration::from_secs(60);
pub const HEALTH_CHECK_INTERVAL: Duration = Duration::from_secs(10);
pub const HEALTH_CHECK_TIMEOUT: Duration = Duration::from_secs(1);
pub const HEALTHY_THRESHOLD: u32 = 1;
pub const UNHEALTHY_THRESHOLD: u32 = 3;
