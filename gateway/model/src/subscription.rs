//! Subscriptions, and the prefixes that change what one means.

use crate::topic::{TopicError, TopicFilter};
use crate::{MountPoint, Qos};
use bytes::Bytes;

/// What a new subscription wants of the retained messages. MQTT 5 §3.8.3.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    /// Send them.
    #[default]
    Send = 0,
    /// Send them only if the subscription did not exist.
    SendIfNew = 1,
    /// Do not send them.
    DoNotSend = 2,
}

/// Options of a subscription. MQTT 5 §3.8.3.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SubscriptionOptions {
    /// The highest QoS at which messages are wanted.
    pub qos: Qos,
    /// Not the client's own messages. \[MQTT-3.8.3-3\]
    pub no_local: bool,
    /// Keep the RETAIN flag as published. \[MQTT-3.3.1-13\]
    pub retain_as_published: bool,
    /// What to do with retained messages now.
    pub retain_handling: RetainHandling,
    /// Sent back with every delivery; 1 to 268,435,455, zero for none. MQTT 5 §3.8.2.1.2.
    pub identifier: u32,
    /// The client may have others of the same filter, and tells them apart by `identifier`, as in STOMP 1.2, SUBSCRIBE: `id`. Otherwise it has one, whatever its
    /// identifier. \[MQTT-3.8.4-3\]
    pub by_identifier: bool,
}

impl SubscriptionOptions {
    /// What tells a subscription apart from the client's others of its filter; zero for the only one.
    pub fn label(&self) -> u32 {
        if self.by_identifier { self.identifier } else { 0 }
    }
}

/// What one client calls a subscription: filter, group and [label](SubscriptionOptions::label).
pub type SubscriptionName<'a> = (&'a TopicFilter, Option<&'a Share>, u32);

/// Several sessions share the messages of one subscription. MQTT 5 §4.8.2.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Share {
    /// `$share/{group}/{filter}`
    Group(Bytes),
    /// `$queue/{filter}`: the one group without a name (EMQ).
    Queue,
}

/// A parsed subscription: prefixes taken off, mount point put on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// What is matched against topic names.
    pub filter: TopicFilter,
    /// The group it is shared in.
    pub share: Option<Share>,
    /// `$local/`: only what is published on this gateway.
    pub local: bool,
    /// `$exclusive/`: nobody else may hold the same exclusive filter.
    pub exclusive: bool,
    /// QoS and the other options.
    pub options: SubscriptionOptions,
}

impl Subscription {
    /// A copy that owns exactly its own bytes, so that keeping it does not keep a whole read buffer.
    #[must_use]
    pub fn compact(self) -> Self {
        let share = self.share.map(|share| match share {
            Share::Group(group) => Share::Group(Bytes::copy_from_slice(&group)),
            Share::Queue => Share::Queue,
        });
        Self {
            filter: self.filter.compact(),
            share,
            ..self
        }
    }

    /// Reads a filter as it stands in a SUBSCRIBE or UNSUBSCRIBE, in EMQ's order and as often as a prefix comes: `$local/` adds the option
    /// local; `$queue/` adds the unnamed group; `$share/{group}/` adds a group and ends the parsing, as does `$exclusive/`. The same
    /// option twice is an error. MQTT 5 §4.8.2 for `$share`. \[MQTT-4.8.2-1\] \[MQTT-4.8.2-2\]
    ///
    /// An exclusive subscription is the only one of its filter.
    pub fn parse(
        raw: &Bytes,
        mut options: SubscriptionOptions,
        mount: &MountPoint,
    ) -> Result<Self, TopicError> {
        let mut rest = raw.clone();
        let (mut share, mut local, mut exclusive) = (None, false, false);
        loop {
            if rest.starts_with(b"$local/") {
                if std::mem::replace(&mut local, true) {
                    return Err(TopicError::Prefix);
                }
                rest = rest.slice(b"$local/".len()..);
            } else if rest.starts_with(b"$queue/") {
                if share.replace(Share::Queue).is_some() {
                    return Err(TopicError::Prefix);
                }
                rest = rest.slice(b"$queue/".len()..);
            } else if rest.starts_with(b"$share/") || &rest[..] == b"$share" {
                if share.is_some() {
                    return Err(TopicError::Prefix);
                }
                let (group, filter) = split_share(&rest)?;
                share = Some(Share::Group(group));
                rest = filter;
                break;
            } else if rest.starts_with(b"$exclusive/") {
                if share.is_some() {
                    return Err(TopicError::Prefix);
                }
                exclusive = true;
                rest = rest.slice(b"$exclusive/".len()..);
                break;
            } else {
                break;
            }
        }
        options.by_identifier &= !exclusive;
        let filter = mount.mount_filter(TopicFilter::parse(rest)?)?;
        Ok(Self {
            filter,
            share,
            local,
            exclusive,
            options,
        })
    }

