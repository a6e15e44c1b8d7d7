//! Commands about updates by messages on the bus: requests are taken, done and answered, and it is told how far an installation is.
//!
//! Always true: each request of who may ask has one answer, unless more came than wait; nobody else's is answered where others listen; a change is in the audit
//! log before it begins.

use super::asked::{Asked, Command, Known, Pace, Places, Refusal, Turn, who};
use super::{Firmware, FirmwareError, Installation};
use crate::config::UpdateCommands;
use crate::sys::unix_time;
use headgate_admin::{AuditEntry, AuditLog, Role};
use headgate_bus::Request;
use headgate_bus::handle::Requests;
use headgate_model::bus::Presence;
use headgate_model::gate::is_of_gateway;
use headgate_model::message::Properties;
use headgate_model::{Message, Qos, Topic};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep_until};

/// Commands that are being done at a time.
const AT_A_TIME: usize = 4;
/// How often it is told how far an installation is, at most,
const TELL_EVERY: Duration = Duration::from_secs(1);
/// and how many times; its end is told besides.
const MOST_STEPS: u32 = 100;
/// In whose name those are looked at who may not ask.
const OTHERS: &str = "";

/// A request, and where its answer goes.
struct Letter {
    request: Box<Request>,
    places: Places,
    /// Whoever asks may.
    is_named: bool,
}

/// What was done or not: a status as HTTP has it, and what the API would answer.
type Done = (u16, Value);

/// What those who answer have in common.
#[derive(Clone)]
struct Desk {
    firmware: Firmware,
    audit: AuditLog,
    known: Arc<Mutex<Known>>,
    /// The installation that was asked for here: when it began, and the id of who asked.
    asked: Arc<Mutex<Option<(u64, String)>>>,
    busy: Arc<Semaphore>,
}

impl Firmware {
    /// Where commands are taken, if they are.
    pub(super) fn commands_topic(&self) -> Option<String> {
        let config = self.0.config.borrow();
        let places = Places::of(&config.firmware.commands, &config.node)?;
        Some(places.request.as_str().to_owned())
    }

    /// Takes commands by the bus, where the configuration wants it, for ever.
    pub(crate) async fn answer(self, audit: AuditLog) {
        let known = tokio::task::block_in_place(|| Known::load(&self.0.data_dir));
        let desk = Desk {
            audit,
            known: Arc::new(Mutex::new(known)),
            asked: Arc::default(),
            busy: Arc::new(Semaphore::new(AT_A_TIME)),
            firmware: self.clone(),
        };
        let mut config = self.0.config.clone();
        let mut pace = Pace::default();
        loop {
            let (settings, node) = {
                let config = config.borrow_and_update();
                (config.firmware.commands.clone(), config.node.clone())
            };
            let Some(places) = Places::of(&settings, &node) else {
                match config.changed().await {
                    Ok(()) => continue,
                    Err(_) => return,
                }
            };
            let named = settings.clone();
            let is_named = move |request: &Request| who(request, &named).is_ok();
            let requests = self.0.hub.requests(places.request.clone(), is_named);
            let told = Told::new(self.0.installations.subscribe());
            tokio::select! {
                () = desk.take(&requests, &settings, &places, &mut pace) => {}
                () = desk.tell(told, &places) => {}
                () = changed(&mut config, &settings, &node) => {}
            }
        }
    }
}

/// Comes back when commands are other ones, or the gateway has another name.
async fn changed(
    config: &mut watch::Receiver<Arc<crate::config::Config>>,
    settings: &UpdateCommands,
    node: &str,
) {
    let is_other =
        |config: &Arc<crate::config::Config>| config.firmware.commands != *settings || config.node != node;
    let _ = config.wait_for(is_other).await;
}

