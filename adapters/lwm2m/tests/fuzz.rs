//! Anything in any order: mutated datagrams, devices that answer what they like, restarts, an access service that says one thing or another. See [`headgate_fuzz`] for how long, and how to
//! replay a failure. After each step all tables must agree, and in the end nothing may be left.

mod bench;

use bench::{Bench, LINKS, SECOND, at, post, request, send};
use bytes::{Bytes, BytesMut};
use fastrand::Rng;
use headgate_coap_codec::{Block, Code, Kind, Message, encode, number};
use headgate_fuzz::{fuzz, mutate};
use headgate_lwm2m::BootstrapClient;
use headgate_model::access::AuthRefusal;
use headgate_model::{AccessDecision, Action, Files};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug)]
enum Happens {
    /// A message of this kind comes from there, mutated so often.
    Says(u16, u8, usize, u64),
    /// The device answers what it was asked, or not.
    Answers(u16, u8),
    Command(u8, u8),
    Time(u64),
    Withheld(bool),
    /// The access service answers nobody meanwhile.
    Silent(bool),
    Refuses(bool),
    Denies(bool),
    /// Somebody has another name.
    User(u16, bool),
    Kick(u8),
    Restart,
    /// Packages are there, or not.
    Packages(bool),
}

fn happens(rng: &mut Rng) -> Happens {
    let who = rng.u16(1..4);
    match rng.u8(..40) {
        0..12 => Happens::Says(who, rng.u8(..10), rng.usize(..8).saturating_sub(4), rng.u64(..)),
        12..22 => Happens::Answers(who, rng.u8(..)),
        22..29 => Happens::Command(rng.u8(..2), rng.u8(..)),
        29 => Happens::Time(rng.u64(..200_000)),
        30 | 31 => Happens::Time(rng.u64(..7_000)),
        32 => Happens::Withheld(rng.bool()),
        33 | 34 => Happens::Silent(rng.bool()),
        35 => match rng.bool() {
            true => Happens::Refuses(rng.bool()),
            false => Happens::Denies(rng.bool()),
        },
        36 => Happens::User(who, rng.bool()),
        37 => Happens::Kick(rng.u8(..2)),
        38 => Happens::Restart,
        _ => Happens::Packages(rng.bool()),
    }
}

fn message(bench: &mut Bench, kind: u8) -> Message {
    let notes = bench.notes();
    let location = notes
        .first()
        .map_or("rd/x".to_owned(), |note| format!("rd/{}", note.location));
    match kind {
        0 => post("rd?ep=dev0&lt=300&lwm2m=1.1", LINKS),
        1 => post("rd?ep=dev1&lt=300&lwm2m=1.1&Q", LINKS),
        2 => post(&location, ""),
        3 => post(&format!("{location}?lt=400"), "</3303/1>"),
        4 => request(Code::DELETE, &location, ""),
        5 => send("/3303/0/5700", 21.5),
        6 => post("bs?ep=dev0", ""),
        7 => request(Code::GET, &format!("{}/v2", location.replace("rd", "fw")), ""),
        // What somebody observes is notified.
        _ => {
            let observed = notes.iter().flat_map(|note| &note.observed).next();
            let token = observed.map_or(String::new(), |observed| observed.token.clone());
            let bytes: Vec<u8> = (0..token.len() / 2)
                .map(|n| u8::from_str_radix(&token[2 * n..2 * n + 2], 16).unwrap())
                .collect();
            let token = headgate_coap_codec::Token::new(&bytes).unwrap();
            let mut message = Message::new(Kind::Confirmable, Code::CONTENT, 0, token);
            message
                .options
                .push_uint(number::OBSERVE, (bench.now.0 / 1_000) as u32);
            message.payload = "7".into();
            if kind == 9 {
                let (number, more, szx) = (0, true, 0);
                Block { number, more, szx }.put(&mut message.options, number::BLOCK2);
                message.payload = "0123456789abcdef".into();
            }
            message
        }
    }
}

fn answer(bench: &mut Bench, who: u16, how: u8) {
    for asked in bench.sent(at(who)) {
        if asked.kind != Kind::Confirmable {
            continue;
        }
        if asked.code == Code::EMPTY {
            bench.receive(at(who), &Message::empty(Kind::Reset, asked.id));
            continue;
        }
        if how.is_multiple_of(8) {
            let kind = if how < 128 {
                Kind::Reset
            } else {
                Kind::Acknowledgement
            };
            bench.receive(at(who), &Message::empty(kind, asked.id));
        }
        if how % 8 == 1 {
            continue;
        }
        let codes = [Code::CONTENT, Code::CHANGED, Code::NOT_FOUND, Code::CONTINUE];
        let code = match asked.code {
            Code::GET | Code::FETCH => codes[usize::from(how % 7 == 1) * 2],
            _ if asked.options.has(number::BLOCK1) => codes[3 - 2 * usize::from(how.is_multiple_of(3))],
            _ => codes[1 + usize::from(how % 5 == 1)],
        };
        let mut message = Message::new(Kind::Acknowledgement, code, asked.id, asked.token);
        if how.is_multiple_of(4) {
            (message.kind, message.id) = (Kind::Confirmable, u16::from(how) << 4 | asked.id & 15);
        }
        if asked.options.uint(number::OBSERVE) == Some(0) {
            message.options.push_uint(number::OBSERVE, 1);
        }
        if let Some(Ok(block)) = Block::of(&asked.options, number::BLOCK1) {
            block.put(&mut message.options, number::BLOCK1);
        }
        message.payload = (how % 4).to_string().into();
        let block = Block::of(&asked.options, number::BLOCK2).and_then(Result::ok);
        if code == Code::CONTENT && (block.is_some() || how % 16 == 2) {
            let number = block.map_or(0, |block| block.number);
            let (more, szx) = (number < u32::from(how % 3), 0);
            Block { number, more, szx }.put(&mut message.options, number::BLOCK2);
            message.payload = "0123456789abcdef".into();
        }
        // It may come from elsewhere by now.
        let from = if how % 32 == 3 { who % 3 + 1 } else { who };
        bench.receive(at(from), &message);
    }
}

