//! `$SYS`: what the gateway tells of itself on the bus, under EMQ 2's names and, if wanted, under mosquitto's.

use crate::api::is_tail;
use crate::config::{Config, SysSettings};
use crate::metrics::{Counters, Snapshot};
use crate::mosquitto::Mosquitto;
use crate::recovery::Step;
use bytes::Bytes;
use headgate_auth::LoginStats;
use headgate_bus::handle::{Hub, Notices};
use headgate_bus::{DropReason, MemoryStats, Notice};
use headgate_model::gate::is_reserved;
use headgate_model::store::StoreStats;
use headgate_model::{Message, Qos, Topic};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// What is published, and how.
pub(crate) struct Sys {
    hub: Hub,
    counters: Counters,
    /// The gateway's name, under which it tells.
    node: String,
    settings: SysSettings,
    config: watch::Receiver<Arc<Config>>,
    mosquitto: Mosquitto,
    /// The way out that was told last.
    wan: Option<String>,
}

/// What happens and is not told yet, at most: as much as comes when a large fleet loses its network. The rest counts as `notices/dropped`.
pub(crate) const MAX_NOTICES: usize = 16_384;
/// How often the scheduler is looked at.
const WATCH: Duration = Duration::from_secs(1);
/// EMQ's `sysmon.long_schedule`: a task that runs so much later than it should is worth a word.
const LONG_SCHEDULE: Duration = Duration::from_millis(240);

/// What is retained under the gateway's name.
const ABOUT: [&str; 4] = ["version", "uptime", "datetime", "sysdescr"];
/// The same of the way out, while there is one.
const WAN: &str = "system/wan";

impl Sys {
    /// Nothing is published before [`Sys::run`].
    pub(crate) fn new(counters: Counters, config: watch::Receiver<Arc<Config>>) -> Self {
        let (settings, node) = (config.borrow().sys.clone(), config.borrow().node.clone());
        Self {
            hub: counters.hub().clone(),
            counters,
            node,
            settings,
            config,
            mosquitto: Mosquitto::default(),
            wan: None,
        }
    }

    /// Publishes what happens as it comes and the rest in intervals, for ever.
    pub(crate) async fn run(mut self, mut notices: Notices) {
        let mut period = self.period();
        let mut config = self.config.clone();
        let mut next = tokio::time::Instant::now();
        let mut watch = next + WATCH;
        loop {
            tokio::select! {
                seen = notices.next() => match seen {
                    Some(notice) => self.notice(&notice),
                    None => return,
                },
                Ok(()) = config.changed() => {
                    let (new, node) = {
                        let config = config.borrow_and_update();
                        (config.sys.clone(), config.node.clone())
                    };
                    if node != self.node {
                        self.take_back();
                        self.node = node;
                        next = tokio::time::Instant::now();
                    }
                    if new != self.settings {
                        self.settings = new;
                        period = self.period();
                        next = tokio::time::Instant::now();
                    }
                }
                () = tokio::time::sleep_until(watch) => {
                    self.watch(watch.elapsed());
                    self.tell_wan();
                    watch = tokio::time::Instant::now() + WATCH;
                }
                () = tokio::time::sleep_until(next), if period < Duration::MAX => {
                    self.publish_all();
                    next += period;
                }
            }
        }
    }

    /// How often all is published.
    fn period(&self) -> Duration {
        match self.settings.interval {
            Duration::ZERO => Duration::MAX,
            interval => interval,
        }
    }

