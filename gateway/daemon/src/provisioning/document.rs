//! What a provisioning file says, checked as far as it can be without a gateway.

use super::FOLDER;
use super::network::{Network, Written};
use super::text::{is_name, text};
use crate::config::{Edit, line_of};
use headgate_admin::Role;
use rustls_pki_types::pem::{PemObject, SectionKind};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer, Error};

/// Entries of any list: passwords are hashed at the start, which takes tens of milliseconds each.
const MOST: usize = 200;

/// Numbers are dates and times at most, such as 20261130235959; beyond this one it was probably a slip of the finger.
const MOST_NUMBER: u64 = 1_000_000_000_000_000_000;

/// The content of the file, in TOML.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Document {
    /// Which one it is: a gateway takes none that has a lower number than the one it took last, or the same.
    pub(crate) number: u64,
    /// For which machines: addresses of network interfaces (`52:54:00:12:34:56`) or the serial number of the device tree. None: for all.
    #[serde(default)]
    pub(crate) devices: Vec<String>,
    /// Interfaces. None: an address by DHCP on each that is wired, as without the file.
    #[serde(default)]
    pub(crate) network: Vec<Network>,
    /// Settings as in `headgate.toml`. Sections and entries with a name go into what is there, all else takes its place.
    #[serde(default)]
    pub(crate) configuration: Map<String, Value>,
    /// Devices and programs that connect.
    #[serde(default)]
    pub(crate) users: Vec<NewUser>,
    /// Who runs the gateway.
    #[serde(default)]
    pub(crate) administrators: Vec<NewAdministrator>,
    /// Certificates and keys, to be named in `configuration` as `provisioned/NAME` below the data folder.
    #[serde(default)]
    pub(crate) files: Vec<NewFile>,
}

/// A user.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewUser {
    pub(crate) name: String,
    pub(crate) password: String,
}

/// An administrator.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewAdministrator {
    pub(crate) name: String,
    pub(crate) password: String,
    #[serde(default = "administrator")]
    pub(crate) role: Role,
}

fn administrator() -> Role {
    Role::Administrator
}

/// A file.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewFile {
    pub(crate) name: FileName,
    pub(crate) text: String,
}

// What is secret is not told.
impl std::fmt::Debug for NewUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}
impl std::fmt::Debug for NewAdministrator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}
impl std::fmt::Debug for NewFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name.0)
    }
}

text!(
    FileName,
    "a name of letters, digits, dots, dashes and underscores that begins with a letter or digit, and does not end in `.new`",
    |text| text.len() <= 64 && is_name(text) && !text.ends_with(".new")
);
/// Why it says nothing that can be done. What is secret is not told.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {what}")]
pub(crate) struct DocumentError {
    /// From 1.
    line: usize,
    /// What is wrong there.
    what: String,
}

impl Document {
    /// Reads it. Errors name the line, and never what stands there.
    pub(crate) fn parse(text: &str) -> Result<Self, DocumentError> {
        let document: Self = toml::from_str(text).map_err(|error| {
            let (begins, error) = wrong_network(text).unwrap_or_else(|| {
                let begins = error.span().map_or(0, |span| span.start);
                (begins, error)
            });
            let what = without_value(error.message());
            DocumentError {
                line: line_at(text, begins),
                what: match key_before(text, begins).filter(|_| what != error.message()) {
                    Some(key) => format!("{key}: {what}"),
                    None => what.to_owned(),
                },
            }
        })?;
        let wrong = |key: &str, what: String| DocumentError {
            line: line_of(text, key),
            what,
        };
        for (list, entries) in [
            ("devices", document.devices.len()),
            ("network", document.network.len()),
            ("users", document.users.len()),
            ("administrators", document.administrators.len()),
            ("files", document.files.len()),
        ] {
            if entries > MOST {
                let what = format!("{list}: {MOST} entries are the most");
                return Err(wrong(&format!("{list}[{MOST}]"), what));
            }
        }
        // It would never be older than another one.
        if document.number == 0 {
            return Err(wrong("number", "number: 1 is the least".into()));
        }
        let once = |key: &str, list: &str, names: &mut dyn Iterator<Item = Option<&str>>| {
            let Some((n, name)) = twice(names) else {
                return Ok(());
            };
            Err(wrong(
                &format!("{key}[{n}]"),
                format!("{list}: `{name}` is there twice"),
            ))
        };
        let Self {
            network,
            users,
            administrators,
            files,
            ..
        } = &document;
        let interfaces = &mut network.iter().map(|network| Some(&*network.interface.0));
        once("network", "network", interfaces)?;
        once("network", "cellular", &mut network.iter().map(Network::device))?;
        once("users", "users", &mut users.iter().map(|user| Some(&*user.name)))?;
        let names = &mut administrators.iter().map(|new| Some(&*new.name));
        once("administrators", "administrators", names)?;
        once(
            "files",
            "files",
            &mut files.iter().map(|file| Some(&*file.name.0)),
        )?;
        for (list, entries) in &document.configuration {
            let entries = entries.as_array().into_iter().flatten();
            let name = format!("configuration.{list}");
            once(&name, &name, &mut entries.map(name_of))?;
        }
        match document.configuration.contains_key("data_dir") {
            true => Err(wrong(
                "configuration.data_dir",
                "configuration.data_dir: a provisioning file does not move the data folder".into(),
            )),
            false => Ok(document),
        }
    }

