//! Where a control plane listens: `HOST:PORT`, `http://HOST:PORT` or `unix:/PATH`.

use std::time::Duration;

use tonic::transport::Endpoint;

/// How long a connection attempt may take (DEFAULTS: connect timeout).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer that vanished without a word is noticed within half a minute.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where `ringway-control` listens unless told otherwise.
pub const DEFAULT_CONTROL: &str = "127.0.0.1:15010";
pub const DEFAULT_PORT: u16 = 15_010;

/// A text that is no address of a control plane.
#[derive(Debug, thiserror::Error)]
#[error("control plane address {address:?}: use HOST:PORT or unix:/PATH ({cause})")]
pub struct AddressError {
    address: String,
    cause: String,
}

/// Reads an address; nothing is connected yet.
pub fn parse(address: &str) -> Result<Endpoint, AddressError> {
    let wrong = |cause: String| AddressError { address: address.to_owned(), cause };
    let uri = match address {
        unix if unix.starts_with("unix:") => unix.to_owned(),
        full if full.starts_with("http://") => full.to_owned(),
        path if path.starts_with('/') => format!("unix:{path}"),
        other if other.contains("://") => return Err(wrong("this scheme is not spoken".to_owned())),
        plain => format!("http://{plain}"),
    };
    let endpoint = Endpoint::from_shared(uri).map_err(|e| wrong(e.to_string()))?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

/// Whether this is the address of a Unix socket.
pub fn is_unix(address: &str) -> bool {
    address.starts_with("unix:") || address.starts_with('/')
}

/// The last cause of an error says most ("Connection refused"), the first least ("transport error").
pub fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn addresses_with_port_path_and_url_are_read() {
        for address in
            ["127.0.0.1:15010", "[::1]:15010", "http://node-1:15010", "unix:/run/x.sock", "/run/x.sock"]
        {
            assert!(parse(address).is_ok(), "{address}");
        }
    }

    #[test]
    fn another_scheme_is_refused_with_the_right_form() {
        let error = parse("ftp://node-1").unwrap_err().to_string();
        assert!(error.contains("HOST:PORT or unix:/PATH"), "{error}");
    }
}
