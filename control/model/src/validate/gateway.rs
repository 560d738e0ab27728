//! GatewayClass, Gateway and ReferenceGrant.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::names;
use super::report::Report;
use crate::gateway::{
    FromNamespaces, GatewayAddress, GatewayClassSpec, GatewayListener, GatewaySpec, IP_ADDRESS_TYPE,
    LabelExpression, LabelOperator, LabelSelector,
};
use crate::grant::ReferenceGrantSpec;

/// Bounds of the Gateway API's CRDs.
const MOST_DESCRIPTION_BYTES: usize = 64;
const MOST_LISTENERS: usize = 64;
const MOST_ADDRESSES: usize = 16;
const MOST_KINDS: usize = 8;
const MOST_GRANT_ENTRIES: usize = 16;
/// No CRD bounds a selector; Kubernetes' own objects never come near this.
const MOST_SELECTOR_ENTRIES: usize = 64;

pub(super) fn class(report: &mut Report, spec: &GatewayClassSpec) {
    report.check("spec.controllerName", names::controller(&spec.controller_name));
    let length = spec.description.as_ref().map_or(0, String::len);
    report.check_when(length <= MOST_DESCRIPTION_BYTES, "spec.description", "at most 64 bytes are allowed");
}

pub(super) fn gateway(report: &mut Report, spec: &GatewaySpec) {
    report.check("spec.gatewayClassName", names::subdomain(&spec.gateway_class_name));
    report.check_when(!spec.listeners.is_empty(), "spec.listeners", "at least one listener is needed");
    report.at_most(MOST_LISTENERS, spec.listeners.len(), "spec.listeners");
    for (index, entry) in spec.listeners.iter().enumerate() {
        listener(report, &format!("spec.listeners[{index}]"), entry);
    }
    report.unique(spec.listeners.iter().map(|entry| &entry.name), "spec.listeners", "name");
    let sockets = spec.listeners.iter().map(|entry| (entry.port, &entry.protocol, &entry.hostname));
    report.unique(sockets, "spec.listeners", "port, protocol and hostname");
    report.at_most(MOST_ADDRESSES, spec.addresses.len(), "spec.addresses");
    for (index, entry) in spec.addresses.iter().enumerate() {
        address(report, &format!("spec.addresses[{index}]"), entry);
    }
    let addresses = spec.addresses.iter().map(|entry| (&entry.kind, &entry.value));
    report.unique(addresses, "spec.addresses", "value");
}

fn listener(report: &mut Report, at: &str, listener: &GatewayListener) {
    report.check(format!("{at}.name"), names::subdomain(&listener.name));
    report.port(listener.port, format!("{at}.port"));
    report.check_when(
        is_protocol(&listener.protocol),
        format!("{at}.protocol"),
        format!(
            "{:?}: expected HTTP, HTTPS, TLS, TCP, UDP or a name such as example.com/bar",
            listener.protocol
        ),
    );
    let plain = matches!(listener.protocol.as_str(), "HTTP" | "TCP" | "UDP");
    report.check_when(
        listener.tls.is_none() || !plain,
        format!("{at}.tls"),
        format!("must not be set for protocol {}", listener.protocol),
    );
    if let Some(hostname) = &listener.hostname {
        report.check(format!("{at}.hostname"), names::hostname(hostname));
        let named = !matches!(listener.protocol.as_str(), "TCP" | "UDP");
        report.check_when(
            named,
            format!("{at}.hostname"),
            format!("must not be set for protocol {}", listener.protocol),
        );
    }
    let allowed = &listener.allowed_routes;
    report.at_most(MOST_KINDS, allowed.kinds.len(), &format!("{at}.allowedRoutes.kinds"));
    for (index, entry) in allowed.kinds.iter().enumerate() {
        report.check(format!("{at}.allowedRoutes.kinds[{index}].group"), names::group(&entry.group));
        report.check(format!("{at}.allowedRoutes.kinds[{index}].kind"), names::kind(&entry.kind));
    }
    let at = format!("{at}.allowedRoutes.namespaces");
    match (&allowed.namespaces.from, &allowed.namespaces.selector) {
        (FromNamespaces::Selector, None) => {
            report.refuse(format!("{at}.selector"), "is missing; from: Selector needs it");
        }
        (_, Some(labels)) => selector(report, &format!("{at}.selector"), labels),
        (_, None) => {}
    }
}

