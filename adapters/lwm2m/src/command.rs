//! Commands from the bus: JSON as EMQX has it, and what it means. docs/lwm2m.md
//!
//! `{"reqID": 1, "msgType": "read", "data": {"path": "/3/0/0"}}`; whatever else stands beside `data` is said again in the answer.

use headgate_lwm2m_codec::object::Registry;
use headgate_lwm2m_codec::{
    Attribute, AttributeError, Attributes, Format, Path, PathError, Record, Type, Types, Value, ValueError,
};
use serde_json::{Map, Value as Json};
use std::time::Duration;

/// Paths of one composite operation.
const MOST_PATHS: usize = 256;
/// Bytes of what a command says beside `data`: all of it is said again.
const MOST_SAID: usize = 4_096;

/// One command.
#[derive(Debug)]
pub(crate) struct Command {
    /// All of it but `data`.
    pub said: Map<String, Json>,
    /// The path as it was asked for, for the answer.
    pub path: String,
    pub operation: Operation,
    /// In which form values are wished.
    pub format: Option<Format>,
    /// So long it waits for its client.
    pub expiry: Option<Duration>,
}

/// What is to be done. LwM2M Core 1.1 §6.3, §6.4
#[derive(Debug)]
pub(crate) enum Operation {
    Read(Path),
    ReadComposite(Vec<Path>),
    Discover(Path),
    /// With what is written; `replace`: what is not said is gone.
    Write {
        path: Path,
        records: Vec<Record>,
        replace: bool,
    },
    WriteComposite(Vec<Record>),
    WriteAttributes(Path, Attributes),
    Execute(Path, String),
    Create(Path, Vec<Record>),
    Delete(Path),
    Observe(Vec<Path>, Kind),
    Cancel(Vec<Path>, Kind),
    UpdateFirmware(Package),
}

/// How many paths an observation is of: one, or any number. LwM2M Core 1.1 §6.4.6
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Single,
    Composite,
}

/// Firmware, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Package {
    /// A package of this gateway.
    Named {
        name: String,
        /// The client fetches it, rather than being sent it. Without it: as the client prefers.
        pull: Option<bool>,
    },
    /// Anywhere.
    Uri(String),
}

/// Why something is no command.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum CommandError {
    #[error("no JSON: {0}")]
    NoJson(String),
    #[error("a command is a JSON object")]
    NoObject,
    #[error("what stands beside `data` is longer than 4096 bytes")]
    TooLong,
    #[error("`{0}` is missing, {1}")]
    Missing(&'static str, &'static str),
    #[error("`{0}` is {1}")]
    Wrong(&'static str, &'static str),
    #[error("`{0}` is no {1}")]
    Unknown(String, &'static str),
    #[error("`{0}`: {1}")]
    Path(String, PathError),
    #[error("`{0}`: the path is too long")]
    Deep(String),
    #[error("`{0}` is no path for this")]
    Depth(String),
    #[error("{0}: `value` is missing")]
    NoValue(Path),
    #[error("{0}: {1}")]
    Value(Path, ValueError),
    #[error(transparent)]
    Attribute(#[from] AttributeError),
    #[error("no attribute is said, allowed are {0}")]
    NoAttribute(String),
    #[error("either `package` is missing, the name of one, or `uri`")]
    NoPackage,
}

/// A command that is none, and why.
#[derive(Debug, PartialEq)]
pub(crate) struct BadCommand {
    /// What there is to say again.
    pub said: Map<String, Json>,
    pub path: String,
    pub why: CommandError,
}

impl Command {
    /// Reads one.
    ///
    /// # Errors
    ///
    /// It says something else than a command does.
    pub(crate) fn parse(payload: &[u8], registry: &Registry) -> Result<Self, BadCommand> {
        let bad = |said, path, why| BadCommand { said, path, why };
        let mut said = match serde_json::from_slice(payload) {
            Ok(Json::Object(said)) => said,
            Ok(_) => return Err(bad(Map::new(), String::new(), CommandError::NoObject)),
            Err(error) => {
                let why = CommandError::NoJson(error.to_string());
                return Err(bad(Map::new(), String::new(), why));
            }
        };
        let Some(Json::Object(data)) = said.remove("data") else {
            return Err(bad(
                said,
                String::new(),
                CommandError::Missing("data", "an object"),
            ));
        };
        let path = path_of(&data);
        if serde_json::to_vec(&said).map_or(0, |json| json.len()) > MOST_SAID {
            said.retain(|key, value| key == "reqID" && value.is_number());
            return Err(bad(said, path, CommandError::TooLong));
        }
        let read = Data {
            data: &data,
            registry,
        }
        .read(&said);
        match read {
            Ok((operation, format, expiry)) => Ok(Self {
                said,
                path,
                operation,
                format,
                expiry,
            }),
            Err(why) => Err(bad(said, path, why)),
        }
    }
}

/// The path of a command as it stands there, without a query.
fn path_of(data: &Map<String, Json>) -> String {
    let path = data.get("path").or_else(|| data.get("basePath"));
    // Of a composite operation it is the root, as in its notifications.
    let root = if data.contains_key("paths") { "/" } else { "" };
    let path = path.and_then(Json::as_str).unwrap_or(root);
    path.split_once('?').map_or(path, |(path, _)| path).to_owned()
}

struct Data<'a> {
    data: &'a Map<String, Json>,
    registry: &'a Registry,
}

