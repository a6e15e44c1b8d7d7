//! A bridge whose hub Azure's Device Provisioning Service names: asks for it, and keeps the answer over restarts.
//!
//! Always true: what was assigned is used until the hub refuses it, or cannot be reached several times in a row; then the service is asked again.

use super::error::{BridgeError, LoginError, RegisterError};
use super::{credentials, way, write_file};
use headgate_auth::data_dir::DataPath;
use headgate_bridge::{
    Assignment, BridgePlan, BridgeSettings, EndReason, Provisioned, Provisioning, ProvisioningInput,
    Registration,
};
use headgate_client::{Client, ClientError};
use headgate_dial::{Dial, Step, WayOut};
use headgate_model::Fault;
use headgate_mqtt_codec::{Connect, ReasonCode, Utf8, Version};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// How often in a row the hub may not be reached before the service is asked whether it is another one.
const MISSES: u32 = 3;
/// The service wants a client to be heard of that often, in seconds.
const KEEP_ALIVE: u16 = 60;

/// Settings that name the service, and can be.
#[derive(Clone)]
pub(super) struct Service {
    /// As an operator wrote them.
    settings: BridgeSettings,
    node: String,
    provisioning: Provisioning,
    /// To the service.
    dial: Dial,
}

impl Service {
    /// `None` for a bridge that knows its remote. The error names the key.
    pub(super) fn new(settings: &BridgeSettings, node: &str) -> Result<Option<Self>, Fault> {
        let Some(provisioning) = settings.provisioning() else {
            return Ok(None);
        };
        if provisioning.login.sas.is_none() && settings.tls.certificate.is_none() {
            let what = "`azure-iot-dps` needs a key, a group's key, or tls.certificate and tls.key";
            return Err(Fault::new("preset", what));
        }
        let dial = way::service_dial(settings, &provisioning.address)?;
        Ok(Some(Self {
            settings: settings.clone(),
            node: node.to_owned(),
            provisioning,
            dial,
        }))
    }
}

impl Service {
    /// It is asked by the way out that is chosen, as its remote is.
    pub(super) fn leaving_by(&mut self, way_out: Option<Arc<dyn WayOut>>) {
        self.dial.way_out = way_out;
    }
}

/// See the module.
pub(super) struct Provisioner {
    service: Service,
    /// Where the answer is kept.
    path: DataPath,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    assignment: Option<Assignment>,
    /// How often in a row the hub was not reached.
    misses: u32,
    /// The hub did not let us in.
    refused: bool,
}

/// What is kept, and what it is the answer to.
#[derive(Serialize, Deserialize)]
struct StoredAssignment {
    address: String,
    username: Option<String>,
    #[serde(flatten)]
    assignment: Assignment,
}

/// A remote that was assigned.
pub(super) struct Assigned {
    pub plan: Arc<BridgePlan>,
    pub dial: Dial,
}

impl Provisioner {
    /// Knows what an earlier run was told, if it asked for the same.
    pub(super) fn new(service: Service, path: DataPath) -> Self {
        let kept = std::fs::read(path.now()).ok();
        let kept = kept.and_then(|bytes| serde_json::from_slice::<StoredAssignment>(&bytes).ok());
        let provisioning = &service.provisioning;
        let assignment = kept
            .filter(|kept| kept.address == provisioning.address)
            .filter(|kept| kept.username == provisioning.login.username)
            .map(|kept| kept.assignment);
        let state = State {
            assignment,
            ..State::default()
        };
        Self {
            service,
            path,
            state: Mutex::new(state),
        }
    }

    /// Where to connect. `dial` is one of the bridge's own addresses, which are the hub's if there are any.
    pub(super) async fn place(&self, dial: &Dial) -> Result<Assigned, BridgeError> {
        let known = self.known();
        let assignment = match known {
            Some(assignment) => assignment,
            None => self.ask().await?,
        };
        self.place_of(&assignment, dial)
    }

    /// What the service said, unless it must be asked.
    fn known(&self) -> Option<Assignment> {
        let state = self.state.lock();
        let doubtful = state.refused || state.misses >= MISSES;
        state.assignment.clone().filter(|_| !doubtful)
    }

