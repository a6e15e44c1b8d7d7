//! Commands about updates as they are published on the bus: what they say, who may ask, how often, and that none is done twice.
//!
//! Always true: what cannot be understood, comes from who is not named in the settings, or was retained is not done; a command that changes something is
//! done once for its id, also when it comes again after a restart.

use crate::config::UpdateCommands;
use crate::private;
use headgate_auth::data_dir::{DataDir, DataPath};
use headgate_bus::Request;
use headgate_model::{Message, Topic};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::time::Duration;
use tokio::time::Instant;

/// Characters of an id.
const LONGEST_ID: usize = 64;
/// Commands whose ids are known, beyond which the oldest is forgotten.
const MOST_KNOWN: usize = 64;
/// Bytes of an answer that is said again.
const LONGEST_ANSWER: usize = 4 << 10;
const FILE: &str = "firmware-commands.json";
/// The file is shorter than this, or not ours.
const LONGEST_FILE: u64 = 64 << 10;

const RETAINED: &str = "a request must not be retained";

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Status,
    Check { bundle: Option<String> },
    Install { bundle: Option<String>, reboot: bool },
    Mark { good: bool },
    BootOther,
}

impl Command {
    const NAMES: &str = "status, check, install, mark, boot-other";

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Check { .. } => "check",
            Self::Install { .. } => "install",
            Self::Mark { .. } => "mark",
            Self::BootOther => "boot-other",
        }
    }

    /// Another one for another command.
    fn digest(&self) -> String {
        let told = Sha256::digest(format!("{self:?}"));
        told.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// What the audit log says of it; `None` for what changes nothing.
    pub(super) fn action(&self) -> Option<&'static str> {
        match self {
            Self::Status | Self::Check { .. } => None,
            Self::Install { .. } => Some("Installs a bundle into the slot that does not run."),
            Self::Mark { .. } => Some("Says of the system that runs that it is good, or is not."),
            Self::BootOther => Some("Starts the machine anew with the system of the other slot."),
        }
    }
}

/// A command that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) id: String,
    pub(super) command: Command,
}

/// Why something is not done. `id` and `command` as they were said, so that whoever asked knows what is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) id: Option<String>,
    pub(super) command: Option<String>,
    /// As HTTP numbers it.
    pub(super) status: u16,
    pub(super) why: String,
}

/// A request as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    id: String,
    command: String,
    bundle: Option<String>,
    reboot: Option<bool>,
    state: Option<String>,
}

impl Asked {
    /// What a message says.
    pub(super) fn parse(request: &Request) -> Result<Self, Refusal> {
        let refused = |status, why: &str| Refusal {
            status,
            why: why.to_owned(),
            ..Refusal::default()
        };
        if request.is_too_long {
            let what = format!("a request has at most {} bytes", headgate_bus::MAX_REQUEST);
            return Err(refused(413, &what));
        }
        let said: serde_json::Value = serde_json::from_slice(&request.payload)
            .map_err(|error| refused(422, &format!("this is no JSON: {error}")))?;
        let short = |key: &str| Some(said.get(key)?.as_str()?.chars().take(LONGEST_ID).collect());
        let (id, command) = (short("id"), short("command"));
        let refused = |why: String| Refusal {
            id: id.clone(),
            command: command.clone(),
            status: 422,
            why,
        };
        // It would be asked again by each restart of the broker that has it.
        if request.retain {
            return Err(refused(RETAINED.to_owned()));
        }
        let Written {
            id: said_id,
            command: name,
            bundle,
            reboot,
            state,
        } = serde_json::from_value(said.clone()).map_err(|error| refused(error.to_string()))?;
        if said_id.is_empty() || said_id.chars().count() > LONGEST_ID {
            return Err(refused(format!("`id` has 1 to {LONGEST_ID} characters")));
        }
        let given = [
            ("bundle", bundle.is_some()),
            ("reboot", reboot.is_some()),
            ("state", state.is_some()),
        ];
        let only = |allowed: &[&str]| {
            let wrong = given
                .iter()
                .find(|(key, is_given)| *is_given && !allowed.contains(key));
            match wrong {
                Some((key, _)) => Err(refused(format!("`{name}` has no `{key}`"))),
                None => Ok(()),
            }
        };
        let command = match name.as_str() {
            "status" => only(&[]).map(|()| Command::Status)?,
            "check" => only(&["bundle"]).map(|()| Command::Check { bundle })?,
            "install" => {
                only(&["bundle", "reboot"])?;
                Command::Install {
                    bundle,
                    reboot: reboot.unwrap_or(false),
                }
            }
            "mark" => {
                only(&["state"])?;
                match state.as_deref() {
                    Some("good") => Command::Mark { good: true },
                    Some("bad") => Command::Mark { good: false },
                    _ => return Err(refused("`state` is `good` or `bad`".into())),
                }
            }
            "boot-other" => only(&[]).map(|()| Command::BootOther)?,
            _ => {
                let what = format!("`{name}` is no command, allowed is {}", Command::NAMES);
                return Err(refused(what));
            }
        };
        Ok(Self { id: said_id, command })
    }
}

