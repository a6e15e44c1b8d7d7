//! What a client says of itself when it registers. LwM2M Core 1.1 §6.2.1, §6.2.2

use crate::request::Abilities;
use crate::settings::Lwm2mSettings;
use bytes::Bytes;
use headgate_coap_codec::{Code, Message, format, number};
use headgate_lwm2m_codec::{Registered, parse_registration};
use serde_json::{Map, Value as Json, json};

/// A day: what is meant by a registration without a lifetime. LwM2M Core 1.1 §6.2.1
const DAY: u64 = 86_400;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Its endpoint name.
    pub endpoint: String,
    /// Seconds.
    pub lifetime: u64,
    /// `1.0`, `1.1` or `1.2`.
    pub version: String,
    /// How it is reached: `U`, `UQ` …
    pub binding: String,
    /// Whether it sleeps. LwM2M Core 1.1 §6.5
    pub queue_mode: bool,
    /// A telephone number.
    pub sms: Option<String>,
    /// Its objects, as it sent them: links. RFC 6690
    pub links: Bytes,
}

/// Why a registration is not taken: the answer, and the words for it.
pub(crate) type Refused = (Code, String);

impl Registration {
    /// Reads one. One without an endpoint name has an empty one.
    ///
    /// # Errors
    ///
    /// It cannot be taken: what the client is answered.
    pub(crate) fn parse(request: &Message, settings: &Lwm2mSettings) -> Result<Self, Refused> {
        let mut registration = Self {
            endpoint: String::new(),
            lifetime: DAY,
            version: "1.0".into(),
            binding: "U".into(),
            queue_mode: false,
            sms: None,
            links: Bytes::new(),
        };
        registration.read(request, settings, true)?;
        Ok(registration)
    }

    /// What an update changes; whether it changes anything.
    ///
    /// # Errors
    ///
    /// As above; then nothing is changed.
    pub(crate) fn update(&mut self, request: &Message, settings: &Lwm2mSettings) -> Result<bool, Refused> {
        let mut updated = self.clone();
        updated.read(request, settings, false)?;
        let changes = updated != *self;
        *self = updated;
        Ok(changes)
    }

    fn read(&mut self, request: &Message, settings: &Lwm2mSettings, is_new: bool) -> Result<(), Refused> {
        let bad = |why: &str| Err((Code::BAD_REQUEST, why.to_owned()));
        let mut says_q = false;
        for word in request.options.all(number::URI_QUERY) {
            let Ok(word) = std::str::from_utf8(word) else {
                return bad("the query is no text");
            };
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            match name {
                "ep" if is_new => self.endpoint = value.to_owned(),
                "lwm2m" if is_new => self.version = version(value)?,
                "lt" => match value.parse() {
                    Ok(seconds) => self.lifetime = seconds,
                    Err(_) => return bad("lt is a number of seconds"),
                },
                "b" => self.binding = binding(value)?,
                "Q" => says_q = true,
                "sms" => self.sms = Some(value.to_owned()).filter(|number| number.len() <= 32),
                // LwM2M Core 1.1 §6.2.1: what is not known is ignored.
                _ => {}
            }
        }
        if is_new
            || says_q
            || request
                .options
                .all(number::URI_QUERY)
                .any(|word| word.starts_with(b"b="))
        {
            // 1.0 says it with the binding, 1.1 beside it.
            self.queue_mode = says_q || self.binding.contains('Q');
        }
        self.check_lifetime(settings)?;
        if is_new && !self.endpoint.is_empty() {
            check_endpoint(&self.endpoint, settings)?;
        }
        if is_new || !request.payload.is_empty() {
            self.read_links(request, settings)?;
        }
        Ok(())
    }

    fn check_lifetime(&mut self, settings: &Lwm2mSettings) -> Result<(), Refused> {
        let (least, most) = (settings.min_lifetime.as_secs(), settings.max_lifetime.as_secs());
        if self.lifetime == 0 {
            self.lifetime = most;
        }
        match (least..=most).contains(&self.lifetime) {
            true => Ok(()),
            false => Err((
                Code::BAD_REQUEST,
                format!("a lifetime is {least} to {most} s here"),
            )),
        }
    }