    /// EMQ 2: `clients/{clientid}/connected` and `…/disconnected`; `sysmon/message_loop` in its spirit.
    fn notice(&self, notice: &Notice) {
        let ts = unix_time();
        if let Notice::Connected { client, .. } = notice
            && !is_reserved(client.as_str())
        {
            self.counters.access().note_connected(client);
        }
        let (client, what, body) = match notice {
            Notice::Loop { client, topic, path } => {
                tracing::warn!(%client, %topic, path, "a message went in a ring of gateways, or through too many of them");
                let body =
                    json!({ "clientid": client.as_str(), "topic": topic.as_str(), "path": path, "ts": ts });
                let body = body.to_string();
                return self.publish("sysmon/message_loop", body, Qos::AtMostOnce, false);
            }
            Notice::TakenOver { client, old, new } => {
                let (client, user) = (client.as_str(), new.username.as_deref());
                let (peer, old) = (new.address(), old.address());
                return tracing::info!(
                    client,
                    user,
                    peer,
                    old,
                    "a new connection has this client's session: the client came back, or two have one identifier"
                );
            }
            Notice::Connected { client, .. } | Notice::Disconnected { client, .. }
                if !self.settings.presence || is_tail(client.as_str()) =>
            {
                return;
            }
            Notice::Connected { client, presence } => {
                let body = json!({
                    "clientid": client.as_str(),
                    "username": presence.username.as_deref(),
                    "ipaddress": presence.peer.to_string(),
                    "clean_sess": presence.clean_start,
                    "protocol": presence.version,
                    "proto": presence.protocol.name,
                    "keepalive": presence.keep_alive,
                    "connack": 0,
                    "ts": ts,
                });
                (client, "connected", body)
            }
            Notice::Disconnected {
                client,
                presence,
                reason,
            } => {
                let body = json!({
                    "clientid": client.as_str(),
                    "username": presence.username.as_deref(),
                    "proto": presence.protocol.name,
                    "reason": reason.as_str(),
                    "ts": ts,
                });
                (client, "disconnected", body)
            }
        };
        let qos = Qos::from_u8(self.settings.presence_qos).unwrap_or_default();
        self.publish(
            &format!("clients/{}/{what}", topic_level(client.as_str())),
            body.to_string(),
            qos,
            false,
        );
    }

    /// Which way out is taken, when that changes. It is retained.
    fn tell_wan(&mut self) {
        let active = self.counters.active_wan();
        if active != self.wan && self.period() < Duration::MAX {
            self.wan = active;
            let name = self.wan.clone().unwrap_or_default();
            self.publish(WAN, name, Qos::AtMostOnce, true);
        }
    }

    /// Says when the gateway's tasks are held up. EMQ 2: `sysmon/long_schedule`.
    fn watch(&self, late: Duration) {
        if late >= LONG_SCHEDULE {
            let text = format!("{} ms", late.as_millis());
            self.publish("sysmon/long_schedule", text, Qos::AtMostOnce, false);
        }
    }

    fn publish_all(&mut self) {
        let now = self.counters.snapshot();
        self.send("$SYS/brokers", self.node.clone(), Qos::AtMostOnce, true);
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let uptime = uptime_words(now.now.0 / 1_000);
        let about = [
            version,
            uptime,
            datetime(unix_time()),
            "Headgate IoT gateway".to_owned(),
        ];
        for (name, value) in ABOUT.into_iter().zip(about) {
            self.publish(name, value, Qos::AtMostOnce, true);
        }
        self.publish_stats(&now);
        self.publish_memory(&now.bus.memory);
        self.publish_store_stats(&now.store);
        for (name, total) in &now.totals {
            self.publish_metric(name, *total);
        }
        let (received, sent) = now.messages();
        self.publish_metric("messages/received", received);
        self.publish_metric("messages/sent", sent);
        self.publish_metric("messages/retained", now.bus.retained as u64);
        self.publish_metric("messages/dropped", now.bus.dropped.iter().sum());
        self.publish_metric("notices/dropped", now.notices_dropped);
        for reason in DropReason::ALL {
            let name = format!("messages/dropped/{}", reason.name());
            self.publish_metric(&name, now.bus.dropped[reason as usize]);
        }
        for socket in &now.datagrams {
            for (counter, value) in socket.counters.iter().chain(&socket.gauges) {
                let topic = format!("{}/{counter}", socket.name);
                self.publish(&topic, value.to_string(), Qos::AtMostOnce, false);
            }
        }
        self.publish_machine(&now);
        self.publish_logins(&now.logins);
        for bridge in &now.bridges {
            for (name, value) in bridge.counters() {
                let topic = format!("bridges/{}/{name}", bridge.name);
                self.publish(&topic, value, Qos::AtMostOnce, false);
            }
        }
        if self.settings.mosquitto {
            for (name, value) in self.mosquitto.tree(&now) {
                self.send(&format!("$SYS/broker/{name}"), value, Qos::AtMostOnce, true);
            }
        }
    }

