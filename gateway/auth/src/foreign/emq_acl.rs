//! EMQ 2's `acl.conf`: Erlang terms, of which the first that matches decides. emqttd_access_rule.erl
//!
//! `{allow|deny, all}.` or `{allow|deny, WHO, subscribe|publish|pubsub, ["FILTER", {eq, "FILTER"}, …]}.` WHO is `all`, `{user, "NAME"|all}`,
//! `{client, "ID"|all}`, `{ipaddr, "10.0.0.0/8"}`, or `{'and'|'or', [WHO, …]}`. `%u` and `%c` stand for names where they are a whole level.

use super::{AclFileFault, Misplaced};
use crate::rules::{Condition, Entry, Names, Origin, Template, Who};
use crate::settings::{AclAction, AclEffect, RefuseWith};
use headgate_model::TopicFilter;
use nom::branch::alt;
use nom::bytes::complete::{tag, take_till, take_while1};
use nom::character::complete::{anychar, char, satisfy};
use nom::combinator::{cut, map, opt, recognize, value};
use nom::error::{ErrorKind, ParseError};
use nom::multi::{fold_many0, many0, many0_count};
use nom::sequence::{delimited, pair, preceded, terminated};
use nom::{IResult, Parser};

/// Terms in terms that are read.
const DEEPEST: usize = 16;

/// The rules in the order in which they are asked.
pub(super) fn parse(bytes: &[u8], origin: &dyn Fn(usize) -> Origin) -> Result<Vec<Entry>, Vec<Misplaced>> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        vec![misplaced(&before, before.len(), AclFileFault::NotUtf8)]
    })?;
    let (mut rules, mut faults) = (Vec::new(), Vec::new());
    let mut rest = text;
    loop {
        rest = blank(rest).map_or(rest, |(rest, ())| rest);
        if rest.is_empty() {
            break;
        }
        match statement(rest) {
            Ok((behind, term)) => {
                let line = misplaced(text, text.len() - rest.len(), AclFileFault::Rule).line;
                match rule(&term, &|| origin(line)) {
                    Ok(rule) => rules.extend(rule),
                    Err((left, fault)) => faults.push(misplaced(text, text.len() - left, fault)),
                }
                rest = behind;
            }
            // Where the next rule begins is not known.
            Err(error) => {
                let Wrong { left, fault } = match error {
                    nom::Err::Error(wrong) | nom::Err::Failure(wrong) => wrong,
                    nom::Err::Incomplete(_) => Wrong::new(rest, AclFileFault::Syntax("a term")),
                };
                faults.push(misplaced(text, text.len() - left, fault));
                break;
            }
        }
    }
    if faults.is_empty() { Ok(rules) } else { Err(faults) }
}

fn misplaced(text: &str, at: usize, fault: AclFileFault) -> Misplaced {
    let before = &text[..at];
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    Misplaced {
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        fault,
    }
}

/// An Erlang term, and how many bytes of the file are left where it begins.
#[derive(Debug)]
struct Term {
    left: usize,
    what: What,
}

#[derive(Debug)]
enum What {
    Atom(String),
    /// `"…"` and `<<"…">>`; whether it is the latter.
    Text(String, bool),
    Tuple(Vec<Term>),
    List(Vec<Term>),
}

/// What is wrong, and how many bytes of the file are left there.
#[derive(Debug)]
struct Wrong {
    left: usize,
    fault: AclFileFault,
}

impl Wrong {
    fn new(rest: &str, fault: AclFileFault) -> Self {
        let left = rest.len();
        Self { left, fault }
    }
}

impl ParseError<&str> for Wrong {
    fn from_error_kind(rest: &str, _: ErrorKind) -> Self {
        Self::new(rest, AclFileFault::Syntax("a term"))
    }

    fn append(_: &str, _: ErrorKind, other: Self) -> Self {
        other
    }
}

type Parsed<'a, T> = IResult<&'a str, T, Wrong>;

