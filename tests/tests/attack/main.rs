//! Attacks by anybody who can reach a port, against the real gateway: what they cost others, and what they make it keep. docs/security.md
//!
//! `make test` runs a short form, which asserts what is refused, what is kept and that honest clients go on; no time is asserted. `make attack` runs the
//! long form, optimised, and prints the figures.

mod memory;
mod pauses;
mod stomp;
mod third;

use headgate_tests::blackbox::Daemon;

/// What it is, and who makes it at a port.
pub type Attack = (&'static str, fn(u16));

/// Whether the long form is wanted.
pub fn is_long() -> bool {
    std::env::var_os("HEADGATE_ATTACK").is_some()
}

/// So much in the short form, or so much in the long one.
pub fn scale(short: usize, long: usize) -> usize {
    if is_long() { long } else { short }
}

/// A row of the table.
#[allow(clippy::print_stdout, reason = "a measurement")]
pub fn tell(attack: &str, figures: &str) {
    println!("{attack:<44} {figures}");
}

/// The highest memory of the gateway while `work` runs, in bytes.
pub fn peak_while<T>(daemon: &Daemon<'_>, work: impl FnOnce() -> T + Send) -> (T, u64)
where
    T: Send,
{
    std::thread::scope(|scope| {
        let worker = scope.spawn(work);
        let mut peak = daemon.memory();
        while !worker.is_finished() {
            peak = peak.max(daemon.memory());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        (
            worker.join().expect("it does not panic"),
            peak.max(daemon.memory()),
        )
    })
}
