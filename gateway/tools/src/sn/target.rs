//! Where a gateway is: at an address, or at the other end of a serial line.

use crate::error::ArgumentError;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use tokio_serial::{DataBits, Parity, SerialPortBuilder, StopBits};

/// Bits a second, where nothing is said.
const BAUD: u32 = 9_600;

/// Where a gateway is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SnTarget {
    /// Host name or address, and port.
    Udp(String, u16),
    /// A serial line; with HDLC frames or messages one after the other.
    Serial(SerialTarget, bool),
}

/// A serial line, as `PATH[,baud=N][,data=5|6|7|8][,parity=none|even|odd][,stop=1|2]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SerialTarget {
    path: PathBuf,
    baud: u32,
    data: DataBits,
    parity: Parity,
    stop: StopBits,
}

impl FromStr for SerialTarget {
    type Err = ArgumentError;

    fn from_str(text: &str) -> Result<Self, ArgumentError> {
        let mut parts = text.split(',');
        let path = parts.next().filter(|path| !path.is_empty());
        let mut target = Self {
            path: path.ok_or(ArgumentError::NoDevice)?.into(),
            baud: BAUD,
            data: DataBits::Eight,
            parity: Parity::None,
            stop: StopBits::One,
        };
        for part in parts {
            match part.split_once('=') {
                Some(("baud", baud)) => {
                    let number = baud.parse().ok().filter(|baud| *baud > 0);
                    target.baud = number.ok_or_else(|| ArgumentError::Baud {
                        baud: baud.to_owned(),
                    })?;
                }
                Some(("data", "5")) => target.data = DataBits::Five,
                Some(("data", "6")) => target.data = DataBits::Six,
                Some(("data", "7")) => target.data = DataBits::Seven,
                Some(("data", "8")) => target.data = DataBits::Eight,
                Some(("parity", "none")) => target.parity = Parity::None,
                Some(("parity", "even")) => target.parity = Parity::Even,
                Some(("parity", "odd")) => target.parity = Parity::Odd,
                Some(("stop", "1")) => target.stop = StopBits::One,
                Some(("stop", "2")) => target.stop = StopBits::Two,
                _ => {
                    return Err(ArgumentError::NoLinePart {
                        part: part.to_owned(),
                    });
                }
            }
        }
        Ok(target)
    }
}

impl SerialTarget {
    /// How to open it.
    pub(crate) fn builder(&self) -> SerialPortBuilder {
        tokio_serial::new(self.path.to_string_lossy(), self.baud)
            .data_bits(self.data)
            .parity(self.parity)
            .stop_bits(self.stop)
    }
}

impl fmt::Display for SnTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Udp(host, port) => write!(f, "{host}:{port}"),
            Self::Serial(target, _) => write!(f, "{}", target.path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_described_in_one_word() {
        let plain: SerialTarget = "/dev/ttyS0".parse().unwrap();
        let expected = SerialTarget {
            path: "/dev/ttyS0".into(),
            baud: 9_600,
            data: DataBits::Eight,
            parity: Parity::None,
            stop: StopBits::One,
        };
        assert_eq!(plain, expected);
        let all: SerialTarget = "/dev/ttyS0,baud=115200,parity=even,stop=2,data=7"
            .parse()
            .unwrap();
        let expected = SerialTarget {
            baud: 115_200,
            data: DataBits::Seven,
            parity: Parity::Even,
            stop: StopBits::Two,
            ..expected
        };
        assert_eq!(all, expected);
        assert_eq!(SnTarget::Serial(all, false).to_string(), "/dev/ttyS0");
    }

    #[test]
    fn what_is_no_line_is_refused() {
        for bad in [
            "",
            ",baud=9600",
            "/dev/x,baud=0",
            "/dev/x,baud=fast",
            "/dev/x,parity=some",
            "/dev/x,1",
        ] {
            assert!(bad.parse::<SerialTarget>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_is_written_as_everybody_does() {
        assert_eq!(SnTarget::Udp("::1".into(), 1884).to_string(), "[::1]:1884");
        assert_eq!(SnTarget::Udp("gw".into(), 1884).to_string(), "gw:1884");
    }
}