/// Blanks and comments.
fn blank(text: &str) -> Parsed<'_, ()> {
    let comment = recognize(pair(char('%'), take_till(|c| c == '\n')));
    let blanks = take_while1(char::is_whitespace);
    value((), many0_count(alt((blanks, comment)))).parse(text)
}

/// What must stand here, and the blanks behind it.
fn must(token: &'static str, what: &'static str) -> impl Fn(&str) -> Parsed<'_, ()> {
    move |text| match text.strip_prefix(token) {
        Some(rest) => blank(rest),
        None => Err(nom::Err::Failure(Wrong::new(text, AclFileFault::Syntax(what)))),
    }
}

/// A term and the full stop behind it.
fn statement(text: &str) -> Parsed<'_, Term> {
    terminated(|text| term(text, DEEPEST), must(".", "`.` behind the rule")).parse(text)
}

/// A term that may have so many in each other, and the blanks behind it.
fn term(text: &str, deepest: usize) -> Parsed<'_, Term> {
    if deepest == 0 {
        let fault = AclFileFault::TooDeep(DEEPEST);
        return Err(nom::Err::Failure(Wrong::new(text, fault)));
    }
    let inner = |text| terms(text, deepest - 1);
    let tuple = delimited(must_begin("{"), inner, must("}", "`,` or `}`"));
    let list = delimited(must_begin("["), inner, must("]", "`,` or `]`"));
    let binary = delimited(tag("<<"), |text| quoted(text, '"'), must(">>", "`>>`"));
    let what = alt((
        map(atom, What::Atom),
        map(|text| quoted(text, '\''), What::Atom),
        map(|text| quoted(text, '"'), |text| What::Text(text, false)),
        map(binary, |text| What::Text(text, true)),
        map(tuple, What::Tuple),
        map(list, What::List),
    ));
    let left = text.len();
    map(terminated(what, blank), |what| Term { left, what }).parse(text)
}

fn must_begin(token: &'static str) -> impl Fn(&str) -> Parsed<'_, ()> {
    move |text| value((), pair(tag(token), blank)).parse(text)
}

/// Terms with commas between them.
fn terms(text: &str, deepest: usize) -> Parsed<'_, Vec<Term>> {
    let comma = pair(char(','), blank);
    let more = many0(preceded(comma, cut(|text| term(text, deepest))));
    let (rest, first) = opt((|text| term(text, deepest), more)).parse(text)?;
    let all = first.map(|(first, mut more)| {
        more.insert(0, first);
        more
    });
    Ok((rest, all.unwrap_or_default()))
}

fn atom(text: &str) -> Parsed<'_, String> {
    let letters = take_while1(|c: char| c.is_alphanumeric() || c == '_' || c == '@');
    map(
        recognize(pair(satisfy(|c| c.is_ascii_lowercase()), opt(letters))),
        str::to_owned,
    )
    .parse(text)
}

/// What stands between two of these quotes.
fn quoted(text: &str, quote: char) -> Parsed<'_, String> {
    let letter = |c: char| match c {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        's' => ' ',
        other => other,
    };
    let escaped = preceded(char('\\'), map(anychar, letter));
    let plain = satisfy(move |c| c != quote && c != '\\');
    let inner = fold_many0(alt((escaped, plain)), String::new, |mut text: String, c| {
        text.push(c);
        text
    });
    let what = if quote == '"' { "`\"`" } else { "`'`" };
    let (rest, inside) = preceded(char(quote), inner).parse(text)?;
    match rest.strip_prefix(quote) {
        Some(rest) => Ok((rest, inside)),
        None => Err(nom::Err::Failure(Wrong::new(text, AclFileFault::Unclosed(what)))),
    }
}

/// Bytes that are left where the fault is, and the fault.
type Faulty = (usize, AclFileFault);