    async fn ask(&self) -> Result<Assignment, BridgeError> {
        // Whatever comes of it: without a network the hub is tried again, too.
        self.state.lock().misses = 0;
        let name = &self.service.settings.name;
        let assignment = register(&self.service, &mut |_| {}).await?;
        tracing::info!(
            bridge = name,
            hub = assignment.hub,
            device = assignment.device,
            "bridge is assigned to a hub"
        );
        self.keep(&assignment);
        *self.state.lock() = State {
            assignment: Some(assignment.clone()),
            ..State::default()
        };
        Ok(assignment)
    }

    fn keep(&self, assignment: &Assignment) {
        let provisioning = &self.service.provisioning;
        let kept = StoredAssignment {
            address: provisioning.address.clone(),
            username: provisioning.login.username.clone(),
            assignment: assignment.clone(),
        };
        let bytes = serde_json::to_vec_pretty(&kept).unwrap_or_default();
        if let Err(error) = write_file(&self.path.now(), &bytes) {
            let bridge = &self.service.settings.name;
            tracing::warn!(bridge, %error, "the assigned hub cannot be stored: the service will be asked again");
        }
    }

    /// How `assignment` is reached.
    pub(super) fn place_of(&self, assignment: &Assignment, dial: &Dial) -> Result<Assigned, BridgeError> {
        let settings = &self.service.settings;
        let assigned = settings.clone().with_assignment(assignment);
        let dial = match settings.addresses.is_empty() {
            true => Dial {
                way_out: dial.way_out.clone(),
                ..way::dials(&assigned)?.remove(0)
            },
            false => dial.clone(),
        };
        let plan = BridgePlan::new(assigned, &self.service.node)?;
        let plan = Arc::new(plan);
        Ok(Assigned { plan, dial })
    }

    /// Asks the service, and tells how far that is; keeps nothing.
    pub(super) async fn inquire(
        &self,
        on_step: &mut (dyn FnMut(Step) + Send),
    ) -> Result<Assignment, RegisterError> {
        register(&self.service, on_step).await
    }

    /// Where the service is.
    pub(super) fn service(&self) -> &Dial {
        &self.service.dial
    }

    /// Whether the hub was reached.
    pub(super) fn reached(&self, found: bool) {
        let mut state = self.state.lock();
        state.misses = if found { 0 } else { state.misses + 1 };
    }

    /// How the connection to the hub ended.
    pub(super) fn ended(&self, end: EndReason) {
        let refused = matches!(
            end,
            EndReason::Refused(
                ReasonCode::NotAuthorized
                    | ReasonCode::BadUserNameOrPassword
                    | ReasonCode::ClientIdentifierNotValid
                    | ReasonCode::Banned
            )
        );
        self.state.lock().refused |= refused;
    }
}

async fn register(
    service: &Service,
    on_step: &mut (dyn FnMut(Step) + Send),
) -> Result<Assignment, RegisterError> {
    let connect = connect(&service.provisioning).await?;
    let (mut client, _) = Client::open_telling(&service.dial, &connect, on_step).await?;
    let registered = converse(&mut client, &service.provisioning).await;
    // The answer is known; how it takes its leave does not matter.
    let _ = client.close().await;
    Ok(registered??)
}

/// MQTT 3.1.1, for the service speaks nothing else.
async fn connect(provisioning: &Provisioning) -> Result<Connect, LoginError> {
    let login = credentials::read(&provisioning.login, SystemTime::now()).await?;
    let text = |text: &str| Utf8::try_from(text.to_owned());
    Ok(Connect {
        clean_start: true,
        keep_alive: KEEP_ALIVE,
        username: login.username.as_deref().map(text).transpose()?,
        password: login.password.map(Into::into),
        ..Connect::new(Version::V311, text(&provisioning.registration_id)?)
    })
}

