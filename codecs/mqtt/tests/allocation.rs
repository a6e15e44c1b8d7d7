//! What decoding and encoding allocate. The allocator of this test binary counts.
#![allow(
    unsafe_code,
    reason = "a global allocator cannot be written without; it only counts and hands on"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::BytesMut;
use headgate_mqtt_codec::{Decoder, MAX_USER_PROPERTIES, Packet, PublishParts, Qos, Version, encode_publish};

struct Counting;

thread_local! {
    static CALLS: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is handed on to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        BYTES.set(BYTES.get() + layout.size());
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Calls and bytes allocated while `work` runs on this thread.
fn counted<T>(work: impl FnOnce() -> T) -> (T, usize, usize) {
    let (calls, bytes) = (CALLS.get(), BYTES.get());
    let result = work();
    (result, CALLS.get() - calls, BYTES.get() - bytes)
}

fn parts(version: Version) -> PublishParts<'static> {
    let packet_id = std::num::NonZeroU16::new(7);
    match version {
        Version::V31 => PublishParts {
            topic: b"plant/7/valve",
            payload: b"open",
            ..Default::default()
        },
        _ => PublishParts {
            topic: b"plant/7/valve",
            payload: b"open",
            qos: Qos::AtLeastOnce,
            packet_id,
            ..Default::default()
        },
    }
}

#[test]
fn a_publish_without_properties_is_encoded_without_allocating() {
    for version in [Version::V31, Version::V311, Version::V5] {
        let mut out = BytesMut::with_capacity(4096);
        let (_, calls, _) = counted(|| {
            for _ in 0..50 {
                encode_publish(&parts(version), version, &mut out);
            }
        });
        assert_eq!(calls, 0, "MQTT {version}");
    }
}

/// The buffer's shared header is made once, however many packets are cut off it.
#[test]
fn a_publish_without_properties_is_decoded_without_allocating() {
    for version in [Version::V31, Version::V311, Version::V5] {
        let mut buf = BytesMut::with_capacity(4096);
        for _ in 0..51 {
            encode_publish(&parts(version), version, &mut buf);
        }
        let mut decoder = Decoder::client(version, 4096);
        let first = decoder.decode(&mut buf);
        assert!(matches!(first, Ok(Some(Packet::Publish(_)))));

        let (count, calls, _) = counted(|| {
            let mut count = 0;
            while let Ok(Some(Packet::Publish(_))) = decoder.decode(&mut buf) {
                count += 1;
            }
            count
        });
        assert_eq!((count, calls), (50, 0), "MQTT {version}");
    }
}

/// A packet that announces 256 MiB costs nothing until it is there; nor does a property section or a string
/// that says it is long.
#[test]
fn announced_lengths_allocate_nothing() {
    let announced: [(&[u8], u32); 3] = [
        (b"\x30\xFF\xFF\xFF\x7F\x00\x01a", u32::MAX),
        (b"\x82\x06\x00\x01\xFF\xFF\xFF\x7F", 4096),
        (b"\x82\x05\x00\x01\x00\xFF\xFF", 4096),
    ];
    for (bytes, limit) in announced {
        let mut decoder = Decoder::server(limit);
        decoder.set_version(Version::V5);
        let mut buf = BytesMut::from(bytes);
        let (_, _, allocated) = counted(|| decoder.decode(&mut buf));
        assert!(allocated < 100, "{allocated} bytes for {bytes:02x?}");
    }
}

/// The worst a peer can make us allocate: the smallest fields there are, as many as fit.
#[test]
fn allocation_is_bounded_by_the_bytes_that_came() {
    let many_user_properties = b"\x26\x00\x00\x00\x00".repeat(MAX_USER_PROPERTIES);
    let many_filters = b"\x00\x01a\x00".repeat(2000);
    let worst: [(&[u8], Vec<u8>); 2] = [
        (
            b"\x00\x01\x80\x0A",
            [many_user_properties, b"\x00\x01a\x00".to_vec()].concat(),
        ),
        (b"\x00\x01\x00", many_filters),
    ];
    for (head, rest) in worst {
        let body = [head, &rest].concat();
        let mut packet = vec![0x82, body.len() as u8 & 0x7F | 0x80, (body.len() >> 7) as u8];
        packet.extend_from_slice(&body);
        let mut buf = BytesMut::from(&packet[..]);
        let mut decoder = Decoder::server(1 << 20);
        decoder.set_version(Version::V5);

        let (decoded, _, allocated) = counted(|| decoder.decode(&mut buf));

        assert!(matches!(decoded, Ok(Some(Packet::Subscribe(_)))), "{decoded:?}");
        assert!(
            allocated <= 48 * packet.len(),
            "{allocated} bytes for {} that came",
            packet.len()
        );
    }
}
