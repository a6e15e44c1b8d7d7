//! Operations as requests of CoAP, and what their responses say. LwM2M Transport 1.1 §6.4

use crate::command::{Kind, Operation};
use crate::exchange::Broken;
use headgate_coap_codec::{Code, Kind as MessageKind, Message, Token, number};
use headgate_lwm2m_codec::object::Registry;
use headgate_lwm2m_codec::{Format, FormatError, Link, LinkError, Path, Record, decode, encode, parse_links};

/// What is known of a client's abilities.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Abilities {
    /// Where its objects are: `/`, or an alternate path. LwM2M Core 1.1 §6.4.1
    pub root: String,
    /// Content formats that it says it has.
    pub formats: Vec<u16>,
    /// Whether it speaks 1.0, which knows no SenML.
    pub is_old: bool,
}

impl Abilities {
    /// The form for several values.
    fn best(&self) -> Option<Format> {
        const BEST_FIRST: [Format; 5] = [
            Format::SenmlCbor,
            Format::SenmlJson,
            Format::Tlv,
            Format::Json,
            Format::Lwm2mCbor,
        ];
        let has = |format: &Format| self.formats.iter().any(|known| *known == format.number());
        BEST_FIRST.into_iter().find(has)
    }

    fn for_writing(&self, wished: Option<Format>) -> Format {
        let known = if self.is_old { None } else { self.best() };
        wished.or(known).unwrap_or(Format::Tlv)
    }

    /// What to ask for; `None` leaves it to the client.
    fn for_reading(&self, path: &Path, wished: Option<Format>) -> Option<Format> {
        let several = path.depth() < 3 && !self.is_old;
        wished.or_else(|| if several { self.best() } else { None })
    }

    /// LwM2M Core 1.1 §6.3.8: composite operations have SenML.
    fn for_composites(&self, wished: Option<Format>) -> Format {
        let senml =
            |format: &Format| matches!(format, Format::SenmlCbor | Format::SenmlJson | Format::Lwm2mCbor);
        wished
            .filter(senml)
            .or_else(|| self.best().filter(senml))
            .unwrap_or(Format::SenmlJson)
    }
}

