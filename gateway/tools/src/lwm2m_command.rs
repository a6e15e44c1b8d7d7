//! `headgate lwm2m read`, `write`, `observe` and others: what a client of LwM2M is told to do, over MQTT.

use super::connection::ServerArgs;
use super::publish::time;
use crate::lwm2m::{
    Commander, Lwm2mError, Patience, Place, Written, attributes, data_of_paths, kind, path, path_of_depth,
    progress_of, registry_of, shown, written,
};
use clap::{Args, Subcommand};
use headgate_cli::{Outcome, note, runtime, say, say_json};
use headgate_client::ClientError;
use headgate_lwm2m_codec::object::Registry;
use headgate_lwm2m_codec::{Path, Type, check_arguments};
use serde_json::{Map, Value as Json, json};
use std::path::{Path as FilePath, PathBuf};
use std::time::Duration;

/// What a client is told to do.
#[derive(Subcommand)]
pub enum Lwm2mRequest {
    /// Read an object, an instance or a resource of a client; several at once if it speaks LwM2M 1.1.
    Read(Box<ReadArgs>),
    /// Ask a client what an object or an instance has, and with which attributes it notifies.
    Discover(Box<PathArgs>),
    /// Write a resource of a client, or several resources of an instance.
    Write(Box<WriteArgs>),
    /// Execute a resource of a client: reboot it by /3/0/4.
    Exec(Box<ExecArgs>),
    /// Create an instance of an object.
    Create(Box<CreateArgs>),
    /// Delete an instance.
    Delete(Box<PathArgs>),
    /// Observe: print what is there now, and what the client notifies. The observation stays when this ends.
    Observe(Box<ObserveArgs>),
    /// Say when a client notifies: at most and at least how often, and beyond which values.
    Attributes(Box<AttributesArgs>),
    /// Update the firmware of a client, and tell how far it is.
    UpdateFirmware(Box<FirmwareArgs>),
}

/// Which client, and how it is asked.
#[derive(Args)]
struct AskArgs {
    /// Endpoint name of the client, as `headgate lwm2m list` shows it.
    #[arg(value_name = "ENDPOINT")]
    endpoint: String,
    /// How long to wait for the answer, in seconds or as 30s, 2m. Default: 2m, 1h for a firmware update, and no less than --expiry.
    #[arg(long, value_name = "TIME", value_parser = time(0.0, 1e9), help_heading = "Waiting")]
    timeout: Option<f64>,
    /// How long the command waits for a client that is asleep, in seconds or as 30s, 6h. Default: as long as --timeout.
    #[arg(long, value_name = "TIME", value_parser = time(1.0, 1e9), help_heading = "Waiting")]
    expiry: Option<f64>,
    /// Where the topics of the client begin, as in `topics.prefix` of the gateway.
    #[arg(
        long,
        value_name = "PREFIX",
        default_value = "lwm2m/{ep}",
        help_heading = "Connection"
    )]
    prefix: String,
    /// The configuration of a gateway on this machine, which is asked how objects are called that it has definitions of.
    #[arg(long, value_name = "FILE", env = "HEADGATE_CONFIG")]
    config: Option<PathBuf>,
    /// Print answers as the gateway publishes them, in JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// What is read.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub struct ReadArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// What: /3, /3/0 or /3/0/0.
    #[arg(value_name = "PATH", required = true, value_parser = path)]
    paths: Vec<Path>,
}

/// What it is about.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub struct PathArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// What: /3 or /3/0.
    #[arg(value_name = "PATH", value_parser = path)]
    path: Path,
}

/// What is written.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub struct WriteArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// What: a resource, or an instance.
    #[arg(value_name = "PATH", value_parser = path)]
    path: Path,
    /// The value; of an instance RESOURCE=VALUE or RESOURCE:TYPE=VALUE, several times.
    #[arg(value_name = "VALUE", required = true, allow_negative_numbers = true)]
    values: Vec<String>,
    /// Type of the value. Default: what the definition of the object says, else String.
    #[arg(long = "type", value_name = "TYPE", value_parser = kind)]
    kind: Option<Type>,
    /// What is not written is gone. The default for a resource.
    #[arg(long, conflicts_with = "update")]
    replace: bool,
    /// What is not written stays. The default for an instance.
    #[arg(long)]
    update: bool,
}