impl Desk {
    async fn take(&self, requests: &Requests, settings: &UpdateCommands, places: &Places, pace: &mut Pace) {
        loop {
            let request = Box::new(requests.next().await);
            let who = who(&request, settings);
            let letter = Letter {
                request,
                places: places.clone(),
                is_named: who.is_ok(),
            };
            let name = who.as_deref().unwrap_or(OTHERS);
            let admitted = pace.admits(name, Instant::now());
            // Nobody is answered who may not ask and asks too often.
            if !admitted && who.is_err() {
                continue;
            }
            let understood = Asked::parse(&letter.request);
            let refuse = |status, why: String| Refusal {
                id: understood
                    .as_ref()
                    .map_or_else(|no| no.id.clone(), |asked| Some(asked.id.clone())),
                command: understood.as_ref().map_or_else(
                    |no| no.command.clone(),
                    |asked| Some(asked.command.name().to_owned()),
                ),
                status,
                why,
            };
            let refusal = match &who {
                Err(why) => Some(refuse(403, why.to_string())),
                Ok(_) if !admitted => Some(refuse(429, "too many requests: wait two seconds".into())),
                Ok(_) => understood.as_ref().err().cloned(),
            };
            match (refusal, who, understood) {
                (None, Ok(who), Ok(asked)) => self.take_up(letter, who, asked),
                (refusal, ..) => self.refuse(&letter, &refusal.unwrap_or_default()),
            }
        }
    }

    fn refuse(&self, letter: &Letter, refusal: &Refusal) {
        let Refusal {
            id,
            command,
            status,
            why,
        } = refusal;
        let (client, user) = (
            letter.request.client.as_str(),
            letter.request.who.username.as_deref(),
        );
        tracing::info!(
            client,
            user,
            command,
            status,
            why,
            "a command about updates was refused"
        );
        self.reply(
            letter,
            id.as_deref(),
            command.as_deref(),
            (*status, json!({ "error": why })),
        );
    }

    /// Does what is asked, in a task of its own: verifying a bundle takes its time.
    fn take_up(&self, letter: Letter, who: String, asked: Asked) {
        let Ok(place) = Arc::clone(&self.busy).try_acquire_owned() else {
            let why = format!("{AT_A_TIME} commands are being done: try again when one has its answer");
            return self.answer(&letter, &asked, (429, json!({ "error": why })));
        };
        let desk = self.clone();
        tokio::spawn(async move {
            desk.work(&letter, &who, &asked).await;
            drop(place);
        });
    }

    async fn work(&self, letter: &Letter, who: &str, asked: &Asked) {
        let Some(action) = asked.command.action() else {
            tracing::info!(
                who,
                command = asked.command.name(),
                "a question about updates by the bus"
            );
            let done = self.run(asked).await;
            return self.answer(letter, asked, done);
        };
        let turn = tokio::task::block_in_place(|| self.known.lock().begin(who, &asked.id, &asked.command));
        match turn {
            Ok(Turn::Do) => {}
            Ok(Turn::Wait) => return,
            Ok(Turn::Repeat(answer)) => return self.send(letter, answer),
            Ok(Turn::Done) => {
                let why = "a command with this id was done; its answer was too long to be said again";
                return self.answer(letter, asked, (409, json!({ "error": why })));
            }
            Ok(Turn::Before) => {
                let why = "a command with this id was begun before the gateway started: it is not done again";
                return self.answer(letter, asked, (409, json!({ "error": why })));
            }
            Ok(Turn::Taken) => {
                let why = "another command had this id: each has one of its own";
                return self.answer(letter, asked, (409, json!({ "error": why })));
            }
            // Without a note of it, it might be done twice.
            Err(error) => {
                let why = format!("the command cannot be written down: {error}");
                return self.answer(letter, asked, (500, json!({ "error": why })));
            }
        }
        let done = self.change(letter, who, asked, action).await;
        let answer = answer_of(Some(&asked.id), Some(asked.command.name()), done);
        self.known.lock().end(who, &asked.id, &answer);
        self.send(letter, answer);
    }