    fn read_links(&mut self, request: &Message, settings: &Lwm2mSettings) -> Result<(), Refused> {
        let content = request.options.uint(number::CONTENT_FORMAT);
        if content.is_some_and(|content| content != u32::from(format::LINK_FORMAT)) {
            let why = "a registration has links (content format 40)";
            return Err((Code::UNSUPPORTED_CONTENT_FORMAT, why.into()));
        }
        if request.payload.len() > settings.max_links_bytes {
            let why = "too many objects (max_links_bytes)";
            return Err((Code::REQUEST_ENTITY_TOO_LARGE, why.into()));
        }
        match parse_registration(&request.payload) {
            Ok(_) => self.links = Bytes::copy_from_slice(&request.payload),
            Err(error) => return Err((Code::BAD_REQUEST, format!("objects: {error}"))),
        }
        Ok(())
    }

    /// Its objects.
    pub fn objects(&self) -> Registered {
        // It was read when it came.
        parse_registration(&self.links).unwrap_or_else(|_| Registered {
            root: "/".into(),
            formats: Vec::new(),
            objects: Default::default(),
        })
    }

    pub(crate) fn abilities(&self) -> Abilities {
        let objects = self.objects();
        Abilities {
            root: objects.root,
            formats: objects.formats,
            is_old: self.version == "1.0",
        }
    }

    /// As EMQX tells it.
    pub fn to_json(&self) -> Json {
        let objects = self.objects();
        let mut list = Vec::new();
        for (object, known) in &objects.objects {
            match known.instances.is_empty() {
                true => list.push(format!("/{object}")),
                false => list.extend(
                    known
                        .instances
                        .iter()
                        .map(|instance| format!("/{object}/{instance}")),
                ),
            }
        }
        let mut data = Map::new();
        data.insert("ep".into(), self.endpoint.clone().into());
        data.insert("lt".into(), self.lifetime.into());
        data.insert("lwm2m".into(), self.version.clone().into());
        data.insert("b".into(), self.binding.clone().into());
        if self.queue_mode && !self.binding.contains('Q') {
            data.insert("Q".into(), true.into());
        }
        if let Some(sms) = &self.sms {
            data.insert("sms".into(), sms.clone().into());
        }
        data.insert("alternatePath".into(), objects.root.into());
        data.insert("objectList".into(), json!(list));
        data.into()
    }
}

fn version(value: &str) -> Result<String, Refused> {
    match value {
        "1" | "1.0" => Ok("1.0".into()),
        "1.1" | "1.2" => Ok(value.into()),
        // LwM2M Core 1.1, table 6.2.-2
        _ => Err((
            Code::PRECONDITION_FAILED,
            "this version of LwM2M is not spoken here: 1.0, 1.1 and 1.2 are".into(),
        )),
    }
}

/// LwM2M Core 1.1 §6.2.1.2, and those of 1.2.
fn binding(value: &str) -> Result<String, Refused> {
    let known = !value.is_empty() && value.len() <= 8;
    match known && value.bytes().all(|letter| b"UTSNQMH".contains(&letter)) {
        true => Ok(value.to_owned()),
        false => Err((
            Code::BAD_REQUEST,
            "a binding has the letters U T S N Q M H".into(),
        )),
    }
}