/// Who may not ask.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Stranger {
    #[error("an anonymous client has no commands: log in as a user")]
    Anonymous,
    #[error("`firmware.commands.users` does not name `{0}`")]
    User(String),
    #[error("`firmware.commands.bridges` does not name `{0}`")]
    Bridge(String),
}

/// Who asks, if it may: a user or a bridge that the settings name. Nobody else, whatever the rules say.
pub(super) fn who(request: &Request, settings: &UpdateCommands) -> Result<String, Stranger> {
    if request.is_bridge {
        let name = request.client.as_str().trim_start_matches("$bridge/");
        return match settings.bridges.iter().any(|known| known == name) {
            true => Ok(format!("bridge {name}")),
            false => Err(Stranger::Bridge(name.to_owned())),
        };
    }
    of_client(request.who.username.as_deref(), settings).map(str::to_owned)
}

fn of_client<'u>(user: Option<&'u str>, settings: &UpdateCommands) -> Result<&'u str, Stranger> {
    match user {
        None => Err(Stranger::Anonymous),
        Some(user) if settings.users.iter().any(|known| known == user) => Ok(user),
        Some(user) => Err(Stranger::User(user.to_owned())),
    }
}

/// What speaks against a command of this client at this topic, whatever the rules say; `None` where none are taken. An empty text: nothing does.
pub(crate) fn against_command(
    settings: &UpdateCommands,
    node: &str,
    message: &Message,
    user: Option<&str>,
) -> Option<String> {
    Places::of(settings, node).filter(|places| places.request == message.topic)?;
    if message.retain {
        return Some(RETAINED.to_owned());
    }
    let against = of_client(user, settings).err();
    Some(against.map(|stranger| stranger.to_string()).unwrap_or_default())
}

/// The topics of commands, with the gateway's name in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) request: Topic,
    pub(super) reply: Topic,
    pub(super) progress: Topic,
}

impl Places {
    /// `None` if there are no commands by the bus.
    pub(super) fn of(settings: &UpdateCommands, node: &str) -> Option<Self> {
        let prefix = settings.prefix(node)?;
        let topic = |level: &str| Topic::try_from(format!("{prefix}/{level}").as_str()).ok();
        Some(Self {
            request: topic("request")?,
            reply: topic("reply")?,
            progress: topic("progress")?,
        })
    }
}

/// How often somebody may ask: some at once, and then one after the other.
#[derive(Debug, Default)]
pub(super) struct Pace(HashMap<String, (Instant, u32)>);

impl Pace {
    const AT_ONCE: u32 = 20;
    const ONE_EACH: Duration = Duration::from_secs(2);
    /// Names that are known: those of the settings, and one for all others.
    const MOST: usize = 256;

    /// Whether one more of `name` may be looked at.
    pub(super) fn admits(&mut self, name: &str, now: Instant) -> bool {
        if self.0.len() >= Self::MOST && !self.0.contains_key(name) {
            // Who has all of its requests again is as one who never asked.
            self.0
                .retain(|_, (since, spent)| *spent > Self::regained(*since, now));
            if self.0.len() >= Self::MOST {
                return false;
            }
        }
        let (since, spent) = self.0.entry(name.to_owned()).or_insert((now, 0));
        let regained = Self::regained(*since, now);
        *spent = spent.saturating_sub(regained);
        *since += Self::ONE_EACH * regained;
        let admitted = *spent < Self::AT_ONCE;
        *spent += u32::from(admitted);
        admitted
    }

    fn regained(since: Instant, now: Instant) -> u32 {
        let passed = now.duration_since(since).as_secs() / Self::ONE_EACH.as_secs();
        u32::try_from(passed).unwrap_or(u32::MAX)
    }
}

/// A command that was begun, and what was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Begun {
    who: String,
    id: String,
    /// Of the command; empty where an earlier version has written it.
    #[serde(default)]
    digest: String,
    #[serde(skip)]
    answer: Answered,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Answered {
    /// It was begun before the gateway started.
    #[default]
    Before,
    NotYet,
    So(String),
    /// At greater length than is kept.
    AtLength,
}