/// Why there is no request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error(transparent)]
    Format(#[from] FormatError),
    #[error(transparent)]
    Broken(#[from] Broken),
    #[error("a firmware update has many requests")]
    Many,
    #[error("the observation has ended")]
    Ended,
    #[error("too many observations (max_observations)")]
    TooMany,
}

/// Why a body says nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("content format {0} is not known")]
    Unknown(u32),
    #[error(transparent)]
    Format(#[from] FormatError),
}

/// The request for an operation; its kind and token are given later.
///
/// # Errors
///
/// The values cannot be said in this form.
pub(crate) fn request(
    operation: &Operation,
    abilities: &Abilities,
    wished: Option<Format>,
) -> Result<Message, RequestError> {
    let at = |code, path: &Path| to(code, &abilities.root, path);
    let with = |mut message: Message, path: Path, records: &[Record], format: Format| {
        let payload = encode(format, path, records)?;
        message
            .options
            .push_uint(number::CONTENT_FORMAT, format.number().into());
        message.payload = payload.into();
        Ok::<_, RequestError>(message)
    };
    let accept = |mut message: Message, format: Option<Format>| {
        if let Some(format) = format {
            message.options.push_uint(number::ACCEPT, format.number().into());
        }
        message
    };
    Ok(match operation {
        Operation::Read(path) => accept(at(Code::GET, path), abilities.for_reading(path, wished)),
        Operation::Discover(path) => accept(at(Code::GET, path), Some(Format::LinkFormat)),
        Operation::Write {
            path,
            records,
            replace,
        } => {
            let code = if *replace { Code::PUT } else { Code::POST };
            with(at(code, path), *path, records, abilities.for_writing(wished))?
        }
        Operation::Create(path, records) => with(
            at(Code::POST, path),
            *path,
            records,
            abilities.for_writing(wished),
        )?,
        Operation::WriteAttributes(path, attributes) => {
            let mut message = at(Code::PUT, path);
            for word in attributes.query() {
                message.options.push(number::URI_QUERY, word);
            }
            message
        }
        Operation::Execute(path, arguments) => {
            let mut message = at(Code::POST, path);
            if !arguments.is_empty() {
                let text = Format::Text.number();
                message.options.push_uint(number::CONTENT_FORMAT, text.into());
                message.payload = arguments.clone().into();
            }
            message
        }
        Operation::Delete(path) => at(Code::DELETE, path),
        Operation::ReadComposite(paths) => {
            let format = abilities.for_composites(wished);
            let message = with(at(Code::FETCH, &Path::ROOT), Path::ROOT, &named(paths), format)?;
            accept(message, Some(format))
        }
        Operation::WriteComposite(records) => {
            let format = abilities.for_composites(wished);
            with(at(Code::IPATCH, &Path::ROOT), Path::ROOT, records, format)?
        }
        Operation::Observe(paths, kind) => observation(paths, *kind, abilities, wished, 0)?,
        Operation::Cancel(paths, kind) => observation(paths, *kind, abilities, wished, 1)?,
        Operation::UpdateFirmware(_) => return Err(RequestError::Many),
    })
}

/// Begins an observation, or ends it: `observe` 0 or 1. RFC 7641 §2
fn observation(
    paths: &[Path],
    kind: Kind,
    abilities: &Abilities,
    wished: Option<Format>,
    observe: u32,
) -> Result<Message, RequestError> {
    let read = match (kind, paths) {
        (Kind::Single, [path]) => Operation::Read(*path),
        _ => Operation::ReadComposite(paths.to_vec()),
    };
    let mut message = request(&read, abilities, wished)?;
    message.options.push_uint(number::OBSERVE, observe);
    Ok(message)
}

fn named(paths: &[Path]) -> Vec<Record> {
    let name = |path: &Path| Record {
        path: *path,
        value: None,
        time: None,
    };
    paths.iter().map(name).collect()
}

/// A request to a path of a client.
pub(crate) fn to(code: Code, root: &str, path: &Path) -> Message {
    let mut message = Message::new(MessageKind::Confirmable, code, 0, Token::default());
    let segments = root.split('/').filter(|segment| !segment.is_empty());
    for segment in segments {
        message.options.push(number::URI_PATH, segment.to_owned());
    }
    for id in path.ids() {
        message.options.push(number::URI_PATH, id.to_string());
    }
    message
}

/// The form of a body; text where it is not said. RFC 7252 §5.10.3 leaves that to guess, and clients of 1.0 mean text by it.
pub(crate) fn format_of(message: &Message) -> Option<Format> {
    match message.options.uint(number::CONTENT_FORMAT) {
        None => Some(Format::Text),
        Some(number) => Format::of_number(number),
    }
}

/// The values that a response, or a request of a client, has.
///
/// # Errors
///
/// It is in a form that is not known, or cannot be read.
pub(crate) fn values(message: &Message, base: Path, registry: &Registry) -> Result<Vec<Record>, BodyError> {
    let Some(format) = format_of(message) else {
        let number = message.options.uint(number::CONTENT_FORMAT).unwrap_or_default();
        return Err(BodyError::Unknown(number));
    };
    if message.payload.is_empty() && base.depth() < 3 {
        return Ok(Vec::new());
    }
    Ok(decode(format, base, &message.payload, registry)?)
}

/// The links of an answer to Discover, without the alternate path of the client.
pub(crate) fn discovered(message: &Message, root: &str) -> Result<Vec<Link>, LinkError> {
    let links = parse_links(&message.payload);
    if links.is_ok() || root == "/" {
        return links;
    }
    let text = String::from_utf8_lossy(&message.payload);
    let text = text
        .replace(&format!("<{root}/"), "</")
        .replace(&format!("<{root}>"), "</>");
    parse_links(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use headgate_lwm2m_codec::{Attributes, Value};

    fn path(text: &str) -> Path {
        text.parse().unwrap()
    }

    fn segments(message: &Message) -> String {
        let all = message.options.all(number::URI_PATH);
        all.map(|segment| format!("/{}", String::from_utf8_lossy(segment)))
            .collect()
    }

    fn new_client(formats: &[u16]) -> Abilities {
        Abilities {
            root: "/".into(),
            formats: formats.to_vec(),
            is_old: false,
        }
    }

    /// LwM2M Core 1.1 §7.4, and clients that say `ct`. \[LWM2M-6.3.1-ACCEPT\] \[LWM2M-7.4-CHOICE\]
    #[test]
    fn the_form_is_what_the_client_knows() {
        let write = |abilities: &Abilities, wished| {
            let records = vec![Record {
                path: path("/3303/0/5700"),
                value: Some(Value::Float(1.5)),
                time: None,
            }];
            let operation = Operation::Write {
                path: path("/3303/0/5700"),
                records,
                replace: true,
            };
            let message = request(&operation, abilities, wished).unwrap();
            message.options.uint(number::CONTENT_FORMAT).unwrap()
        };
        let old = Abilities {
            is_old: true,
            ..new_client(&[110])
        };
        assert_eq!(write(&old, None), 11_542);
        assert_eq!(write(&new_client(&[]), None), 11_542);
        assert_eq!(write(&new_client(&[60, 110, 112, 11_542]), None), 112);
        assert_eq!(write(&new_client(&[110]), Some(Format::Text)), 0);
        let read = |abilities: &Abilities, at: &str| {
            let message = request(&Operation::Read(path(at)), abilities, None).unwrap();
            message.options.uint(number::ACCEPT)
        };
        assert_eq!(read(&new_client(&[110]), "/3/0"), Some(110));
        assert_eq!(read(&new_client(&[110]), "/3/0/0"), None);
        assert_eq!(read(&old, "/3/0"), None);
    }

    /// LwM2M Core 1.1 §6.4.1: an alternate path goes in front.
    /// \[RFC8132-2.3.1-1\] \[LWM2M-6.2.1-ALTERNATE-PATH\] \[LWM2M-6.3.1-READ\] \[LWM2M-6.3.2-DISCOVER\] \[LWM2M-6.3.5-EXECUTE\] \[LWM2M-6.3.7-DELETE\]
    /// \[LWM2M-6.3.8-FORMAT\] \[LWM2M-6.4.4-OBSERVE-COMPOSITE\] \[LWM2M-6.4.5-CANCEL-COMPOSITE\]
    #[test]
    fn requests_of_the_specification() {
        let client = Abilities {
            root: "/lwm2m".into(),
            ..new_client(&[])
        };
        let of = |operation: Operation| request(&operation, &client, None).unwrap();
        let read = of(Operation::Read(path("/3/0/0")));
        assert_eq!((read.code, segments(&read).as_str()), (Code::GET, "/lwm2m/3/0/0"));
        let discover = of(Operation::Discover(path("/3")));
        assert_eq!(discover.options.uint(number::ACCEPT), Some(40));
        let execute = of(Operation::Execute(path("/3/0/4"), "0='1'".into()));
        assert_eq!((execute.code, &execute.payload[..]), (Code::POST, &b"0='1'"[..]));
        let both = vec![path("/3/0/9"), path("/3303/0/5700")];
        let composite = of(Operation::Observe(both.clone(), Kind::Composite));
        assert_eq!(
            (composite.code, segments(&composite).as_str()),
            (Code::FETCH, "/lwm2m")
        );
        assert_eq!(composite.options.uint(number::OBSERVE), Some(0));
        assert_eq!(composite.options.uint(number::CONTENT_FORMAT), Some(110));
        let cancel = of(Operation::Cancel(both, Kind::Composite));
        assert_eq!(cancel.options.uint(number::OBSERVE), Some(1));
        assert_eq!(of(Operation::Delete(path("/5/0"))).code, Code::DELETE);
    }
    /// LwM2M Core 1.1 §6.3: what each operation is in CoAP.
    /// \[LWM2M-6.3.3-REPLACE\] \[LWM2M-6.3.3-UPDATE\] \[LWM2M-6.3.4-WRITE-ATTRIBUTES\] \[LWM2M-6.3.6-CREATE\] \[LWM2M-6.3.8-READ-COMPOSITE\]
    /// \[LWM2M-6.3.9-WRITE-COMPOSITE\] \[LWM2M-6.3.8-FORMAT\] \[LWM2M-7.3.2-REMOVE\]
    #[test]
    fn each_operation_has_its_method() {
        let client = new_client(&[]);
        let of = |operation: Operation| request(&operation, &client, None).unwrap();
        let record = |at: &str| Record::new(path(at), Value::Integer(1));
        let write = |replace| {
            of(Operation::Write {
                path: path("/3303/0/5700"),
                records: vec![record("/3303/0/5700")],
                replace,
            })
        };
        assert_eq!([write(true).code, write(false).code], [Code::PUT, Code::POST]);
        let create = of(Operation::Create(path("/3303"), vec![record("/3303/7/5700")]));
        assert_eq!((create.code, segments(&create).as_str()), (Code::POST, "/3303"));
        let read = of(Operation::ReadComposite(vec![path("/3/0/9")]));
        assert_eq!((read.code, segments(&read).as_str()), (Code::FETCH, ""));
        assert_eq!(read.options.uint(number::CONTENT_FORMAT), Some(110));
        let write = of(Operation::WriteComposite(vec![record("/3303/0/5700")]));
        assert_eq!((write.code, segments(&write).as_str()), (Code::IPATCH, ""));
        let attributes = Attributes::of_query(["pmin=5", "gt"]).unwrap();
        let write = of(Operation::WriteAttributes(path("/3/0/9"), attributes));
        let words: Vec<_> = write.options.all(number::URI_QUERY).collect();
        assert_eq!((write.code, write.payload.len()), (Code::PUT, 0));
        assert_eq!(words, ["pmin=5", "gt"]);
    }
}
