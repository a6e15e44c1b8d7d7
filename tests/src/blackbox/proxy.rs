//! A link that can be made bad: bytes pass, slowly, late, not at all, or one side is told that the other is gone.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// What happens to bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Weather {
    /// They pass.
    Fair,
    /// They pass late.
    Delayed,
    /// Few pass at a time.
    Throttled,
    /// They wait, and nobody is told.
    BlackHole,
}

/// Between a client and a broker.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: u16,
    weather: AtomicU8,
    /// Connections that began earlier are to end.
    cut: AtomicU64,
    /// Connections that began earlier have lost their upstream, and their clients are not told.
    halved: AtomicU64,
}

/// How often a connection looks at the weather.
const LOOK: Duration = Duration::from_millis(5);

impl Proxy {
    /// Listens for those who want to reach the port.
    ///
    /// # Panics
    /// If there is no port.
    pub fn to(upstream: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        let shared = Arc::new(Shared {
            upstream,
            weather: AtomicU8::new(Weather::Fair as u8),
            cut: AtomicU64::new(0),
            halved: AtomicU64::new(0),
        });
        let served = Arc::clone(&shared);
        // It ends with the test's process.
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // Whoever is not reached hangs up, and so do we.
                let _ = served.connect(client);
            }
        });
        Self { port, shared }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes the weather.
    pub fn set(&self, weather: Weather) {
        self.shared.weather.store(weather as u8, Ordering::Relaxed);
    }

    /// Ends all connections.
    pub fn cut(&self) {
        self.shared.cut.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends all connections upstream; the clients hear nothing any more, and what they say is swallowed.
    pub fn halve(&self) {
        self.shared.halved.fetch_add(1, Ordering::Relaxed);
    }
}

impl Shared {
    fn connect(self: &Arc<Self>, client: TcpStream) -> io::Result<()> {
        let server = TcpStream::connect(("127.0.0.1", self.upstream))?;
        let born = (
            self.cut.load(Ordering::Relaxed),
            self.halved.load(Ordering::Relaxed),
        );
        for stream in [&client, &server] {
            stream.set_read_timeout(Some(LOOK))?;
            stream.set_nodelay(true)?;
        }
        let ends = [
            (client.try_clone()?, server.try_clone()?, false),
            (server, client, true),
        ];
        for (from, to, to_client) in ends {
            let shared = Arc::clone(self);
            thread::spawn(move || {
                // An error is the end of the connection.
                let _ = shared.carry(&from, &to, to_client, born);
                let halved = shared.halved.load(Ordering::Relaxed) > born.1;
                let _ = from.shutdown(Shutdown::Both);
                if !(to_client && halved) {
                    let _ = to.shutdown(Shutdown::Both);
                }
            });
        }
        Ok(())
    }

    /// Carries bytes one way until the connection ends.
    fn carry(
        &self,
        mut from: &TcpStream,
        mut to: &TcpStream,
        to_client: bool,
        born: (u64, u64),
    ) -> io::Result<()> {
        let mut buffer = [0; 4_096];
        while self.cut.load(Ordering::Relaxed) == born.0 {
            let halved = self.halved.load(Ordering::Relaxed) > born.1;
            if halved && to_client {
                return Ok(());
            }
            let weather = self.weather.load(Ordering::Relaxed);
            if weather == Weather::BlackHole as u8 && !halved {
                thread::sleep(LOOK);
                continue;
            }
            let throttled = weather == Weather::Throttled as u8;
            let most = if throttled { 64 } else { buffer.len() };
            let n = match from.read(&mut buffer[..most]) {
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            };
            if halved {
                continue;
            }
            if throttled || weather == Weather::Delayed as u8 {
                thread::sleep(if throttled { LOOK } else { LOOK * 10 });
            }
            to.write_all(&buffer[..n])?;
        }
        Ok(())
    }
}