/// What becomes of a command that changes something.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is new, and to be done.
    Do,
    /// It is being done: its answer will come.
    Wait,
    /// It was done, and this was answered.
    Repeat(String),
    /// It was done, and what was answered is not kept.
    Done,
    /// It was begun before the gateway started.
    Before,
    /// Another command had this id.
    Taken,
}

/// Commands that were begun, also before a restart.
#[derive(Debug)]
pub(super) struct Known {
    path: DataPath,
    begun: VecDeque<Begun>,
}

impl Known {
    /// Those of the data folder. What cannot be read is none.
    pub(super) fn load(data_dir: &DataDir) -> Self {
        let path = data_dir.join(FILE);
        let begun = private::read_json(&path.now(), LONGEST_FILE).unwrap_or_default();
        Self { path, begun }
    }

    /// A command comes. One that is to be done is on the disk when this comes back.
    pub(super) fn begin(&mut self, who: &str, id: &str, command: &Command) -> io::Result<Turn> {
        let digest = command.digest();
        if let Some(known) = self.begun.iter().find(|begun| begun.who == who && begun.id == id) {
            return Ok(match &known.answer {
                _ if !known.digest.is_empty() && known.digest != digest => Turn::Taken,
                Answered::Before => Turn::Before,
                Answered::NotYet => Turn::Wait,
                Answered::So(answer) => Turn::Repeat(answer.clone()),
                Answered::AtLength => Turn::Done,
            });
        }
        while self.begun.len() >= MOST_KNOWN {
            self.begun.pop_front();
        }
        self.begun.push_back(Begun {
            who: who.to_owned(),
            id: id.to_owned(),
            digest,
            answer: Answered::NotYet,
        });
        let written = private::replace(&self.path.now(), &serde_json::to_vec(&self.begun)?);
        if let Err(error) = written {
            self.begun.pop_back();
            return Err(error);
        }
        Ok(Turn::Do)
    }

