//! The four kinds of routes, down to their rules.

use std::collections::{BTreeMap, BTreeSet};

use super::report::Report;
use super::{filter, names, rule};
use crate::kind::GATEWAY_GROUP;
use crate::route::{
    BackendRef, FilterType, GrpcRouteSpec, GrpcRule, HttpRouteSpec, HttpRule, L4RouteSpec, ParentRef,
};

/// Bounds of the Gateway API's CRDs.
const MOST_PARENTS: usize = 32;
const MOST_HOSTNAMES: usize = 16;
const MOST_RULES: usize = 16;
const MOST_MATCHES: usize = 64;
const MOST_MATCHES_OF_ALL_RULES: usize = 128;
const MOST_FILTERS: usize = 16;
const MOST_BACKENDS: usize = 16;
const MOST_WEIGHT: u32 = 1_000_000;

pub(super) fn http(report: &mut Report, spec: &HttpRouteSpec) {
    parents(report, &spec.parent_refs);
    hostnames(report, &spec.hostnames);
    rules(report, spec.rules.iter().map(|rule| (&rule.name, rule.matches.len())).collect());
    for (index, rule) in spec.rules.iter().enumerate() {
        http_rule(report, &format!("spec.rules[{index}]"), rule);
    }
}

fn http_rule(report: &mut Report, at: &str, rule: &HttpRule) {
    for (index, entry) in rule.matches.iter().enumerate() {
        rule::http_match(report, &format!("{at}.matches[{index}]"), entry);
    }
    let prefix = filter::one_prefix_match(&rule.matches);
    report.at_most(MOST_FILTERS, rule.filters.len(), &format!("{at}.filters"));
    filter::http(report, &format!("{at}.filters"), &rule.filters, prefix);
    let redirects = rule.filters.iter().any(|filter| filter.kind == FilterType::RequestRedirect);
    report.check_when(
        !redirects || rule.backend_refs.is_empty(),
        format!("{at}.backendRefs"),
        "must be empty beside a RequestRedirect filter, which answers by itself",
    );
    backends(report, at, &rule.backend_refs);
    for (index, backend) in rule.backend_refs.iter().enumerate() {
        let at = format!("{at}.backendRefs[{index}].filters");
        report.at_most(MOST_FILTERS, backend.filters.len(), &at);
        filter::http(report, &at, &backend.filters, prefix);
    }
    if let Some(timeouts) = &rule.timeouts {
        rule::timeouts(report, &format!("{at}.timeouts"), timeouts);
    }
}

pub(super) fn grpc(report: &mut Report, spec: &GrpcRouteSpec) {
    parents(report, &spec.parent_refs);
    hostnames(report, &spec.hostnames);
    rules(report, spec.rules.iter().map(|rule| (&rule.name, rule.matches.len())).collect());
    for (index, rule) in spec.rules.iter().enumerate() {
        grpc_rule(report, &format!("spec.rules[{index}]"), rule);
    }
}

fn grpc_rule(report: &mut Report, at: &str, rule: &GrpcRule) {
    for (index, entry) in rule.matches.iter().enumerate() {
        rule::grpc_match(report, &format!("{at}.matches[{index}]"), entry);
    }
    report.at_most(MOST_FILTERS, rule.filters.len(), &format!("{at}.filters"));
    filter::grpc(report, &format!("{at}.filters"), &rule.filters);
    backends(report, at, &rule.backend_refs);
    for (index, backend) in rule.backend_refs.iter().enumerate() {
        let at = format!("{at}.backendRefs[{index}].filters");
        report.at_most(MOST_FILTERS, backend.filters.len(), &at);
        filter::grpc(report, &at, &backend.filters);
    }
}

/// TCPRoute and UDPRoute: exactly one rule, at least one backend.
pub(super) fn l4(report: &mut Report, spec: &L4RouteSpec) {
    parents(report, &spec.parent_refs);
    let count = spec.rules.len();
    report.check_when(count == 1, "spec.rules", format!("has {count} entries; exactly one is allowed"));
    for (index, rule) in spec.rules.iter().enumerate() {
        let at = format!("spec.rules[{index}]");
        if let Some(name) = &rule.name {
            report.check(format!("{at}.name"), names::subdomain(name));
        }
        report.check_when(
            !rule.backend_refs.is_empty(),
            format!("{at}.backendRefs"),
            "at least one is needed",
        );
        backends(report, &at, &rule.backend_refs);
        for (index, backend) in rule.backend_refs.iter().enumerate() {
            report.check_when(
                backend.filters.is_empty(),
                format!("{at}.backendRefs[{index}].filters"),
                "unknown field; TCPRoute and UDPRoute have no filters",
            );
        }
    }
}

