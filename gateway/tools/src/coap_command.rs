//! `headgate coap`: a request by CoAP, or an observation.

use super::publish::seconds;
use crate::coap::{Ask, CoapClient, CoapError, Target};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::{Args, Subcommand};
use headgate_cli::{Outcome, runtime, visible_lines};
use headgate_coap_codec::{Code, Message, format, number};
use serde_json::{Map, Value};
use std::io::{IsTerminal, Write, stdin, stdout};
use std::path::PathBuf;
use std::time::Duration;

/// Ask a server by CoAP, or observe something there.
#[derive(Args)]
pub struct CoapCommand {
    #[command(subcommand)]
    method: Method,
}

#[derive(Subcommand)]
enum Method {
    /// Get what is there: at a Headgate gateway, what is retained at coap://HOST/ps/TOPIC.
    Get(AskArgs),
    /// Put a payload there: at a Headgate gateway, publish to coap://HOST/mqtt/TOPIC?c=ID or coap://HOST/ps/TOPIC.
    Put(PayloadAskArgs),
    /// Post a payload there: at a Headgate gateway, publish to coap://HOST/ps/TOPIC.
    Post(PayloadAskArgs),
    /// Delete what is there.
    Delete(AskArgs),
    /// Observe: print what is there now, and what comes.
    Observe(ObserveArgs),
}

#[derive(Args)]
struct AskArgs {
    /// Where: coap://HOST[:PORT]/PATH[?QUERY].
    uri: String,
    /// Do not ask for an acknowledgement.
    #[arg(long)]
    non: bool,
    /// Content-format that the answer is to have, such as 50 or application/json.
    #[arg(long, value_name = "FORMAT", value_parser = content_format)]
    accept: Option<u16>,
    /// Print each answer as a line of JSON, with code, options and payload.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct PayloadAskArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// The payload.
    #[arg(short, long, value_name = "TEXT", conflicts_with = "file")]
    message: Option<String>,
    /// The payload, from a file; `-` for standard input.
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Content-format of the payload, such as 50 or application/json.
    #[arg(long, value_name = "FORMAT", value_parser = content_format)]
    format: Option<u16>,
}

#[derive(Args)]
struct ObserveArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// End after so many answers, the first among them.
    #[arg(short = 'C', long, value_name = "N")]
    count: Option<u64>,
    /// End after so many seconds.
    #[arg(short = 'W', long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<f64>,
}

fn content_format(text: &str) -> Result<u16, headgate_cli::ValueError> {
    let known = text.parse().ok().or_else(|| format::of_media_type(text));
    known.ok_or_else(|| {
        headgate_cli::ValueError::not_allowed(
            text,
            "a number up to 65535, or a media type such as application/json",
        )
    })
}

impl CoapCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        let runtime = runtime()?;
        let result = match self.method {
            Method::Get(args) => runtime.block_on(args.once(Code::GET, Bytes::new(), None)),
            Method::Delete(args) => runtime.block_on(args.once(Code::DELETE, Bytes::new(), None)),
            Method::Put(args) => runtime.block_on(args.once(Code::PUT)),
            Method::Post(args) => runtime.block_on(args.once(Code::POST)),
            Method::Observe(args) => runtime.block_on(args.observe()),
        };
        runtime.shutdown_background();
        Ok(result?)
    }
}

impl PayloadAskArgs {
    async fn once(self, code: Code) -> Result<(), CoapError> {
        let payload = match (self.message, self.file) {
            (Some(text), _) => text.into_bytes(),
            (None, Some(file)) if file.as_os_str() == "-" => {
                let mut payload = Vec::new();
                std::io::Read::read_to_end(&mut stdin(), &mut payload).map_err(CoapError::Payload)?;
                payload
            }
            (None, Some(file)) => std::fs::read(file).map_err(CoapError::Payload)?,
            (None, None) => Vec::new(),
        };
        self.ask.once(code, payload.into(), self.format).await
    }
}

