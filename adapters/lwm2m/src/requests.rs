//! Requests of clients: registration, update, its end, and what they send by themselves. LwM2M Core 1.1 §6.2, §6.4.6

use crate::core::{Core, Out};
use crate::counters::Lwm2mMetric;
use crate::device::State;
use crate::report;
use crate::request;
use bytes::Bytes;
use headgate_coap::blockwise::cut;
use headgate_coap::discovery::{self, Offer};
use headgate_coap::{Requester, szx_allowed};
use headgate_coap_codec::{Block, Code, Kind, Message, Options, format, number};
use headgate_lwm2m_codec::Path;
use headgate_model::access::Wanted;
use headgate_model::datagram::Address;
use headgate_model::{CloseReason, Instant, UserLimit};
use serde_json::json;
use std::sync::Arc;

/// What one client sends and is not safe yet: so many wait for that at once.
const MOST_AWAITED: usize = 32;

/// What can be found here.
const OFFERS: [Offer; 4] = [
    offer("/rd", "core.rd"),
    offer("/dp", ""),
    offer("/bs", ""),
    offer("/bspack", ""),
];

const fn offer(path: &'static str, kind: &'static str) -> Offer {
    Offer {
        path,
        kind,
        attributes: "",
    }
}

/// Critical options that are understood. RFC 7252 §5.4.1
pub(crate) fn is_known(option: u16) -> bool {
    use number::*;
    matches!(
        option,
        URI_HOST | URI_PORT | URI_PATH | URI_QUERY | ACCEPT | BLOCK1 | BLOCK2
    )
}

/// The path of a request: its segments as text.
fn segments(options: &Options) -> Option<Vec<&str>> {
    let all = options.all(number::URI_PATH);
    all.map(|segment| std::str::from_utf8(segment).ok()).collect()
}

impl<A: Address> Core<A> {
    /// A request came, for the first time.
    pub(crate) fn request(&mut self, from: Requester<A>, request: Message, now: Instant, out: &mut Out<A>) {
        out.counts.add_own(Lwm2mMetric::RequestsReceived);
        if from.at.is_by_group() {
            return self.by_group(&from, &request, out);
        }
        if request.options.has(number::PROXY_URI) || request.options.has(number::PROXY_SCHEME) {
            return self.refuse(
                &from,
                &request,
                Code::PROXYING_NOT_SUPPORTED,
                "this is no proxy",
                out,
            );
        }
        if request.options.first_bad(is_known).is_some() {
            // RFC 7252 §5.4.1: what wants no confirmation is rejected, here silently.
            if from.kind == Kind::NonConfirmable {
                return;
            }
            let why = "a critical option is not understood, or stands twice";
            return self.refuse(&from, &request, Code::BAD_OPTION, why, out);
        }
        if let Some(index) = self.find_at(from.at)
            && !self.admits(index, &from, now)
        {
            out.counts.add_own(Lwm2mMetric::TooFast);
            return self.refuse(&from, &request, Code::TOO_MANY_REQUESTS, "", out);
        }
        let registers =
            request.code == Code::POST && segments(&request.options).is_some_and(|path| path == ["rd"]);
        self.dispatch(from, request, now, out);
        // What waits for the client goes behind the answer; to one that registers anew, when it has.
        let known = self.find_at(from.at).filter(|_| !registers);
        if let Some(index) = known.filter(|index| self.device(*index).state == State::Open) {
            self.hear(index, now, out);
        }
    }

    /// A request came to a group: only what there is may be asked there. RFC 7252 §8, §11.3
    fn by_group(&mut self, from: &Requester<A>, request: &Message, out: &mut Out<A>) {
        // What goes to a proxy is none that is known.
        if request.options.first_bad(is_known).is_some() {
            return;
        }
        if let Some(links) = discovery::links_for_group(from, request, &OFFERS) {
            self.respond(from, request, links, out);
        }
    }

