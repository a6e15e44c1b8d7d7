//! What a server has, for whoever asks: the list of links at `/.well-known/core`, by multicast too. RFC 6690, RFC 7252 §7.2, §8

use crate::blockwise::cut;
use crate::core::szx_allowed;
use crate::uri::{self, Resource};
use crate::{Requester, requests};
use bytes::Bytes;
use headgate_coap_codec::{Block, Code, Links, Message, format, number};

/// A resource that can be found.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// Where it is.
    pub path: &'static str,
    /// What it is, `rt`; empty if there is no word for that.
    pub kind: &'static str,
    /// Further attributes as they are written: `;obs`.
    pub attributes: &'static str,
}

/// The list of what a request wants to know of, by the filters of RFC 6690 §4.1 as far as there is something to filter.
pub fn links(request: &Message, offers: &[Offer]) -> Message {
    let wanted: Vec<&Bytes> = request.options.all(number::URI_QUERY).collect();
    let mut links = Links::default();
    for offer in offers {
        let is_wanted = wanted
            .iter()
            .all(|filter| match filter.iter().position(|byte| *byte == b'=') {
                Some(at) => match &filter[..at] {
                    b"rt" => !offer.kind.is_empty() && matches(&filter[at + 1..], offer.kind),
                    b"href" => matches(&filter[at + 1..], offer.path),
                    _ => false,
                },
                None => true,
            });
        if is_wanted {
            let kind = match offer.kind {
                "" => String::new(),
                kind => format!(";rt=\"{kind}\""),
            };
            links.add(offer.path, &(kind + offer.attributes));
        }
    }
    let mut response = Message::of_stream(Code::CONTENT, request.token);
    response
        .options
        .push_uint(number::CONTENT_FORMAT, format::LINK_FORMAT.into());
    response.payload = links.finish().into();
    response
}

/// The answer to a request that came to a group. None for any but a GET of the list, and none if nothing is on it. RFC 7252 §8.2
///
/// The rest of a list that is longer than may be sent is fetched from the server that said it. RFC 7959 §2.8
pub fn links_for_group<A>(from: &Requester<A>, request: &Message, offers: &[Offer]) -> Option<Message> {
    let asked = match Block::of(&request.options, number::BLOCK2) {
        None => None,
        Some(Ok(block)) if block.number == 0 => Some(block),
        Some(_) => return None,
    };
    let is_wanted = request.code == Code::GET
        && matches!(uri::resource(request), Resource::WellKnownCore)
        && !request.options.has(number::BLOCK1)
        && requests::accepts(request, Some(format::LINK_FORMAT));
    let whole = links(request, offers);
    if !is_wanted || whole.payload.is_empty() {
        return None;
    }
    let most = asked.map_or(Block::MAX_SZX, |block| block.szx);
    let first = Block {
        number: 0,
        more: false,
        szx: most.min(szx_allowed(from, &whole)),
    };
    Some(match whole.payload.len() <= first.size() {
        true => whole,
        false => cut(&whole, first, request.token),
    })
}

/// RFC 6690 §4.1: a `*` at the end matches anything.
fn matches(pattern: &[u8], value: &str) -> bool {
    match pattern.strip_suffix(b"*") {
        Some(beginning) => value.as_bytes().starts_with(beginning),
        None => value.as_bytes() == pattern,
    }
}