impl AskArgs {
    fn ask(&self, code: Code, payload: Bytes, format: Option<u16>, observe: bool) -> Ask {
        Ask {
            code,
            confirmable: !self.non,
            payload,
            format,
            accept: self.accept,
            observe,
        }
    }

    async fn once(self, code: Code, payload: Bytes, format: Option<u16>) -> Result<(), CoapError> {
        let mut client = CoapClient::open(Target::parse(&self.uri)?).await?;
        let ask = self.ask(code, payload, format, false);
        let answer = client.ask(&ask).await?;
        self.tell(&answer)
    }

    /// Prints an answer; one that says no is an error.
    fn tell(&self, answer: &Message) -> Result<(), CoapError> {
        if self.json {
            headgate_cli::say_json(json_of(answer));
        }
        if !answer.code.is_success() {
            let words = String::from_utf8_lossy(&answer.payload).into_owned();
            return Err(CoapError::Refused {
                code: answer.code,
                words,
            });
        }
        if self.json || answer.payload.is_empty() {
            return Ok(());
        }
        let mut out = stdout().lock();
        let written = match out.is_terminal() {
            true => writeln!(out, "{}", visible_lines(&answer.payload)),
            false => out.write_all(&answer.payload).and_then(|()| out.write_all(b"\n")),
        };
        written.and_then(|()| out.flush()).map_err(CoapError::Output)
    }
}

impl ObserveArgs {
    async fn observe(self) -> Result<(), CoapError> {
        let mut client = CoapClient::open(Target::parse(&self.ask.uri)?).await?;
        let ask = self.ask.ask(Code::GET, Bytes::new(), None, true);
        let until = self.timeout.map_or(Duration::MAX, Duration::from_secs_f64);
        let outcome = tokio::select! {
            outcome = self.listen(&mut client, &ask) => outcome,
            () = tokio::time::sleep(until.min(Duration::from_secs(u32::MAX.into()))) => Ok(()),
            _ = tokio::signal::ctrl_c() => Ok(()),
        };
        client.cancel(&ask).await;
        outcome
    }

    async fn listen(&self, client: &mut CoapClient, ask: &Ask) -> Result<(), CoapError> {
        let first = client.ask(ask).await?;
        self.ask.tell(&first)?;
        if !first.options.has(number::OBSERVE) {
            return Err(CoapError::Unexpected(
                "an answer without Observe: it cannot be observed",
            ));
        }
        let mut told = 1;
        while self.count.is_none_or(|count| told < count) {
            match client.notification(ask).await {
                Ok(next) => self.ask.tell(&next)?,
                Err(lost @ CoapError::Superseded) => {
                    headgate_cli::note(lost);
                    continue;
                }
                Err(error) => return Err(error),
            }
            told += 1;
        }
        Ok(())
    }
}

/// One line for machines.
fn json_of(answer: &Message) -> Value {
    let mut line = Map::new();
    let mut put = |key: &str, value: Value| drop(line.insert(key.to_owned(), value));
    put("code", answer.code.to_string().into());
    let content = answer.options.uint(number::CONTENT_FORMAT);
    if let Some(content) = content {
        let name = u16::try_from(content).ok().and_then(format::media_type);
        put("format", name.map_or_else(|| content.into(), Value::from));
    }
    for (key, option) in [("observe", number::OBSERVE), ("max_age", number::MAX_AGE)] {
        if let Some(value) = answer.options.uint(option) {
            put(key, value.into());
        }
    }
    if let Some(etag) = answer.options.get(number::ETAG) {
        put(
            "etag",
            etag.iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
                .into(),
        );
    }
    let levels: Vec<String> = answer
        .options
        .all(number::LOCATION_PATH)
        .map(|level| String::from_utf8_lossy(level).into_owned())
        .collect();
    if !levels.is_empty() {
        put("topic", levels.join("/").into());
    }
    match std::str::from_utf8(&answer.payload) {
        Ok(text) => put("payload", text.into()),
        Err(_) => put("payload_base64", STANDARD.encode(&answer.payload).into()),
    }
    line.into()
}
