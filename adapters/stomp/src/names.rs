//! Destinations and topics. STOMP leaves the meaning of a destination to the server: here it is a topic name or filter of MQTT, with what the settings say.

use crate::frames::{BadFrame, shown};
use crate::settings::StompSettings;
use bytes::{Bytes, BytesMut};
use headgate_stomp_codec::Text;
use std::borrow::Cow;

impl StompSettings {
    /// The topic name or filter that a client means; `None` when it lacks the prefix that all destinations have here.
    pub(crate) fn name_of(&self, destination: &Text) -> Option<Bytes> {
        let rest = destination.strip_prefix(&*self.destination_prefix)?;
        if !self.dotted {
            return Some(destination.bytes().slice_ref(rest.as_bytes()));
        }
        let mut name = BytesMut::from(rest);
        for byte in &mut name[..] {
            *byte = match *byte {
                b'.' => b'/',
                b'*' => b'+',
                b'>' => b'#',
                other => other,
            };
        }
        Some(name.freeze())
    }

    /// What is said of a destination that lacks the prefix.
    pub(crate) fn bad_prefix(&self, header: &str, destination: &Text) -> BadFrame {
        let prefix = &self.destination_prefix;
        format!(
            "{header} {} does not begin with {prefix} (stomp.destination_prefix)",
            shown(destination)
        )
        .into()
    }

    /// The destination of a topic name, as the client writes it.
    pub(crate) fn destination_of<'a>(&self, topic: &'a [u8]) -> Cow<'a, [u8]> {
        if self.destination_prefix.is_empty() && !self.dotted {
            return Cow::Borrowed(topic);
        }
        let level_end = if self.dotted { b'.' } else { b'/' };
        let written = topic
            .iter()
            .map(|byte| if *byte == b'/' { level_end } else { *byte });
        Cow::Owned(self.destination_prefix.bytes().chain(written).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(settings: &StompSettings, destination: &'static str) -> Option<(String, String)> {
        let name = settings.name_of(&Text::from(destination))?;
        let back = settings.destination_of(&name).into_owned();
        Some((
            String::from_utf8(name.to_vec()).unwrap(),
            String::from_utf8(back).unwrap(),
        ))
    }

    #[test]
    fn a_destination_is_a_topic_as_it_stands() {
        let (name, back) = there_and_back(&StompSettings::default(), "/queue/a.b").unwrap();
        assert_eq!((&*name, &*back), ("/queue/a.b", "/queue/a.b"));
    }

    #[test]
    fn dots_and_a_prefix_stand_for_what_the_settings_say() {
        let settings = StompSettings {
            destination_prefix: "/topic/".into(),
            dotted: true,
            ..StompSettings::default()
        };
        let (name, back) = there_and_back(&settings, "/topic/a.b").unwrap();
        assert_eq!((&*name, &*back), ("a/b", "/topic/a.b"));
        assert_eq!(
            settings.name_of(&"/topic/a.*.>".into()),
            Some(Bytes::from_static(b"a/+/#"))
        );
        assert_eq!(settings.name_of(&"/queue/a".into()), None, "another prefix");
    }
}