async fn converse(client: &mut Client, provisioning: &Provisioning) -> Result<Provisioned, ClientError> {
    let began = Instant::now();
    let now = || {
        let passed = began.elapsed().as_millis();
        headgate_model::Instant(u64::try_from(passed).unwrap_or(u64::MAX))
    };
    let mut out = Vec::new();
    let mut registration = Registration::new(provisioning, now(), &mut out);
    loop {
        for packet in out.drain(..) {
            client.send(&packet);
        }
        let left = registration.deadline().since(now());
        let input = match tokio::time::timeout(left, client.recv()).await {
            Ok(packet) => ProvisioningInput::Packet(packet?),
            Err(_) => ProvisioningInput::Timeout,
        };
        if let Some(provisioned) = registration.handle(input, now(), &mut out) {
            return Ok(provisioned);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Nobody listens there.
    const NOWHERE: &str = "127.0.0.1:1";

    fn provisioner(folder: &Path, registration_id: &str) -> Provisioner {
        let settings = format!(
            "name = \"cloud\"\npreset = {{ cloud = \"azure-iot-dps\", id_scope = \"0ne1\", endpoint = \"{NOWHERE}\", \
             registration_id = \"{registration_id}\", key = \"a2V5\" }}"
        );
        let settings: BridgeSettings = toml::from_str(&settings).unwrap();
        let service = Service::new(&settings, "here").unwrap().unwrap();
        Provisioner::new(service, folder.join("cloud.assignment").into())
    }

    fn assignment() -> Assignment {
        Assignment {
            hub: "h.example".into(),
            device: "d".into(),
        }
    }

    #[test]
    fn a_service_that_cannot_be_asked_is_refused_in_words() {
        for (more, words) in [
            ("", "needs a key"),
            (", key = \"a2V5\", endpoint = \"ann@dps\"", "preset.endpoint"),
        ] {
            let settings = format!(
                "preset = {{ cloud = \"azure-iot-dps\", id_scope = \"0ne1\", registration_id = \"gw-7\"{more} }}"
            );
            let settings: BridgeSettings = toml::from_str(&settings).unwrap();
            let error = Service::new(&settings, "here").err().unwrap().to_string();
            assert!(error.contains(words), "{error}");
        }
        assert!(
            Service::new(&BridgeSettings::default(), "here")
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn what_was_assigned_is_known_after_a_restart_to_whom_it_was_assigned() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(provisioner(folder.path(), "gw-7").known(), None);
        provisioner(folder.path(), "gw-7").keep(&assignment());
        assert_eq!(provisioner(folder.path(), "gw-7").known(), Some(assignment()));
        assert_eq!(provisioner(folder.path(), "gw-8").known(), None);
        std::fs::write(folder.path().join("cloud.assignment"), "{\"hub\"").unwrap();
        assert_eq!(
            provisioner(folder.path(), "gw-7").known(),
            None,
            "a torn file is none"
        );
    }

    /// Without a network nobody answers: the hub that is known is not forgotten for that.
    #[tokio::test]
    async fn a_hub_that_is_not_found_three_times_is_asked_for_and_not_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        provisioner(folder.path(), "gw-7").keep(&assignment());
        let provisioner = provisioner(folder.path(), "gw-7");
        let own = provisioner.service().clone();
        for found in [false, false, true, false, false] {
            provisioner.reached(found);
            let place = provisioner.place(&own).await.unwrap();
            assert_eq!(place.dial.target.place.to_string(), "h.example:8883");
            assert_eq!(place.plan.remote_client_id(), "d");
        }
        provisioner.reached(false);
        let error = provisioner.place(&own).await.err().unwrap().to_string();
        assert!(
            error.starts_with("provisioning: ") && error.contains(NOWHERE),
            "{error}"
        );
        assert!(provisioner.place(&own).await.is_ok());
    }

    #[tokio::test]
    async fn a_hub_that_refuses_the_login_is_not_used_until_it_is_assigned_again() {
        let folder = tempfile::tempdir().unwrap();
        provisioner(folder.path(), "gw-7").keep(&assignment());
        let provisioner = provisioner(folder.path(), "gw-7");
        let own = provisioner.service().clone();
        provisioner.ended(EndReason::Lost);
        provisioner.ended(EndReason::Refused(ReasonCode::ServerUnavailable));
        assert!(provisioner.place(&own).await.is_ok());
        provisioner.ended(EndReason::Refused(ReasonCode::NotAuthorized));
        for _ in 0..2 {
            assert!(provisioner.place(&own).await.is_err());
        }
    }
}