/// The Gateway API's ProtocolType: a word, or a domain and a word.
fn is_protocol(text: &str) -> bool {
    let word = |word: &str| {
        !word.is_empty()
            && word.len() <= 255
            && !word.starts_with('-')
            && !word.ends_with('-')
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    match text.split_once('/') {
        Some((domain, name)) => names::subdomain(domain).is_ok() && word(name),
        None => word(text),
    }
}

fn selector(report: &mut Report, at: &str, selector: &LabelSelector) {
    report.at_most(MOST_SELECTOR_ENTRIES, selector.match_labels.len(), &format!("{at}.matchLabels"));
    report.at_most(
        MOST_SELECTOR_ENTRIES,
        selector.match_expressions.len(),
        &format!("{at}.matchExpressions"),
    );
    for (key, value) in &selector.match_labels {
        report.check(format!("{at}.matchLabels[{key}]"), names::label_key(key));
        report.check(format!("{at}.matchLabels[{key}]"), names::label_value(value));
    }
    for (index, entry) in selector.match_expressions.iter().enumerate() {
        expression(report, &format!("{at}.matchExpressions[{index}]"), entry);
    }
}

fn expression(report: &mut Report, at: &str, expression: &LabelExpression) {
    report.check(format!("{at}.key"), names::label_key(&expression.key));
    let lists = matches!(expression.operator, LabelOperator::In | LabelOperator::NotIn);
    let problem = if lists { "In and NotIn need values" } else { "Exists and DoesNotExist take no values" };
    report.check_when(lists != expression.values.is_empty(), format!("{at}.values"), problem);
    report.at_most(MOST_SELECTOR_ENTRIES, expression.values.len(), &format!("{at}.values"));
}

fn address(report: &mut Report, at: &str, address: &GatewayAddress) {
    let field = format!("{at}.value");
    match address.kind.as_str() {
        IP_ADDRESS_TYPE => {
            let problem = format!("{:?}: expected an IPv4 or IPv6 address", address.value);
            report.check_when(address.value.parse::<IpAddr>().is_ok(), field, problem);
        }
        "Hostname" => report.check(field, names::precise_hostname(&address.value)),
        other => {
            let problem =
                format!("{other:?}: expected IPAddress, Hostname or a name such as example.com/bar");
            report.check_when(is_protocol(other), format!("{at}.type"), problem);
        }
    }
}

pub(super) fn grant(report: &mut Report, spec: &ReferenceGrantSpec) {
    for (list, count) in [("spec.from", spec.from.len()), ("spec.to", spec.to.len())] {
        report.check_when(count > 0, list, "at least one entry is needed");
        report.at_most(MOST_GRANT_ENTRIES, count, list);
    }
    for (index, from) in spec.from.iter().enumerate() {
        report.check(format!("spec.from[{index}].group"), names::group(&from.group));
        report.check(format!("spec.from[{index}].kind"), names::kind(&from.kind));
        report.check(format!("spec.from[{index}].namespace"), names::label(&from.namespace));
    }
    for (index, to) in spec.to.iter().enumerate() {
        report.check(format!("spec.to[{index}].group"), names::group(&to.group));
        report.check(format!("spec.to[{index}].kind"), names::kind(&to.kind));
        if let Some(name) = &to.name {
            report.check(format!("spec.to[{index}].name"), names::subdomain(name));
        }
    }
}

/// At most one address of each family, each one host's.
pub(super) fn dual_stack(report: &mut Report, list: &str, addresses: &[IpAddr]) {
    for (index, address) in addresses.iter().enumerate() {
        report.check(format!("{list}[{index}]"), names::unicast(*address));
    }
    let families: BTreeSet<bool> = addresses.iter().map(IpAddr::is_ipv4).collect();
    report.check_when(
        families.len() == addresses.len(),
        list,
        "at most one IPv4 and one IPv6 address are allowed",
    );
}