/// A name that can be a level of a topic, and no more than one.
pub(crate) fn check_endpoint(endpoint: &str, settings: &Lwm2mSettings) -> Result<(), Refused> {
    let why = if endpoint.is_empty() {
        "the endpoint name is missing: ep="
    } else if endpoint.len() > settings.max_endpoint_bytes {
        "the endpoint name is too long (max_endpoint_bytes)"
    } else if endpoint.contains(['/', '+', '#', '\0']) || endpoint.starts_with('$') {
        "an endpoint name has no / + # in it here, and no $ in front"
    } else {
        return Ok(());
    };
    Err((Code::BAD_REQUEST, why.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use headgate_coap_codec::Token;

    fn register(query: &str, links: &str) -> Message {
        let mut message = Message::of_stream(Code::POST, Token::default());
        message.options.push(number::URI_PATH, "rd");
        for word in query.split('&') {
            message.options.push(number::URI_QUERY, word.to_owned());
        }
        message.payload = Bytes::copy_from_slice(links.as_bytes());
        message
    }

    fn parse(query: &str, links: &str) -> Result<Registration, Refused> {
        Registration::parse(&register(query, links), &Lwm2mSettings::default())
    }

    /// LwM2M Core 1.1, table 6.2.1.-1 and the example of §6.2.1
    /// \[LWM2M-6.2.1-LIFETIME\] \[LWM2M-6.2.1-VERSION\] \[LWM2M-6.2.1-BINDING\] \[LWM2M-6.2.1-QUEUE\] \[LWM2M-6.2.1-OBJECTS\] \[LWM2M-6.2.1-ALTERNATE-PATH\]
    /// \[LWM2M-6.2.1-FORMATS\]
    #[test]
    fn what_a_registration_says() {
        let got = parse(
            "ep=dev-1&lt=6000&lwm2m=1.1&b=U&Q&sms=0123456789",
            "</1/0>,</3/0>,</3303>;ver=\"1.1\"",
        )
        .unwrap();
        assert_eq!(
            (got.endpoint.as_str(), got.lifetime, got.queue_mode),
            ("dev-1", 6_000, true)
        );
        let told = got.to_json();
        assert_eq!(told["objectList"], json!(["/1/0", "/3/0", "/3303"]));
        assert_eq!(
            (&told["lt"], &told["alternatePath"]),
            (&json!(6_000), &json!("/"))
        );
        let old = parse("ep=dev-1&b=UQ", "</1/0>").unwrap();
        assert_eq!(
            (old.lifetime, old.version.as_str(), old.queue_mode),
            (86_400, "1.0", true)
        );
        let root = parse(
            "ep=a&lwm2m=1.1",
            "</lwm2m>;rt=\"oma.lwm2m\";ct=\"110 112\",</lwm2m/3/0>",
        )
        .unwrap();
        assert_eq!(
            (root.abilities().root.as_str(), root.abilities().formats),
            ("/lwm2m", vec![110, 112])
        );
    }

    /// \[LWM2M-6.2.1-ENDPOINT\] \[LWM2M-6.2.1-VERSION\] \[LWM2M-6.2.1-BINDING\] \[LWM2M-6.2.1-MALFORMED\]
    #[test]
    fn what_is_refused() {
        let code = |query, links| parse(query, links).unwrap_err().0;
        assert_eq!(
            parse("lt=10", "</3/0>").unwrap().endpoint,
            "",
            "security may say it"
        );
        assert_eq!(code("ep=a/b", "</3/0>"), Code::BAD_REQUEST);
        assert_eq!(code("ep=a&lt=x", "</3/0>"), Code::BAD_REQUEST);
        assert_eq!(code("ep=a&lt=99999999999", "</3/0>"), Code::BAD_REQUEST);
        assert_eq!(code("ep=a&b=X", "</3/0>"), Code::BAD_REQUEST);
        assert_eq!(code("ep=a&lwm2m=2.0", "</3/0>"), Code::PRECONDITION_FAILED);
        assert_eq!(code("ep=a", "</3/0"), Code::BAD_REQUEST);
        let long = "</3/0>,".repeat(1_000);
        assert_eq!(code("ep=a", &long), Code::REQUEST_ENTITY_TOO_LARGE);
    }

    /// LwM2M Core 1.1 §6.2.2: what is not said stays. \[LWM2M-6.2.2-PARTS\] \[LWM2M-6.2.2-OBJECTS\]
    #[test]
    fn an_update_changes_what_it_says() {
        let settings = Lwm2mSettings::default();
        let mut known = parse("ep=dev&lt=60&b=UQ", "</3/0>").unwrap();
        let empty = Message::of_stream(Code::POST, Token::default());
        assert_eq!(known.update(&empty, &settings), Ok(false));
        assert!(known.queue_mode);
        assert_eq!(known.update(&register("lt=90&ep=other", ""), &settings), Ok(true));
        assert_eq!((known.lifetime, known.endpoint.as_str()), (90, "dev"));
        assert_eq!(known.update(&register("b=U", "</5/0>"), &settings), Ok(true));
        assert_eq!((known.queue_mode, &known.links[..]), (false, &b"</5/0>"[..]));
        assert!(known.update(&register("lt=", ""), &settings).is_err());
        assert_eq!(known.lifetime, 90);
    }
    /// LwM2M Core 1.1 §6.2.1: other words are ignored; the objects are links. \[LWM2M-6.2.1-OTHER-WORDS\] \[LWM2M-6.2.1-CONTENT-FORMAT\]
    #[test]
    fn what_is_not_known_is_ignored_and_other_formats_are_refused() {
        assert_eq!(parse("ep=a&pid=7&x", "</3/0>"), parse("ep=a", "</3/0>"));
        let mut other = register("ep=a", "</3/0>");
        other.options.push_uint(number::CONTENT_FORMAT, 50);
        let refused = Registration::parse(&other, &Lwm2mSettings::default());
        assert_eq!(refused.unwrap_err().0, Code::UNSUPPORTED_CONTENT_FORMAT);
    }
}
