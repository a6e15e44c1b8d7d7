//! The PROXY protocol, versions 1 and 2: who the client is, told by a load balancer in front of the first byte.
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>
//!
//! Always true: not one byte behind the header is taken from the socket, TLS needs them all.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ppp::v2;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

const V1_START: &[u8] = b"PROXY ";
/// With the line's end, §2.1.
const V1_MAX: usize = 107;
/// No header of any version is shorter than this, so that much can be read before the version is known.
const START: usize = 12;
const V2_FIXED: usize = 16;
/// §2.2 allows 64 KiB; addresses and the usual TLVs take a few hundred bytes.
const V2_MAX: usize = 4096;

/// §2.2.6: `client` flags and the type of the sub-TLV with the common name.
const PP2_CLIENT_SSL: u8 = 0x01;
const PP2_CLIENT_CERT_CONN: u8 = 0x02;
const PP2_CLIENT_CERT_SESS: u8 = 0x04;

/// What a PROXY header says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ProxyHeader {
    /// Client and server as the proxy saw them; `None`: UNKNOWN, LOCAL or no internet addresses.
    pub(crate) addresses: Option<(SocketAddr, SocketAddr)>,
    pub(crate) common_name: Option<String>,
    pub(crate) authority: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    #[error("no PROXY header in front")]
    Missing,
    #[error("PROXY header version 1: {0}")]
    V1(String),
    #[error("PROXY header version 2: {0}")]
    V2(String),
    #[error("PROXY header of {0} bytes, limit {V2_MAX}")]
    TooLong(usize),
    #[error(transparent)]
    Io(#[from] io::Error),
}

pub(crate) async fn read_header(stream: &mut TcpStream) -> Result<ProxyHeader, ProxyError> {
    let mut bytes = Vec::with_capacity(V1_MAX);
    while bytes.len() < START {
        read_up_to(stream, &mut bytes, START).await?;
        if !is_prefix(&bytes, V1_START) && !is_prefix(&bytes, v2::PROTOCOL_PREFIX) {
            return Err(ProxyError::Missing);
        }
    }
    if bytes.starts_with(V1_START) {
        while !bytes.ends_with(b"\n") {
            read_line_part(stream, &mut bytes).await?;
        }
        parse_v1(&bytes)
    } else {
        while bytes.len() < V2_FIXED {
            read_up_to(stream, &mut bytes, V2_FIXED).await?;
        }
        let size = V2_FIXED + usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
        if size > V2_MAX {
            return Err(ProxyError::TooLong(size));
        }
        while bytes.len() < size {
            read_up_to(stream, &mut bytes, size).await?;
        }
        parse_v2(&bytes)
    }
}

/// Whether one is the beginning of the other.
fn is_prefix(bytes: &[u8], start: &[u8]) -> bool {
    bytes.iter().zip(start).all(|(a, b)| a == b)
}

async fn read_up_to(stream: &mut TcpStream, bytes: &mut Vec<u8>, size: usize) -> io::Result<()> {
    let missing = (size - bytes.len()) as u64;
    match stream.take(missing).read_buf(bytes).await? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// Takes what is there, at most up to the line's end. Looking first is what keeps the rest in the socket.
async fn read_line_part(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Result<(), ProxyError> {
    let mut seen = [0; V1_MAX];
    let room = V1_MAX - bytes.len();
    let n = stream.peek(&mut seen[..room]).await?;
    let line_end = seen[..n].iter().position(|byte| *byte == b'\n');
    let wanted = line_end.map_or(n, |at| at + 1);
    if line_end.is_none() && n == room {
        return Err(ProxyError::V1(format!("longer than {V1_MAX} bytes")));
    }
    let size = bytes.len() + wanted.max(1); // 0 is the end: let the read tell
    Ok(read_up_to(stream, bytes, size).await?)
}

/// `PROXY TCP4 192.168.0.1 192.168.0.11 56324 443`, with one space between words and CR LF at the end; behind UNKNOWN everything is ignored. §2.1
fn parse_v1(bytes: &[u8]) -> Result<ProxyHeader, ProxyError> {
    let wrong = |what: &str| ProxyError::V1(what.to_owned());
    if bytes.len() > V1_MAX {
        return Err(wrong("it is too long"));
    }
    let line = bytes
        .strip_suffix(b"\r\n")
        .ok_or_else(|| wrong("it does not end in CR LF"))?;
    let text = std::str::from_utf8(line).map_err(|_| wrong("it is no text"))?;
    let words: Vec<&str> = text.split(' ').collect();
    let addresses = match words[..] {
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", "TCP4", from, to, from_port, to_port] => {
            let address = |text: &str| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4);
            Some((v1_end(address(from), from_port)?, v1_end(address(to), to_port)?))
        }
        ["PROXY", "TCP6", from, to, from_port, to_port] => {
            let address = |text: &str| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
            Some((v1_end(address(from), from_port)?, v1_end(address(to), to_port)?))
        }
        _ => {
            return Err(wrong(
                "neither TCP4 nor TCP6 with two addresses and two ports, nor UNKNOWN",
            ));
        }
    };
    Ok(ProxyHeader {
        addresses,
        ..ProxyHeader::default()
    })
}