    fn dispatch(&mut self, from: Requester<A>, mut request: Message, now: Instant, out: &mut Out<A>) {
        if let Err(response) = self.uploads.take(from.at, &mut request, now) {
            return self.respond(&from, &request, response, out);
        }
        let options = request.options.clone();
        let Some(path) = segments(&options) else {
            return self.refuse(&from, &request, Code::BAD_REQUEST, "the path is no text", out);
        };
        match (&path[..], request.code) {
            (["rd"], Code::POST) => self.register(from, request, now, out),
            (["rd", location], Code::POST | Code::PUT | Code::DELETE) => {
                self.on_registration(location, from, request, now, out);
            }
            (["dp"], Code::POST) => self.on_send(from, request, now, out),
            (["bs"], Code::POST) => self.on_bootstrap_request(from, request, now, out),
            (["bspack"], Code::GET) => self.on_pack_request(from, request, now, out),
            (["fw", location, name], Code::GET) => self.on_download(location, name, &from, &request, out),
            ([".well-known", "core"], Code::GET) => self.on_discovery(&from, &request, out),
            (["rd" | "dp" | "bs" | "bspack"] | ["rd", _] | ["fw", _, _] | [".well-known", "core"], _) => {
                self.refuse(&from, &request, Code::METHOD_NOT_ALLOWED, "", out);
            }
            _ => self.refuse(&from, &request, Code::NOT_FOUND, "", out),
        }
    }

    /// Whether a client, and all of its user, may send one more request.
    pub(crate) fn admits(&mut self, index: u32, from: &Requester<A>, now: Instant) -> bool {
        let settings = &self.settings;
        let (rate, burst) = (
            settings.max_client_requests_per_second,
            settings.client_burst_requests,
        );
        let user_rates = self.user_rates.clone();
        let device = self.device_mut(index);
        if !device.pace.take(rate, burst, now) {
            return false;
        }
        let user = device
            .identity
            .as_ref()
            .and_then(|identity| identity.username.as_ref());
        let admitted: Result<(), UserLimit> = match user_rates.zip(user) {
            Some((rates, user)) => rates.admits(user, from.bytes, now),
            None => Ok(()),
        };
        admitted.is_ok()
    }

    /// An update, or the end of a registration: from another address, too. LwM2M Core 1.1 §6.2.2, §6.2.3
    fn on_registration(
        &mut self,
        location: &str,
        from: Requester<A>,
        request: Message,
        now: Instant,
        out: &mut Out<A>,
    ) {
        let Some(index) = self.at_location(location) else {
            // The client registers anew then.
            return self.refuse(
                &from,
                &request,
                Code::NOT_FOUND,
                "there is no such registration",
                out,
            );
        };
        let device = self.device(index);
        // At its own address it was asked already.
        if device.at != from.at && !self.admits(index, &from, now) {
            out.counts.add_own(Lwm2mMetric::TooFast);
            return self.refuse(&from, &request, Code::TOO_MANY_REQUESTS, "", out);
        }
        let device = self.device(index);
        match device.state {
            State::Open if device.at == from.at => self.on_known(index, from, request, now, out),
            State::Open | State::Restored => self.ask_again(index, from, request, out),
            // It is being let in again: it is answered then.
            State::LoggingIn | State::Opening if device.requester.is_none() => {
                self.device_mut(index).requester = Some((from, request));
            }
            _ => self.refuse(&from, &request, Code::SERVICE_UNAVAILABLE, "one moment", out),
        }
    }

    /// A client that is let in where it is updates its registration, or ends it.
    pub(crate) fn on_known(
        &mut self,
        index: u32,
        from: Requester<A>,
        request: Message,
        now: Instant,
        out: &mut Out<A>,
    ) {
        if request.code != Code::DELETE {
            return self.update(index, from, request, now, out);
        }
        self.respond(
            &from,
            &request,
            Message::of_stream(Code::DELETED, from.token),
            out,
        );
        out.counts.add_own(Lwm2mMetric::Deregistered);
        self.leave(index, "client", CloseReason::Normal, now, out);
    }

