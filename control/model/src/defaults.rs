//! The defaults that users meet, with units and reasons: what `ringway defaults` prints. Whatever of them the model
//! uses, it takes from here; what others enforce has its value here and is read from here.

use std::time::Duration;

use crate::pattern::MOST_COMPILED_BYTES;

/// Envoy's default; Istio has 10 s, Linkerd 1 s.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Envoy's `udp_proxy` and Quilkin agree.
pub const UDP_SESSION_IDLE: Duration = Duration::from_secs(60);
/// This and the three that follow are those of Kubernetes' probes.
pub const HEALTH_CHECK_INTERVAL: Duration = Duration::from_secs(10);
pub const HEALTH_CHECK_TIMEOUT: Duration = Duration::from_secs(1);
pub const HEALTHY_THRESHOLD: u32 = 1;
pub const UNHEALTHY_THRESHOLD: u32 = 3;
/// HTTPRequestRedirectFilter.statusCode.
pub const REDIRECT_STATUS: u16 = 302;
/// How long an adaptive worker looks for more work before it sleeps.
pub const SPIN: Duration = Duration::from_micros(5);

/// One line of `ringway defaults`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub name: &'static str,
    pub value: String,
    /// Empty where the value is a word.
    pub unit: &'static str,
    pub reason: &'static str,
}

/// All of them, by topic.
pub fn settings() -> Vec<Setting> {
    [traffic(), answers(), health(), node()].concat()
}

fn setting(name: &'static str, value: impl ToString, unit: &'static str, reason: &'static str) -> Setting {
    Setting { name, value: value.to_string(), unit, reason }
}

fn traffic() -> Vec<Setting> {
    vec![
        setting("connectTimeout", CONNECT_TIMEOUT.as_secs(), "s", "as Envoy; Istio has 10 s, Linkerd 1 s"),
        setting(
            "timeouts.request",
            "none",
            "",
            "the Gateway API leaves it open; Istio has none; the length of a stream is not known beforehand",
        ),
        setting("timeouts.backendRequest", "none", "", "as timeouts.request"),
        setting("retries", "off", "", "a repeated request is the application's decision, as in Linkerd"),
        setting(
            "udp.sessionIdle",
            UDP_SESSION_IDLE.as_secs(),
            "s",
            "as Envoy's UDP proxy and Quilkin; a pause of a call or a game is shorter",
        ),
        setting(
            "balance.streams",
            "least request, two choices",
            "",
            "as Envoy's least request: close to the best choice at the cost of two draws",
        ),
        setting(
            "balance.datagrams",
            "round robin",
            "",
            "sessions only fall silent, so their number says little of an endpoint's load; a Service's annotation \
             ringway.mesh/balance says otherwise: RoundRobin, LeastRequest (of sessions: the fewer of two draws)",
        ),
        setting(
            "tcp.congestion",
            "cubic",
            "",
            "what most of the network speaks (RFC 9438); a Service's or a Gateway's annotation ringway.mesh/congestion says \
             otherwise: cubic, newreno, bbr (version 3: for paths that lose at random or have long queues)",
        ),
        setting(
            "tcp.pacing",
            "off",
            "",
            "within a rack a burst is the window; the annotation ringway.mesh/pacing says on for long paths; bbr always paces",
        ),
        setting(
            "tcp.ecn",
            "passive",
            "",
            "as Linux: agreed to for who asks; the annotation ringway.mesh/ecn says off, passive or active",
        ),
        setting(
            "backendRefs.weight",
            1,
            "",
            "the Gateway API's; weights need not add up to 100, 0 gets nothing",
        ),
        setting(
            "appProtocol",
            "a plain stream",
            "",
            "no guessing from the first bytes: Linkerd's and Istio's detection stalls protocols whose server speaks first",
        ),
        setting(
            "pattern.compiledBytes",
            MOST_COMPILED_BYTES,
            "bytes",
            "a table may hold thousands of regular expressions; the regex crate alone would allow 10 MiB for each",
        ),
    ]
}

fn answers() -> Vec<Setting> {
    vec![
        setting(
            "answer.noRoute",
            404,
            "status",
            "HTTPRoute; a Service's routes that do not match refuse, too (GAMMA)",
        ),
        setting(
            "answer.invalidBackend",
            500,
            "status",
            "HTTPRoute: for the invalid backend's share; datagrams are dropped",
        ),
        setting("answer.noEndpoint", 503, "status", "HTTPRoute: a backend without a ready endpoint"),
        setting("redirect.statusCode", REDIRECT_STATUS, "status", "HTTPRequestRedirectFilter"),
    ]
}

fn health() -> Vec<Setting> {
    let probes = "as Kubernetes' probes";
    vec![
        setting("healthCheck.interval", HEALTH_CHECK_INTERVAL.as_secs(), "s", probes),
        setting("healthCheck.timeout", HEALTH_CHECK_TIMEOUT.as_secs(), "s", probes),
        setting("healthCheck.healthyThreshold", HEALTHY_THRESHOLD, "checks", probes),
        setting("healthCheck.unhealthyThreshold", UNHEALTHY_THRESHOLD, "checks", probes),
    ]
}

fn node() -> Vec<Setting> {
    vec![
        setting("poll", "adaptive", "", "an idle node uses under 1% of a core; busy spins instead"),
        setting(
            "spin_us",
            SPIN.as_micros(),
            "us",
            "longer than the gap inside a burst, shorter than a wake-up costs",
        ),
        setting(
            "outbound",
            "allow",
            "",
            "as Istio's ALLOW_ANY: what is not a service goes the kernel's way, counted; deny stops it",
        ),
        setting("metadata.namespace", crate::metadata::DEFAULT_NAMESPACE, "", "as Kubernetes"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_has_a_name_of_its_own_and_a_reason() {
        let settings = settings();
        let names: std::collections::BTreeSet<_> = settings.iter().map(|setting| setting.name).collect();
        assert_eq!(names.len(), settings.len());
        assert!(settings.iter().all(|setting| !setting.reason.is_empty() && !setting.value.is_empty()));
    }
}
