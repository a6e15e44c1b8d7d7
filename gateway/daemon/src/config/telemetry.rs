//! `[telemetry]`: spans of messages for OpenTelemetry.

use headgate_model::Fault;
use headgate_shell::SpanSettings;
use hyper::Uri;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the port of OTLP over HTTP is left out.
const PORT: u16 = 4318;
/// Where no path is said. OTLP 1.x, "OTLP/HTTP Request".
const PATH: &str = "/v1/traces";

/// Traces of messages for OpenTelemetry: a span from when a message came until it was acknowledged, and one for each of its deliveries. A message is followed that carries `traceparent` (W3C Trace Context) as a user property of
/// MQTT 5 or a header of STOMP, if that says so, or else by chance; it goes on with a `traceparent` of the gateway's. docs/operations.md says what is in a span.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TelemetrySettings {
    /// Where spans are sent by OTLP over HTTP, in JSON: `http://127.0.0.1:4318`, with `/v1/traces` unless there is a path. Without TLS: a collector on this machine or in a network of its own brings them further. Default: nowhere.
    pub otlp_endpoint: Option<String>,
    /// How many of the messages without a `traceparent` get one and are followed, from 0 to 1.
    pub sample_ratio: f64,
    /// Deliveries of one message that get a span; those of more receivers get none.
    pub max_receivers: u32,
    /// Spans that wait to be sent, 1 to 1,000,000; what is more is dropped and counted.
    pub max_queued: usize,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self {
            otlp_endpoint: None,
            sample_ratio: 0.0,
            max_receivers: 32,
            max_queued: 4_096,
        }
    }
}

/// Where spans go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OtlpEndpoint {
    /// Host and port.
    pub authority: String,
    /// With what is asked for.
    pub path: String,
}

impl OtlpEndpoint {
    fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let host = uri.host().filter(|host| !host.is_empty())?;
        let is_plain = uri.scheme_str() == Some("http") && !text.contains('@');
        let path = match uri.path_and_query().map_or("/", |path| path.as_str()) {
            "/" => PATH,
            path => path,
        };
        is_plain.then(|| Self {
            authority: format!("{host}:{}", uri.port_u16().unwrap_or(PORT)),
            path: path.to_owned(),
        })
    }
}

impl TelemetrySettings {
    /// Where spans go, if anywhere.
    pub(crate) fn endpoint(&self) -> Option<OtlpEndpoint> {
        OtlpEndpoint::parse(self.otlp_endpoint.as_deref()?)
    }

    /// Which messages get spans.
    pub(crate) fn spans(&self) -> SpanSettings {
        SpanSettings {
            sample_ratio: self.sample_ratio,
            max_receivers: self.max_receivers,
        }
    }

    /// All that is wrong with it.
    pub(super) fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if let Some(text) = &self.otlp_endpoint
            && OtlpEndpoint::parse(text).is_none()
        {
            let what = format!("`{text}`: allowed is `http://HOST`, with `:PORT` and `/PATH` if wanted");
            faults.push(Fault::new("otlp_endpoint", what));
        }
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            let what = format!("{} is out of range, allowed is 0 to 1", self.sample_ratio);
            faults.push(Fault::new("sample_ratio", what));
        }
        if !(1..=1_000_000).contains(&self.max_queued) {
            let what = format!("{} is out of range, allowed is 1 to 1000000", self.max_queued);
            faults.push(Fault::new("max_queued", what));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_has_a_port_and_a_path() {
        for (text, authority, path) in [
            ("http://127.0.0.1", "127.0.0.1:4318", "/v1/traces"),
            ("http://collector:9/", "collector:9", "/v1/traces"),
            ("http://[::1]:4318/other", "[::1]:4318", "/other"),
        ] {
            let expected = OtlpEndpoint {
                authority: authority.into(),
                path: path.into(),
            };
            assert_eq!(OtlpEndpoint::parse(text), Some(expected), "{text}");
        }
        for wrong in [
            "",
            "127.0.0.1:4318",
            "https://collector",
            "http://",
            "http://u:p@host",
            "grpc://x",
        ] {
            assert_eq!(OtlpEndpoint::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_cannot_be_is_told_with_its_key() {
        let wrong = TelemetrySettings {
            otlp_endpoint: Some("https://collector".into()),
            sample_ratio: f64::NAN,
            max_queued: 0,
            ..TelemetrySettings::default()
        };
        let faults = wrong.faults();
        let keys: Vec<&str> = faults.iter().map(|fault| &*fault.key).collect();
        assert_eq!(keys, ["otlp_endpoint", "sample_ratio", "max_queued"]);
        assert!(TelemetrySettings::default().faults().is_empty());
    }
}