    fn update(&mut self, index: u32, from: Requester<A>, request: Message, now: Instant, out: &mut Out<A>) {
        let device = self.devices[index as usize]
            .as_mut()
            .expect("the index of a client");
        let changed = match device.registration.update(&request, &self.settings) {
            Ok(changed) => changed,
            Err((code, why)) => {
                self.tell_denial(index, || Wanted::Connect, || format!("update: {why}").into(), out);
                return self.refuse(&from, &request, code, &why, out);
            }
        };
        out.counts.add_own(Lwm2mMetric::Updated);
        (device.renewed, device.ends_by) = (now, None);
        // Another one may have registered at the same address since.
        self.by_address.insert(device.at, index);
        if changed {
            self.keep_note(index, out);
        }
        self.respond(
            &from,
            &request,
            Message::of_stream(Code::CHANGED, from.token),
            out,
        );
        let data = self.device(index).registration.to_json();
        self.tell(index, "update", data, out);
        self.hear(index, now, out);
        // Last of all: who may not have its commands by their new topics is gone then.
        self.follow_topics(index, now, out);
    }

    /// LwM2M Core 1.1 §6.4.6.1: a client says values that nobody asked for. 2.04 means that they are safe.
    fn on_send(&mut self, from: Requester<A>, request: Message, now: Instant, out: &mut Out<A>) {
        let index = self.find_at(from.at);
        let Some(index) = index else {
            let why = "nobody is registered at this address";
            return self.refuse(&from, &request, Code::NOT_FOUND, why, out);
        };
        let device = self.device(index);
        if device.state != State::Open || device.awaiting.len() >= MOST_AWAITED {
            return self.refuse(&from, &request, Code::SERVICE_UNAVAILABLE, "one moment", out);
        }
        let registry = Arc::clone(&self.settings.supplies.registry);
        let values = match request::values(&request, Path::ROOT, &registry) {
            Ok(values) => values,
            Err(why) => {
                let (wanted, why) = (|| Wanted::Publish(Bytes::new()), why.to_string());
                self.tell_denial(index, wanted, || why.clone().into(), out);
                return self.refuse(&from, &request, Code::BAD_REQUEST, &why, out);
            }
        };
        out.counts.add_own(Lwm2mMetric::Sent);
        self.retain(index, &values, now, out);
        let data = json!({"reqPath": "/dp", "content": report::content(&values)});
        let topic = self
            .settings
            .topics
            .of(&self.settings.topics.notify, self.device(index).id.as_str());
        let told = json!({"msgType": "send", "data": data});
        if self.settings.publish_qos == 0 {
            self.publish(index, topic, &told, false, None, Vec::new(), out);
            return self.respond(
                &from,
                &request,
                Message::of_stream(Code::CHANGED, from.token),
                out,
            );
        }
        let token = self.device_mut(index).take_token();
        let waits = (from, Message::of_stream(request.code, request.token));
        self.device_mut(index).awaiting.insert(token, waits);
        self.publish(index, topic, &told, false, Some(token), Vec::new(), out);
    }

    /// A firmware package, block by block. It is never copied, so nothing is kept for who fetches it. RFC 7959 §2.4
    fn on_download(
        &mut self,
        location: &str,
        name: &str,
        from: &Requester<A>,
        request: &Message,
        out: &mut Out<A>,
    ) {
        let package = self.settings.supplies.packages.get(name).cloned();
        let (Some(package), Some(_)) = (package, self.at_location(location)) else {
            return self.refuse(from, request, Code::NOT_FOUND, "", out);
        };
        let asked = match Block::of(&request.options, number::BLOCK2) {
            None => None,
            Some(Ok(block)) => Some(block),
            Some(Err(error)) => {
                return self.refuse(from, request, Code::BAD_REQUEST, &error.to_string(), out);
            }
        };
        let mut whole = Message::of_stream(Code::CONTENT, request.token);
        whole
            .options
            .push_uint(number::CONTENT_FORMAT, format::OCTET_STREAM.into());
        whole.options.push(number::ETAG, package.etag);
        whole.payload = package.body;
        let most = self.szx.min(szx_allowed(from, &whole));
        let first = |szx| Block {
            number: 0,
            more: false,
            szx,
        };
        // A smaller size than was asked for changes what the number means, so that is for the first block only.
        let block = match asked {
            Some(block) if block.number > 0 => block,
            Some(block) => first(block.szx.min(most)),
            None => first(most),
        };
        self.respond(from, request, cut(&whole, block, request.token), out);
    }

    fn on_discovery(&mut self, from: &Requester<A>, request: &Message, out: &mut Out<A>) {
        let response = discovery::links(request, &OFFERS);
        self.respond(from, request, response, out);
    }
}
