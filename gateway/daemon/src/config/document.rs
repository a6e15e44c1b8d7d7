//! The file and the variables of the environment as one document, in which every value knows where it stands.
//!
//! It is read into settings as far as it can be: what is wrong is told and left out, then the rest is read again, so that all faults are found at once.

use super::told::{Location, Told};
use headgate_model::Fault;
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer, Error};

/// In front of the name of a setting that comes from the environment.
pub(super) const ENV_PREFIX: &str = "HEADGATE__";

/// Faults that are looked for, one after the other: a file with as many is another kind of file.
const MOST: usize = 100;

/// The texts that a document is made of, one behind the other, so that a place in any of them is one number.
pub(super) struct Texts<'a> {
    path: Option<&'a Path>,
    text: String,
    /// Where the file ends.
    file: usize,
    /// Variables, where each begins, and where its value does.
    variables: Vec<(String, usize, usize)>,
}

/// A document that can be asked where a setting stands.
pub(super) struct Document<'t> {
    texts: &'t Texts<'t>,
    root: Spanned<DeTable<'t>>,
    /// Keys whose values were left out.
    left_out: Vec<String>,
    /// What it does not say stands elsewhere.
    is_part: bool,
}

impl<'a> Texts<'a> {
    /// The file's text, and the variables that set something.
    pub(super) fn new(
        path: Option<&'a Path>,
        file: String,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let mut texts = Self {
            path,
            file: file.len(),
            text: file,
            variables: Vec::new(),
        };
        // In one order, whatever the system's is.
        let mut environment: Vec<(String, String)> = environment.into_iter().collect();
        environment.sort_unstable();
        for (name, value) in environment {
            if name.starts_with(ENV_PREFIX) {
                texts.text.push('\n');
                let begins = texts.text.len();
                texts.text.push_str(&name.to_lowercase());
                texts.text.push('\n');
                let value_begins = texts.text.len();
                texts.text.push_str("value = ");
                texts.text.push_str(&value);
                texts.variables.push((name, begins, value_begins));
            }
        }
        texts
    }

    /// Of the file, leaves the lines of the top level that set `key` and can be read by themselves. All lines keep their numbers.
    pub(super) fn keep_lines_of(&mut self, key: &str) {
        let sets = |line: &str| DeTable::parse(line).is_ok_and(|table| table.get_ref().contains_key(key));
        let top_level = self.text[..self.file]
            .lines()
            .take_while(|line| !line.trim_start().starts_with('['));
        let kept: Vec<&str> = top_level.map(|line| if sets(line) { line } else { "" }).collect();
        let kept = kept.join("\n");
        for (_, begins, value_begins) in &mut self.variables {
            *begins = *begins - self.file + kept.len();
            *value_begins = *value_begins - self.file + kept.len();
        }
        self.text.replace_range(..self.file, &kept);
        self.file = kept.len();
    }

    /// Where the text stands that begins at `at`.
    fn place(&self, at: usize) -> Location {
        let later = self.variables.partition_point(|(_, begins, _)| *begins <= at);
        if let Some((name, ..)) = later.checked_sub(1).map(|n| &self.variables[n]) {
            return Location::Variable(name.clone());
        }
        let before = &self.text[..at.min(self.file)];
        Location::File {
            path: self.path.map(Path::to_owned),
            line: Some(1 + before.matches('\n').count()),
            column: Some(1 + before.rsplit('\n').next().unwrap_or("").chars().count()),
        }
    }

    fn told(&self, span: Range<usize>, key: &str, error: &Error) -> Told {
        let place = self.place(span.start);
        let written = self.text.get(span).unwrap_or_default();
        Told {
            place,
            key: key.to_owned(),
            message: one_line(&super::words::explain(error.message(), key, written)),
        }
    }
}