    /// Nothing is retained any more under the gateway's name.
    fn take_back(&mut self) {
        for name in ABOUT {
            self.publish(name, String::new(), Qos::AtMostOnce, true);
        }
        if self.wan.take().is_some() {
            self.publish(WAN, String::new(), Qos::AtMostOnce, true);
        }
    }

    fn publish_machine(&self, now: &Snapshot) {
        let tell = |name: &str, value: String| {
            self.publish(&format!("system/{name}"), value, Qos::AtMostOnce, false);
        };
        for (zone, degrees) in &now.machine.temperatures {
            tell(
                &format!("temperature/{}", topic_level(zone)),
                format!("{degrees:.1}"),
            );
        }
        for (interface, up) in &now.machine.networks {
            let state = if *up { "up" } else { "down" };
            tell(&format!("network/{}", topic_level(interface)), state.to_owned());
        }
        if let Some(load) = now.machine.load {
            tell("load", format!("{load:.2}"));
        }
        if let Some((free, all)) = now.disk {
            tell("disk/free", free.to_string());
            tell("disk/size", all.to_string());
        }
        tell(
            "disk/written",
            (now.store.journal_bytes + now.store.checkpoint_bytes).to_string(),
        );
        if let Some(tenths) = now.machine.flash_life_used {
            tell("disk/life_used", format!("{}", f64::from(tenths) / 10.0));
        }
        if let Some((total, available)) = now.machine.memory_total.zip(now.machine.memory_available) {
            tell("memory/total", total.to_string());
            tell("memory/available", available.to_string());
        }
        if let Some(resident) = now.process.resident {
            tell("memory/gateway", resident.to_string());
        }
        if let Some(synchronized) = now.timekeeping.synchronized {
            tell("clock/synchronized", synchronized.to_string());
        }
        if let Some(error) = now.timekeeping.max_error_seconds {
            tell("clock/max_error", format!("{error:.3}"));
        }
        let believed = !now.alarms.iter().any(|(id, _)| id == "clock_unset");
        tell("clock/believed", believed.to_string());
        for bridge in &now.bridges {
            tell(&format!("uplink/{}", bridge.name), bridge.state.to_owned());
        }
        if let Some(recovery) = &now.recovery {
            tell("recovery/rounds", recovery.rounds.to_string());
            let next = recovery.next.map_or("", Step::name);
            tell("recovery/next", next.to_owned());
        }
        for wan in &now.wans {
            tell(&format!("wan/{}", wan.name), wan.state.name().to_owned());
        }
        if let Some(system) = &now.system {
            tell("slot", system.slot.clone());
            tell("slot/version", system.version.clone());
            tell("slot/state", system.state.name().to_owned());
        }
    }

    fn publish_logins(&self, logins: &LoginStats) {
        for (name, value) in [
            ("checked", logins.checked),
            ("remembered", logins.remembered),
            ("busy", logins.busy),
            ("left", logins.left),
            ("waiting", logins.waiting),
        ] {
            self.publish_metric(&format!("logins/{name}"), value);
        }
    }

    fn publish_memory(&self, memory: &MemoryStats) {
        for (name, bytes) in [
            ("used", memory.used()),
            ("max", memory.max),
            ("messages", memory.messages),
            ("retained", memory.retained),
            ("delayed", memory.delayed),
            ("sessions", memory.sessions),
            ("subscriptions", memory.subscriptions),
            ("queue_entries", memory.entries),
            ("buffers", memory.buffers),
        ] {
            self.publish_metric(&format!("memory/{name}"), bytes as u64);
        }
    }