    /// What its client calls it.
    pub fn name(&self) -> SubscriptionName<'_> {
        (&self.filter, self.share.as_ref(), self.options.label())
    }

    /// What one client's subscription is called in a store, and in lists as a place to go on: [`Subscription::to_text`], and behind U+0000 its label if it has
    /// one.
    pub fn stored_name(&self) -> String {
        match self.options.label() {
            0 => self.to_text(),
            label => format!("{}\0{label}", self.to_text()),
        }
    }

    /// Reads a [stored name](Subscription::stored_name).
    pub fn parse_stored_name(name: &str) -> Result<Self, TopicError> {
        let (text, label) = name.split_once('\0').unwrap_or((name, ""));
        let identifier = label.parse().unwrap_or(0);
        let options = SubscriptionOptions {
            identifier,
            by_identifier: identifier != 0,
            ..SubscriptionOptions::default()
        };
        Self::parse(
            &Bytes::copy_from_slice(text.as_bytes()),
            options,
            &MountPoint::default(),
        )
    }

    /// The subscription written with its prefixes again, as operators know it.
    pub fn to_text(&self) -> String {
        let local = if self.local { "$local/" } else { "" };
        let share = match &self.share {
            Some(Share::Group(group)) => format!("$share/{}/", String::from_utf8_lossy(group)),
            Some(Share::Queue) => "$queue/".to_owned(),
            None if self.exclusive => "$exclusive/".to_owned(),
            None => String::new(),
        };
        format!("{local}{share}{}", self.filter)
    }
}

/// `$share/{group}/{filter}`: a group of at least one character without wildcard, then a filter.
fn split_share(raw: &Bytes) -> Result<(Bytes, Bytes), TopicError> {
    let rest = raw.slice(raw.len().min(b"$share/".len())..);
    let slash = rest
        .iter()
        .position(|b| *b == b'/')
        .ok_or(TopicError::ShareGroup)?;
    let group = rest.slice(..slash);
    if group.is_empty() || group.iter().any(|b| matches!(b, b'+' | b'#')) || rest.len() == slash + 1 {
        return Err(TopicError::ShareGroup);
    }
    Ok((group, rest.slice(slash + 1..)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Subscription, TopicError> {
        Subscription::parse(
            &Bytes::copy_from_slice(text.as_bytes()),
            SubscriptionOptions::default(),
            &MountPoint::default(),
        )
    }

    fn group(name: &'static str) -> Option<Share> {
        Some(Share::Group(Bytes::from_static(name.as_bytes())))
    }

    /// [MQTT-4.8.2-1] [MQTT-4.8.2-2] A group has a name without `/`, `+` and `#`, and a filter follows.
    #[test]
    fn share_groups_are_named_and_followed_by_a_filter() {
        let shared = parse("$share/g1/sport/#").unwrap();
        assert_eq!((shared.share, shared.filter.as_str()), (group("g1"), "sport/#"));
        for bad in [
            "$share",
            "$share/",
            "$share/g",
            "$share/g/",
            "$share//t",
            "$share/g+/t",
            "$share/#/t",
        ] {
            assert_eq!(parse(bad), Err(TopicError::ShareGroup), "{bad}");
        }
        assert!(parse("$share/g/a#").is_err(), "the filter inside is checked too");
    }

    /// EMQ 2: prefixes in any order, none twice; `$share` ends the parsing.
    #[test]
    fn prefixes_combine_as_in_emq() {
        for both in ["$local/$queue/t", "$queue/$local/t"] {
            let parsed = parse(both).unwrap();
            assert_eq!(
                (parsed.local, &parsed.share, parsed.filter.as_str()),
                (true, &Some(Share::Queue), "t")
            );
            assert_eq!(parsed.to_text(), "$local/$queue/t");
        }
        assert_eq!(parse("$queue/$share/g/t"), Err(TopicError::Prefix));
        assert_eq!(parse("$local/$local/t"), Err(TopicError::Prefix));
        assert_eq!(parse("$queue/$queue/t"), Err(TopicError::Prefix));
        let literal = parse("$share/g/$local/t").unwrap();
        assert_eq!((literal.local, literal.filter.as_str()), (false, "$local/t"));
    }

    #[test]
    fn the_mount_point_goes_inside_the_prefixes() {
        let mount = MountPoint::parse("site/").unwrap();
        let raw = Bytes::from_static(b"$share/g/a/+");
        let parsed = Subscription::parse(&raw, SubscriptionOptions::default(), &mount).unwrap();
        assert_eq!(parsed.to_text(), "$share/g/site/a/+");
    }

    #[test]
    fn an_exclusive_subscription_keeps_its_plain_filter() {
        let parsed = parse("$exclusive/a/b").unwrap();
        assert!(parsed.exclusive);
        assert_eq!(parsed.filter.as_str(), "a/b");
        assert_eq!(parsed.to_text(), "$exclusive/a/b");
        assert!(parse("$exclusive/").is_err());
    }
}