impl<'t> Document<'t> {
    /// The document of the texts. What is no TOML is told at its first fault.
    pub(super) fn parse(texts: &'t Texts<'t>) -> Result<(Self, Vec<Told>), Told> {
        let file = DeTable::parse(&texts.text[..texts.file]);
        let root = file.map_err(|error| texts.told(error.span().unwrap_or_default(), "", &error))?;
        let mut document = Self {
            texts,
            root,
            left_out: Vec::new(),
            is_part: false,
        };
        let mut told = Vec::new();
        for n in 0..texts.variables.len() {
            told.extend(document.set(n).err());
        }
        Ok((document, told))
    }

    /// What stands in one section, as a part of a document: what it must say beside that stands elsewhere.
    pub(super) fn part(mut self, section: &str) -> Self {
        let part = self.root.get_mut().remove(section);
        self.root = match part.map(|part| (part.span(), part.into_inner())) {
            Some((span, DeValue::Table(table))) => Spanned::new(span, table),
            _ => Spanned::new(0..0, DeTable::new()),
        };
        self.is_part = true;
        self
    }

    /// Puts in what a variable says.
    fn set(&mut self, n: usize) -> Result<(), Told> {
        let texts = self.texts;
        let (name, begins, value_begins) = &texts.variables[n];
        let end = texts
            .variables
            .get(n + 1)
            .map_or(texts.text.len(), |next| next.1 - 1);
        let wrong = |message: String| Told {
            place: Location::Variable(name.clone()),
            key: String::new(),
            message,
        };
        let written = &texts.text[*value_begins..end];
        // As TOML if it is TOML (numbers, booleans, lists), else as text.
        let parsed = DeTable::parse(written).ok();
        let parsed = parsed.and_then(|mut table| {
            table
                .get_mut()
                .remove("value")
                .filter(|_| table.get_ref().is_empty())
        });
        let value = match parsed {
            Some(mut value) => {
                shift(&mut value, *value_begins);
                value
            }
            None => {
                let text = &written["value = ".len()..];
                Spanned::new(*value_begins..end, DeValue::String(Cow::Borrowed(text)))
            }
        };
        let path = &texts.text[begins + ENV_PREFIX.len()..value_begins - 1];
        let mut at = begins + ENV_PREFIX.len();
        let mut table = self.root.get_mut();
        let mut keys = path.split("__").peekable();
        while let Some(key) = keys.next() {
            let span = at..at + key.len();
            at = span.end + "__".len();
            let spanned = Spanned::new(span.clone(), Cow::Borrowed(key));
            if keys.peek().is_none() {
                // The key stands where its value does.
                table.remove(key);
                table.insert(spanned, value);
                break;
            }
            if !table.contains_key(key) {
                let empty = DeValue::Table(DeTable::new());
                table.insert(spanned, Spanned::new(span, empty));
            }
            match table.get_mut(key).map(Spanned::get_mut) {
                Some(DeValue::Table(inner)) => table = inner,
                _ => return Err(wrong(format!("`{key}` is not a section"))),
            }
        }
        Ok(())
    }

    /// The settings as far as they can be read, and what is wrong with the rest. `None` if that is too much.
    pub(super) fn read<T: DeserializeOwned>(&mut self) -> (Option<T>, Vec<Told>) {
        let mut told: Vec<Told> = Vec::new();
        while told.len() < MOST {
            match T::deserialize(Deserializer::from(self.root.clone())) {
                Ok(settings) => return (Some(settings), told),
                Err(error) => {
                    let span = error.span().unwrap_or(0..0);
                    let missing = self.missing(&error, &span);
                    let is_known = missing
                        .as_deref()
                        .is_some_and(|key| self.is_part || self.is_left_out(key));
                    let name = self.entry_name(&span).filter(|_| missing.is_some());
                    let left_out = self.leave_out(&span);
                    let key = left_out.as_deref().unwrap_or_default();
                    let mut fault = self.texts.told(span, &without_places(key), &error);
                    if let Some(name) = name {
                        fault.message = format!("`{name}`: {}", fault.message);
                    }
                    if !is_known && !told.iter().any(|told| fault.repeats(told)) {
                        told.push(fault);
                    }
                    if left_out.is_none() {
                        break;
                    }
                }
            }
        }
        (None, told)
    }