    /// Whether it is for a machine of these names.
    pub(crate) fn is_for(&self, machine: &[String]) -> bool {
        let is = |device: &String| machine.iter().any(|name| plain(name) == plain(device));
        self.devices.is_empty() || self.devices.iter().any(is)
    }

    /// The key that later files are to be signed with, if it says so.
    pub(super) fn provisioning_key(&self) -> Option<&str> {
        self.configuration
            .get("firmware")?
            .get("provisioning_key")?
            .as_str()
    }

    /// The text of its own file of this name.
    pub(super) fn file(&self, name: &Path) -> Option<&str> {
        let file = self.files.iter().find(|file| Path::new(&file.name.0) == name)?;
        Some(&file.text)
    }

    /// What is probably not as it was meant.
    pub(crate) fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        if self.number > MOST_NUMBER {
            doubts.push(format!(
                "number: {} leaves few for later files, which need higher ones",
                self.number
            ));
        }
        for device in self.devices.iter().map(|device| plain(device)) {
            let parts: Vec<&str> = device.split(':').collect();
            let is_hexadecimal = |part: &&str| part.len() <= 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
            if parts.len() > 2 && parts.len() != 6 && parts.iter().all(is_hexadecimal) {
                doubts.push(format!("devices: `{device}` looks like an address, and has not six bytes: it is taken for a serial number"));
            }
        }
        if self.network.is_empty() {
            doubts.push("network: there is none in it: what an earlier file said of the machine's network goes, and each interface has an address by DHCP".to_owned());
        }
        doubts.extend(self.network.iter().flat_map(Network::doubts));
        for NewFile { name, text } in &self.files {
            let is_pem = text.contains("-----");
            let sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes());
            let found = sections.collect::<Result<Vec<_>, _>>();
            if is_pem && found.is_err() {
                doubts.push(format!("files: `{}` is damaged PEM: a line `-----BEGIN X-----` and one `-----END X-----` belong together, and base64 between them", name.0));
            } else if is_pem && found.is_ok_and(|found| found.is_empty()) {
                doubts.push(format!("files: `{}` has neither certificates nor keys", name.0));
            }
        }
        doubts.extend(self.doubts_of_wans());
        let mut named = BTreeSet::new();
        self.configuration
            .values()
            .for_each(|value| provisioned(value, &mut named));
        for name in named {
            if !self.files.iter().any(|file| file.name.0 == name) {
                doubts.push(format!("configuration: `{FOLDER}/{name}` is not among the files: it must be on the gateway already"));
            }
        }
        doubts
    }

    /// Ways out by interfaces that lead nowhere.
    fn doubts_of_wans(&self) -> Vec<String> {
        let wans = self.configuration.get("wans").and_then(Value::as_array);
        let interfaces = wans.into_iter().flatten();
        let interfaces = interfaces.filter_map(|wan| wan.get("interface")?.as_str());
        let named = interfaces.filter(|interface| IpAddr::from_str(interface).is_err());
        let mut doubts = Vec::new();
        for interface in named {
            let mut networks = self.network.iter().filter(|network| network.covers(interface));
            match networks.next() {
                None if self.network.is_empty() => {}
                None => doubts.push(format!(
                    "configuration.wans: `{interface}` is none of the interfaces of `[[network]]`"
                )),
                Some(network) if !network.leads_out() => doubts.push(format!(
                    "network: `{interface}` is to be a way out, and has no `gateway`"
                )),
                Some(_) => {}
            }
        }
        doubts
    }

    /// The settings as changes of a configuration's text.
    pub(crate) fn edits(&self) -> Vec<Edit> {
        let mut edits = Vec::new();
        section(String::new(), &self.configuration, &mut edits);
        edits
    }

    /// The interfaces as systemd-networkd reads them.
    pub(crate) fn network_files(&self) -> Vec<Written> {
        let named = |(n, network): (usize, &Network)| {
            Some((format!("10-headgate-{n:03}.network"), network.networkd()?))
        };
        self.network.iter().enumerate().filter_map(named).collect()
    }

    /// What wpa_supplicant and pppd read, by the interfaces' names. It holds passwords.
    pub(crate) fn link_files(&self) -> Vec<Written> {
        let link = |network: &Network| network.link(self.number);
        self.network.iter().flat_map(link).collect()
    }
}

