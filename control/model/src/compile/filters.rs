//! Filters of routes to filters of the table.

use crate::defaults::REDIRECT_STATUS;
use crate::route::{HeaderModifier, HeaderValue, PathModifier, PathModifierType, RouteFilter, Scheme};
use crate::table::{HeaderEdit, HttpFilter, PathRewrite, Redirect};

/// Filters that Ringway does not carry out never come here: their routes are not attached.
pub(super) fn filter(filter: &RouteFilter, port: u16) -> Option<HttpFilter> {
    let Some(redirect) = &filter.request_redirect else { return modifier(filter) };
    Some(HttpFilter::Redirect(Redirect {
        scheme: redirect.scheme.map(|scheme| scheme_name(scheme).to_owned()),
        hostname: redirect.hostname.clone(),
        path: redirect.path.as_ref().and_then(path_rewrite),
        port: Some(redirect_port(redirect.port, redirect.scheme, port)),
        status: redirect.status_code.unwrap_or(REDIRECT_STATUS),
    }))
}

/// The filters that may stand beside a backend too.
pub(super) fn modifier(filter: &RouteFilter) -> Option<HttpFilter> {
    if let Some(edits) = &filter.request_header_modifier {
        return Some(HttpFilter::RequestHeaders(edit(edits)));
    }
    if let Some(edits) = &filter.response_header_modifier {
        return Some(HttpFilter::ResponseHeaders(edit(edits)));
    }
    let rewrite = filter.url_rewrite.as_ref()?;
    Some(HttpFilter::Rewrite {
        hostname: rewrite.hostname.clone(),
        path: rewrite.path.as_ref().and_then(path_rewrite),
    })
}

fn edit(modifier: &HeaderModifier) -> HeaderEdit {
    let pairs = |list: &[HeaderValue]| {
        list.iter().map(|header| (header.name.to_ascii_lowercase(), header.value.clone())).collect()
    };
    HeaderEdit {
        set: pairs(&modifier.set),
        add: pairs(&modifier.add),
        remove: modifier.remove.iter().map(|name| name.to_ascii_lowercase()).collect(),
    }
}

fn path_rewrite(modifier: &PathModifier) -> Option<PathRewrite> {
    match modifier.kind {
        PathModifierType::ReplaceFullPath => modifier.replace_full_path.clone().map(PathRewrite::Full),
        PathModifierType::ReplacePrefixMatch => {
            modifier.replace_prefix_match.clone().map(PathRewrite::Prefix)
        }
    }
}

fn scheme_name(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    }
}

/// HTTPRequestRedirectFilter.port: what is given; else the scheme's own; else the listener's.
fn redirect_port(given: Option<u16>, scheme: Option<Scheme>, listener: u16) -> u16 {
    given.unwrap_or(match scheme {
        Some(Scheme::Http) => 80,
        Some(Scheme::Https) => 443,
        None => listener,
    })
}