/// One end of a connection. A port is written in decimal digits without leading zeros. §2.1
fn v1_end(address: Option<IpAddr>, port: &str) -> Result<SocketAddr, ProxyError> {
    let address = address.ok_or_else(|| ProxyError::V1("an address is none of its family".into()))?;
    let written = port.bytes().all(|byte| byte.is_ascii_digit()) && (port == "0" || !port.starts_with('0'));
    let port = port.parse().ok().filter(|_| written);
    let port: u16 = port.ok_or_else(|| ProxyError::V1("a port is not a number up to 65535".into()))?;
    Ok((address, port).into())
}

fn parse_v2(bytes: &[u8]) -> Result<ProxyHeader, ProxyError> {
    let wrong = |error: v2::ParseError| ProxyError::V2(error.to_string());
    let header = v2::Header::try_from(bytes).map_err(wrong)?;
    // §2.2: what a LOCAL header says besides is to be ignored.
    if header.command == v2::Command::Local {
        return Ok(ProxyHeader::default());
    }
    if header.protocol == v2::Protocol::Datagram {
        return Err(ProxyError::V2("datagrams over a stream".into()));
    }
    let addresses = match header.addresses {
        v2::Addresses::IPv4(a) => Some((
            (a.source_address, a.source_port).into(),
            (a.destination_address, a.destination_port).into(),
        )),
        v2::Addresses::IPv6(a) => Some((
            (a.source_address, a.source_port).into(),
            (a.destination_address, a.destination_port).into(),
        )),
        v2::Addresses::Unix(_) | v2::Addresses::Unspecified => None,
    };
    let mut found = ProxyHeader {
        addresses,
        ..ProxyHeader::default()
    };
    // With no address family everything behind the fixed part belongs to the addresses, §2.2.
    for tlv in header.tlvs() {
        let tlv = tlv.map_err(wrong)?;
        if tlv.kind == v2::Type::Authority as u8 {
            found.authority = Some(utf8(&tlv.value)?);
        } else if tlv.kind == v2::Type::SSL as u8 {
            found.common_name = verified_common_name(&tlv.value)?;
        }
    }
    Ok(found)
}

/// The common name counts only if the proxy saw the certificate and verified it (§2.2.6: `verify` is zero).
fn verified_common_name(ssl: &[u8]) -> Result<Option<String>, ProxyError> {
    let Some((&[client, v1, v2, v3, v4], sub_tlvs)) = ssl.split_first_chunk() else {
        return Err(ProxyError::V2("the SSL part is too short".into()));
    };
    let shown = client & (PP2_CLIENT_CERT_CONN | PP2_CLIENT_CERT_SESS) != 0;
    let verified = client & PP2_CLIENT_SSL != 0 && shown && [v1, v2, v3, v4] == [0; 4];
    for tlv in v2::TypeLengthValues::from(sub_tlvs) {
        let tlv = tlv.map_err(|error| ProxyError::V2(error.to_string()))?;
        if tlv.kind == v2::Type::SSLCommonName as u8 && verified {
            return utf8(&tlv.value).map(Some);
        }
    }
    Ok(None)
}