    fn publish_stats(&self, now: &Snapshot) {
        let (bus, peaks) = (&now.bus, &now.peaks);
        for (name, count, peak) in [
            ("clients", bus.clients, peaks.clients),
            ("sessions", bus.sessions, peaks.sessions),
            ("topics", bus.filters, peaks.filters),
            ("routes", bus.filters, peaks.filters),
            ("subscribers", bus.subscriptions, peaks.subscriptions),
            ("subscriptions", bus.subscriptions, peaks.subscriptions),
            ("retained", bus.retained, peaks.retained),
        ] {
            for (kind, value) in [("count", count), ("max", peak)] {
                let topic = format!("stats/{name}/{kind}");
                self.publish(&topic, value.to_string(), Qos::AtMostOnce, false);
            }
        }
    }

    /// What the store does and holds; what it writes is what the flash must bear.
    fn publish_store_stats(&self, stats: &StoreStats) {
        let per_byte = |bytes: u64| {
            let written = bytes as f64 / stats.payload_bytes.max(1) as f64;
            format!("{written:.2}")
        };
        let written = stats.journal_bytes + stats.checkpoint_bytes;
        for (name, value) in [
            ("commits", stats.commits.to_string()),
            ("messages", stats.messages.to_string()),
            ("bytes/payload", stats.payload_bytes.to_string()),
            ("bytes/journal", stats.journal_bytes.to_string()),
            ("bytes/checkpoints", stats.checkpoint_bytes.to_string()),
            ("bytes/per_payload_byte", per_byte(written)),
            ("bytes/disk", stats.disk_bytes.to_string()),
            ("checkpoints", stats.checkpoints.to_string()),
            ("queued", stats.queued.to_string()),
            ("longest_ms", stats.longest.as_millis().to_string()),
        ] {
            self.publish(&format!("stats/store/{name}"), value, Qos::AtMostOnce, false);
        }
    }

    fn publish_metric(&self, name: &str, value: u64) {
        self.publish(
            &format!("metrics/{name}"),
            value.to_string(),
            Qos::AtMostOnce,
            false,
        );
    }

    fn publish(&self, name: &str, payload: String, qos: Qos, retain: bool) {
        self.send(
            &format!("$SYS/brokers/{}/{name}", self.node),
            payload,
            qos,
            retain,
        );
    }

    fn send(&self, topic: &str, payload: String, qos: Qos, retain: bool) {
        let Ok(topic) = Topic::try_from(topic) else { return };
        self.hub.publish_now(Message {
            qos,
            retain,
            ..Message::new(topic, Bytes::from(payload))
        });
    }
}

/// A name as one level of a topic: what would change the topic's shape is written as its code.
pub(crate) fn topic_level(name: &str) -> String {
    let mut level = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '/' | '+' | '#' | '%' => level.push_str(&format!("%{:02X}", u32::from(c))),
            c => level.push(c),
        }
    }
    level
}

/// EMQ 2's form: `1 days,2 hours, 3 minutes, 4 seconds`.
pub(crate) fn uptime_words(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    let mut words = String::new();
    for (n, unit) in [(days, "days"), (hours, "hours"), (minutes, "minutes")] {
        if n > 0 || !words.is_empty() {
            words.push_str(&format!("{n} {unit}, "));
        }
    }
    format!("{words}{} seconds", seconds % 60)
}

/// What the system's clock says, in seconds; the gateway's own time only moves forward and may differ.
pub(crate) fn unix_time() -> u64 {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    since_1970.map_or(0, |time| time.as_secs())
}

/// `2026-11-22 21:17:37`, UTC.
pub(crate) fn datetime(seconds: u64) -> String {
    let time = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
    humantime::format_rfc3339_seconds(time)
        .to_string()
        .replace('T', " ")
        .replace('Z', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_people_write_them() {
        assert_eq!(datetime(0), "1970-01-01 00:00:00");
        assert_eq!(datetime(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(datetime(1_795_382_257), "2026-11-22 21:17:37");
    }

    #[test]
    fn uptime_reads_as_in_emq() {
        assert_eq!(uptime_words(59), "59 seconds");
        assert_eq!(uptime_words(3_661), "1 hours, 1 minutes, 1 seconds");
        assert_eq!(uptime_words(90_061), "1 days, 1 hours, 1 minutes, 1 seconds");
    }

    #[test]
    fn a_client_id_stays_one_level() {
        assert_eq!(topic_level("a/b+#%"), "a%2Fb%2B%23%25");
    }
}