/// A value of another type may be a password in the wrong place: it is not told, what was expected is.
fn without_value(message: &str) -> &str {
    if message == "invalid IP address syntax" {
        return "expected an address, such as 192.0.2.1";
    }
    if message.starts_with("invalid float") || message.starts_with("invalid integer") {
        return "this is no number, and a text stands in quotation marks";
    }
    let has_value = [
        "invalid type",
        "invalid value",
        "invalid length",
        "unknown variant",
    ];
    if !has_value.iter().any(|kind| message.starts_with(kind)) {
        return message;
    }
    let expected = message
        .rfind("expected ")
        .map_or("this cannot be", |at| &message[at..]);
    match expected {
        "expected u64" => "expected a number without a sign or quotation marks",
        "expected u32" => "expected a number of 0 to 4294967295",
        "expected a sequence" => "expected a list",
        _ if expected.starts_with("expected struct") => "expected a table",
        _ => expected,
    }
}

/// The key of the value that begins there, where it is plainly one.
fn key_before(text: &str, begins: usize) -> Option<&str> {
    let line = text.get(..begins)?.lines().next_back()?;
    let (before, between) = line.rsplit_once('=')?;
    let key = before.split_whitespace().next_back()?;
    let is_its = between.bytes().all(|byte| b" \t[".contains(&byte));
    (is_its && is_name(key)).then_some(key)
}

/// Addresses are written in several ways.
fn plain(device: &str) -> String {
    device.to_ascii_lowercase().replace('-', ":")
}

fn name_of(entry: &Value) -> Option<&str> {
    entry.get("name")?.as_str()
}

/// The first name that was there before, and its place.
fn twice<'n>(names: &mut dyn Iterator<Item = Option<&'n str>>) -> Option<(usize, &'n str)> {
    let mut known = BTreeSet::new();
    names
        .enumerate()
        .filter_map(|(n, name)| Some((n, name?)))
        .find(|(_, name)| !known.insert(*name))
}

/// The line of a setting, by its key in the reference and what is said of it: that of an entry begins with its name.
pub(super) fn line_of_setting(text: &str, key: &str, message: &str) -> usize {
    let name = message.strip_prefix('`').and_then(|rest| rest.split_once("`:"));
    let named = |entry: &Spanned<DeValue<'_>>| {
        let known = entry
            .get_ref()
            .get("name")
            .and_then(|known| known.get_ref().as_str());
        name.is_some_and(|(name, _)| known == Some(name))
    };
    let Ok(root) = DeTable::parse(text) else {
        return 1;
    };
    let (mut begins, mut value) = (0, DeValue::Table(root.into_inner()));
    for key in std::iter::once("configuration").chain(key.split('.')) {
        if let DeValue::Array(list) = value {
            let entry = list.iter().position(named).unwrap_or(0);
            let Some(entry) = list.into_iter().nth(entry) else {
                break;
            };
            begins = entry.span().start;
            value = entry.into_inner();
        }
        let DeValue::Table(mut table) = value else {
            break;
        };
        let Some(next) = table.remove(key) else {
            break;
        };
        begins = next.span().start;
        value = next.into_inner();
    }
    line_at(text, begins)
}