fn parents(report: &mut Report, parents: &[ParentRef]) {
    report.at_most(MOST_PARENTS, parents.len(), "spec.parentRefs");
    let identity = |parent: &ParentRef| {
        (parent.group.clone(), parent.kind.clone(), parent.namespace.clone(), parent.name.clone())
    };
    let mut times: BTreeMap<_, usize> = BTreeMap::new();
    for parent in parents {
        *times.entry(identity(parent)).or_default() += 1;
    }
    let mut seen = BTreeSet::new();
    for (index, parent) in parents.iter().enumerate() {
        let at = format!("spec.parentRefs[{index}]");
        parent_ref(report, &at, parent);
        let narrowed = parent.section_name.is_some() || parent.port.is_some();
        report.check_when(
            narrowed || times[&identity(parent)] == 1,
            format!("{at}.sectionName"),
            "is missing; several references to one parent must each have a sectionName or port",
        );
        report.check_when(seen.insert(parent), &at, "an earlier entry is the same");
    }
}

fn parent_ref(report: &mut Report, at: &str, parent: &ParentRef) {
    report.check(format!("{at}.group"), names::group(&parent.group));
    report.check(format!("{at}.kind"), names::kind(&parent.kind));
    report.check(format!("{at}.name"), names::subdomain(&parent.name));
    if let Some(namespace) = &parent.namespace {
        report.check(format!("{at}.namespace"), names::label(namespace));
    }
    if let Some(section) = &parent.section_name {
        report.check(format!("{at}.sectionName"), names::subdomain(section));
    }
    if let Some(port) = parent.port {
        report.port(port, format!("{at}.port"));
    }
    report.check_when(
        parent.kind != "Service" || parent.group != GATEWAY_GROUP,
        format!("{at}.group"),
        "is missing; a Service is of group \"\"",
    );
}

fn hostnames(report: &mut Report, hostnames: &[String]) {
    report.at_most(MOST_HOSTNAMES, hostnames.len(), "spec.hostnames");
    for (index, hostname) in hostnames.iter().enumerate() {
        report.check(format!("spec.hostnames[{index}]"), names::hostname(hostname));
    }
    report.unique(hostnames, "spec.hostnames", "name");
}

fn rules(report: &mut Report, rules: Vec<(&Option<String>, usize)>) {
    report.check_when(
        !rules.is_empty(),
        "spec.rules",
        "at least one rule is needed; leave it out for the default",
    );
    report.at_most(MOST_RULES, rules.len(), "spec.rules");
    for (index, (name, matches)) in rules.iter().enumerate() {
        if let Some(name) = name {
            report.check(format!("spec.rules[{index}].name"), names::subdomain(name));
        }
        report.at_most(MOST_MATCHES, *matches, &format!("spec.rules[{index}].matches"));
    }
    let total: usize = rules.iter().map(|(_, matches)| matches).sum();
    report.check_when(
        total <= MOST_MATCHES_OF_ALL_RULES,
        "spec.rules",
        format!("the rules have {total} matches together; at most {MOST_MATCHES_OF_ALL_RULES} are allowed"),
    );
    let given: Vec<_> = rules.iter().filter_map(|(name, _)| name.as_ref()).collect();
    report.check_when(
        given.iter().collect::<BTreeSet<_>>().len() == given.len(),
        "spec.rules",
        "two rules have the same name",
    );
}

fn backends(report: &mut Report, at: &str, backends: &[BackendRef]) {
    report.at_most(MOST_BACKENDS, backends.len(), &format!("{at}.backendRefs"));
    for (index, backend) in backends.iter().enumerate() {
        let at = format!("{at}.backendRefs[{index}]");
        report.check(format!("{at}.group"), names::group(&backend.group));
        report.check(format!("{at}.kind"), names::kind(&backend.kind));
        report.check(format!("{at}.name"), names::subdomain(&backend.name));
        if let Some(namespace) = &backend.namespace {
            report.check(format!("{at}.namespace"), names::label(namespace));
        }
        match backend.port {
            Some(port) => report.port(port, format!("{at}.port")),
            None if backend.is_service() => {
                report.refuse(format!("{at}.port"), "is missing; a Service needs one")
            }
            None => {}
        }
        let weight = backend.weight <= MOST_WEIGHT;
        report.check_when(weight, format!("{at}.weight"), format!("expected 0 to {MOST_WEIGHT}"));
    }
}