/// What a command says: the operation, the form that is wished, and for how long it waits.
type Read = (Operation, Option<Format>, Option<Duration>);

impl Data<'_> {
    fn read(&self, said: &Map<String, Json>) -> Result<Read, CommandError> {
        let format = match self.data.get("format").and_then(Json::as_str) {
            Some(name) => Some(name.parse().map_err(|_| unknown(name, "format"))?),
            None => None,
        };
        let expiry = match self.data.get("expiry").or_else(|| said.get("expiry")) {
            Some(seconds) => {
                let seconds = seconds.as_u64().map(Duration::from_secs);
                Some(seconds.ok_or(CommandError::Wrong("expiry", "a number of seconds"))?)
            }
            None => None,
        };
        let kind = said.get("msgType").and_then(Json::as_str).unwrap_or_default();
        Ok((self.operation(kind)?, format, expiry))
    }

    fn operation(&self, kind: &str) -> Result<Operation, CommandError> {
        Ok(match kind {
            "read" => match self.data.contains_key("paths") {
                true => Operation::ReadComposite(self.paths()?),
                false => Operation::Read(self.path("path", 1..=4)?),
            },
            "read-composite" => Operation::ReadComposite(self.paths()?),
            "discover" => Operation::Discover(self.path("path", 1..=3)?),
            "write" => self.write()?,
            "write-composite" => {
                Operation::WriteComposite(self.content(Path::ROOT, |record| record.path.depth() >= 3)?)
            }
            "write-attr" => self.attributes()?,
            "execute" => {
                let arguments = match self.data.get("args") {
                    None | Some(Json::Null) => String::new(),
                    Some(Json::String(text)) if text == "undefined" => String::new(),
                    Some(Json::String(text)) => text.clone(),
                    Some(_) => return Err(CommandError::Wrong("args", "text")),
                };
                Operation::Execute(self.path("path", 3..=3)?, arguments)
            }
            "create" => {
                let path = match self.data.contains_key("basePath") {
                    true => self.path("basePath", 1..=1)?,
                    false => self.path("path", 1..=1)?,
                };
                Operation::Create(path, self.content(path, |_| true)?)
            }
            "delete" => Operation::Delete(self.path("path", 2..=4)?),
            "observe" => Operation::Observe(vec![self.path("path", 1..=4)?], Kind::Single),
            "cancel-observe" => Operation::Cancel(vec![self.path("path", 1..=4)?], Kind::Single),
            "observe-composite" => Operation::Observe(self.paths()?, Kind::Composite),
            "cancel-observe-composite" => Operation::Cancel(self.paths()?, Kind::Composite),
            "update-firmware" => Operation::UpdateFirmware(self.package()?),
            "" => return Err(CommandError::Missing("msgType", "such as \"read\"")),
            other => return Err(unknown(other, "msgType")),
        })
    }

    fn path(&self, key: &'static str, depths: std::ops::RangeInclusive<usize>) -> Result<Path, CommandError> {
        let Some(text) = self.data.get(key).and_then(Json::as_str) else {
            return Err(CommandError::Missing(key, "a path such as /3/0/0"));
        };
        let path = text.split_once('?').map_or(text, |(path, _)| path);
        let path = parsed(trimmed(path), text)?;
        match depths.contains(&path.depth()) {
            true => Ok(path),
            false => Err(CommandError::Depth(text.to_owned())),
        }
    }

    fn paths(&self) -> Result<Vec<Path>, CommandError> {
        let Some(Json::Array(paths)) = self.data.get("paths") else {
            return Err(CommandError::Missing("paths", "a list of paths"));
        };
        if paths.is_empty() {
            return Err(CommandError::Wrong("paths", "empty"));
        }
        if paths.len() > MOST_PATHS {
            return Err(CommandError::Wrong("paths", "longer than 256"));
        }
        let path = |path: &Json| {
            let text = path
                .as_str()
                .ok_or(CommandError::Wrong("paths", "a list of paths"))?;
            parsed(trimmed(text), text)
        };
        paths.iter().map(path).collect()
    }

    /// A value at `path`, or several below `basePath`.
    fn write(&self) -> Result<Operation, CommandError> {
        let base = self.data.get("basePath").and_then(Json::as_str);
        let replaces = match self.data.get("mode").map(Json::as_str) {
            None => None,
            Some(Some("replace")) => Some(true),
            Some(Some("update")) => Some(false),
            Some(_) => return Err(CommandError::Wrong("mode", "\"replace\" or \"update\"")),
        };
        if base.is_none_or(|base| base == "/") {
            let path = self.path("path", 3..=4)?;
            let records = vec![self.record(path, self.data)?];
            let replace = replaces.unwrap_or(true);
            return Ok(Operation::Write {
                path,
                records,
                replace,
            });
        }
        let path = self.path("basePath", 2..=3)?;
        let records = self.content(path, |record| record.path.depth() >= 3)?;
        // As EMQX has it: an instance is updated, a resource is replaced.
        let replace = replaces.unwrap_or(path.depth() == 3);
        Ok(Operation::Write {
            path,
            records,
            replace,
        })
    }

    /// What stands in `content`, below `base`.
    fn content(&self, base: Path, is_good: impl Fn(&Record) -> bool) -> Result<Vec<Record>, CommandError> {
        const LIST: &str = "a list of {path, type, value}";
        let Some(Json::Array(content)) = self.data.get("content") else {
            return Err(CommandError::Missing("content", LIST));
        };
        let record = |entry: &Json| {
            let entry = entry.as_object().ok_or(CommandError::Wrong("content", LIST))?;
            let below = entry.get("path").and_then(Json::as_str).unwrap_or_default();
            let record = self.record(below_of(base, below)?, entry)?;
            match is_good(&record) {
                true => Ok(record),
                false => Err(CommandError::Depth(below.to_owned())),
            }
        };
        content.iter().map(record).collect()
    }

    /// A value with the type that it says, or that the resource has, or that it looks like.
    fn record(&self, path: Path, entry: &Map<String, Json>) -> Result<Record, CommandError> {
        let Some(json) = entry.get("value") else {
            return Err(CommandError::NoValue(path));
        };
        let said = match entry.get("type").and_then(Json::as_str) {
            Some(name) => Some(name.parse().map_err(|_| unknown(name, "type"))?),
            None => None,
        };
        let kind = said.or_else(|| self.registry.of(&path)).unwrap_or(match json {
            Json::Bool(_) => Type::Boolean,
            Json::Number(number) if number.is_i64() => Type::Integer,
            Json::Number(_) => Type::Float,
            _ => Type::String,
        });
        let is_text = matches!(kind, Type::String | Type::CoreLink | Type::Opaque);
        let value = match json {
            Json::String(text) if !is_text => Value::of_text(text, kind),
            json => Value::of_json(json, kind),
        };
        let value = value.map_err(|error| CommandError::Value(path, error))?;
        Ok(Record::new(path, value))
    }

    fn attributes(&self) -> Result<Operation, CommandError> {
        let path = self.path("path", 1..=4)?;
        let mut attributes = Attributes::default();
        let mut set = |name: &str, value: &str| {
            let value = (!value.is_empty()).then_some(value);
            attributes.set(name, value)
        };
        let text = self.data.get("path").and_then(Json::as_str).unwrap_or_default();
        for word in text.split_once('?').map_or("", |(_, query)| query).split('&') {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            if !name.is_empty() {
                set(name, value)?;
            }
        }
        for name in Attribute::ALL.iter().map(|attribute| attribute.name()) {
            match self.data.get(name) {
                None | Some(Json::Null) => {}
                Some(Json::String(value)) => set(name, value)?,
                Some(Json::Number(value)) => set(name, &value.to_string())?,
                Some(Json::Bool(value)) => set(name, if *value { "1" } else { "0" })?,
                Some(_) => return Err(CommandError::Wrong(name, "a number")),
            }
        }
        if attributes.is_empty() {
            let names: Vec<&str> = Attribute::ALL.iter().map(|attribute| attribute.name()).collect();
            return Err(CommandError::NoAttribute(names.join(", ")));
        }
        Ok(Operation::WriteAttributes(path, attributes))
    }

    fn package(&self) -> Result<Package, CommandError> {
        let text = |key: &str| self.data.get(key).and_then(Json::as_str).map(str::to_owned);
        match (text("package"), text("uri")) {
            (Some(name), None) => {
                let pull = match self.data.get("pull") {
                    None => None,
                    Some(Json::Bool(pull)) => Some(*pull),
                    Some(_) => return Err(CommandError::Wrong("pull", "true or false")),
                };
                Ok(Package::Named { name, pull })
            }
            // OMA-TS-LWM2M_Core 1.1 appendix E.6, resource 1
            (None, Some(uri)) if uri.len() > 255 => Err(CommandError::Wrong("uri", "longer than 255 bytes")),
            (None, Some(uri)) => Ok(Package::Uri(uri)),
            _ => Err(CommandError::NoPackage),
        }
    }
}

