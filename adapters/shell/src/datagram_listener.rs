//! What serves a datagram protocol on one socket or serial line, for as long as the gateway runs.

use crate::datagram::{DatagramStats, DatagramTransport, Told, serve_and_listen};
use crate::dtls::DtlsTransport;
use crate::listener::ListenError;
use crate::protocols::Serving;
use crate::serial::SerialTransport;
use crate::settings::{DatagramKind, DatagramSettings, DtlsSettings, SerialSettings, UdpSettings};
use crate::supervise::keep_serving;
use crate::tls::ServerTls;
use crate::udp::UdpTransport;
use futures_util::future::Either;
use headgate_model::{ConfiguredLogin, DatagramProtocol, Fault, Naming, Rewriter};
use parking_lot::Mutex;
use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::mpsc;

/// The settings of a listener for `P`.
pub type SettingsOf<P> =
    DatagramSettings<<P as DatagramProtocol>::Settings, <P as DatagramProtocol>::Framing>;

/// One configured socket or line, of whatever protocol.
pub trait DatagramListener: Send + Sync {
    /// The name in logs and under `$SYS`.
    fn name(&self) -> &str;

    /// Whether it is to listen.
    fn is_enabled(&self) -> bool;

    /// What the messages go over: `udp`, `dtls` or `serial`.
    fn kind(&self) -> &'static str;

    /// Where it wants to be.
    fn place(&self) -> Option<DatagramPlace<'_>>;

    /// What is put in front of the topics of its clients, as it stands in the settings.
    fn mount_point(&self) -> Option<&str>;

    /// All that is wrong with its settings, with keys as seen from its entry.
    fn faults(&self) -> Vec<Fault>;

    /// All that the system has against them.
    fn obstacles(&self) -> Vec<Fault>;

    /// What is probably not as it was meant.
    fn warnings(&self) -> Vec<Fault>;

    /// See [`DatagramProtocol::unanswered_anonymous`]; the key as seen from its entry.
    fn unanswered_anonymous(&self) -> Option<String>;

    /// See [`DatagramProtocol::logins`]; keys as seen from its entry.
    fn logins(&self) -> Vec<ConfiguredLogin>;

    /// See [`DatagramProtocol::user_of`].
    fn user_of(&self, client_id: &str) -> Option<String>;

    /// How its clients may show who they are beside a password; nothing without DTLS.
    fn dtls(&self) -> Option<&DtlsSettings>;

    /// Binds the socket; what comes waits in the system. A serial line need not be there yet.
    fn bind(&self) -> Result<Box<dyn BoundListener>, ListenError>;

    /// Whether one that runs is where these settings want it. If not, it is another one: with another address, kind, protocol or mount point.
    fn stays_at(&self, running: &dyn DatagramHandle) -> bool;

    /// Gives one that [stays](Self::stays_at) these settings and these names. Its clients stay. Whether it had others.
    fn change(&self, running: &dyn DatagramHandle, rewriter: &Arc<Rewriter>) -> bool;
}

/// A socket or line, for whoever changes it while it is served.
pub trait DatagramHandle: Any + Send + Sync {
    /// Where it is, with the real port; of a serial line its device.
    fn address(&self) -> &str;

    /// Its certificates, for whoever watches them; `None` where there are none.
    fn tls(&self) -> Option<ServerTls>;

    /// Clients are told, and it is served no more.
    fn end(&self);
}

/// Where a listener wants to be, as it stands in the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatagramPlace<'a> {
    /// This UDP address.
    Udp {
        /// With the port.
        bind: &'a str,
        /// An IPv6 address takes no IPv4 datagrams.
        ipv6_only: bool,
    },
    /// This serial device.
    Serial(&'a str),
}

/// A listener that is bound and not served yet.
pub trait BoundListener: Send {
    /// What it counts.
    fn stats(&self) -> Arc<DatagramStats>;

    /// To change it while it is served.
    fn handle(&self) -> Arc<dyn DatagramHandle>;