/// What is executed.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub struct ExecArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// What: /3/0/4.
    #[arg(value_name = "PATH", value_parser = path)]
    path: Path,
    /// Its arguments: 0='on',1.
    #[arg(value_name = "ARGS", default_value = "", hide_default_value = true)]
    arguments: String,
}

/// What is created.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub struct CreateArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// The new instance: /3303/1.
    #[arg(value_name = "PATH", value_parser = path)]
    path: Path,
    /// Its resources: RESOURCE=VALUE or RESOURCE:TYPE=VALUE.
    #[arg(value_name = "RESOURCE=VALUE", required = true)]
    values: Vec<String>,
}

/// What is observed, and how long.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub struct ObserveArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// What: /3, /3/0 or /3/0/0; several at once if the client speaks LwM2M 1.1.
    #[arg(value_name = "PATH", required = true, value_parser = path)]
    paths: Vec<Path>,
    /// End after so many, the answer among them.
    #[arg(short = 'C', long, value_name = "N", conflicts_with = "cancel", value_parser = headgate_cli::within(1, u64::MAX))]
    count: Option<u64>,
    /// End after so long, in seconds or as 60s; an error if --count is not reached.
    #[arg(short = 'W', long, value_name = "TIME", conflicts_with = "cancel", value_parser = time(0.0, 1e9))]
    time: Option<f64>,
    /// End the observation.
    #[arg(long)]
    cancel: bool,
}

/// When it notifies.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub struct AttributesArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// Of what: /3303/0/5700.
    #[arg(value_name = "PATH", value_parser = path)]
    path: Path,
    /// pmin=SECONDS, pmax=SECONDS, gt=VALUE, lt=VALUE, st=STEP and others; pmin= removes it.
    #[arg(value_name = "NAME=VALUE", required = true)]
    attributes: Vec<String>,
}

/// Which firmware, and its way.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub struct FirmwareArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// Name of a package in the gateway's folder `firmware`.
    #[arg(value_name = "PACKAGE", required_unless_present = "uri")]
    package: Option<String>,
    /// Where the client fetches it instead.
    #[arg(long, value_name = "URI", conflicts_with = "package")]
    uri: Option<String>,
    /// The client fetches the package from the gateway. Default: what it can.
    #[arg(long, conflicts_with_all = ["push", "uri"])]
    pull: bool,
    /// The gateway sends the package. Default: what the client can.
    #[arg(long, conflicts_with = "uri")]
    push: bool,
}

/// A command, before it is sent.
struct Command {
    kind: &'static str,
    data: Map<String, Json>,
}

impl Command {
    fn at(kind: &'static str, path: Path) -> Self {
        let data = [("path".to_owned(), path.to_string().into())];
        let data = data.into_iter().collect();
        Self { kind, data }
    }

    fn with(mut self, key: &str, value: impl Into<Json>) -> Self {
        self.data.insert(key.into(), value.into());
        self
    }
}

/// Waiting for most answers.
const USUAL: Duration = Duration::from_secs(120);
/// A firmware update takes its time.
const UPDATE: Duration = Duration::from_secs(3_600);

impl Lwm2mRequest {
    /// Runs the command. `definitions`: those of the objects of a client, by its endpoint name, that the gateway of a configuration has.
    pub fn run(self, definitions: impl FnOnce(Option<&FilePath>, &str) -> Option<Json>) -> Outcome {
        let ask = self.ask();
        let known = ask
            .server
            .is_here()
            .then(|| definitions(ask.config.as_deref(), &ask.endpoint));
        let registry = registry_of(known.flatten().as_ref());
        let runtime = runtime()?;
        let result = match self {
            Self::Observe(args) if !args.cancel => runtime.block_on(args.observe(&registry)),
            Self::UpdateFirmware(args) => runtime.block_on(args.update(&registry)),
            other => other
                .command(&registry)
                .and_then(|(ask, command)| runtime.block_on(ask.once(command, &registry))),
        };
        runtime.shutdown_background();
        Ok(result?)
    }