fn unknown(name: &str, what: &'static str) -> CommandError {
    CommandError::Unknown(name.to_owned(), what)
}

fn parsed(path: &str, said: &str) -> Result<Path, CommandError> {
    path.parse()
        .map_err(|error| CommandError::Path(said.to_owned(), error))
}

/// EMQX takes `/3/0/` for `/3/0`.
fn trimmed(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" => "/",
        path => path,
    }
}

/// `1`, `/1` or `/0/1` below a path.
fn below_of(base: Path, below: &str) -> Result<Path, CommandError> {
    let path = match trimmed(below) {
        "/" => Path::ROOT,
        path => parsed(path, below)?,
    };
    let ids = [base.ids(), path.ids()].concat();
    Path::of(&ids).ok_or_else(|| CommandError::Deep(below.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(command: &Json) -> Result<Command, BadCommand> {
        Command::parse(command.to_string().as_bytes(), &Registry::builtin())
    }

    fn operation(kind: &str, data: Json) -> Operation {
        parse(&json!({"reqID": 7, "msgType": kind, "data": data}))
            .unwrap()
            .operation
    }

    fn path(text: &str) -> Path {
        text.parse().unwrap()
    }

    fn records(operation: Operation) -> Vec<(String, Value)> {
        let (Operation::Write { records, .. } | Operation::Create(_, records)) = operation else {
            panic!("{operation:?}");
        };
        let record = |record: Record| (record.path.to_string(), record.value.unwrap());
        records.into_iter().map(record).collect()
    }

    /// The commands of EMQX's documentation. \[LWM2M-6.3.3-UPDATE\] \[LWM2M-6.3.6-CREATE\]
    #[test]
    fn commands_as_emqx_has_them() {
        let Operation::Read(read) = operation("read", json!({"path": "/3/0/0"})) else {
            panic!()
        };
        assert_eq!(read, path("/3/0/0"));
        let single = operation(
            "write",
            json!({"path": "/3/0/14", "type": "String", "value": "+09"}),
        );
        assert!(matches!(single, Operation::Write { replace: true, .. }));
        assert_eq!(records(single), [("/3/0/14".into(), Value::String("+09".into()))]);
        let batch = json!({"basePath": "/3/0/", "content": [
            {"path": "13", "type": "Time", "value": 1_500_000_000},
            {"path": "14", "type": "String", "value": "x"},
        ]});
        let batch = operation("write", batch);
        assert!(matches!(batch, Operation::Write { replace: false, .. }));
        assert_eq!(
            records(batch),
            [
                ("/3/0/13".into(), Value::Time(1_500_000_000)),
                ("/3/0/14".into(), Value::String("x".into()))
            ]
        );
        let create =
            json!({"basePath": "/5", "content": [{"path": "/0/1", "type": "String", "value": "coap://x"}]});
        assert_eq!(
            records(operation("create", create)),
            [("/5/0/1".into(), Value::String("coap://x".into()))]
        );
        let Operation::Execute(at, arguments) =
            operation("execute", json!({"path": "3/0/4", "args": "0='a'"}))
        else {
            panic!()
        };
        assert_eq!((at, arguments.as_str()), (path("/3/0/4"), "0='a'"));
        let attributes = json!({"path": "/3/0/9", "pmin": "1", "pmax": 5, "gt": null});
        let Operation::WriteAttributes(_, attributes) = operation("write-attr", attributes) else {
            panic!()
        };
        assert_eq!(attributes.query(), ["pmin=1", "pmax=5"]);
        assert!(matches!(
            operation("delete", json!({"path": "/5/0"})),
            Operation::Delete(_)
        ));
        assert!(matches!(
            operation("discover", json!({"path": "/3"})),
            Operation::Discover(_)
        ));
        assert!(matches!(
            operation("observe", json!({"path": "/3/0/9"})),
            Operation::Observe(_, Kind::Single)
        ));
    }

    #[test]
    fn a_value_has_the_type_that_its_resource_has() {
        let write =
            |path: &str, value: Json| records(operation("write", json!({"path": path, "value": value})));
        assert_eq!(write("/3303/0/5700", json!(22))[0].1, Value::Float(22.0));
        assert_eq!(write("/3/0/13", json!("17"))[0].1, Value::Time(17));
        assert_eq!(write("/32769/0/0", json!(22))[0].1, Value::Integer(22));
        assert_eq!(write("/32769/0/0", json!("22"))[0].1, Value::String("22".into()));
        assert_eq!(write("/32769/0/0", json!(true))[0].1, Value::Boolean(true));
    }

    #[test]
    fn what_is_no_command_is_told() {
        let why = |command: Json| parse(&command).unwrap_err().why.to_string();
        assert_eq!(
            Command::parse(b"7", &Registry::empty())
                .unwrap_err()
                .why
                .to_string(),
            "a command is a JSON object"
        );
        assert!(
            Command::parse(b"{", &Registry::empty())
                .unwrap_err()
                .why
                .to_string()
                .starts_with("no JSON")
        );
        assert_eq!(why(json!({"reqID": 1})), "`data` is missing, an object");
        assert_eq!(why(json!({"data": {}})), "`msgType` is missing, such as \"read\"");
        assert_eq!(
            why(json!({"msgType": "jump", "data": {}})),
            "`jump` is no msgType"
        );
        let read = |path: &str| why(json!({"msgType": "execute", "data": {"path": path}}));
        assert_eq!(read("/3/0"), "`/3/0` is no path for this");
        assert!(read("/3/0/x").starts_with("`/3/0/x`: "));
        let error = parse(&json!({"reqID": 3, "msgType": "write", "data": {"path": "/3/0/14"}})).unwrap_err();
        assert_eq!(error.why.to_string(), "/3/0/14: `value` is missing");
        assert_eq!(
            (error.said["reqID"].clone(), error.path.as_str()),
            (json!(3), "/3/0/14")
        );
        let value = json!({"msgType": "write", "data": {"path": "/3303/0/5700", "value": "warm"}});
        assert!(why(value).starts_with("/3303/0/5700: "));
    }
}