    /// Serves its clients until the bus says goodbye or it is told to end; anew, with a socket of its own, whenever that fails.
    fn serve(
        self: Box<Self>,
        parts: &Serving,
        rewriter: &Arc<Rewriter>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// A listener for one protocol.
pub struct ListenerFor<'a, P: DatagramProtocol>(pub &'a SettingsOf<P>);

impl<P: DatagramProtocol> DatagramListener for ListenerFor<'_, P> {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn is_enabled(&self) -> bool {
        self.0.enabled
    }

    fn kind(&self) -> &'static str {
        self.0.kind.name()
    }

    fn place(&self) -> Option<DatagramPlace<'_>> {
        match self.0.kind {
            DatagramKind::Udp | DatagramKind::Dtls => Some(DatagramPlace::Udp {
                bind: self.0.bind.as_deref()?,
                ipv6_only: self.0.ipv6_only,
            }),
            DatagramKind::Serial => Some(DatagramPlace::Serial(&self.0.serial.as_ref()?.port)),
        }
    }

    fn mount_point(&self) -> Option<&str> {
        self.0.mount_point.as_deref()
    }

    fn faults(&self) -> Vec<Fault> {
        let mut faults = self.0.faults();
        let mount = self.0.mount().unwrap_or_default();
        let own = P::faults(&self.0.gateway, &mount).into_iter();
        faults.extend(own.map(|fault| fault.below("gateway")));
        let is_serial = self.0.kind == DatagramKind::Serial;
        if is_serial && P::framer(&self.0.gateway, &self.0.framing).is_none() {
            let what = format!(
                "{} does not go over serial lines, allowed are `udp` and `dtls`",
                P::NAME
            );
            faults.push(Fault::new("kind", what));
        }
        faults
    }

    fn obstacles(&self) -> Vec<Fault> {
        self.0.obstacles()
    }

    fn warnings(&self) -> Vec<Fault> {
        self.0.warnings()
    }

    fn unanswered_anonymous(&self) -> Option<String> {
        let key = P::unanswered_anonymous(&self.0.gateway)?;
        Some(format!("gateway.{key}"))
    }

    fn logins(&self) -> Vec<ConfiguredLogin> {
        let logins = P::logins(&self.0.gateway).into_iter();
        let below = |login: ConfiguredLogin| ConfiguredLogin {
            key: format!("gateway.{}", login.key),
            ..login
        };
        logins.map(below).collect()
    }

    fn user_of(&self, client_id: &str) -> Option<String> {
        P::user_of(&self.0.gateway, client_id)
    }

    fn dtls(&self) -> Option<&DtlsSettings> {
        let is_used = self.0.kind == DatagramKind::Dtls;
        self.0.dtls.as_ref().filter(|_| is_used)
    }

    fn bind(&self) -> Result<Box<dyn BoundListener>, ListenError> {
        match self.0.kind {
            DatagramKind::Serial => Bound::<P, SerialTransport<P::Framer>>::new(self.0),
            DatagramKind::Udp => Bound::<P, UdpTransport>::new(self.0),
            DatagramKind::Dtls => Bound::<P, DtlsTransport>::new(self.0),
        }
    }

    fn stays_at(&self, running: &dyn DatagramHandle) -> bool {
        let place = |settings: &SettingsOf<P>| match settings.kind {
            // Another line is the same one plugged in elsewhere.
            DatagramKind::Serial => None,
            DatagramKind::Udp | DatagramKind::Dtls => Some((settings.bind.clone(), settings.ipv6_only)),
        };
        let known = match self.0.kind {
            DatagramKind::Serial => self.settings_of::<SerialTransport<P::Framer>>(running),
            DatagramKind::Udp => self.settings_of::<UdpTransport>(running),
            DatagramKind::Dtls => self.settings_of::<DtlsTransport>(running),
        };
        known.is_some_and(|known| place(&known) == place(self.0) && known.mount_point == self.0.mount_point)
    }

    fn change(&self, running: &dyn DatagramHandle, rewriter: &Arc<Rewriter>) -> bool {
        match self.0.kind {
            DatagramKind::Serial => self.change_one::<SerialTransport<P::Framer>>(running, rewriter),
            DatagramKind::Udp => self.change_one::<UdpTransport>(running, rewriter),
            DatagramKind::Dtls => self.change_one::<DtlsTransport>(running, rewriter),
        }
    }
}