/// The rule that a term is; `None` for one without topics, which is never asked.
fn rule(term: &Term, origin: &dyn Fn() -> Origin) -> Result<Option<Entry>, Faulty> {
    let (effect, who, action, topics) = match &term.what {
        What::Tuple(parts) => match &parts[..] {
            [effect, all] if all.is_atom("all") => (effect, Who::EVERYBODY, AclAction::All, None),
            [effect, who, action, topics] => (
                effect,
                self::who(who)?,
                self::action(action)?,
                Some(self::topics(topics)?),
            ),
            _ => return Err((term.left, AclFileFault::Rule)),
        },
        _ => return Err((term.left, AclFileFault::Rule)),
    };
    let effect = match effect {
        allow if allow.is_atom("allow") => AclEffect::Allow,
        deny if deny.is_atom("deny") => AclEffect::Deny,
        other => return Err((other.left, AclFileFault::Effect)),
    };
    if topics.as_ref().is_some_and(Vec::is_empty) {
        return Ok(None);
    }
    // In EMQ 2 `#` stands for topics with `$` in front too. What is denied stays denied; who allows them names them.
    let is_all = |topic: &Template| topic.filter == "#" && !topic.exactly;
    let topics = topics.filter(|topics| effect == AclEffect::Allow || !topics.iter().any(is_all));
    Ok(Some(Entry {
        origin: origin(),
        effect,
        action,
        who,
        topics,
        condition: Condition::default(),
        refuse_with: RefuseWith::default(),
    }))
}

fn who(term: &Term) -> Result<Who, Faulty> {
    let wrong = Err((term.left, AclFileFault::Who));
    if term.is_atom("all") {
        return Ok(Who::EVERYBODY);
    }
    let What::Tuple(parts) = &term.what else {
        return wrong;
    };
    let [kind, value] = &parts[..] else { return wrong };
    let What::Atom(kind) = &kind.what else {
        return wrong;
    };
    let several = |terms: &[Term]| terms.iter().map(who).collect::<Result<Vec<_>, _>>();
    match (kind.as_str(), &value.what) {
        // Whoever it is, with or without a name.
        ("user" | "client", What::Atom(all)) if all == "all" => Ok(Who::EVERYBODY),
        ("user", What::Text(name, _)) => Ok(Who::User(name.clone())),
        ("client", What::Text(id, _)) => Ok(Who::Client(id.clone())),
        ("ipaddr", What::Text(network, _)) => match network.parse() {
            Ok(network) => Ok(Who::From(network)),
            Err(_) => Err((value.left, AclFileFault::Network(network.clone()))),
        },
        ("and", What::List(conditions)) => Ok(Who::All(several(conditions)?)),
        ("or", What::List(conditions)) => Ok(Who::Any(several(conditions)?)),
        _ => wrong,
    }
}

fn action(term: &Term) -> Result<AclAction, Faulty> {
    match &term.what {
        What::Atom(word) if word == "pubsub" => Ok(AclAction::All),
        What::Atom(word) if word == "publish" => Ok(AclAction::Publish),
        What::Atom(word) if word == "subscribe" => Ok(AclAction::Subscribe),
        _ => Err((term.left, AclFileFault::Action)),
    }
}

fn topics(term: &Term) -> Result<Vec<Template>, Faulty> {
    match &term.what {
        What::List(topics) => topics.iter().map(topic).collect(),
        What::Text(_, true) => Ok(vec![topic(term)?]),
        _ => Err((term.left, AclFileFault::Topics)),
    }
}

