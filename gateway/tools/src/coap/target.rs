//! Where a request goes, as it is written: `coap://host:port/path?query`. §6.1

use super::CoapError;
use headgate_coap_codec::{Message, number};
use percent_encoding::percent_decode_str;
use std::net::SocketAddr;
use tokio::net::lookup_host;

/// §6.1
const PORT: u16 = 5_683;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub host: String,
    pub port: u16,
    path: Vec<Vec<u8>>,
    query: Vec<Vec<u8>>,
}

impl Target {
    pub(crate) fn parse(uri: &str) -> Result<Self, CoapError> {
        let wrong = |why| CoapError::Uri {
            uri: uri.to_owned(),
            why,
        };
        let rest = match uri.split_once("://") {
            Some(("coap", rest)) => rest,
            Some(_) => return Err(wrong("only coap:// is spoken here")),
            None => uri,
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = match authority.strip_prefix('[').and_then(|v6| v6.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => match authority.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        if host.is_empty() {
            return Err(wrong("the host is missing"));
        }
        let port = match port {
            None => PORT,
            Some(port) => port
                .parse()
                .map_err(|_| wrong("the port is no number up to 65535"))?,
        };
        let parts = |text: &str, at: char| -> Vec<Vec<u8>> {
            let parts = text.split(at).filter(|_| !text.is_empty());
            parts.map(|part| percent_decode_str(part).collect()).collect()
        };
        Ok(Self {
            host: host.to_owned(),
            port,
            path: parts(path, '/'),
            query: parts(query, '&'),
        })
    }

    /// Writes path and query into a request.
    pub(crate) fn put(&self, request: &mut Message) {
        for segment in &self.path {
            request.options.push(number::URI_PATH, segment.clone());
        }
        for word in &self.query {
            request.options.push(number::URI_QUERY, word.clone());
        }
    }

    pub(crate) async fn resolve(&self) -> Result<SocketAddr, CoapError> {
        let found = lookup_host((self.host.as_str(), self.port)).await;
        let mut found = found.map_err(|cause| CoapError::Resolve {
            host: self.host.clone(),
            cause,
        })?;
        found
            .next()
            .ok_or_else(|| CoapError::NoAddress(self.host.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// \[RFC7252-6.1-1\] \[RFC7252-6.1-2\] \[RFC7252-6.4-1\]
    #[test]
    fn addresses_as_they_are_written() {
        let parsed = |uri: &str| {
            let target = Target::parse(uri).unwrap();
            let text = |parts: &[Vec<u8>]| {
                parts
                    .iter()
                    .map(|part| String::from_utf8_lossy(part).into_owned())
                    .collect::<Vec<_>>()
            };
            (target.host, target.port, text(&target.path), text(&target.query))
        };
        let all = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            parsed("coap://h/ps/a%2Fb?c=1&p=%26"),
            ("h".into(), 5_683, all(&["ps", "a/b"]), all(&["c=1", "p=&"]))
        );
        assert_eq!(parsed("coap://[::1]:9/"), ("::1".into(), 9, vec![], vec![]));
        assert_eq!(parsed("localhost:77"), ("localhost".into(), 77, vec![], vec![]));
        for wrong in ["coaps://h/", "coap:///a", "coap://h:x/", ":5"] {
            assert!(Target::parse(wrong).is_err(), "{wrong}");
        }
    }
}