impl<P: DatagramProtocol> ListenerFor<'_, P> {
    /// Those of one that serves the same protocol over the same kind of transport.
    fn settings_of<T: TransportOf<P>>(&self, running: &dyn DatagramHandle) -> Option<SettingsOf<P>> {
        let running: &dyn Any = running;
        let running = running.downcast_ref::<Running<P, T>>()?;
        Some(running.current.lock().settings.clone())
    }

    fn change_one<T: TransportOf<P>>(&self, running: &dyn DatagramHandle, rewriter: &Arc<Rewriter>) -> bool {
        let running: &dyn Any = running;
        let Some(running) = running.downcast_ref::<Running<P, T>>() else {
            return false;
        };
        let settings = self.0.clone();
        let mut current = running.current.lock();
        let names_alike = current
            .rewriter
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, rewriter));
        if current.settings == settings && names_alike {
            return false;
        }
        current.settings = settings.clone();
        current.rewriter = Some(Arc::clone(rewriter));
        let naming = current.naming();
        // While it waits to be started anew, it is started with them.
        let _ = current
            .told
            .send(Told::Change(Box::new(move |server, transport, now| {
                P::change(server, &settings.gateway, naming, now);
                transport.renew_with(&settings);
            })));
        true
    }
}

/// A transport as a listener for `P` makes it.
trait TransportOf<P: DatagramProtocol>: DatagramTransport {
    /// `at`: where an earlier one was, if the system has chosen that.
    fn open(settings: &SettingsOf<P>, at: Option<&str>) -> Result<Self, ListenError>
    where
        Self: Sized;

    /// Goes on with what an earlier one has counted.
    fn count_on(self, stats: Arc<DatagramStats>) -> Self
    where
        Self: Sized;

    /// Takes over other settings where it is.
    fn renew_with(&mut self, settings: &SettingsOf<P>);
}

impl<P: DatagramProtocol> TransportOf<P> for UdpTransport {
    fn open(settings: &SettingsOf<P>, at: Option<&str>) -> Result<Self, ListenError> {
        let udp = udp_at(settings, at);
        Self::bind(&settings.name, settings.mount_point.as_deref(), &udp)
    }

    fn count_on(self, stats: Arc<DatagramStats>) -> Self {
        self.counting_on(stats)
    }

    fn renew_with(&mut self, settings: &SettingsOf<P>) {
        self.renew(&settings.udp());
    }
}

impl<P: DatagramProtocol> TransportOf<P> for DtlsTransport {
    fn open(settings: &SettingsOf<P>, at: Option<&str>) -> Result<Self, ListenError> {
        let udp = udp_at(settings, at);
        let dtls = settings.dtls.clone().unwrap_or_default();
        Self::bind(&settings.name, settings.mount_point.as_deref(), &udp, &dtls)
    }

    fn count_on(self, stats: Arc<DatagramStats>) -> Self {
        self.counting_on(stats)
    }

    fn renew_with(&mut self, settings: &SettingsOf<P>) {
        self.renew(&settings.udp(), &settings.dtls.clone().unwrap_or_default());
    }
}

/// The socket of the settings.
fn udp_at<G, F>(settings: &DatagramSettings<G, F>, at: Option<&str>) -> UdpSettings {
    let mut udp = settings.udp();
    // Clients look for it where it was.
    if let Some(at) = at.filter(|_| udp.bind.ends_with(":0")) {
        udp.bind = at.to_owned();
    }
    udp
}

impl<P: DatagramProtocol> TransportOf<P> for SerialTransport<P::Framer> {
    fn open(settings: &SettingsOf<P>, _: Option<&str>) -> Result<Self, ListenError> {
        let (line, framer) = line::<P>(settings);
        Ok(Self::new(
            &settings.name,
            settings.mount_point.as_deref(),
            line,
            framer,
        ))
    }

    fn count_on(self, stats: Arc<DatagramStats>) -> Self {
        self.counting_on(stats)
    }

    fn renew_with(&mut self, settings: &SettingsOf<P>) {
        let (line, framer) = line::<P>(settings);
        self.renew(line, framer);
    }
}

/// For `serial` only: the line of the settings, and what cuts its frames.
fn line<P: DatagramProtocol>(settings: &SettingsOf<P>) -> (SerialSettings, P::Framer) {
    let framer = P::framer(&settings.gateway, &settings.framing).expect("checked with the settings");
    (settings.serial.clone().unwrap_or_default(), framer)
}