    /// Whom it asks.
    fn ask(&self) -> &AskArgs {
        match self {
            Self::Read(args) => &args.ask,
            Self::Discover(args) | Self::Delete(args) => &args.ask,
            Self::Write(args) => &args.ask,
            Self::Exec(args) => &args.ask,
            Self::Create(args) => &args.ask,
            Self::Observe(args) => &args.ask,
            Self::Attributes(args) => &args.ask,
            Self::UpdateFirmware(args) => &args.ask,
        }
    }

    /// What has one answer.
    fn command(self, registry: &Registry) -> Result<(AskArgs, Command), Lwm2mError> {
        Ok(match self {
            Self::Read(args) => {
                let (composite, data) = data_of_paths(&args.paths, "read")?;
                let kind = if composite { "read-composite" } else { "read" };
                (args.ask, Command { kind, data })
            }
            Self::Discover(args) => {
                let path = path_of_depth(args.path, "discover", 1..=3)?;
                (args.ask, Command::at("discover", path))
            }
            Self::Write(args) => args.command(registry)?,
            Self::Exec(args) => {
                let path = path_of_depth(args.path, "exec", 3..=3)?;
                check_arguments(&args.arguments).map_err(|error| Lwm2mError::Usage(error.to_string()))?;
                (
                    args.ask,
                    Command::at("execute", path).with("args", args.arguments),
                )
            }
            Self::Create(args) => args.command(registry)?,
            Self::Delete(args) => {
                let path = path_of_depth(args.path, "delete", 2..=4)?;
                (args.ask, Command::at("delete", path))
            }
            Self::Observe(args) => {
                let (composite, data) = data_of_paths(&args.paths, "observe")?;
                let kind = match (args.cancel, composite) {
                    (true, false) => "cancel-observe",
                    (true, true) => "cancel-observe-composite",
                    (false, false) => "observe",
                    (false, true) => "observe-composite",
                };
                (args.ask, Command { kind, data })
            }
            Self::Attributes(args) => {
                let path = path_of_depth(args.path, "attributes", 1..=4)?;
                let mut command = Command::at("write-attr", path);
                command.data.extend(attributes(&args.attributes)?);
                (args.ask, command)
            }
            Self::UpdateFirmware(args) => args.command(),
        })
    }
}

impl WriteArgs {
    fn command(self: Box<Self>, registry: &Registry) -> Result<(AskArgs, Command), Lwm2mError> {
        let path = path_of_depth(self.path, "write", 2..=4)?;
        let command = match written(path, &self.values, self.kind, registry)? {
            Written::Value(value) => {
                let command = Command::at("write", path).with("value", value);
                match self.kind {
                    Some(kind) => command.with("type", kind.name()),
                    None => command,
                }
            }
            Written::Content(content) => below("write", path, content),
        };
        let command = match (self.replace, self.update) {
            (true, _) => command.with("mode", "replace"),
            (_, true) => command.with("mode", "update"),
            _ => command,
        };
        Ok((self.ask, command))
    }
}

impl CreateArgs {
    fn command(self: Box<Self>, registry: &Registry) -> Result<(AskArgs, Command), Lwm2mError> {
        let path = path_of_depth(self.path, "create", 2..=2)?;
        let Written::Content(mut content) = written(path, &self.values, None, registry)? else {
            return Err(Lwm2mError::Usage("create wants RESOURCE=VALUE".into()));
        };
        let ids = path.ids();
        for entry in &mut content {
            let resource = entry["path"].as_str().unwrap_or_default();
            entry["path"] = format!("/{}{resource}", ids[1]).into();
        }
        let object = path.parent().unwrap_or(path);
        Ok((self.ask, below("create", object, content)))
    }
}

