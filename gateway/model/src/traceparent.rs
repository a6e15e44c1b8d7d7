//! Where a message stands in a distributed trace: `traceparent` of [W3C Trace Context](https://www.w3.org/TR/trace-context/), §3.2. It travels as a user
//! property of MQTT 5 and as a header of STOMP, under the same name.

use crate::Message;
use crate::message::Properties;
use bytes::Bytes;

/// The name under which it travels.
pub const TRACEPARENT: &[u8] = b"traceparent";
/// What vendors add to it, §3.3. The gateway passes it on as it is.
pub const TRACESTATE: &[u8] = b"tracestate";

/// Characters of version 00.
const LENGTH: usize = 55;

/// One span of a trace, as whoever comes next is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// Of the whole trace; not zero.
    pub trace: [u8; 16],
    /// Of the span; not zero.
    pub span: [u8; 8],
    /// Whether it is recorded. §3.2.2.5
    pub sampled: bool,
}

impl TraceContext {
    /// Reads `00-{trace id}-{span id}-{flags}` in lower-case hexadecimal. Of a later version, what version 00 has of it, as §4 wants. `None` for anything else.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (known, more) = text.split_at_checked(LENGTH)?;
        let [version] = bytes_of(&known[..2])?;
        let is_known = match version {
            0 => more.is_empty(),
            0xFF => false,
            _ => more.is_empty() || more[0] == b'-',
        };
        let dashes = [2, 35, 52].iter().all(|at| known[*at] == b'-');
        let (trace, span) = (bytes_of(&known[3..35])?, bytes_of(&known[36..52])?);
        let [flags] = bytes_of(&known[53..])?;
        let is_valid = is_known && dashes && trace != [0; 16] && span != [0; 8];
        is_valid.then_some(Self {
            trace,
            span,
            sampled: flags & 1 != 0,
        })
    }

    /// As it is sent.
    pub fn to_text(self) -> String {
        let flags = u8::from(self.sampled);
        format!("00-{}-{}-{flags:02x}", hex(&self.trace), hex(&self.span))
    }

    /// Where a message stands, if it says so.
    pub fn of(message: &Message) -> Option<Self> {
        let properties = message.properties.as_ref()?;
        let (_, text) = properties
            .user_properties
            .iter()
            .find(|(name, _)| name == TRACEPARENT)?;
        Self::parse(text)
    }

    /// Says so in the message, instead of what it said before.
    pub(crate) fn set(self, message: &mut Message) {
        let text = Bytes::from(self.to_text());
        let properties = message
            .properties
            .get_or_insert_with(|| Box::new(Properties::default()));
        let mut known = properties.user_properties.iter_mut();
        match known.find(|(name, _)| name == TRACEPARENT) {
            Some((_, known)) => *known = text,
            None => properties
                .user_properties
                .push((Bytes::from_static(TRACEPARENT), text)),
        }
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes_of<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Topic;

    /// The example of §3.2.
    const EXAMPLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn the_example_is_read_and_written() {
        let context = TraceContext::parse(EXAMPLE.as_bytes()).unwrap();
        assert_eq!(
            (context.trace[0], context.span[7], context.sampled),
            (0x0A, 0x31, true)
        );
        assert_eq!(context.to_text(), EXAMPLE);
        let off = EXAMPLE.replace("-01", "-00");
        assert!(!TraceContext::parse(off.as_bytes()).unwrap().sampled);
        // §3.2.2.5: other flags are not known yet.
        let more = TraceContext::parse(EXAMPLE.replace("-01", "-ff").as_bytes());
        assert_eq!(more, Some(context));
    }

    /// §3.2.2.2 to §3.2.2.5, §4: a later version may have more behind a dash; version ff is none; zeros name nothing; upper case is wrong.
    #[test]
    fn what_is_none_is_not_taken_for_one() {
        let later = EXAMPLE.replacen("00", "cc", 1);
        assert!(TraceContext::parse(later.as_bytes()).is_some());
        assert!(TraceContext::parse(format!("{later}-more").as_bytes()).is_some());
        for wrong in [
            String::new(),
            format!("{EXAMPLE}-more"),
            format!("{later}.more"),
            EXAMPLE.replacen("00", "ff", 1),
            EXAMPLE.to_uppercase(),
            EXAMPLE.replace('-', "_"),
            EXAMPLE.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            EXAMPLE.replace("b7ad6b7169203331", &"0".repeat(16)),
            EXAMPLE.replace("b7ad", "b7ag"),
            EXAMPLE[..54].to_owned(),
        ] {
            assert_eq!(TraceContext::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }

    /// It never panics, whatever comes.
    #[test]
    fn every_change_of_one_byte_is_read() {
        for at in 0..EXAMPLE.len() {
            for byte in 0..=u8::MAX {
                let mut text = EXAMPLE.as_bytes().to_vec();
                text[at] = byte;
                let _ = TraceContext::parse(&text);
                let _ = TraceContext::parse(&text[..at]);
            }
        }
    }

    #[test]
    fn a_message_says_it_once() {
        let mut message = Message::new(Topic::try_from("t").unwrap(), "x");
        assert_eq!(TraceContext::of(&message), None);
        let first = TraceContext::parse(EXAMPLE.as_bytes()).unwrap();
        let second = TraceContext {
            span: [7; 8],
            ..first
        };
        first.set(&mut message);
        second.set(&mut message);
        assert_eq!(TraceContext::of(&message), Some(second));
        assert_eq!(message.properties.unwrap().user_properties.len(), 1);
    }
}
