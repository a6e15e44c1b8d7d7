//! Lines for the journal of systemd, in its own protocol: a datagram of `FIELD=value` lines. Values are single lines already, so that none needs a length.
//! <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>

use super::destination::Sink;
use super::line::Line;
use super::syslog::severity;
use std::fmt::Write;
use std::io;
use std::os::unix::net::UnixDatagram;

const SOCKET: &str = "/run/systemd/journal/socket";

/// See the module.
#[derive(Default)]
pub(super) struct JournaldSink(Option<UnixDatagram>);

impl Sink for JournaldSink {
    fn write(&mut self, line: &Line) -> io::Result<()> {
        let socket = match self.0.take() {
            Some(socket) => socket,
            None => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(SOCKET)?;
                socket
            }
        };
        socket.send(datagram(line).as_bytes())?;
        self.0 = Some(socket);
        Ok(())
    }
}

/// Fields have names of capitals, digits and underscores; ours begin with `HEADGATE_`.
fn datagram(line: &Line) -> String {
    let mut datagram = format!(
        "MESSAGE={}\nPRIORITY={}\nSYSLOG_IDENTIFIER=headgate\nHEADGATE_TARGET={}\n",
        line.message(),
        severity(line.level),
        line.target
    );
    for (name, value) in line.fields().filter(|(name, _)| *name != "message") {
        let name: String = name
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() {
                    c.to_ascii_uppercase()
                } else {
                    '_'
                }
            })
            .collect();
        let _ = writeln!(datagram, "HEADGATE_{name}={value}");
    }
    datagram
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_datagram_of_fields() {
        let text = datagram(&Line::of_loss(7));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("MESSAGE=lines were lost") && lines[0].ends_with(" lost=7"));
        assert_eq!(lines[1], "PRIORITY=4");
        assert_eq!(lines.last(), Some(&"HEADGATE_LOST=7"));
    }
}