fn command(bench: &mut Bench, n: u8, kind: u8) {
    let endpoint = format!("dev{n}");
    let paths = ["/3303/0/5700", "/3/0", "/5/0/3"];
    let path = paths[usize::from(kind) % 3];
    let mut data = json!({"path": path, "paths": [path, "/3/0/9"], "value": "x", "package": "v2",
        "content": [{"path": "/3/0/14", "value": "y"}]});
    if kind.is_multiple_of(7) {
        data["expiry"] = (kind / 4).into();
    }
    let kinds = [
        "read",
        "observe",
        "observe",
        "cancel-observe",
        "observe-composite",
        "cancel-observe-composite",
        "update-firmware",
        "update-firmware",
        "write",
        "discover",
        "delete",
        "nonsense",
    ];
    bench.command(&endpoint, kinds[usize::from(kind) % kinds.len()], data);
}

#[test]
fn anything_may_happen() {
    let packages = |are_there: bool| {
        let files = [("v2".to_owned(), Bytes::from(vec![7; 200]))];
        Arc::new(Files::from_iter(files.into_iter().filter(|_| are_there)))
    };
    fuzz(
        |rng| (0..rng.usize(1..80)).map(|_| happens(rng)).collect::<Vec<_>>(),
        |all| {
            let mut bench = Bench::with(|settings| {
                settings.transmission.amplification_limit = 3 * (all.len() % 2) as u8;
                (settings.max_logins, settings.max_observations) = (2, 3);
                (settings.max_commands, settings.max_block_bytes) = (2, 64);
                settings.awake_window = 20 * SECOND;
                settings.command_expiry = 500 * SECOND;
                settings.max_lifetime = 1_000 * SECOND;
                settings.bootstrap.clients = vec![BootstrapClient {
                    endpoint: "*".into(),
                    delete: vec!["/".into()],
                    servers: Vec::new(),
                    resources: Vec::new(),
                    format: None,
                }];
                if all.len().is_multiple_of(3) {
                    settings.auto_observe = vec!["/3303".into()];
                    settings.firmware_uri = Some("coap://gateway.example".into());
                }
                settings.supplies.store(&packages(true));
            });
            bench.rule(Action::Publish, "lwm2m/dev1/#", AccessDecision::Ask);
            if all.len().is_multiple_of(5) {
                bench.rule(Action::Subscribe, "lwm2m/dev0/dn/#", AccessDecision::Ask);
            }
            for happening in all {
                match happening {
                    Happens::Says(who, kind, mutations, seed) => {
                        let message = message(&mut bench, *kind);
                        let mut rng = Rng::with_seed(*seed);
                        let mut bytes = BytesMut::new();
                        let id = rng.u16(..64);
                        encode(&Message { id, ..message }, &mut bytes).unwrap();
                        let mut bytes = bytes.to_vec();
                        for _ in 0..*mutations {
                            mutate(
                                &mut bytes,
                                &[0xFF, 0x60, 0x61, 0x0D, 0x0E, 0x40, 0x50, 0x70],
                                &mut rng,
                            );
                        }
                        bench.datagram(at(*who), bytes.into());
                    }
                    Happens::Answers(who, how) => answer(&mut bench, *who, *how),
                    Happens::Command(n, kind) => command(&mut bench, *n, *kind),
                    Happens::Time(ms) => bench.advance(Duration::from_millis(*ms)),
                    Happens::Withheld(withheld) => {
                        bench.withheld = *withheld;
                        bench.run();
                    }
                    Happens::Silent(true) => bench.access.silent = true,
                    Happens::Silent(false) => bench.speak(),
                    Happens::Refuses(refuses) => {
                        bench.access.refusal = refuses.then_some(AuthRefusal::Banned);
                    }
                    Happens::Denies(denies) => bench.access.denies = *denies,
                    Happens::User(who, named) => match named {
                        true => drop(bench.access.users.insert(at(*who), "ann")),
                        false => drop(bench.access.users.remove(&at(*who))),
                    },
                    Happens::Kick(n) => drop(bench.try_kick(&format!("dev{n}"))),
                    Happens::Restart => bench.restart(),
                    Happens::Packages(are_there) => {
                        bench.settings.supplies.store(&packages(*are_there));
                        bench.server.change(bench.settings.clone(), Arc::default());
                    }
                }
            }
            bench.withheld = false;
            bench.run();
            for _ in 0..20 {
                bench.speak();
            }
            bench.advance(2_000 * SECOND);
            for who in 1..4 {
                bench.sent(at(who));
            }
            bench.is_forgotten();
        },
    );
}