fn below(kind: &'static str, base: Path, content: Vec<Json>) -> Command {
    let data = json!({"basePath": base.to_string(), "content": content});
    let data = data.as_object().cloned().unwrap_or_default();
    Command { kind, data }
}

impl FirmwareArgs {
    fn command(self: Box<Self>) -> (AskArgs, Command) {
        let mut data = Map::new();
        match (self.package, self.uri) {
            (_, Some(uri)) => data.insert("uri".into(), uri.into()),
            (package, None) => data.insert("package".into(), package.into()),
        };
        if self.pull || self.push {
            data.insert("pull".into(), self.pull.into());
        }
        let kind = "update-firmware";
        (self.ask, Command { kind, data })
    }

    async fn update(self: Box<Self>, registry: &Registry) -> Result<(), Lwm2mError> {
        let (ask, command) = self.command();
        let (patience, json) = (ask.patience(UPDATE), ask.json);
        let mut commander = ask.open().await?;
        let answer = commander.ask(command.kind, command.data, patience, |told| {
            if told["msgType"] != "firmware" {
                return;
            }
            match json {
                true => say_json(told),
                false => say(progress_of(&told["data"])),
            }
        });
        let answer = answer.await;
        commander.close().await;
        tell(&answer?, json, registry)
    }
}

impl ObserveArgs {
    async fn observe(self: Box<Self>, registry: &Registry) -> Result<(), Lwm2mError> {
        let (count, time) = (self.count, self.time.map(Duration::from_secs_f64));
        let paths: Vec<String> = self.paths.iter().map(ToString::to_string).collect();
        let (ask, command) = Lwm2mRequest::Observe(self).command(registry)?;
        let (patience, json) = (ask.patience(USUAL), ask.json);
        let endpoint = ask.endpoint.clone();
        let mut commander = ask.open().await?;
        let mut observing = Observing {
            paths,
            composite: command.kind == "observe-composite",
            json,
            count,
            told: 0,
        };
        let listen = async {
            let first = commander
                .ask(command.kind, command.data, patience, |_| ())
                .await?;
            observing.tell(&first, registry)?;
            while count.is_none_or(|count| observing.told < count) {
                let next = commander.notification().await?;
                if observing.is_meant(&next) {
                    observing.tell_next(&next, registry)?;
                }
            }
            Ok(())
        };
        let until = time
            .unwrap_or(Duration::MAX)
            .min(Duration::from_secs(u32::MAX.into()));
        let outcome = tokio::select! {
            outcome = listen => outcome,
            () = tokio::time::sleep(until) => observing.time_is_over(until),
            _ = tokio::signal::ctrl_c() => Ok(()),
        };
        commander.close().await;
        observing.say_what_stays(&outcome, &endpoint);
        outcome
    }
}

/// What is observed, and what was told of it.
struct Observing {
    paths: Vec<String>,
    composite: bool,
    json: bool,
    count: Option<u64>,
    told: u64,
}

impl Observing {
    /// Whether a notification is of this observation, whoever began it.
    fn is_meant(&self, told: &Json) -> bool {
        let data = &told["data"];
        match self.composite {
            true => data["paths"] == json!(self.paths),
            false => data["reqPath"] == json!(self.paths[0]) && data["paths"].is_null(),
        }
    }

    fn tell(&mut self, told: &Json, registry: &Registry) -> Result<(), Lwm2mError> {
        tell(told, self.json, registry)?;
        self.told += 1;
        Ok(())
    }

    fn tell_next(&mut self, told: &Json, registry: &Registry) -> Result<(), Lwm2mError> {
        self.tell(told, registry).map_err(|error| match error {
            Lwm2mError::Failed { code, name, .. } => {
                let path = self.paths.join(" ");
                Lwm2mError::Ended { path, code, name }
            }
            other => other,
        })
    }