    /// The key that is missing, if that is what the error says.
    fn missing(&self, error: &Error, span: &Range<usize>) -> Option<String> {
        let name = error
            .message()
            .strip_prefix("missing field `")?
            .strip_suffix('`')?;
        let table = written(&find(self.root.get_ref(), span)?);
        Some(format!("{table}.{name}"))
    }

    /// The name of the listener, bridge or the like in which something stands.
    fn entry_name(&self, span: &Range<usize>) -> Option<String> {
        let path = find(self.root.get_ref(), span)?;
        let (Step::Key(list), Step::Entry(n)) = (path.first()?, path.get(1)?) else {
            return None;
        };
        let DeValue::Array(entries) = self.root.get_ref().get(list.as_str())?.get_ref() else {
            return None;
        };
        let name = entries.get(*n)?.get_ref().get("name")?;
        name.get_ref().as_str().map(str::to_owned)
    }

    /// Takes out what stands there: the key with its value, or the entry of a list. Its place in the document.
    fn leave_out(&mut self, span: &Range<usize>) -> Option<String> {
        let path = find(self.root.get_ref(), span)?;
        let (last, parents) = path.split_last()?;
        let mut value = Value::Table(self.root.get_mut());
        for step in parents {
            value = value.step(step)?;
        }
        match (last, value) {
            (Step::Key(key), Value::Table(table)) => {
                table.remove(key.as_str());
                self.left_out.push(written(&path));
            }
            (Step::Entry(n), Value::Array(array)) => {
                let kept = array.iter().enumerate().filter(|(at, _)| at != n);
                let kept: toml::de::DeArray<'_> = kept.map(|(_, value)| value.clone()).collect();
                *array = kept;
                self.close_up(&written(parents), *n);
            }
            _ => return None,
        }
        Some(written(&path))
    }

    /// The entries behind one that was taken out of a list have other numbers now.
    fn close_up(&mut self, list: &str, gone: usize) {
        self.left_out.retain_mut(|key| {
            let rest = key.strip_prefix(list).and_then(|rest| rest.strip_prefix('['));
            let Some((Ok(n), rest)) = rest
                .and_then(|rest| rest.split_once(']'))
                .map(|(n, rest)| (n.parse::<usize>(), rest))
            else {
                return true;
            };
            if n > gone {
                *key = format!("{list}[{}]{rest}", n - 1);
            }
            n != gone
        });
    }

    /// Whether something was left out there, so that what is found there now says nothing.
    pub(super) fn is_left_out(&self, key: &str) -> bool {
        self.left_out.iter().any(|left| {
            let rest = key.strip_prefix(left.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }

    /// The fault with its place: that of the key, or of what is nearest above it.
    pub(super) fn locate(&self, fault: Fault) -> Told {
        let mut value = Node::Table(self.root.get_ref());
        let mut at = None;
        for step in steps(&fault.key) {
            let Some((span, next)) = value.step(&step) else {
                break;
            };
            at = Some(span.start);
            value = next;
        }
        let place = at.map_or_else(
            || Location::File {
                path: self.texts.path.map(Path::to_owned),
                line: None,
                column: None,
            },
            |at| self.texts.place(at),
        );
        Told {
            place,
            key: without_places(&fault.key),
            message: one_line(&fault.message),
        }
    }
}

/// One step into a document.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Entry(usize),
}

/// What can be stepped into and changed.
enum Value<'a, 't> {
    Table(&'a mut DeTable<'t>),
    Array(&'a mut toml::de::DeArray<'t>),
}

impl<'a, 't> Value<'a, 't> {
    fn step(self, step: &Step) -> Option<Self> {
        let value = match (self, step) {
            (Self::Table(table), Step::Key(key)) => table.get_mut(key.as_str())?,
            (Self::Array(array), Step::Entry(n)) => array.get_mut(*n)?,
            _ => return None,
        };
        match value.get_mut() {
            DeValue::Table(table) => Some(Self::Table(table)),
            DeValue::Array(array) => Some(Self::Array(array)),
            _ => None,
        }
    }
}

/// What can be stepped into and looked at.
#[derive(Clone, Copy)]
enum Node<'a, 't> {
    Table(&'a DeTable<'t>),
    Array(&'a [Spanned<DeValue<'t>>]),
    Leaf,
}

impl<'a, 't> Node<'a, 't> {
    fn of(value: &'a DeValue<'t>) -> Self {
        match value {
            DeValue::Table(table) => Self::Table(table),
            DeValue::Array(array) => Self::Array(array),
            _ => Self::Leaf,
        }
    }