fn topic(term: &Term) -> Result<Template, Faulty> {
    let (left, filter, exactly) = match &term.what {
        What::Text(filter, _) => (term.left, filter, false),
        What::Tuple(parts) => match &parts[..] {
            [eq, filter] if eq.is_atom("eq") => match &filter.what {
                What::Text(text, _) => (filter.left, text, true),
                _ => return Err((filter.left, AclFileFault::Topics)),
            },
            _ => return Err((term.left, AclFileFault::Topics)),
        },
        _ => return Err((term.left, AclFileFault::Topics)),
    };
    if let Err(cause) = TopicFilter::try_from(filter.as_str()) {
        let (topic, cause) = (filter.clone(), cause.to_string());
        return Err((left, AclFileFault::Topic { topic, cause }));
    }
    Ok(Template {
        filter: filter.clone(),
        exactly,
        names: if exactly { Names::Nowhere } else { Names::Levels },
    })
}

impl Term {
    fn is_atom(&self, word: &str) -> bool {
        matches!(&self.what, What::Atom(atom) if atom == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acl::tests::{asked, compiled};
    use std::path::Path;

    fn origin(line: usize) -> Origin {
        let path = Path::new("acl.conf").into();
        Origin::File { path, line }
    }

    /// The file that EMQ 2 comes with.
    const DEFAULT: &str = r##"
%%--------------------------------------------------------------------
%% [ACL](https://docs.emqtt.io)
%%--------------------------------------------------------------------
{allow, {user, "dashboard"}, subscribe, ["$SYS/#"]}.

{allow, {ipaddr, "127.0.0.1"}, pubsub, ["$SYS/#", "#"]}. % this machine

{deny, all, subscribe, ["$SYS/#", {eq, "#"}]}.

{allow, all}.
"##;

    const EACH: &str = r##"
{allow, {'and', [{ipaddr, "10.0.0.0/8"}, {'or', [{user, "joe"}, {client, <<"pump">>}]}]}, publish, ["and/#"]}.
{allow, {user, all}, subscribe, ["user/%u/#", "x%u/y", "of/%c"]}.
{deny,all,publish,[]}. {deny, all, pubsub, <<"secret/#">>}.
{allow, {client, "odd \"one\""}, pubsub, [{eq, "a/%c"}, "all/+"]}.
{deny, {user, "ann"}, pubsub, ["#"]}.
{allow, {user, "ann"}, publish, ["$x/y"]}.
"##;

    /// One row: rules, client, user, address, `p` or `s`, topic, allowed.
    type Row = (
        &'static str,
        &'static str,
        Option<&'static str>,
        [u8; 4],
        char,
        &'static str,
        bool,
    );

    const HERE: [u8; 4] = [127, 0, 0, 1];
    const THERE: [u8; 4] = [192, 168, 0, 1];
    const TEN: [u8; 4] = [10, 1, 2, 3];

    #[rustfmt::skip]
    const TABLE: &[Row] = &[
        (DEFAULT, "c", Some("dashboard"), THERE, 's', "$SYS/#", true),
        (DEFAULT, "c", Some("dashboard"), THERE, 's', "$SYS/brokers", true),
        (DEFAULT, "c", Some("joe"), THERE, 's', "$SYS/#", false),
        (DEFAULT, "c", Some("joe"), THERE, 's', "$SYS/brokers", false),
        (DEFAULT, "c", None, HERE, 's', "$SYS/#", true),
        (DEFAULT, "c", None, HERE, 's', "#", true),
        (DEFAULT, "c", None, HERE, 'p', "a", true),
        (DEFAULT, "c", None, THERE, 's', "#", false),
        (DEFAULT, "c", None, THERE, 's', "a/#", true),
        (DEFAULT, "c", None, THERE, 's', "+/#", true),
        (DEFAULT, "c", None, THERE, 'p', "a/b", true),
        (EACH, "c", Some("joe"), TEN, 'p', "and/x", true),
        (EACH, "pump", None, TEN, 'p', "and/x", true),
        (EACH, "c", None, TEN, 'p', "and/x", false),
        (EACH, "pump", Some("joe"), THERE, 'p', "and/x", false),
        (EACH, "c", Some("joe"), TEN, 's', "and/x", false),
        (EACH, "c", Some("joe"), THERE, 's', "user/joe/x", true),
        (EACH, "c", Some("joe"), THERE, 'p', "user/joe/x", false),
        (EACH, "c", Some("joe"), THERE, 's', "user/jim/x", false),
        (EACH, "c", None, THERE, 's', "user/%u/x", false),
        (EACH, "c", None, THERE, 's', "of/c", true), // `{user, all}` is everybody.
        (EACH, "c", Some("joe"), THERE, 's', "xjoe/y", false), // Not a whole level.
        (EACH, "c", Some("joe"), THERE, 's', "x%u/y", true),
        (EACH, "c", Some("joe"), THERE, 's', "secret/a", false),
        (EACH, "odd \"one\"", None, THERE, 'p', "a/%c", true),
        (EACH, "odd \"one\"", None, THERE, 'p', "a/odd \"one\"", false),
        (EACH, "odd \"one\"", None, THERE, 's', "all/+", true),
        (EACH, "odd \"one\"", None, THERE, 's', "all/#", false),
        (EACH, "c", Some("ann"), THERE, 'p', "$x/y", false), // There `#` is for `$x` too.
        (EACH, "c", None, THERE, 'p', "nothing", false),
    ];

    #[test]
    fn the_first_rule_that_matches_decides() {
        for (rules, client, user, address, action, topic, allowed) in TABLE {
            let book = compiled(parse(rules.as_bytes(), &origin).unwrap());
            let may = asked(&book, client, *user, (*address).into(), *action, topic);
            assert_eq!(may, *allowed, "{client} {user:?} {address:?} {action} {topic}");
        }
    }

    #[test]
    fn every_fault_has_its_place_and_says_what_is_allowed() {
        let deep = format!("{}{}.", "{'and',[".repeat(9), "]}".repeat(9));
        for (text, start) in [
            (
                "{allow, all}.\n{allow, all}",
                "2:13: `.` behind the rule is expected",
            ),
            (
                "{allow, all}.\n  {permit, all}.",
                "2:4: allowed is allow and deny",
            ),
            (
                "{allow}.",
                "1:1: this is no rule, allowed is {allow|deny, all} and",
            ),
            (
                "{allow, all, read, []}.",
                "1:14: allowed is subscribe, publish and pubsub",
            ),
            (
                "{allow, {username, \"x\"}, publish, []}.",
                "1:9: allowed is all, {user, \"NAME\"}",
            ),
            (
                "{allow, {'or', [{ipaddr, \"10/8\"}]}, publish, []}.",
                "1:26: `10/8` is no address",
            ),
            (
                "{allow, all, publish, [\"a\",\n\"b/#/c\"]}.",
                "2:1: `b/#/c` is not a topic filter",
            ),
            ("{allow, all, publish, [{eq, a}]}.", "1:29: allowed is a list of"),
            ("{allow, all, publish, \"a\"}.", "1:23: allowed is a list of"),
            (
                "{allow, all, publish, [\"a\" \"b\"]}.",
                "1:28: `,` or `]` is expected",
            ),
            ("{allow, all, publish, [\"a\",]}.", "1:28: a term is expected"),
            ("{allow, \n'all}.", "2:1: the quote has no end"),
            ("é?", "1:1: a term is expected"),
            (&deep, "1:65: terms are nested more than 16 deep"),
        ] {
            let faults = parse(text.as_bytes(), &origin).unwrap_err();
            let fault = faults[0].to_string();
            assert!(faults.len() == 1 && fault.starts_with(start), "{text}: {fault}");
        }
        let two = parse(b"{allow, no}.\n{allow, all}.\n{no, all}.", &origin).unwrap_err();
        assert_eq!(two.iter().map(|fault| fault.line).collect::<Vec<_>>(), [1, 3]);
        let bytes = parse(b"{allow, all}.\n%\xff", &origin).unwrap_err();
        assert_eq!((bytes[0].line, bytes[0].column), (2, 2));
    }
}
