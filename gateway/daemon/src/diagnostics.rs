//! What is packed for whoever helps: nothing of it is a secret.
//!
//! Three things see to that, each by itself: values of settings whose names say that they are secret are taken out; what was found there, and in the files
//! that such settings name, is looked for in everything else; and so are private keys and names with passwords in addresses. Comments of a configuration
//! are left out.

use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::Path;

/// What stands in the place of a secret.
const HIDDEN: &str = "***";
/// Parts of names of settings whose values are secret; so are some whole words in them.
const SECRET: [&str; 12] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "psk",
    "token",
    "credential",
    "private",
    "authorization",
    "cookie",
    "signature",
    "apikey",
];
/// Secrets with fewer characters are found by their names alone: such a word stands everywhere.
const SHORTEST: usize = 5;
/// Bytes of a file that a setting names.
const LONGEST_FILE: u64 = 64 << 10;
/// Files of the data folder that are told.
const MOST_FILES: usize = 10_000;

/// What is hidden, as far as it is known.
#[derive(Debug, Default)]
pub(crate) struct Secrets(BTreeSet<String>);

/// Whether a setting of this name is secret.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    let words = ["key", "keys", "sas", "pass", "pin"];
    let is_word = name.split('_').any(|word| words.contains(&word));
    is_word || SECRET.iter().any(|part| name.contains(part))
}

/// Whether it says where a secret is.
fn names_a_file(name: &str) -> bool {
    name.ends_with("_file") || name.ends_with("_path")
}

impl Secrets {
    /// Takes secrets out of settings, and remembers them.
    pub(crate) fn take_out(&mut self, settings: &mut Value) {
        self.walk(settings, false, false);
    }

    fn walk(&mut self, value: &mut Value, hide: bool, name_of_user: bool) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let is_file = names_a_file(name);
                    if is_secret(name)
                        && let Some(path) = value.as_str()
                        && (is_file || name == "key")
                    {
                        self.remember_file(Path::new(path));
                    }
                    // Any header may be one by which somebody logs in.
                    let hide = hide || name == "headers" || (is_secret(name) && !is_file);
                    self.walk(value, hide, name.contains("user"));
                }
            }
            Value::Array(values) => values
                .iter_mut()
                .for_each(|value| self.walk(value, hide, name_of_user)),
            Value::String(text) if hide => {
                if !text.is_empty() && !text.starts_with("(hidden)") {
                    self.remember(text);
                }
                *text = if text.is_empty() {
                    String::new()
                } else {
                    HIDDEN.to_owned()
                };
            }
            Value::Number(_) if hide => *value = HIDDEN.into(),
            // Clouds take signatures there.
            Value::String(text) if name_of_user && text.contains('?') => {
                let (name, query) = text.split_once('?').unwrap_or((text, ""));
                self.remember(query);
                *text = format!("{name}?{HIDDEN}");
            }
            Value::String(text) if text.starts_with("(hidden)") => *text = HIDDEN.to_owned(),
            _ => {}
        }
    }

    /// Hides this, too.
    pub(crate) fn remember(&mut self, text: &str) {
        if text.chars().count() >= SHORTEST {
            self.0.insert(text.to_owned());
        }
    }

    /// Each line of a file, and what stands behind a colon there: files of keys have `identity:key`.
    fn remember_file(&mut self, path: &Path) {
        let mut bytes = Vec::new();
        let read = fs::File::open(path).and_then(|file| file.take(LONGEST_FILE).read_to_end(&mut bytes));
        if read.is_err() {
            return;
        }
        for line in String::from_utf8_lossy(&bytes).lines().map(str::trim) {
            if line.starts_with("-----") {
                continue;
            }
            self.remember(line);
            if let Some((_, key)) = line.split_once(':') {
                self.remember(key.trim());
            }
        }
    }

    /// A configuration without them: what is no TOML is left out whole.
    pub(crate) fn take_out_of_toml(&mut self, text: &str) -> String {
        let parsed: Option<Value> = toml::from_str(text).ok();
        let Some(mut settings) = parsed else {
            return "# it is no TOML, so that nobody can tell what of it is secret\n".to_owned();
        };
        self.take_out(&mut settings);
        let written = toml::to_string_pretty(&settings);
        written.unwrap_or_else(|error| format!("# it cannot be written: {error}\n"))
    }

    /// A text without what is known, and without what looks like a secret.
    pub(crate) fn hidden_in(&self, text: &str) -> String {
        let mut text = without_keys(&without_passwords(text));
        // The longest first: one may be in another.
        let mut all: Vec<&String> = self.0.iter().collect();
        all.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        for secret in all {
            let written = Value::String(secret.clone()).to_string();
            text = text.replace(secret, HIDDEN);
            text = text.replace(&written[1..written.len() - 1], HIDDEN);
        }
        text
    }
}

/// `mqtts://name:password@host` is `mqtts://***@host`.
fn without_passwords(text: &str) -> String {
    let mut parts = text.split("://");
    let mut clean = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        clean.push_str("://");
        let ends = |c: char| c.is_whitespace() || "/?\"'<>\\".contains(c);
        let (authority, rest) = part.split_at(part.find(ends).unwrap_or(part.len()));
        let rest = without_query(rest);
        match authority.rsplit_once('@') {
            Some((_, host)) => {
                clean.push_str(HIDDEN);
                clean.push('@');
                clean.push_str(host);
            }
            None => clean.push_str(authority),
        }
        clean.push_str(&rest);
    }
    clean
}