fn line_at(text: &str, begins: usize) -> usize {
    text[..begins].matches('\n').count() + 1
}

/// What is wrong with an interface by itself, and where that begins: as a part of the document, it has the place of the first one.
fn wrong_network(text: &str) -> Option<(usize, Error)> {
    let root = DeTable::parse(text).ok()?;
    let list = root.get_ref().get("network")?.get_ref().as_array()?;
    list.iter().take(MOST).find_map(|entry| {
        let key = |name: &'static str| Spanned::new(0..0, Cow::Borrowed(name));
        let alone: DeArray<'_> = std::iter::once(entry.clone()).collect();
        let mut document = DeTable::new();
        document.insert(key("number"), root.get_ref().get("number")?.clone());
        document.insert(key("network"), Spanned::new(entry.span(), DeValue::Array(alone)));
        let error = Document::deserialize(Deserializer::from(Spanned::new(0..0, document))).err()?;
        Some((error.span().unwrap_or(entry.span()).start, error))
    })
}

/// Names of files of a provisioning file that settings want.
fn provisioned(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::String(path) => found.extend(
            path.rsplit_once(&format!("{FOLDER}/"))
                .map(|(_, name)| name.to_owned()),
        ),
        Value::Array(values) => values.iter().for_each(|value| provisioned(value, found)),
        Value::Object(values) => values.values().for_each(|value| provisioned(value, found)),
        _ => {}
    }
}

/// A section goes key by key into the one that is there, a list whose entries have names entry by entry.
fn section(above: String, table: &Map<String, Value>, edits: &mut Vec<Edit>) {
    for (key, value) in table {
        let path = if above.is_empty() {
            key.clone()
        } else {
            format!("{above}.{key}")
        };
        let edit = |path, value| Edit {
            path,
            value,
            toml: None,
        };
        match value {
            Value::Object(table) => section(path, table, edits),
            Value::Array(list) => match list.iter().map(named).collect::<Option<Vec<_>>>() {
                // Their order counts: those of the file take the place of all.
                Some(named) if !named.is_empty() && path != "wans" => {
                    let entries = named.into_iter();
                    edits.extend(
                        entries.map(|(name, entry)| edit(format!("{path}[{name}]"), Value::Object(entry))),
                    );
                }
                _ => edits.push(edit(path, value.clone())),
            },
            value => edits.push(edit(path, value.clone())),
        }
    }
}