/// What is served, as of now.
struct Current<P: DatagramProtocol, T: DatagramTransport> {
    settings: SettingsOf<P>,
    /// `None` until it is served.
    rewriter: Option<Arc<Rewriter>>,
    /// To the server that runs.
    told: mpsc::UnboundedSender<Told<P::Server<T::Address>, T>>,
    ended: bool,
}

impl<P: DatagramProtocol, T: DatagramTransport> Current<P, T> {
    fn naming(&self) -> Arc<Naming> {
        Arc::new(Naming {
            mount: self.settings.mount().expect("checked with the settings"),
            rewriter: self.rewriter.clone().unwrap_or_default(),
            ..Naming::default()
        })
    }
}

struct Running<P: DatagramProtocol, T: DatagramTransport> {
    address: String,
    current: Mutex<Current<P, T>>,
}

impl<P: DatagramProtocol, T: DatagramTransport> DatagramHandle for Running<P, T> {
    fn address(&self) -> &str {
        &self.address
    }

    fn tls(&self) -> Option<ServerTls> {
        let current = self.current.lock();
        let settings = &current.settings;
        let dtls = settings.dtls.as_ref();
        let tls = dtls.filter(|_| settings.kind == DatagramKind::Dtls)?.as_tls()?;
        ServerTls::load(&settings.name, tls).ok()
    }

    fn end(&self) {
        let mut current = self.current.lock();
        current.ended = true;
        let _ = current.told.send(Told::End);
    }
}

struct Bound<P: DatagramProtocol, T: DatagramTransport> {
    transport: T,
    running: Arc<Running<P, T>>,
}

impl<P: DatagramProtocol, T: TransportOf<P>> Bound<P, T> {
    #[expect(clippy::new_ret_no_self, reason = "whoever serves it knows no types")]
    fn new(settings: &SettingsOf<P>) -> Result<Box<dyn BoundListener>, ListenError> {
        let current = Current {
            settings: settings.clone(),
            rewriter: None,
            told: mpsc::unbounded_channel().0,
            ended: false,
        };
        let transport = T::open(settings, None)?;
        Ok(Box::new(Self {
            running: Arc::new(Running {
                address: transport.describe().1,
                current: Mutex::new(current),
            }),
            transport,
        }))
    }
}

impl<P: DatagramProtocol, T: TransportOf<P>> BoundListener for Bound<P, T> {
    fn stats(&self) -> Arc<DatagramStats> {
        Arc::clone(self.transport.stats())
    }

    fn handle(&self) -> Arc<dyn DatagramHandle> {
        Arc::clone(&self.running) as Arc<dyn DatagramHandle>
    }

    fn serve(
        self: Box<Self>,
        parts: &Serving,
        rewriter: &Arc<Rewriter>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.running.current.lock().rewriter = Some(Arc::clone(rewriter));
        Box::pin(keep(*self, parts.clone()))
    }
}

/// Serves a transport, and when that fails the next one.
async fn keep<P: DatagramProtocol, T: TransportOf<P>>(bound: Bound<P, T>, parts: Serving) {
    let Bound { transport, running } = bound;
    let (stats, at) = (Arc::clone(transport.stats()), transport.describe().1);
    let name = running.current.lock().settings.name.clone();
    let mut first = Some(transport);
    let start = || {
        let mut current = running.current.lock();
        let settings = &current.settings;
        let again = || Ok(T::open(settings, Some(&at))?.count_on(Arc::clone(&stats)));
        if current.ended {
            return Ok(Either::Left(std::future::ready(())));
        }
        let transport = first.take().map_or_else(again, Ok)?;
        let (now, memory) = (parts.hub.clock().now(), Arc::clone(parts.hub.memory()));
        let server = P::server::<T::Address>(&settings.gateway, current.naming(), now, memory);
        let (tell, told) = mpsc::unbounded_channel();
        current.told = tell;
        Ok::<_, ListenError>(Either::Right(serve_and_listen(server, transport, told, &parts)))
    };
    keep_serving(&name, start, || stats.restarted()).await;
}