fn utf8(bytes: &[u8]) -> Result<String, ProxyError> {
    String::from_utf8(bytes.to_vec()).map_err(|error| ProxyError::V2(error.to_string()))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn ends(line: &str) -> Option<(SocketAddr, SocketAddr)> {
        parse_v1(line.as_bytes()).unwrap().addresses
    }

    /// §2.1, and its longest lines.
    #[test]
    fn lines_of_version_1_are_read() {
        let both = |from: &str, to: &str| Some((from.parse().unwrap(), to.parse().unwrap()));
        assert_eq!(
            ends("PROXY TCP4 255.255.255.255 192.168.0.11 65535 0\r\n"),
            both("255.255.255.255:65535", "192.168.0.11:0")
        );
        let address = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        assert_eq!(
            ends(&format!("PROXY TCP6 {address} ::1 65535 443\r\n")),
            both(&format!("[{address}]:65535"), "[::1]:443")
        );
        assert_eq!(ends("PROXY UNKNOWN\r\n"), None);
        let longest = format!("PROXY UNKNOWN {address} {address} 65535 65535\r\n");
        assert_eq!((longest.len(), ends(&longest)), (V1_MAX, None));
    }

    /// The second made a parser slice within a character.
    #[test]
    fn a_malformed_line_of_version_1_is_an_error() {
        for line in [
            "",
            "PROXY \r\u{e9}\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 \r\u{20ac}\r\n",
            "PROXY\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY UNKNOWN\n",
            "PROXY TCP4\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
            "PROXY TCP4 1.2.3.4  5.6.7.8 1 2\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
            "PROXY TCP4 ::1 5.6.7.8 1 2\r\n",
            "PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
            "PROXY TCP4 01.2.3.4 5.6.7.8 1 2\r\n",
            "proxy TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        ] {
            assert!(
                matches!(parse_v1(line.as_bytes()), Err(ProxyError::V1(_))),
                "{line:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_line_of_version_1_is_read_without_a_panic(
            words in vec("(PROXY|TCP4|TCP6|UNKNOWN|[0-9.:a-f\\r\\n ]{0,12}|[ \\r\\n\u{e9}\u{20ac}]{0,3})", 0..8),
            separator in "[ \\r\\n]{1,2}",
        ) {
            let line = format!("PROXY {}\r\n", words.join(&separator));
            let _ = parse_v1(line.as_bytes());
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in vec(any::<u8>(), 0..300)) {
            let _ = parse_v1(&bytes);
            let _ = parse_v1(&[V1_START, &bytes].concat());
            let _ = parse_v2(&[v2::PROTOCOL_PREFIX, &bytes].concat());
        }

        #[test]
        fn any_extras_of_a_header_are_read_without_a_panic(tlvs in vec(any::<u8>(), 0..60), kind in 0x1e_u8..0x24) {
            let length = u8::try_from(12 + 3 + tlvs.len()).expect("short");
            let tlv = [&[kind, 0, length - 15], &tlvs[..]].concat();
            let fixed = [0x21, 0x11, 0, length];
            let header = parse_v2(&[v2::PROTOCOL_PREFIX, &fixed, &[1; 12], &tlv].concat());
            prop_assert!(header.is_ok_and(|h| h.addresses.is_some()) || kind == v2::Type::SSL as u8);
        }
    }

    /// Good headers, changed in a few places, as `make fuzz` runs it: an error or a header, and never an address that the bytes do not say.
    #[test]
    fn mutated_headers_are_read_without_a_panic() {
        let ssl = [0x20, 0, 11, 0x07, 0, 0, 0, 0, 0x22, 0, 3, b'j', b'o', b'e'];
        let authority = [0x02, 0, 1, b'h'];
        let v2 = |fixed: [u8; 4], addresses: &[u8]| {
            [v2::PROTOCOL_PREFIX, &fixed, addresses, &ssl, &authority].concat()
        };
        let headers = [
            b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n".to_vec(),
            b"PROXY TCP6 2001:db8::1 ::1 65535 443\r\n".to_vec(),
            b"PROXY UNKNOWN ff ::1 0 443\r\n".to_vec(),
            v2([0x21, 0x11, 0, 30], &[1; 12]),
            v2([0x21, 0x21, 0, 54], &[1; 36]),
            v2([0x20, 0x00, 0, 18], &[]),
        ];
        assert!(headers.iter().all(|bytes| parse(bytes).is_ok()), "they are good");
        let mutated = |rng: &mut fastrand::Rng| {
            let mut bytes = headers[rng.usize(..headers.len())].clone();
            for _ in 0..rng.usize(1..6) {
                headgate_fuzz::mutate(&mut bytes, b"\x00\x11\x20\x21\xff 0:\r\n", rng);
            }
            bytes
        };
        headgate_fuzz::fuzz(mutated, |bytes| {
            let Ok(header) = parse(bytes) else { return };
            let Some((from, to)) = header.addresses else {
                return;
            };
            assert_eq!(from.is_ipv4(), to.is_ipv4());
            if bytes.starts_with(b"PROXY TCP4 ") {
                let (from_ip, from_port, to_ip, to_port) = (from.ip(), from.port(), to.ip(), to.port());
                let line = format!("PROXY TCP4 {from_ip} {to_ip} {from_port} {to_port}\r\n");
                assert_eq!(bytes, line.as_bytes(), "there is one way to write it");
            }
        });
    }

    fn parse(bytes: &[u8]) -> Result<ProxyHeader, ProxyError> {
        if bytes.starts_with(V1_START) {
            parse_v1(bytes)
        } else {
            parse_v2(bytes)
        }
    }
}
