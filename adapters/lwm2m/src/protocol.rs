//! LwM2M as a protocol that is registered.

use crate::{Lwm2mServer, Lwm2mSettings};
use headgate_model::datagram::Address;
use headgate_model::{
    DatagramProtocol, Fault, Files, Instant, MemoryLimit, MountPoint, Naming, NoFramer, NoFraming,
};
use std::path::Path;
use std::sync::Arc;

/// The keys of its folders.
const OBJECTS: &str = "objects";
const FIRMWARE: &str = "firmware";

/// LwM2M over datagrams.
#[derive(Debug)]
pub struct Lwm2m;

impl DatagramProtocol for Lwm2m {
    const NAME: &'static str = "lwm2m";
    const DEFAULT_BIND: Option<&'static str> = Some("127.0.0.1:5783");

    type Settings = Lwm2mSettings;
    type Framing = NoFraming;
    type Framer = NoFramer;
    type Server<A: Address + Unpin + Send + 'static> = Lwm2mServer<A>;

    fn faults(settings: &Lwm2mSettings, _: &MountPoint) -> Vec<Fault> {
        settings.faults()
    }

    fn unanswered_anonymous(_: &Lwm2mSettings) -> Option<&'static str> {
        None
    }

    fn folders(settings: &Lwm2mSettings) -> Vec<(&'static str, &Path)> {
        let objects = settings.objects.as_deref().map(|folder| (OBJECTS, folder));
        let firmware = settings.firmware.as_deref().map(|folder| (FIRMWARE, folder));
        objects.into_iter().chain(firmware).collect()
    }

    fn supply(settings: &mut Lwm2mSettings, key: &'static str, files: &Arc<Files>) -> Vec<String> {
        if key == OBJECTS {
            return settings.supplies.define(files);
        }
        settings.supplies.store(files);
        Vec::new()
    }

    fn user_of(_: &Lwm2mSettings, _: &str) -> Option<String> {
        None
    }

    fn server<A: Address + Unpin + Send + 'static>(
        settings: &Lwm2mSettings,
        naming: Arc<Naming>,
        _: Instant,
        memory: Arc<MemoryLimit>,
    ) -> Lwm2mServer<A> {
        Lwm2mServer::new(settings.clone(), naming, memory)
    }

    fn change<A: Address + Unpin + Send + 'static>(
        server: &mut Lwm2mServer<A>,
        settings: &Lwm2mSettings,
        naming: Arc<Naming>,
        _: Instant,
    ) {
        server.change(settings.clone(), naming);
    }

    fn framer(_: &Lwm2mSettings, _: &NoFraming) -> Option<NoFramer> {
        None
    }
}
