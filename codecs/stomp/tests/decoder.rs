//! What the decoder takes and what it refuses, clause by clause.

mod common;

use bytes::BytesMut;
use common::{LIMITS, decode_all, decode_one, decoder, error};
use headgate_stomp_codec::{Command, DecodeError, Frame, Version};

const V10: Option<Version> = Some(Version::V10);
const V11: Option<Version> = Some(Version::V11);
const V12: Option<Version> = Some(Version::V12);

/// STOMP 1.2, STOMP Frames: a command, headers, a blank line, a body that ends with NUL; EOLs may follow.
#[test]
fn a_frame_is_a_command_headers_and_a_body() {
    let frame = decode_one(
        V12,
        b"SEND\ndestination:/queue/a\ncontent-type:text/plain\n\nhello queue a\0\n\n",
    );
    let expected = Frame::new(Command::Send)
        .with("destination", "/queue/a")
        .with("content-type", "text/plain")
        .with_body("hello queue a");
    assert_eq!(frame, expected);
}

/// STOMP 1.2, Augmented BNF: EOL is LF, or CR LF. Earlier versions have LF alone, and a CR belongs to the value.
#[test]
fn a_line_ends_with_cr_lf_too_in_version_1_2() {
    let stream = b"SEND\r\ndestination:a\r\n\r\nx\0\r\n";
    assert_eq!(decode_one(V12, stream).get("destination"), Some("a"));
    assert_eq!(error(V11, stream), DecodeError::UnknownCommand);
    assert_eq!(
        decode_one(V11, b"SEND\ndestination:a\r\n\n\0").get("destination"),
        Some("a\r")
    );
    // Before the version is agreed upon it may be 1.2.
    assert_eq!(
        decode_one(None, b"CONNECT\r\nhost:h\r\n\r\n\0").get("host"),
        Some("h")
    );
}

/// STOMP 1.2, Value Encoding.
#[test]
fn headers_are_unescaped_as_their_version_says() {
    let stream = b"SEND\na\\cb:1\\n2\\\\3\n\n\0";
    assert_eq!(decode_one(V12, stream).get("a:b"), Some("1\n2\\3"));
    assert_eq!(decode_one(V11, stream).get("a:b"), Some("1\n2\\3"));
    assert_eq!(
        decode_one(V10, stream).get("a\\cb"),
        Some("1\\n2\\\\3"),
        "1.0 has no escapes"
    );
    let carriage_return = b"SEND\na:\\r\n\n\0";
    assert_eq!(decode_one(V12, carriage_return).get("a"), Some("\r"));
    assert_eq!(
        error(V11, carriage_return),
        DecodeError::BadEscape(1),
        "only 1.2 has this one"
    );
    for undefined in [&b"SEND\na:\\t\n\n\0"[..], b"SEND\na:x\\\n\n\0"] {
        assert_eq!(error(V12, undefined), DecodeError::BadEscape(1));
    }
}

/// STOMP 1.2, Value Encoding: CONNECT and CONNECTED are not escaped, to remain compatible with 1.0.
#[test]
fn connect_and_connected_are_never_escaped() {
    for command in ["CONNECT", "STOMP", "CONNECTED"] {
        let stream = format!("{command}\nversion:1.2\naccept-version:1.2\npasscode:a\\nb\\t\n\n\0");
        assert_eq!(
            decode_one(V12, stream.as_bytes()).get("passcode"),
            Some("a\\nb\\t")
        );
    }
}

/// STOMP 1.2, Repeated Header Entries: only the first is used.
#[test]
fn of_repeated_headers_the_first_counts() {
    let frame = decode_one(V12, b"MESSAGE\nfoo:World\nfoo:Hello\n\n\0");
    assert_eq!(frame.get("foo"), Some("World"));
    assert_eq!(frame.headers.iter().len(), 2);
}

/// STOMP 1.2, Value Encoding: never trimmed, for 1.0's padding caused problems. 1.0's own examples have it.
#[test]
fn padding_is_taken_off_in_version_1_0_alone() {
    let stream = b"SEND\ndestination: /queue/a \n\n\0";
    assert_eq!(decode_one(V10, stream).get("destination"), Some("/queue/a"));
    assert_eq!(decode_one(V12, stream).get("destination"), Some(" /queue/a "));
    assert_eq!(
        decode_one(None, b"CONNECT\nlogin: me\n\n\0").get("login"),
        Some("me")
    );
    let later = b"CONNECT\naccept-version:1.1\nlogin: me\n\n\0";
    assert_eq!(decode_one(None, later).get("login"), Some(" me"));
}

/// STOMP 1.2, Header content-length: as many octets, whether or not there are NULs among them.
#[test]
fn content_length_counts_the_body() {
    let frame = decode_one(V12, b"SEND\ncontent-length:5\n\na\0b\0c\0");
    assert_eq!(&frame.body[..], b"a\0b\0c");
    assert_eq!(
        error(V12, b"SEND\ncontent-length:2\n\nabc\0"),
        DecodeError::MissingNul(2)
    );
    for bad in ["", "-1", "+1", "1 ", "0x1", "1.0"] {
        let stream = format!("SEND\ncontent-length:{bad}\n\n\0");
        assert_eq!(
            error(V12, stream.as_bytes()),
            DecodeError::BadContentLength,
            "{bad}"
        );
    }
}

