//! The loop around a client and its transport.
//!
//! Always true: a future that is dropped while it waits has lost nothing.

use super::client::{Outputs, SnClient, State};
use super::{ClientSettings, Event, Request, SnError, SnTarget, SnTransport};
use crate::listening::LAST_EXCHANGE;
use headgate_model::Instant;
use headgate_mqttsn_codec::MessageType;
use std::time::Duration;

/// A client and the way to its gateway.
pub(crate) struct SnSession {
    client: SnClient,
    transport: SnTransport,
    out: Outputs,
    began: tokio::time::Instant,
    /// How often something is sent before the gateway counts as lost.
    times: u32,
}

impl SnSession {
    /// Opens the transport; nothing is sent.
    pub(crate) async fn open(target: &SnTarget, settings: ClientSettings) -> Result<Self, SnError> {
        Ok(Self {
            times: u32::from(settings.retries) + 1,
            transport: SnTransport::open(target).await?,
            client: SnClient::new(settings),
            out: Outputs::default(),
            began: tokio::time::Instant::now(),
        })
    }

    /// Asks for something. What becomes of it comes with [`Self::event`].
    pub(crate) fn request(&mut self, request: Request) {
        let now = self.now();
        self.client.request(request, now, &mut self.out);
    }

    /// Messages that come from now on are not acknowledged: a gateway that keeps the session keeps them.
    pub(crate) fn stop_receiving(&mut self) {
        self.client.stop_receiving();
    }

    /// Whether a QoS 2 message came whose exchange is not over.
    pub(crate) fn holds(&self) -> bool {
        self.client.holds()
    }

    /// Sends what waits to be sent.
    pub(crate) async fn flush(&mut self) -> Result<(), SnError> {
        while let Some(message) = self.out.messages.pop_front() {
            self.transport.push(&message)?;
        }
        self.transport.flush().await
    }

    /// The next thing that happens. That the gateway is lost or ended the connection is an error.
    pub(crate) async fn event(&mut self) -> Result<Event, SnError> {
        loop {
            match self.step().await? {
                Some(Event::Lost(message)) => {
                    return Err(SnError::Lost {
                        place: self.transport.place().to_owned(),
                        message,
                        times: self.times,
                    });
                }
                Some(Event::Disconnected) => return Err(SnError::Disconnected),
                Some(event) => return Ok(event),
                None => {}
            }
        }
    }

    /// Like [`Self::event`], where something was asked for: that it was refused is an error, too.
    pub(crate) async fn answer(&mut self) -> Result<Event, SnError> {
        match self.event().await? {
            Event::Refused(message, code) => Err(SnError::Refused(message, code)),
            Event::OutOfPlace(MessageType::Register) => Err(SnError::Usage(
                "QoS -1 has no connection to register a name on: a topic of two characters is wanted, or --predefined"
                    .into(),
            )),
            Event::OutOfPlace(message) => Err(SnError::Usage(format!("{message} needs a connection"))),
            event => Ok(event),
        }
    }

    /// Says goodbye and waits until it was heard. A refusal that was on its way is an error.
    pub(crate) async fn leave(&mut self) -> Result<(), SnError> {
        self.stop_receiving();
        self.request(Request::Disconnect);
        while self.answer().await? != Event::Left {}
        Ok(())
    }

    /// Says goodbye after a refusal, of which the caller tells: whether it succeeds does not matter any more.
    pub(crate) async fn leave_after(&mut self, error: &SnError) {
        if let SnError::Refused(message, _) = error
            && *message != MessageType::Connect
        {
            let _ = tokio::time::timeout(LAST_EXCHANGE, self.leave()).await;
        }
    }

    async fn step(&mut self) -> Result<Option<Event>, SnError> {
        match self.flush().await {
            // Before it ever answered there is nobody; later it may come back while we try.
            Err(SnError::NobodyThere(_)) if self.is_known() => {}
            result => result?,
        }
        if let Some(event) = self.out.events.pop_front() {
            return Ok(Some(event));
        }
        let deadline = self.client.deadline();
        let wait = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(self.began + Duration::from_millis(at.0)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            message = self.transport.recv() => match message {
                Err(SnError::NobodyThere(_)) if self.is_known() => {}
                message => {
                    let (message, now) = (message?, self.now());
                    self.client.handle(message, now, &mut self.out);
                }
            },
            () = wait => {
                let now = self.now();
                self.client.handle_timeout(now, &mut self.out);
            }
        }
        Ok(None)
    }

    fn is_known(&self) -> bool {
        !matches!(self.client.state(), State::Disconnected | State::Lost)
    }

    fn now(&self) -> Instant {
        Instant(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}