    /// A command that changes something, and is in the audit log.
    async fn change(&self, letter: &Letter, who: &str, asked: &Asked, action: &str) -> Done {
        let request = &letter.request;
        let (protocol, client) = (request.who.protocol.name, request.client.as_str());
        let mut entry = AuditEntry {
            number: 0,
            at: unix_time(),
            who: who.to_owned(),
            from: format!("{protocol} client {client} at {}", request.who.address()),
            request: format!("{} {}", letter.places.request, asked.command.name()),
            action: action.to_owned(),
            status: None,
            before: None,
            after: None,
        };
        // As one of others, so that whoever asks often pushes nothing out that administrators did.
        let role = Role::Operator;
        let (number, begun) = tokio::task::block_in_place(|| self.audit.begin(role, entry.clone()));
        entry.number = number;
        let done = self.run(asked).await;
        if (400..500).contains(&done.0) {
            let (status, error) = (done.0, done.1["error"].as_str());
            tracing::info!(
                who,
                client,
                command = asked.command.name(),
                status,
                error,
                "a command about updates was not done"
            );
            tokio::task::block_in_place(|| self.audit.forget(number));
            return done;
        }
        entry.status = Some(done.0);
        entry.after =
            Some(done.1.clone()).filter(|after| after.as_object().is_none_or(|after| !after.is_empty()));
        let ended = tokio::task::block_in_place(|| self.audit.end(role, entry));
        if let Err(error) = begun.and(ended) {
            tracing::error!(%error, who, action, "a change is not in the audit log");
        }
        done
    }

    async fn run(&self, asked: &Asked) -> Done {
        let firmware = &self.firmware;
        let done = match &asked.command {
            Command::Status => Ok(value(&firmware.view().await)),
            Command::Check { bundle } => firmware.check(bundle.as_deref()).await.map(|info| value(&info)),
            Command::Install { bundle, reboot } => {
                // Held until it is known which installation it is, so that no progress is told without its id.
                let mut mine = self.asked.lock();
                let begun = firmware.install(bundle.as_deref(), *reboot);
                if let Ok(begun) = &begun {
                    *mine = Some((begun.began, asked.id.clone()));
                }
                begun.map(|begun| value(&begun))
            }
            Command::Mark { good } => firmware.mark(*good).await.map(|()| json!({})),
            Command::BootOther => firmware.boot_other().await.map(|()| json!({})),
        };
        done.map_or_else(
            |error: FirmwareError| (error.status().as_u16(), json!({ "error": error.to_string() })),
            |value| (200, value),
        )
    }

    fn answer(&self, letter: &Letter, asked: &Asked, done: Done) {
        self.reply(letter, Some(&asked.id), Some(asked.command.name()), done);
    }

    fn reply(&self, letter: &Letter, id: Option<&str>, command: Option<&str>, done: Done) {
        self.send(letter, answer_of(id, command, done));
    }

    /// Answers where whoever asked wants it, if it may publish there itself: by its answers nobody says anything that it could not say. Otherwise who is named is
    /// answered where all are, and nobody else is.
    fn send(&self, letter: &Letter, answer: String) {
        let Letter { request, places, .. } = letter;
        let reply = letter.is_named.then(|| places.reply.clone());
        let Some(topic) = letter.wanted().or(reply) else {
            return;
        };
        let properties = Properties {
            payload_is_utf8: Some(true),
            content_type: Some("application/json".into()),
            correlation_data: request.correlation_data.clone(),
            ..Properties::default()
        };
        self.firmware.0.hub.publish_now(Message {
            qos: Qos::AtLeastOnce,
            properties: Some(Box::new(properties)),
            ..Message::new(topic, answer)
        });
    }

    /// Tells how far installations are, whoever began them, for ever.
    async fn tell(&self, mut told: Told, places: &Places) {
        loop {
            let now = told.next().await;
            let mut answer = value(&now);
            let mine = self.asked.lock().clone();
            answer["id"] = mine
                .filter(|(began, _)| *began == now.began)
                .map(|(_, id)| id)
                .into();
            self.firmware.0.hub.publish_now(Message {
                qos: Qos::AtLeastOnce,
                ..Message::new(places.progress.clone(), answer.to_string())
            });
        }
    }
}

impl Letter {
    /// Where whoever asked wants the answer, as the bus names it, if its rules let it publish there.
    fn wanted(&self) -> Option<Topic> {
        let Presence { names, rules, .. } = &*self.request.who;
        let wanted = self.request.response_topic.clone();
        let wanted = wanted.filter(|_| !self.request.is_bridge)?;
        let topic = names.place(Topic::parse(wanted).ok()?).ok()?;
        let message = Message::new(topic.clone(), "");
        let is_plain = !topic.as_str().starts_with("$delayed/") && !is_of_gateway(&message);
        let may = match self.is_named {
            true => rules.may_still_publish(&message),
            false => rules.may_publish(&message),
        };
        (is_plain && may).then_some(topic)
    }
}

