//! Who the client is, as TLS has verified it.

use std::net::IpAddr;
use std::path::Path;

use rustls::{ProtocolVersion, ServerConnection};
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::FromDer;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use super::{CertificateView, ServedCertificate};
use headgate_access::{ClientCert, TlsInfo};
use rustls_pki_types::CertificateDer;

/// What TLS agreed on. `None`: there is a client certificate that cannot be read.
pub(crate) fn agreed(tls: &ServerConnection) -> Option<TlsInfo> {
    let client_cert = match tls.peer_certificates().and_then(<[_]>::first) {
        Some(der) => Some(certificate_of(der)?),
        None => None,
    };
    let suite = tls
        .negotiated_cipher_suite()
        .map(|suite| format!("{:?}", suite.suite()));
    Some(TlsInfo {
        sni: tls.server_name().map(Into::into),
        version: match tls.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "TLSv1.2", // we offer these two
        },
        cipher: suite.unwrap_or_default().replace("TLS13_", "TLS_"),
        alpn: tls
            .alpn_protocol()
            .map(|name| String::from_utf8_lossy(name).into_owned()),
        client_cert,
        identity: None,
    })
}

/// Whether it says of itself that it signs others. RFC 5280 §4.2.1.9
pub(super) fn is_of_a_ca(der: &[u8]) -> bool {
    X509Certificate::from_der(der).is_ok_and(|(_, certificate)| certificate.is_ca())
}

/// What a chain says of itself; `None` when it cannot be read.
pub(super) fn served(path: &Path, chain: &[CertificateDer<'_>]) -> Option<ServedCertificate> {
    let parsed: Vec<X509Certificate<'_>> = chain
        .iter()
        .map(|der| X509Certificate::from_der(der).map(|(_, certificate)| certificate))
        .collect::<Result<_, _>>()
        .ok()?;
    let validity = || parsed.iter().map(|certificate| certificate.validity());
    let broken = parsed.windows(2).enumerate().find_map(|(n, pair)| {
        let fits = pair[0].issuer() == pair[1].subject();
        let issuer = distinguished_name(pair[0].issuer());
        (!fits).then(|| {
            format!(
                "certificate {} was issued by `{issuer}`, which certificate {} is not",
                n + 1,
                n + 2
            )
        })
    });
    Some(ServedCertificate {
        path: path.to_owned(),
        subject: distinguished_name(parsed.first()?.subject()),
        not_before: validity().map(|valid| valid.not_before.timestamp()).max()?,
        not_after: validity().map(|valid| valid.not_after.timestamp()).min()?,
        chain_fault: broken,
    })
}

/// What a certificate says, for operators; `None` when it cannot be read.
pub(super) fn view(path: &Path, chain: &[CertificateDer<'_>]) -> Option<CertificateView> {
    let served = served(path, chain)?;
    let (_, ours) = X509Certificate::from_der(chain.first()?).ok()?;
    let alternatives = ours.subject_alternative_name().ok().flatten();
    let names = alternatives
        .into_iter()
        .flat_map(|names| &names.value.general_names);
    let subjects = chain.iter().filter_map(|der| {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        Some(distinguished_name(certificate.subject()))
    });
    Some(CertificateView {
        subject: served.subject,
        issuer: distinguished_name(ours.issuer()),
        names: names.filter_map(alternative_name).collect(),
        not_before: served.not_before,
        not_after: served.not_after,
        chain: subjects.collect(),
        chain_fault: served.chain_fault,
    })
}

pub(crate) fn certificate_of(der: &[u8]) -> Option<ClientCert> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let names = certificate.subject_alternative_name().ok()?;
    let names = names.map_or(&[][..], |extension| &extension.value.general_names);
    let common_name = certificate.subject().iter_common_name().last();
    Some(ClientCert {
        common_name: common_name.and_then(|name| name.as_str().ok()).map(Into::into),
        subject: distinguished_name(certificate.subject()),
        issuer: distinguished_name(certificate.issuer()),
        serial: certificate
            .raw_serial()
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect(),
        san: names.iter().filter_map(alternative_name).collect(),
        sha256: Sha256::digest(der).into(),
    })
}

fn alternative_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(format!("DNS:{name}")),
        GeneralName::RFC822Name(name) => Some(format!("email:{name}")),
        GeneralName::URI(name) => Some(format!("URI:{name}")),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let address = v4
                .or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from))
                .ok()?;
            Some(format!("IP:{address}"))
        }
        _ => None,
    }
}

/// RFC 4514: the most specific part first.
fn distinguished_name(name: &X509Name<'_>) -> String {
    let mut parts: Vec<_> = name
        .iter_rdn()
        .map(|part| part.iter().map(attribute).collect::<Vec<_>>().join("+"))
        .collect();
    parts.reverse();
    parts.join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type();
    let name = oid2abbrev(oid, oid_registry()).map_or_else(|_| oid.to_id_string(), Into::into);
    match attribute.as_str() {
        Ok(value) => format!("{name}={}", escape(value)),
        Err(_) => {
            let hex: String = attribute
                .as_slice()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            format!("{name}=#{hex}")
        }
    }
}

/// RFC 4514 §2.4
fn escape(value: &str) -> String {
    let last = value.chars().count().saturating_sub(1);
    let mut escaped = String::with_capacity(value.len());
    for (at, c) in value.chars().enumerate() {
        match c {
            '\0' => escaped.push_str("\\00"),
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => escaped.extend(['\\', c]),
            '#' if at == 0 => escaped.push_str("\\#"),
            ' ' if at == 0 || at == last => escaped.push_str("\\ "),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_pretend_to_be_another_attribute() {
        assert_eq!(escape("pump,OU=admin"), "pump\\,OU=admin");
        assert_eq!(escape(" #7 "), "\\ #7\\ ");
        assert_eq!(escape("#7"), "\\#7");
    }
}