    fn time_is_over(&self, within: Duration) -> Result<(), Lwm2mError> {
        // What is there is told in any case.
        let wanted = self.count.unwrap_or(1);
        let messages = self.told;
        match messages < wanted {
            true => Err(Lwm2mError::Client(ClientError::TooFew {
                messages,
                wanted,
                within,
            })),
            false => Ok(()),
        }
    }

    fn say_what_stays(&self, outcome: &Result<(), Lwm2mError>, endpoint: &str) {
        let has_ended = matches!(outcome, Err(Lwm2mError::Ended { .. } | Lwm2mError::Failed { .. }));
        if self.told > 0 && !has_ended {
            let paths = self.paths.join(" ");
            note(format!(
                "the observation stays: `headgate lwm2m observe {endpoint} {paths} --cancel` ends it"
            ));
        }
    }
}

impl AskArgs {
    fn patience(&self, usual: Duration) -> Patience {
        let [timeout, expiry] = [self.timeout, self.expiry].map(|time| time.map(Duration::from_secs_f64));
        Patience::new(timeout, expiry, usual)
    }

    async fn open(self) -> Result<Commander, Lwm2mError> {
        let place = Place::new(&self.endpoint, &self.prefix)?;
        Commander::open(self.server, place).await
    }

    async fn once(self, command: Command, registry: &Registry) -> Result<(), Lwm2mError> {
        let (patience, json) = (self.patience(USUAL), self.json);
        let ends = command.kind.starts_with("cancel-");
        let mut commander = self.open().await?;
        let answer = commander.ask(command.kind, command.data, patience, |_| ()).await;
        commander.close().await;
        tell(&answer?, json, registry)?;
        if ends {
            note("it is not observed any more");
        }
        Ok(())
    }
}