/// `/path?token=x` is `/path?***`, as far as the address goes.
fn without_query(rest: &str) -> String {
    let ends = |c: char| c.is_whitespace() || "\"'<>\\".contains(c);
    let (address, behind) = rest.split_at(rest.find(ends).unwrap_or(rest.len()));
    match address.split_once('?') {
        Some((path, _)) => format!("{path}?{HIDDEN}{behind}"),
        None => rest.to_owned(),
    }
}

/// Private keys in PEM. RFC 7468
fn without_keys(text: &str) -> String {
    let (mut clean, mut rest) = (String::new(), text);
    while let Some(begin) = rest.find("-----BEGIN ") {
        let (before, block) = rest.split_at(begin);
        clean.push_str(before);
        let end = block.find("-----END ").map_or(block.len(), |end| {
            let label = &block[end + "-----END ".len()..];
            label
                .find("-----")
                .map_or(block.len(), |dashes| end + "-----END ".len() + dashes + 5)
        });
        let (block, behind) = block.split_at(end);
        let label = block.lines().next().unwrap_or_default();
        clean.push_str(if label.contains("PRIVATE KEY") {
            HIDDEN
        } else {
            block
        });
        rest = behind;
    }
    clean + rest
}

/// The files below a folder, with their bytes and their age, a line for each.
pub(crate) fn files_below(folder: &Path) -> String {
    let mut lines = Vec::new();
    walk(folder, folder, &mut lines);
    lines.sort();
    lines.concat()
}

fn walk(root: &Path, folder: &Path, lines: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if lines.len() >= MOST_FILES {
            return;
        }
        let (path, Ok(facts)) = (entry.path(), entry.metadata()) else {
            continue;
        };
        if facts.is_dir() {
            walk(root, &path, lines);
            continue;
        }
        let age = facts.modified().ok().and_then(|time| time.elapsed().ok());
        let age = age.unwrap_or_default().as_secs();
        let name = path.strip_prefix(root).unwrap_or(&path);
        lines.push(format!("{name:?}\t{} bytes\t{age} s ago\n", facts.len()));
    }
}

/// The files of a bundle as a tar archive, compressed with zstd, in a folder of this name.
pub(crate) fn packed(folder: &str, files: &[(String, String)], made: u64) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(zstd::Encoder::new(Vec::new(), 3)?);
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(made);
        archive.append_data(&mut header, format!("{folder}/{name}"), text.as_bytes())?;
    }
    archive.into_inner()?.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_settings_are_taken_out_wherever_they_stand() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys");
        fs::write(&file, "pump-7:c0ffeec0ffee\n").unwrap();
        let text = format!(
            r#"
            node = "plant" # password: planted-0
            [[bridges]]
            name = "cloud"
            addresses = ["mqtts://me:planted-1@cloud.example:8883"]
            username = "me"
            login.username = "me?signature=planted-7"
            endpoint = "https://otlp.example?api-key=planted-8"
            socket = "wss://b.example/mqtt?x=1&token=planted-9"
            password = "planted-2"
            proxy = "http://me:planted-3@proxy"
            [bridges.preset]
            cloud = "azure"
            shared-access-key = "planted-4"
            [telemetry.headers]
            x = "planted-5"
            [[auth.client_ids]]
            psk = "planted-6"
            [dtls]
            psk_file = {file:?}
            pin = 123456
            [limits]
            keepalive = 60
            "#
        );
        let mut secrets = Secrets::default();
        let shown = secrets.take_out_of_toml(&text);
        let shown = secrets.hidden_in(&shown);
        assert!(!shown.contains("planted") && !shown.contains("123456"), "{shown}");
        assert!(
            shown.contains("username = \"me\"") && shown.contains("keepalive = 60"),
            "{shown}"
        );
        assert!(shown.contains("mqtts://***@cloud.example:8883"), "{shown}");
        assert!(shown.contains("wss://b.example/mqtt?***"), "{shown}");
        // What is known is found elsewhere, too.
        let log = "no login with planted-2, key c0ffeec0ffee, at http://a:b@c/d";
        assert_eq!(
            secrets.hidden_in(log),
            "no login with ***, key ***, at http://***@c/d"
        );
        assert!(secrets.take_out_of_toml("password = planted").starts_with('#'));
    }

    #[test]
    fn private_keys_are_taken_out_and_certificates_stay() {
        let text = "a\n-----BEGIN EC PRIVATE KEY-----\nplanted\n-----END EC PRIVATE KEY-----\nb\n\
                    -----BEGIN CERTIFICATE-----\npublic\n-----END CERTIFICATE-----\nc\n-----BEGIN PRIVATE KEY-----\nplanted";
        let clean = Secrets::default().hidden_in(text);
        assert!(!clean.contains("planted") && clean.contains("public"), "{clean}");
        assert!(clean.contains("\nb\n") && clean.contains("\nc\n"), "{clean}");
    }
}
