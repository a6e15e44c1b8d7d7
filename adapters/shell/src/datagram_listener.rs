//! What serves a datagram protocol on one socket or serial line, for as long as the gateway runs.

use crate::datagram::{DatagramStats, DatagramTransport, serve};
use crate::listener::ListenError;
use crate::protocols::Serving;
use crate::serial::SerialTransport;
use crate::settings::{DatagramKind, DatagramSettings, UdpSettings};
use crate::supervise::keep_serving;
use crate::udp::UdpTransport;
use headgate_model::{ConfiguredLogin, DatagramProtocol, Fault, Naming, Rewriter};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// The settings of a listener for `P`.
pub type SettingsOf<P> =
    DatagramSettings<<P as DatagramProtocol>::Settings, <P as DatagramProtocol>::Framing>;

/// One configured socket or line, of whatever protocol.
pub trait DatagramListener {
    /// The name in logs and under `$SYS`.
    fn name(&self) -> &str;

    /// Where it wants to be.
    fn place(&self) -> Option<DatagramPlace<'_>>;

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

    /// Binds the socket; what comes waits in the system. A serial line need not be there yet.
    fn bind(&self) -> Result<Box<dyn BoundListener>, ListenError>;
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

    /// Serves its clients until the bus says goodbye; anew, with a socket of its own, whenever that fails.
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

    fn place(&self) -> Option<DatagramPlace<'_>> {
        match self.0.kind {
            DatagramKind::Udp => Some(DatagramPlace::Udp {
                bind: self.0.bind.as_deref()?,
                ipv6_only: self.0.ipv6_only,
            }),
            DatagramKind::Serial => Some(DatagramPlace::Serial(&self.0.serial.as_ref()?.port)),
        }
    }

    fn faults(&self) -> Vec<Fault> {
        let mut faults = self.0.faults();
        let mount = self.0.mount().unwrap_or_default();
        let own = P::faults(&self.0.gateway, &mount).into_iter();
        faults.extend(own.map(|fault| fault.below("gateway")));
        let is_serial = self.0.kind == DatagramKind::Serial;
        if is_serial && P::framer(&self.0.gateway, &self.0.framing).is_none() {
            let what = format!("{} does not go over serial lines, allowed is `udp`", P::NAME);
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

    fn bind(&self) -> Result<Box<dyn BoundListener>, ListenError> {
        let settings = self.0.clone();
        if settings.kind == DatagramKind::Serial {
            let line = move || serial_transport::<P>(&settings);
            let transport = line();
            let stats = transport.stats();
            let again = move || Ok(line().counting_on(Arc::clone(&stats)));
            return Ok(self.bound(transport, again));
        }
        let mut udp = settings.udp();
        let bind =
            move |udp: &UdpSettings| UdpTransport::bind(&settings.name, settings.mount_point.as_deref(), udp);
        let transport = bind(&udp)?;
        // Clients look for it where it was, also if the system chose the port.
        if udp.bind.ends_with(":0") {
            udp.bind = transport.local_addr().to_string();
        }
        let stats = Arc::clone(DatagramTransport::stats(&transport));
        let again = move || Ok(bind(&udp)?.counting_on(Arc::clone(&stats)));
        Ok(self.bound(transport, again))
    }
}

impl<P: DatagramProtocol> ListenerFor<'_, P> {
    fn bound<T: DatagramTransport>(
        &self,
        transport: T,
        again: impl FnMut() -> Result<T, ListenError> + Send + 'static,
    ) -> Box<dyn BoundListener> {
        Box::new(Bound::<P, T> {
            settings: self.0.clone(),
            transport,
            again: Box::new(again),
        })
    }
}

struct Bound<P: DatagramProtocol, T> {
    settings: SettingsOf<P>,
    transport: T,
    /// Another transport at the same place, which counts on.
    again: Box<dyn FnMut() -> Result<T, ListenError> + Send>,
}

impl<P: DatagramProtocol, T: DatagramTransport> BoundListener for Bound<P, T> {
    fn stats(&self) -> Arc<DatagramStats> {
        Arc::clone(self.transport.stats())
    }

    fn serve(
        self: Box<Self>,
        parts: &Serving,
        rewriter: &Arc<Rewriter>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(keep(*self, parts.clone(), Arc::clone(rewriter)))
    }
}

/// Serves a transport, and when that fails the next one.
async fn keep<P: DatagramProtocol, T: DatagramTransport>(
    bound: Bound<P, T>,
    parts: Serving,
    rewriter: Arc<Rewriter>,
) {
    let Bound {
        settings,
        transport,
        mut again,
    } = bound;
    let naming = Arc::new(Naming {
        mount: settings.mount().expect("checked with the settings"),
        rewriter,
        ..Naming::default()
    });
    let stats = Arc::clone(transport.stats());
    let mut first = Some(transport);
    let start = || {
        let transport = first.take().map_or_else(&mut again, Ok)?;
        let (now, memory) = (parts.hub.clock().now(), Arc::clone(parts.hub.memory()));
        let server = P::server::<T::Address>(&settings.gateway, Arc::clone(&naming), now, memory);
        Ok::<_, ListenError>(serve(server, transport, &parts))
    };
    keep_serving(&settings.name, start, || stats.restarted()).await;
}

/// For `serial` only: the line of the settings.
fn serial_transport<P: DatagramProtocol>(settings: &SettingsOf<P>) -> SerialTransport<P::Framer> {
    let serial = settings.serial.clone().unwrap_or_default();
    let framer = P::framer(&settings.gateway, &settings.framing).expect("checked with the settings");
    SerialTransport::new(&settings.name, settings.mount_point.as_deref(), serial, framer)
}
