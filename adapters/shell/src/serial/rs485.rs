//! `TIOCSRS485` of Linux: the driver of a serial port switches an RS-485 transceiver by RTS.

#![allow(
    unsafe_code,
    reason = "no library has this call; the block says why it is sound"
)]

use crate::settings::Rs485Settings;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// As in `linux/serial.h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
struct SerialRs485 {
    flags: u32,
    delay_rts_before_send: u32,
    delay_rts_after_send: u32,
    padding: [u32; 5],
}

const _: () = assert!(size_of::<SerialRs485>() == 32, "the kernel's structure");

const ENABLED: u32 = 1 << 0;
const RTS_ON_SEND: u32 = 1 << 1;
const RTS_AFTER_SEND: u32 = 1 << 2;

/// Tells the driver.
pub(super) fn configure(port: &impl AsRawFd, settings: &Rs485Settings) -> io::Result<()> {
    let mut told = of(settings);
    // SAFETY: the descriptor is open while `port` is borrowed, and the call reads and writes one structure of the kernel's size, which `told` is.
    let done = unsafe { libc::ioctl(port.as_raw_fd(), libc::TIOCSRS485, &raw mut told) };
    if done == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    // A driver that knows nothing of it need not be told to leave it.
    if !settings.enabled {
        return Ok(());
    }
    Err(io::Error::new(
        error.kind(),
        format!("rs485: the driver does not take it: {error}"),
    ))
}

fn of(settings: &Rs485Settings) -> SerialRs485 {
    let ms = |delay: Duration| u32::try_from(delay.as_millis()).unwrap_or(u32::MAX);
    let level = if settings.rts_on_send {
        RTS_ON_SEND
    } else {
        RTS_AFTER_SEND
    };
    SerialRs485 {
        flags: if settings.enabled { ENABLED | level } else { 0 },
        delay_rts_before_send: ms(settings.delay_before_send),
        delay_rts_after_send: ms(settings.delay_after_send),
        padding: [0; 5],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_is_told_what_the_settings_say() {
        let told = of(&Rs485Settings {
            delay_before_send: Duration::from_millis(2),
            delay_after_send: Duration::from_millis(3),
            ..Rs485Settings::default()
        });
        assert_eq!(told.flags, ENABLED | RTS_ON_SEND);
        assert_eq!((told.delay_rts_before_send, told.delay_rts_after_send), (2, 3));
        let low = of(&Rs485Settings {
            rts_on_send: false,
            ..Rs485Settings::default()
        });
        assert_eq!(low.flags, ENABLED | RTS_AFTER_SEND);
        let off = Rs485Settings {
            enabled: false,
            ..Rs485Settings::default()
        };
        assert_eq!(of(&off).flags, 0);
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(configure(&file, &off).is_ok());
        let error = configure(&file, &Rs485Settings::default()).unwrap_err();
        assert!(error.to_string().starts_with("rs485:"), "{error}");
    }
}
