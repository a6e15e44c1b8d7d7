//! emq_lwm2m: emq_lwm2m.schema of EMQ 2.3, and the keys that it has had since 3.0.

use super::Source;
use super::values::{address, number, time};
use crate::draft::Of;
use crate::value::{Table, Value};

const LWM2M: &str = "emq_lwm2m";
const PLACE: &str = "lwm2m.udp-lwm2m";
/// Topics of one client; each is a setting of the same name.
const TOPICS: [&str; 5] = ["command", "response", "notify", "register", "update"];

impl Source<'_> {
    pub(super) fn lwm2m(&mut self) {
        if !self.counts(LWM2M) {
            return;
        }
        let mut table = Table::default();
        table.set("name", "udp-lwm2m");
        match self.said(LWM2M, "lwm2m.port") {
            Some((of, text)) => match address(&text) {
                Some(bind) => self.draft.set_in(of, &mut table, PLACE, "bind", bind.to_string()),
                None => {
                    let because = "it is no address with a port, nor a port, and the server is left out";
                    self.draft.not_taken(of, because, "Write [[lwm2m]].");
                    return self.lwm2m_is_left_out();
                }
            },
            None => table.set("bind", "0.0.0.0:5783"),
        }
        if let Some((of, _)) = self.said(LWM2M, "lwm2m.xml_dir") {
            let folder = self.path(of).display().to_string();
            self.draft
                .set_in(of, &mut table, PLACE, "gateway.objects", folder);
        }
        for (key, setting) in [
            ("lwm2m.lifetime_min", "gateway.min_lifetime"),
            ("lwm2m.lifetime_max", "gateway.max_lifetime"),
        ] {
            if let Some((of, _)) = self.said(LWM2M, key)
                && let Some(time) = time(&mut self.draft, of)
            {
                self.draft.set_in(of, &mut table, PLACE, setting, time);
            }
        }
        if let Some((of, _)) = self.said(LWM2M, "lwm2m.qmode_time_window")
            && let Some(seconds) = number(&mut self.draft, of, i64::from(u32::MAX))
        {
            match seconds {
                0 => self.draft.not_taken(
                    of,
                    "a device that sleeps listens for some time",
                    "Set gateway.awake_window.",
                ),
                _ => {
                    let setting = "gateway.awake_window";
                    self.draft
                        .set_in(of, &mut table, PLACE, setting, format!("{seconds}s"));
                }
            }
        }
        if let Some((of, text)) = self.said(LWM2M, "lwm2m.auto_observe") {
            self.auto_observe(of, &text, &mut table);
        }
        self.topics(&mut table);
        self.draft.config.push("lwm2m", table);
    }

    fn lwm2m_is_left_out(&mut self) {
        let all = self.plugins.files.get(LWM2M).map(|conf| conf.every());
        for (_, of) in all.into_iter().flatten() {
            if !self.draft.has_fate(of) {
                self.draft.meaningless(of, "its server is left out");
            }
        }
    }

    fn auto_observe(&mut self, of: Of, text: &str, table: &mut Table) {
        match text {
            "off" | "false" => self.draft.is_so(of),
            "on" | "true" => self.draft.not_taken(
                of,
                "what is observed by itself has to be named",
                "Set gateway.auto_observe = [\"/3\", ...].",
            ),
            paths => {
                let paths = paths.split(',').map(|path| Value::from(path.trim()));
                let paths = Value::List(paths.collect());
                self.draft.set_in(of, table, PLACE, "gateway.auto_observe", paths);
            }
        }
    }

    /// All topics of a client begin alike here, with its endpoint name; EMQ 2.3 had two that could not be changed.
    fn topics(&mut self, table: &mut Table) {
        let mount = self.said(LWM2M, "lwm2m.mountpoint");
        let before = mount.as_ref().map_or("", |(_, text)| text).to_owned();
        let said = TOPICS.map(|name| self.said(LWM2M, &format!("lwm2m.topics.{name}")));
        if mount.is_none() && said.iter().all(Option::is_none) {
            let remark = "applications of emq_lwm2m command devices at lwm2m/{ep}/command, in words of EMQ 2: here it is lwm2m/{ep}/dn/#, with those of EMQX 5 (docs/lwm2m.md)";
            return self.draft.remark(remark);
        }
        let whole = |text: &str| format!("{before}{text}").replace("%e", "{ep}");
        // What comes before the endpoint name, and it.
        let texts = said.iter().flatten().map(|(_, text)| whole(text));
        let first = texts.chain([whole("")]).next().unwrap_or_default();
        let end = first.find("{ep}").map(|at| at + "{ep}".len());
        let prefix = end.map(|end| first[..end].to_owned());
        let prefix = prefix.filter(|prefix| !prefix.contains(['%', '+', '#']));
        let (because, todo) = (
            "here all topics begin alike, with the endpoint name, and have no address in them",
            "Set gateway.topics.",
        );
        let setting = "gateway.topics.prefix";
        match (mount, &prefix) {
            (Some((of, _)), _) if before.is_empty() => self.draft.is_so(of),
            (Some((of, _)), Some(prefix)) => self.draft.set_in(of, table, PLACE, setting, prefix.clone()),
            (Some((of, _)), None) => self.draft.not_taken(of, because, todo),
            (None, _) => {}
        }
        if before.is_empty()
            && let Some(prefix) = &prefix
        {
            table.set(setting, prefix.clone());
        }
        for (name, said) in TOPICS.into_iter().zip(said) {
            let Some((of, text)) = said else { continue };
            let whole = whole(&text);
            let rest = prefix
                .as_ref()
                .and_then(|prefix| whole.strip_prefix(prefix.as_str()));
            match rest.and_then(|rest| rest.strip_prefix('/')) {
                Some(part) if !part.is_empty() && !part.contains('%') => {
                    // EMQ 2 reads a comment where `dn/#` has its wildcard, EMQ 3 does not: what is left shows that one was meant.
                    let wildcard = if part.ends_with('/') { "#" } else { "" };
                    let (setting, topic) = (format!("gateway.topics.{name}"), format!("{part}{wildcard}"));
                    self.draft.set_in(of, table, PLACE, &setting, topic);
                }
                _ => self.draft.not_taken(of, because, todo),
            }
        }
    }
}
