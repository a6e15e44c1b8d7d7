//! The gateway as a machine: what it is, what it has open, and what it was like lately.

use super::clients::LOOKED_AT;
use super::routes::Routes;
use super::server::{Answer, Control, Done, Failure};
use crate::starts::{Start, Why};
use crate::sys::unix_time;
use crate::timekeeping::Timekeeping;
use crate::trends::{SERIES, Span, TrendView};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Json;
use headgate_admin::Role::{Administrator, Viewer};
use headgate_bus::{ClientState, MAX_PAGE};
use headgate_model::gate::is_reserved;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

pub(super) fn routes() -> Routes {
    Routes::default()
        .get(
            Viewer,
            "/system",
            "Says what the gateway and its machine are like.",
            system,
        )
        .get(
            Viewer,
            "/overview",
            "Counts who is connected by protocol, and gives rates.",
            overview,
        )
        .get(
            Viewer,
            "/history",
            "Gives what the gateway was like in the last day, or in thirty.",
            history,
        )
        .get(
            Viewer,
            "/system/starts",
            "Says why the machine, or the gateway alone, was started, the newest start first.",
            starts,
        )
        .post(
            Administrator,
            "/restart",
            "Stops the gateway as its service manager would, and begins anew.",
            restart,
        )
}

/// The gateway and its machine.
#[derive(Serialize, JsonSchema)]
pub(super) struct System {
    node: String,
    version: &'static str,
    uptime_seconds: u64,
    /// Another one after each start.
    run: String,
    /// Seconds since 1970.
    now: u64,
    /// In which the web UI shows times; empty: that of the browser.
    time_zone: String,
    clock: ClockState,
    cpu: Cpu,
    memory: Memory,
    disk: Disk,
    temperatures: Vec<Temperature>,
    networks: Vec<NetworkState>,
    /// Where somebody can connect.
    ports: Vec<Port>,
    data_dir: String,
    configuration: String,
}

#[derive(Serialize, JsonSchema)]
struct ClockState {
    /// The system's clock says a time that is believed.
    believed: bool,
    #[serde(flatten)]
    kept: Timekeeping,
}

#[derive(Serialize, JsonSchema)]
struct Cpu {
    /// The load of the last minute.
    load_1m: Option<f64>,
    cores: usize,
    /// Seconds of processors that the gateway has used.
    process_seconds: Option<f64>,
}

#[derive(Serialize, JsonSchema)]
struct Memory {
    total_bytes: Option<u64>,
    available_bytes: Option<u64>,
    process_bytes: Option<u64>,
    /// What counts in the gateway's ledger, and may.
    ledger_bytes: usize,
    max_bytes: Option<usize>,
}

#[derive(Serialize, JsonSchema)]
struct Disk {
    total_bytes: Option<u64>,
    free_bytes: Option<u64>,
    store_bytes: u64,
    /// Bytes that the store has written since the start: what flash memory must bear.
    written_bytes: u64,
    /// How worn the flash memory is, of an eMMC that says so: tenths of its life that are used up.
    life_used_tenths: Option<u8>,
}

#[derive(Serialize, JsonSchema)]
struct Temperature {
    name: String,
    celsius: f64,
}

#[derive(Serialize, JsonSchema)]
struct NetworkState {
    name: String,
    up: bool,
}

/// Where somebody can connect.
#[derive(Serialize, JsonSchema)]
struct Port {
    listener: String,
    protocol: String,
    kind: &'static str,
    address: String,
    tls: bool,
    /// Nobody but this machine reaches it.
    loopback: bool,
}

/// Time for the answer to go out.
const BEFORE_RESTART: Duration = Duration::from_millis(200);

async fn restart(State(control): State<Control>) -> Answer<Done> {
    let could = tokio::task::block_in_place(|| control.live.can_start());
    could.map_err(|fault| {
        let what = format!("the gateway could not be started again: {fault}");
        Failure(StatusCode::CONFLICT, what)
    })?;
    if !control.restart.can_be() {
        let what = "the program of the gateway is not where it was: it could not be started again";
        return Err(Failure(StatusCode::CONFLICT, what.into()));
    }
    let rest = control.backups.rest()?;
    tokio::spawn(async move {
        tokio::time::sleep(BEFORE_RESTART).await;
        control.starts.expect(Why::Restart);
        control.restart.ask();
        // None begins any more.
        rest.into_iter().for_each(OwnedSemaphorePermit::forget);
    });
    Ok(Json(Done {}))
}

/// Starts that are known.
#[derive(Serialize, JsonSchema)]
struct StartList {
    rows: Vec<Start>,
}

async fn starts(State(control): State<Control>) -> Json<StartList> {
    Json(StartList {
        rows: control.starts.all(),
    })
}