fn value(told: &impl serde::Serialize) -> Value {
    serde_json::to_value(told).unwrap_or_default()
}

/// `{"id", "command", "status", "result"}`, or `"error"` in the place of the result.
fn answer_of(id: Option<&str>, command: Option<&str>, (status, told): Done) -> String {
    let mut answer = Map::new();
    answer.insert("id".into(), id.into());
    answer.insert("command".into(), command.into());
    answer.insert("status".into(), status.into());
    match told {
        Value::Object(mut told) if status >= 400 => answer.append(&mut told),
        told => drop(answer.insert("result".into(), told)),
    }
    Value::Object(answer).to_string()
}

/// Installations as they go on: what is told of them is what has changed, and not more often than [`TELL_EVERY`].
struct Told {
    installations: watch::Receiver<Option<Installation>>,
    last: Option<Installation>,
    steps: u32,
    /// Before this nothing is told but an end.
    not_before: Instant,
}

impl Told {
    /// What is there already was told.
    fn new(mut installations: watch::Receiver<Option<Installation>>) -> Self {
        let last = installations.borrow_and_update().clone();
        Self {
            installations,
            last,
            steps: 0,
            not_before: Instant::now(),
        }
    }

    async fn next(&mut self) -> Installation {
        loop {
            let mut ends = self.installations.clone();
            let has_ended = |now: &Option<Installation>| {
                now.as_ref()
                    .is_some_and(|now| now.ended && self.last.as_ref() != Some(now))
            };
            tokio::select! {
                () = sleep_until(self.not_before) => {}
                Ok(_) = ends.wait_for(has_ended) => {}
            }
            if self.installations.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            let now = self.installations.borrow_and_update().clone();
            let Some(now) = now.filter(|now| self.last.as_ref() != Some(now)) else {
                continue;
            };
            if self
                .last
                .as_ref()
                .is_none_or(|last| last.began != now.began || last.ended)
            {
                self.steps = 0;
            }
            self.last = Some(now.clone());
            self.steps += 1;
            if now.ended {
                self.not_before = Instant::now();
                return now;
            }
            if self.steps <= MOST_STEPS {
                self.not_before = Instant::now() + TELL_EVERY;
                return now;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep;

    #[test]
    fn answers_are_what_the_api_answers_with_what_they_answer() {
        assert_eq!(
            answer_of(Some("7"), Some("check"), (200, json!({ "version": "1.2" }))),
            r#"{"command":"check","id":"7","result":{"version":"1.2"},"status":200}"#
        );
        assert_eq!(
            answer_of(None, None, (422, json!({ "error": "this is no JSON" }))),
            r#"{"command":null,"error":"this is no JSON","id":null,"status":422}"#
        );
    }

    fn installation(percent: u8, ended: bool) -> Installation {
        Installation {
            bundle: "/b".into(),
            began: 1,
            percent,
            step: String::new(),
            ended,
            error: None,
        }
    }

    /// However many steps there are, so many are told, and the end.
    #[tokio::test(start_paused = true)]
    async fn progress_has_a_bound_and_an_end() {
        let (sender, receiver) = watch::channel(None);
        let mut told = Told::new(receiver);
        let mut seen = 0;
        for step in 0..1_000 {
            sender.send_replace(Some(installation(step as u8, false)));
            tokio::select! {
                biased;
                _ = told.next() => seen += 1,
                () = sleep(Duration::from_millis(500)) => {}
            }
        }
        assert_eq!(seen, MOST_STEPS, "each second one, until there were enough");
        sender.send_replace(Some(installation(100, true)));
        assert!(told.next().await.ended);
        sender.send_replace(Some(installation(0, false)));
        assert_eq!(told.next().await.percent, 0, "another one is told");
        // Its end comes at once.
        let at = Instant::now();
        sender.send_replace(Some(installation(1, true)));
        assert!(told.next().await.ended && at.elapsed().is_zero());
    }
}