/// STOMP 1.2, Body: only the SEND, MESSAGE and ERROR frames may have one.
#[test]
fn other_frames_have_no_body() {
    for command in Command::ALL {
        let stream = format!("{}\n\nbody\0", command.as_str());
        let (frames, error) = decode_all(V12, stream.as_bytes());
        match command.has_body() {
            true => assert_eq!(&frames[0].body[..], b"body"),
            false => assert_eq!(error, Some(DecodeError::UnexpectedBody), "{command:?}"),
        }
    }
    assert_eq!(
        error(V12, b"ACK\ncontent-length:1\n\n"),
        DecodeError::UnexpectedBody
    );
    assert_eq!(
        decode_one(V12, b"ACK\ncontent-length:0\n\n\0").command,
        Command::Ack
    );
}

/// STOMP 1.2, Heart-beating: a line end between frames is one.
#[test]
fn line_ends_between_frames_are_heart_beats() {
    let mut decoder = decoder(V12);
    let mut buf = BytesMut::from(&b"\n\r\n\nBEGIN\ntransaction:t\n\n\0\n\r"[..]);
    assert!(decoder.decode(&mut buf).unwrap().is_some());
    assert_eq!(decoder.heart_beats(), 3);
    assert_eq!(decoder.decode(&mut buf), Ok(None));
    assert_eq!(
        (decoder.heart_beats(), &buf[..]),
        (4, &b"\r"[..]),
        "half of one waits"
    );
    buf.extend_from_slice(b"\n");
    assert_eq!(decoder.decode(&mut buf), Ok(None));
    assert_eq!((decoder.heart_beats(), buf.len()), (5, 0));
}

/// STOMP 1.2, Augmented BNF.
#[test]
fn what_is_no_frame_is_told_as_soon_as_it_is_seen() {
    assert_eq!(
        error(None, b"GET / HTTP/1.1\r"),
        DecodeError::UnknownCommand,
        "without a line end"
    );
    assert_eq!(error(V12, b"send\n"), DecodeError::UnknownCommand);
    assert_eq!(error(V12, b"SEND \n"), DecodeError::UnknownCommand);
    assert_eq!(error(V12, b"SEND\nno colon\n\n"), DecodeError::NoColon(1));
    assert_eq!(error(V12, b"SEND\n:value\n\n"), DecodeError::NoName(1));
    assert_eq!(error(V12, b"SEND\na:\xFF\n\n"), DecodeError::NotUtf8);
    assert_eq!(error(V12, b"SEND\na:b\0"), DecodeError::NulInHead);
    assert_eq!(error(V12, b"SEND\0"), DecodeError::NulInHead);
}

/// STOMP 1.2, Size Limits. Each is told before what is too much is there.
#[test]
fn limits_are_judged_before_the_bytes_are_there() {
    let mut many = b"SEND\n".to_vec();
    many.extend(b"a:b\n".repeat(LIMITS.headers));
    assert_eq!(
        decode_one(V12, &[&many[..], b"\n\0"].concat())
            .headers
            .iter()
            .len(),
        LIMITS.headers
    );
    assert_eq!(
        error(V12, &[&many[..], b"a:b\n"].concat()),
        DecodeError::TooManyHeaders(LIMITS.headers)
    );

    let line = |bytes: usize| [b"SEND\n", &b"a:".repeat(bytes / 2)[..]].concat();
    assert_eq!(
        decode_one(V12, &[&line(LIMITS.line_bytes)[..], b"\r\n\n\0"].concat())
            .headers
            .iter()
            .len(),
        1
    );
    assert_eq!(
        error(V12, &line(LIMITS.line_bytes + 2)),
        DecodeError::LineTooLong(LIMITS.line_bytes)
    );

    let lines = [b"SEND\n", &[&b"a:".repeat(90)[..], b"\n"].concat().repeat(6)[..]].concat();
    assert_eq!(error(V12, &lines), DecodeError::HeadTooLarge(LIMITS.head_bytes));

    let gibibyte = b"SEND\ncontent-length:1073741824\n\n";
    assert_eq!(error(V12, gibibyte), DecodeError::BodyTooLarge(LIMITS.body_bytes));
    let beyond = b"SEND\ncontent-length:99999999999999999999999999\n\n";
    assert_eq!(error(V12, beyond), DecodeError::BodyTooLarge(LIMITS.body_bytes));
    let endless = [b"SEND\n\n", &b"x".repeat(LIMITS.body_bytes + 1)[..]].concat();
    assert_eq!(error(V12, &endless), DecodeError::BodyTooLarge(LIMITS.body_bytes));
}

/// The body and headers that are not escaped lie where they were read.
#[test]
fn bodies_and_headers_are_slices_of_the_buffer() {
    let mut buf = BytesMut::from(&b"SEND\ndestination:a\\cb\nplain:value\n\nbody\0"[..]);
    let all = buf.as_ptr_range();
    let frame = decoder(V12).decode(&mut buf).unwrap().unwrap();
    assert!(all.contains(&frame.body.as_ptr()));
    assert!(all.contains(&frame.headers.get("plain").unwrap().bytes().as_ptr()));
    assert!(!all.contains(&frame.headers.get("destination").unwrap().bytes().as_ptr()));
}

/// STOMP 1.2, Protocol Negotiation: the highest that both know.
#[test]
fn the_highest_common_version_is_found() {
    for (list, version) in [
        ("1.0,1.1,2.0", Some(Version::V11)),
        ("1.2", Some(Version::V12)),
        ("1.1, 1.0", Some(Version::V11)),
        ("2.0", None),
        ("", None),
    ] {
        assert_eq!(Version::highest_of(list), version, "{list}");
    }
}