async fn system(State(control): State<Control>) -> Json<System> {
    let snapshot = control.counters.snapshot();
    let config = control.live.config().await;
    let (file, _) = control.live.file().await;
    let standing = control.alarms.lists().0;
    let ports = control.live.listeners().views().into_iter().map(|view| Port {
        tls: ["tls", "wss", "dtls"].contains(&view.kind) || view.tls,
        loopback: is_loopback(&view.address),
        listener: view.name,
        protocol: view.protocol,
        kind: view.kind,
        address: view.address,
    });
    Json(System {
        node: snapshot.node.clone(),
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: snapshot.now.0 / 1_000,
        run: control.restart.run().to_owned(),
        now: unix_time(),
        time_zone: config.time_zone.clone(),
        clock: ClockState {
            believed: !standing.iter().any(|alarm| alarm.id == "clock_unset"),
            kept: snapshot.timekeeping,
        },
        cpu: Cpu {
            load_1m: snapshot.machine.load,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            process_seconds: snapshot.process.cpu_seconds,
        },
        memory: Memory {
            total_bytes: snapshot.machine.memory_total,
            available_bytes: snapshot.machine.memory_available,
            process_bytes: snapshot.process.resident,
            ledger_bytes: snapshot.bus.memory.used(),
            max_bytes: Some(snapshot.bus.memory.max).filter(|max| *max < usize::MAX),
        },
        disk: Disk {
            total_bytes: snapshot.disk.map(|(_, all)| all),
            free_bytes: snapshot.disk.map(|(free, _)| free),
            store_bytes: snapshot.store.disk_bytes,
            written_bytes: snapshot.store.journal_bytes + snapshot.store.checkpoint_bytes,
            life_used_tenths: snapshot.machine.flash_life_used,
        },
        temperatures: snapshot
            .machine
            .temperatures
            .into_iter()
            .map(|(name, celsius)| Temperature { name, celsius })
            .collect(),
        networks: snapshot
            .machine
            .networks
            .into_iter()
            .map(|(name, up)| NetworkState { name, up })
            .collect(),
        ports: ports.collect(),
        data_dir: config.data_dir.display().to_string(),
        configuration: file.display().to_string(),
    })
}

fn is_loopback(address: &str) -> bool {
    match address.parse::<SocketAddr>() {
        Ok(address) => address.ip().to_canonical().is_loopback(),
        // A Unix socket, or a serial line.
        Err(_) => true,
    }
}

/// Who is connected, and how much goes through.
#[derive(Serialize, JsonSchema)]
pub(super) struct Overview {
    /// Connected clients by what they speak.
    clients_by_protocol: BTreeMap<&'static str, usize>,
    /// Sessions whose client sleeps.
    asleep: usize,
    /// Sessions whose client is away.
    away: usize,
    /// Not all sessions were looked at: there are too many for one question.
    partial: bool,
    rates: Rates,
}

/// A second, in the last minute; `null` in the first.
#[derive(Serialize, JsonSchema)]
struct Rates {
    received_per_second: Option<f32>,
    sent_per_second: Option<f32>,
    received_bytes_per_second: Option<f32>,
    sent_bytes_per_second: Option<f32>,
    dropped_per_second: Option<f32>,
    store_bytes_per_second: Option<f32>,
}

async fn overview(State(control): State<Control>) -> Json<Overview> {
    let mut overview = Overview {
        clients_by_protocol: BTreeMap::new(),
        asleep: 0,
        away: 0,
        partial: false,
        rates: rates(&control),
    };
    let (mut after, mut looked_at) = (None::<String>, 0);
    loop {
        let page = control.hub.clients(after.as_deref(), MAX_PAGE);
        looked_at += page.rows.len();
        // What the gateway keeps for bridges, observations and subscriptions is no client of its own.
        let clients = page.rows.iter().filter(|info| !is_reserved(info.client.as_str()));
        for info in clients {
            match info.state {
                ClientState::Away => overview.away += 1,
                ClientState::Asleep | ClientState::Awake | ClientState::FallingAsleep => overview.asleep += 1,
                ClientState::Opening | ClientState::Online | ClientState::Leaving => {
                    *overview
                        .clients_by_protocol
                        .entry(info.presence.protocol.name)
                        .or_default() += 1;
                }
            }
        }
        after = page.next.map(|next| next.as_str().to_owned());
        if after.is_none() {
            return Json(overview);
        }
        if looked_at >= 10 * LOOKED_AT {
            overview.partial = true;
            return Json(overview);
        }
        tokio::task::yield_now().await;
    }
}

fn rates(control: &Control) -> Rates {
    let rates = control.trends.rates();
    let rate = |name| rates.get(name).copied().flatten();
    Rates {
        received_per_second: rate("messages_received"),
        sent_per_second: rate("messages_sent"),
        received_bytes_per_second: rate("bytes_received"),
        sent_bytes_per_second: rate("bytes_sent"),
        dropped_per_second: rate("messages_dropped"),
        store_bytes_per_second: rate("store_written"),
    }
}

/// Which part of the past.
#[derive(Deserialize, JsonSchema)]
struct Wished {
    /// `24h` or `30d`.
    #[serde(default)]
    span: Span,
    /// Names with commas; left out, all.
    series: Option<String>,
}

async fn history(State(control): State<Control>, Query(wished): Query<Wished>) -> Answer<TrendView> {
    let series: Vec<&str> = match &wished.series {
        Some(series) => series.split(',').collect(),
        None => Vec::new(),
    };
    if let Some(unknown) = series.iter().find(|name| !SERIES.contains(name)) {
        let what = format!("`{unknown}` is not kept, allowed is {}", SERIES.join(", "));
        return Err(Failure(StatusCode::UNPROCESSABLE_ENTITY, what));
    }
    Ok(Json(control.trends.view(wished.span, &series)))
}