    /// What is there, and where it stands: a key, or the entry of a list.
    fn step(self, step: &Step) -> Option<(Range<usize>, Self)> {
        match (self, step) {
            (Self::Table(table), Step::Key(key)) => {
                let (key, value) = table.get_key_value(key.as_str())?;
                Some((key.span(), Self::of(value.get_ref())))
            }
            (Self::Array(array), Step::Entry(n)) => {
                let value = array.get(*n)?;
                Some((value.span(), Self::of(value.get_ref())))
            }
            _ => None,
        }
    }
}

/// The way to the innermost key, value or entry that holds `span`.
fn find(table: &DeTable<'_>, span: &Range<usize>) -> Option<Vec<Step>> {
    let steps = table.iter().map(|(key, value)| {
        let step = Step::Key(key.get_ref().to_string());
        match inside(value.get_ref(), span) {
            Some(inner) => Some([vec![step], inner].concat()),
            None => (holds(&key.span(), span) || holds(&value.span(), span)).then(|| vec![step]),
        }
    });
    steps.flatten().max_by_key(Vec::len)
}

fn inside(value: &DeValue<'_>, span: &Range<usize>) -> Option<Vec<Step>> {
    match value {
        DeValue::Table(table) => find(table, span),
        DeValue::Array(array) => array.iter().enumerate().find_map(|(n, value)| {
            let step = Step::Entry(n);
            match inside(value.get_ref(), span) {
                Some(inner) => Some([vec![step], inner].concat()),
                None => holds(&value.span(), span).then(|| vec![step]),
            }
        }),
        _ => None,
    }
}

fn holds(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end && !outer.is_empty()
}

/// `listeners[1].tls.key` in steps.
fn steps(key: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for part in key.split('.').filter(|part| !part.is_empty()) {
        let mut pieces = part.split('[');
        let name = pieces.next().unwrap_or_default();
        if !name.is_empty() {
            steps.push(Step::Key(name.to_owned()));
        }
        let numbers = pieces.filter_map(|piece| piece.trim_end_matches(']').parse().ok());
        steps.extend(numbers.map(Step::Entry));
    }
    steps
}

fn written(steps: &[Step]) -> String {
    let mut text = String::new();
    for step in steps {
        match step {
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => text.push_str(&format!(".{key}")),
            Step::Entry(n) => text.push_str(&format!("[{n}]")),
        }
    }
    text
}

/// The key as it stands in the reference: `listeners.tls.key`.
fn without_places(key: &str) -> String {
    let keys = steps(key).into_iter().filter(|step| matches!(step, Step::Key(_)));
    written(&keys.collect::<Vec<_>>())
}

/// Some causes have several lines, as a regular expression's.
pub(super) fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.join(" ")
}

/// Moves a value that was read from a piece of the text to where that piece stands.
fn shift(value: &mut Spanned<DeValue<'_>>, by: usize) {
    let span = value.span();
    let mut inner = std::mem::replace(value.get_mut(), DeValue::Boolean(false));
    match &mut inner {
        DeValue::Array(array) => array.iter_mut().for_each(|value| shift(value, by)),
        DeValue::Table(table) => {
            let moved = std::mem::take(table).into_iter().map(|(key, mut value)| {
                let span = key.span();
                shift(&mut value, by);
                (
                    Spanned::new(span.start + by..span.end + by, key.into_inner()),
                    value,
                )
            });
            *table = moved.collect();
        }
        _ => {}
    }
    *value = Spanned::new(span.start + by..span.end + by, inner);
}