/// An entry of a list that goes by its name, and what else it says.
fn named(entry: &Value) -> Option<(&str, Map<String, Value>)> {
    let entry = entry.as_object()?;
    let name = entry.get("name")?.as_str()?;
    let others = entry.iter().filter(|(key, _)| *key != "name");
    Some((
        name,
        others.map(|(key, value)| (key.clone(), value.clone())).collect(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edits(text: &str) -> Vec<(String, String)> {
        let edits = Document::parse(text).unwrap().edits();
        edits
            .into_iter()
            .map(|edit| (edit.path, edit.value.to_string()))
            .collect()
    }

    #[test]
    fn settings_go_into_what_is_there_key_by_key_and_entry_by_entry() {
        let text = "number = 1\n[configuration]\nnode = \"plant-7\"\n[configuration.auth]\nanonymous = false\n\
            [[configuration.bridges]]\nname = \"cloud\"\naddresses = [\"cloud:8883\"]\n";
        let wanted = [
            ("auth.anonymous", "false"),
            ("bridges[cloud]", "{\"addresses\":[\"cloud:8883\"]}"),
            ("node", "\"plant-7\""),
        ];
        let edits = edits(text);
        let edits: Vec<_> = edits.iter().map(|(path, value)| (&**path, &**value)).collect();
        assert_eq!(edits, wanted);
    }

    /// Which of them comes first says which is preferred.
    #[test]
    fn ways_out_take_the_place_of_all_and_are_compared_with_the_network() {
        let text = "number = 1\n[[network]]\ninterface = \"eth0\"\naddresses = [\"192.0.2.7/24\"]\n\
            [[network]]\ninterface = \"wl*\"\n\
            [[configuration.wans]]\nname = \"a\"\ninterface = \"eth0\"\n\
            [[configuration.wans]]\nname = \"b\"\ninterface = \"wlan0\"\n\
            [[configuration.wans]]\nname = \"c\"\ninterface = \"ppp0\"\n";
        let edits = edits(text);
        assert_eq!(edits.len(), 1);
        assert_eq!(edits[0].0, "wans");
        let doubts = Document::parse(text).unwrap().doubts_of_wans();
        assert_eq!(doubts.len(), 2, "{doubts:?}");
        assert!(
            doubts[0].contains("`eth0`") && doubts[0].contains("`gateway`"),
            "{doubts:?}"
        );
        assert!(doubts[1].contains("`ppp0`"), "{doubts:?}");
    }

    #[test]
    fn what_is_wrong_is_named_by_its_line_and_secrets_are_not_told() {
        let told = |text: &str| Document::parse(text).unwrap_err().to_string();
        let text = "number = 1\n[[users]]\nname = \"a\"\npasword = \"SECRET\"\n";
        let told_of = told(text);
        assert!(
            told_of.starts_with("line 4: unknown field `pasword`") && !told_of.contains("SECRET"),
            "{told_of}"
        );
        for secret in [
            "[[users]]\nname = \"a\"\npassword = 987654321\n",
            "users = [\"987654321\"]\n",
            "[[network]]\ninterface = \"a\"\nwifi = \"987654321\"\n",
        ] {
            let told = told(&format!("number = 1\n{secret}"));
            assert!(told.contains("expected") && !told.contains("987654321"), "{told}");
        }
        assert!(told("number = \"1\"\n").starts_with("line 1: number: expected a number"));
        assert!(told("number = 1\ndevices = 5\n").starts_with("line 2: devices: expected a list"));
        let dns = "number = 1\n[[network]]\ninterface = \"a\"\ndns = [\"dns.example\"]\n";
        assert_eq!(told(dns), "line 4: dns: expected an address, such as 192.0.2.1");
        let ssid = "number = 1\n[[network]]\ninterface = \"a\"\nwifi = { ssid = 5 }\n";
        assert!(told(ssid).starts_with("line 4: ssid: expected"));
        assert!(told("").contains("number"));
        assert!(told("number = 1\n[configuration]\ndata_dir = \"/\"\n").contains("data_dir"));
        let files = |second: &str| {
            told(&format!(
                "number = 1\n[[files]]\nname = \"a\"\ntext = \"1\"\n[[files]]\nname = \"{second}\"\ntext = \"2\"\n"
            ))
        };
        assert_eq!(files("a"), "line 5: files: `a` is there twice");
        assert!(files("a.new").starts_with("line 6"), "it is how `a` is written");
        let second = |wrong: &str| {
            let first = "number = 1\n[[network]]\ninterface = \"eth0\"\n";
            told(&format!("{first}[[network]]\n{wrong}\n"))
        };
        assert!(second("interface = \"eth0\"").starts_with("line 4: network: `eth0` is there twice"));
        assert!(
            second("interface = \"w*\"\nwifi = { ssid = \"a\", open = true }").starts_with("line 4: `w*`")
        );
        assert!(second("interface = \"w\"\nwifi = { ssid = \"a\" }").starts_with("line 6: wifi: it has no"));
        assert!(second("interface = \"w\"\nmetric = -1").starts_with("line 6"));
        for wrong in ["../x", "", ".hidden", "a/b", "a b"] {
            let text = format!("number = 1\n[[files]]\nname = \"{wrong}\"\ntext = \"\"\n");
            assert!(told(&text).starts_with("line 3"), "{wrong}");
        }
    }

    #[test]
    fn a_file_is_for_the_machines_that_it_names() {
        let document =
            |devices: &str| Document::parse(&format!("number = 1\ndevices = [{devices}]\n")).unwrap();
        let machine = ["52:54:00:12:34:56".to_owned(), "SN7".to_owned()];
        assert!(document("").is_for(&machine) && document("\"52:54:00:12:34:56\"").is_for(&machine));
        assert!(document("\"x\", \"sn7\"").is_for(&machine) && !document("\"x\"").is_for(&machine));
    }
}