/// Prints an answer; one that says no is an error.
fn tell(answer: &Json, json: bool, registry: &Registry) -> Result<(), Lwm2mError> {
    if json {
        say_json(answer);
    }
    let data = &answer["data"];
    let word = |key: &str| data[key].as_str().unwrap_or_default().to_owned();
    let code = word("code");
    if !code.starts_with("2.") {
        let why = word("reason");
        let hint = match why.as_str() {
            "expired" => "its time was over: --expiry gives it more",
            _ => "",
        };
        let name = word("codeMsg");
        return Err(Lwm2mError::Failed {
            code,
            name,
            why,
            hint,
        });
    }
    if !json {
        say(shown(answer, registry));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        request: Lwm2mRequest,
    }

    /// The command that a line leads to, as it is published.
    fn command(line: &[&str]) -> Result<(&'static str, Json), String> {
        let words = ["lwm2m"].iter().chain(line);
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        let (_, command) = line
            .request
            .command(&Registry::builtin())
            .map_err(|error| error.to_string())?;
        Ok((command.kind, command.data.into()))
    }

    #[test]
    fn lines_are_commands() {
        for (line, kind, data) in [
            (&["read", "d", "/3/0"][..], "read", json!({"path": "/3/0"})),
            (
                &["read", "d", "/3/0", "/1"],
                "read-composite",
                json!({"paths": ["/3/0", "/1"]}),
            ),
            (&["discover", "d", "3"], "discover", json!({"path": "/3"})),
            (
                &["write", "d", "/3/0/14", "+09"],
                "write",
                json!({"path": "/3/0/14", "value": "+09"}),
            ),
            (
                &["write", "d", "/40000/0/1", "-7", "--type", "integer", "--update"],
                "write",
                json!({"path": "/40000/0/1", "value": "-7", "type": "Integer", "mode": "update"}),
            ),
            (
                &["write", "d", "/3/0", "14=x", "--replace"],
                "write",
                json!({"basePath": "/3/0", "content": [{"path": "/14", "value": "x"}], "mode": "replace"}),
            ),
            (
                &["exec", "d", "/3/0/4"],
                "execute",
                json!({"path": "/3/0/4", "args": ""}),
            ),
            (
                &["exec", "d", "/3/0/4", "0='a'"],
                "execute",
                json!({"path": "/3/0/4", "args": "0='a'"}),
            ),
            (
                &["create", "d", "/3303/1", "5701=Cel"],
                "create",
                json!({"basePath": "/3303", "content": [{"path": "/1/5701", "value": "Cel"}]}),
            ),
            (&["delete", "d", "/3303/1"], "delete", json!({"path": "/3303/1"})),
            (
                &["observe", "d", "/3/0/9", "/4/0/2", "--cancel"],
                "cancel-observe-composite",
                json!({"paths": ["/3/0/9", "/4/0/2"]}),
            ),
            (
                &["attributes", "d", "/3/0/9", "pmin=1", "pmax="],
                "write-attr",
                json!({"path": "/3/0/9", "pmin": "1", "pmax": ""}),
            ),
            (
                &["update-firmware", "d", "a.bin", "--push"],
                "update-firmware",
                json!({"package": "a.bin", "pull": false}),
            ),
            (
                &["update-firmware", "d", "--uri", "coap://x/f"],
                "update-firmware",
                json!({"uri": "coap://x/f"}),
            ),
        ] {
            assert_eq!(command(line), Ok((kind, data)), "{line:?}");
        }
    }

    #[test]
    fn lines_that_cannot_be_say_what_can() {
        for (line, why) in [
            (&["read", "d", "x"][..], "numbers from 0 to 65534"),
            (&["read", "d"], "PATH"),
            (&["write", "d", "/3", "1"], "an instance (/3/0) or a resource"),
            (
                &["write", "d", "/3/0/14", "a", "--type", "text"],
                "allowed are String",
            ),
            (
                &["write", "d", "/3/0/14", "a", "--replace", "--update"],
                "cannot be used with",
            ),
            (&["exec", "d", "/3/0/4", "now"], "a digit, or a digit with a text"),
            (&["create", "d", "/3303", "5701=Cel"], "an instance (/3/0)"),
            (&["delete", "d", "/3303"], "an instance (/3/0)"),
            (&["observe", "d", "/3", "--count", "0"], "1 to"),
            (
                &["observe", "d", "/3", "--count", "1", "--cancel"],
                "cannot be used with",
            ),
            (&["attributes", "d", "/3", "x=1"], "allowed are pmin"),
            (&["update-firmware", "d"], "PACKAGE"),
            (
                &["update-firmware", "d", "a", "--uri", "b"],
                "cannot be used with",
            ),
            (
                &["update-firmware", "d", "a", "--pull", "--push"],
                "cannot be used with",
            ),
        ] {
            let error = command(line).expect_err(&format!("{line:?}"));
            assert!(error.contains(why), "{line:?}: {error}");
        }
    }

    #[test]
    fn notifications_are_told_apart_by_their_paths() {
        let observing = |composite, paths: &[&str]| Observing {
            paths: paths.iter().map(|&path| path.to_owned()).collect(),
            composite,
            json: false,
            count: None,
            told: 0,
        };
        let one = json!({"data": {"reqPath": "/3/0/9"}});
        let many = json!({"data": {"reqPath": "/", "paths": ["/3/0/9", "/4/0/2"]}});
        let single = observing(false, &["/3/0/9"]);
        assert!(single.is_meant(&one) && !single.is_meant(&many));
        assert!(!observing(false, &["/3/0"]).is_meant(&one));
        let composite = observing(true, &["/3/0/9", "/4/0/2"]);
        assert!(composite.is_meant(&many) && !composite.is_meant(&one));
    }

    #[test]
    fn an_observation_that_told_too_little_in_time_has_failed() {
        let over = |count, told| {
            let observing = Observing {
                paths: vec!["/3".into()],
                composite: false,
                json: false,
                count,
                told,
            };
            observing.time_is_over(Duration::from_secs(1)).is_ok()
        };
        assert!(over(None, 1) && over(Some(2), 2));
        assert!(!over(None, 0) && !over(Some(3), 2));
    }
}
