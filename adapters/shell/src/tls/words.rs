//! Why a TLS handshake failed, in words that say what is missing and where it is set.

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};
use std::io;

/// What an operator reads of a handshake that a client could not finish.
pub(crate) fn explain(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return "the client closed the connection in the middle of the handshake: some do so when they do not trust the \
                certificate"
            .into();
    }
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let known = match inner {
        Some(Error::AlertReceived(alert)) => of_alert(*alert),
        Some(Error::InvalidCertificate(fault)) => of_certificate(fault),
        Some(Error::PeerIncompatible(lack)) => of_lack(lack),
        Some(Error::NoCertificatesPresented) => {
            Some("the client sent no certificate, and require_client_certificate is set")
        }
        Some(Error::InvalidMessage(_) | Error::InappropriateMessage { .. }) => {
            Some("the client does not speak TLS: its settings may name the port without TLS")
        }
        Some(Error::NoApplicationProtocol) => Some("no application protocol in common (alpn)"),
        _ => None,
    };
    match (known, inner) {
        (Some(known), Some(inner)) => format!("{known} ({inner})"),
        _ => error.to_string(),
    }
}

/// What the client says of us.
fn of_alert(alert: AlertDescription) -> Option<&'static str> {
    use AlertDescription as Alert;
    Some(match alert {
        Alert::UnknownCA | Alert::BadCertificate | Alert::CertificateUnknown => {
            "the client does not trust the gateway's certificate: it needs the CA that signed it, and the name in it; the certificate \
             itself must not be a CA's (docs/security.md)"
        }
        Alert::CertificateExpired => {
            "the client finds the gateway's certificate expired: look at the certificate and at the client's clock"
        }
        Alert::ProtocolVersion => "the client wants another version of TLS (min_version)",
        Alert::HandshakeFailure | Alert::InsufficientSecurity => {
            "the client finds nothing in common (min_version, ciphers, curves)"
        }
        _ => return None,
    })
}

/// What is wrong with the client's certificate.
fn of_certificate(fault: &CertificateError) -> Option<&'static str> {
    use CertificateError as Fault;
    Some(match fault {
        Fault::UnknownIssuer => "no CA in client_ca signed the client's certificate",
        Fault::Expired | Fault::ExpiredContext { .. } => {
            "the client's certificate has expired, or the gateway's clock is ahead"
        }
        Fault::NotValidYet | Fault::NotValidYetContext { .. } => {
            "the client's certificate is not valid yet, or the gateway's clock is behind"
        }
        Fault::Revoked => "the client's certificate is revoked (crl)",
        Fault::UnknownRevocationStatus => {
            "no list in crl is of the issuer of the client's certificate (crl_allow_unknown)"
        }
        Fault::ExpiredRevocationList | Fault::ExpiredRevocationListContext { .. } => {
            "the list in crl has expired (crl_enforce_expiry)"
        }
        Fault::InvalidPurpose | Fault::InvalidPurposeContext { .. } => {
            "the client's certificate is not for clients (extended key usage)"
        }
        _ => return None,
    })
}

/// What client and gateway do not have in common.
fn of_lack(lack: &PeerIncompatible) -> Option<&'static str> {
    use PeerIncompatible as Lack;
    Some(match lack {
        Lack::NoCipherSuitesInCommon => "no cipher suite in common (ciphers)",
        Lack::NoKxGroupsInCommon => "no key exchange group in common (curves)",
        Lack::NoSignatureSchemesInCommon => "the client takes no signature of the gateway's key",
        Lack::SupportedVersionsExtensionRequired
        | Lack::Tls12NotOffered
        | Lack::Tls12NotOfferedOrEnabled
        | Lack::ServerTlsVersionIsDisabledByOurConfig => {
            "the client speaks an older version of TLS than is taken here (min_version)"
        }
        Lack::ExtendedMasterSecretExtensionRequired => {
            "the client lacks the extended master secret (RFC 7627)"
        }
        _ => return None,
    })
}