    /// A command was answered so.
    pub(super) fn end(&mut self, who: &str, id: &str, answer: &str) {
        let mut begun = self.begun.iter_mut();
        if let Some(begun) = begun.find(|begun| begun.who == who && begun.id == id) {
            begun.answer = match answer.len() <= LONGEST_ANSWER {
                true => Answered::So(answer.to_owned()),
                false => Answered::AtLength,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headgate_model::bus::Presence;
    use std::sync::Arc;

    fn request(payload: &str) -> Request {
        Request {
            client: "c".into(),
            who: Arc::default(),
            is_bridge: false,
            retain: false,
            payload: payload.to_owned().into(),
            is_too_long: false,
            response_topic: None,
            correlation_data: None,
        }
    }

    fn refused(payload: &str) -> String {
        let refusal = Asked::parse(&request(payload)).unwrap_err();
        format!("{} {}", refusal.status, refusal.why)
    }

    #[test]
    fn commands_are_understood() {
        let parse = |payload| Asked::parse(&request(payload)).unwrap().command;
        assert_eq!(parse(r#"{"id":"1","command":"status"}"#), Command::Status);
        assert_eq!(
            parse(r#"{"id":"1","command":"check"}"#),
            Command::Check { bundle: None }
        );
        assert_eq!(
            parse(r#"{"id":"1","command":"install","bundle":"https://u/b","reboot":true}"#),
            Command::Install {
                bundle: Some("https://u/b".into()),
                reboot: true
            }
        );
        assert_eq!(
            parse(r#"{"id":"1","command":"mark","state":"bad"}"#),
            Command::Mark { good: false }
        );
        assert_eq!(parse(r#"{"id":"1","command":"boot-other"}"#), Command::BootOther);
    }

    #[test]
    fn what_is_not_understood_says_why() {
        assert!(refused("reboot!").starts_with("422 this is no JSON"));
        assert!(refused(r#"{"command":"status"}"#).contains("missing field `id`"));
        assert!(refused(r#"{"id":"","command":"status"}"#).contains("1 to 64 characters"));
        assert_eq!(
            refused(r#"{"id":"1","command":"format"}"#),
            "422 `format` is no command, allowed is status, check, install, mark, boot-other"
        );
        assert_eq!(
            refused(r#"{"id":"1","command":"boot-other","bundle":"/x"}"#),
            "422 `boot-other` has no `bundle`"
        );
        assert_eq!(
            refused(r#"{"id":"1","command":"mark"}"#),
            "422 `state` is `good` or `bad`"
        );
        assert!(refused(r#"{"id":"1","command":"install","force":true}"#).contains("force"));
        let retained = Request {
            retain: true,
            ..request(r#"{"id":"7","command":"boot-other"}"#)
        };
        let refusal = Asked::parse(&retained).unwrap_err();
        assert_eq!(refusal.why, "a request must not be retained");
        assert_eq!(
            (refusal.id.as_deref(), refusal.command.as_deref()),
            (Some("7"), Some("boot-other")),
            "whoever asked knows what is meant"
        );
        let long = Request {
            is_too_long: true,
            ..request("")
        };
        assert_eq!(Asked::parse(&long).unwrap_err().status, 413);
    }

    #[test]
    fn only_who_is_named_may_ask() {
        let settings = UpdateCommands {
            users: vec!["fleet".into()],
            bridges: vec!["cloud".into()],
            ..UpdateCommands::default()
        };
        let of = |user: Option<&str>| Request {
            who: Arc::new(Presence {
                username: user.map(Into::into),
                ..Presence::default()
            }),
            ..request("")
        };
        assert_eq!(who(&of(Some("fleet")), &settings), Ok("fleet".into()));
        let sensor = who(&of(Some("sensor")), &settings);
        assert_eq!(sensor, Err(Stranger::User("sensor".into())));
        assert_eq!(who(&of(None), &settings), Err(Stranger::Anonymous));
        let bridge = |name: &str| Request {
            client: format!("$bridge/{name}").as_str().into(),
            is_bridge: true,
            ..of(None)
        };
        assert_eq!(who(&bridge("cloud"), &settings), Ok("bridge cloud".into()));
        assert!(who(&bridge("plant"), &settings).is_err());
        // Whoever publishes for others by a session of the gateway's own is no bridge.
        let publisher = Request {
            is_bridge: false,
            ..bridge("cloud")
        };
        assert!(who(&publisher, &settings).is_err());
    }

    #[test]
    fn who_asks_too_often_waits() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        assert!((0..20).all(|_| pace.admits("fleet", now)));
        assert!(!pace.admits("fleet", now));
        assert!(pace.admits("bridge cloud", now), "others do not");
        now += Duration::from_secs(1);
        assert!(!pace.admits("fleet", now));
        now += Duration::from_secs(1);
        assert!(pace.admits("fleet", now));
        assert!(!pace.admits("fleet", now));
        now += Duration::from_secs(3600);
        assert!((0..20).all(|_| pace.admits("fleet", now)));
        assert!(!pace.admits("fleet", now), "what was not used does not add up");
    }

    #[test]
    fn who_has_not_asked_for_long_makes_room_for_others() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        assert!((0..Pace::MOST).all(|n| pace.admits(&n.to_string(), now)));
        assert!(!pace.admits("fleet", now));
        assert!(pace.admits("0", now), "it is known");
        now += Pace::ONE_EACH;
        assert!(pace.admits("fleet", now));
        assert_eq!(pace.0.len(), 2, "one has not all of its requests again");
    }

    /// A command that comes again, by QoS 1 or after a restart, is not done again.
    #[test]
    fn an_id_is_done_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut known = Known::load(&folder.path().into());
        let mark = Command::Mark { good: true };
        let begin = |known: &mut Known, who: &str, id: &str| known.begin(who, id, &mark).unwrap();
        assert_eq!(begin(&mut known, "fleet", "1"), Turn::Do);
        // What was asked first counts, and is not the answer to something else.
        let other = known.begin("fleet", "1", &Command::BootOther).unwrap();
        assert_eq!(other, Turn::Taken);
        assert_eq!(begin(&mut known, "fleet", "1"), Turn::Wait);
        known.end("fleet", "1", "done");
        assert_eq!(begin(&mut known, "fleet", "1"), Turn::Repeat("done".into()));
        assert_eq!(begin(&mut known, "bridge cloud", "1"), Turn::Do);

        let mut known = Known::load(&folder.path().into());
        assert_eq!(begin(&mut known, "fleet", "1"), Turn::Before);
        for n in 0..MOST_KNOWN {
            assert_eq!(begin(&mut known, "fleet", &format!("more {n}")), Turn::Do);
        }
        assert_eq!(
            begin(&mut known, "fleet", "1"),
            Turn::Do,
            "the oldest is forgotten"
        );
    }

    #[test]
    fn topics_have_the_name_of_the_gateway() {
        let settings = UpdateCommands {
            topic: "fleet/{node}/update".into(),
            ..UpdateCommands::default()
        };
        let places = Places::of(&settings, "gate-7").unwrap();
        assert_eq!(places.request.as_str(), "fleet/gate-7/update/request");
        assert_eq!(places.progress.as_str(), "fleet/gate-7/update/progress");
        assert_eq!(Places::of(&UpdateCommands::default(), "gate-7"), None);
    }
}
