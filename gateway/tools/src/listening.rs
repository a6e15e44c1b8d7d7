//! What `sub` and `stomp-sub` have in common: they listen until it is enough, come back when the connection is lost, and say goodbye.

use headgate_cli::complain;
use std::error::Error;
use std::time::Duration;

/// Waits between two tries to come back.
pub(crate) const FIRST_WAIT: Duration = Duration::from_secs(1);
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// For the last exchange before we leave.
pub(crate) const LAST_EXCHANGE: Duration = Duration::from_secs(5);

/// Why it failed.
pub(crate) trait ListenError: Error {
    /// Whether it may be better later.
    fn passes(&self) -> bool;

    /// Fewer messages came than were wanted.
    fn too_few(messages: u64, wanted: u64, within: Duration) -> Self;
}

/// How far it is with its connections.
#[derive(Debug)]
pub(crate) struct Tries {
    connected: bool,
    wait: Duration,
}

impl Tries {
    /// There is a connection.
    pub(crate) fn succeeded(&mut self) {
        (self.connected, self.wait) = (true, FIRST_WAIT);
    }
}

/// A subscriber of some protocol: what outlives its connections.
pub(crate) trait Listener {
    type Error: ListenError;

    /// Connects and prints what comes, until it is enough. Says when there is a connection.
    async fn listen(&mut self, tries: &mut Tries) -> Result<(), Self::Error>;

    /// Says goodbye, if there is a connection.
    async fn leave(&mut self) -> Result<(), Self::Error>;

    /// Messages that were printed.
    fn printed(&self) -> u64;
}

/// Listens until it is enough, or somebody presses Ctrl-C; where there is a limit not longer than that, and it is an error if fewer messages came than were
/// wanted.
pub(crate) async fn run<L: Listener>(
    listener: &mut L,
    wanted: Option<u64>,
    limit: Option<Duration>,
) -> Result<(), L::Error> {
    let listening = until_told(listener);
    let Some(limit) = limit else {
        return listening.await;
    };
    if let Ok(result) = tokio::time::timeout(limit, listening).await {
        return result;
    }
    // Whether the farewell succeeds does not matter any more.
    let _ = listener.leave().await;
    match wanted {
        Some(wanted) if listener.printed() < wanted => {
            Err(L::Error::too_few(listener.printed(), wanted, limit))
        }
        _ => Ok(()),
    }
}

async fn until_told<L: Listener>(listener: &mut L) -> Result<(), L::Error> {
    tokio::select! {
        result = come_back(listener) => result?,
        _ = tokio::signal::ctrl_c() => {}
    }
    listener.leave().await
}

/// Only the first connection must succeed at once.
async fn come_back<L: Listener>(listener: &mut L) -> Result<(), L::Error> {
    let mut tries = Tries {
        connected: false,
        wait: FIRST_WAIT,
    };
    loop {
        match listener.listen(&mut tries).await {
            Err(error) if tries.connected && error.passes() => {
                complain(&error);
                tokio::time::sleep(tries.wait).await;
                tries.wait = LONGEST_WAIT.min(tries.wait * 2);
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, thiserror::Error)]
    enum Fault {
        #[error("it may be better later")]
        Passing,
        #[error("it stays so")]
        Lasting,
        #[error("{0} of {1}")]
        TooFew(u64, u64),
    }

    impl ListenError for Fault {
        fn passes(&self) -> bool {
            *self == Self::Passing
        }

        fn too_few(messages: u64, wanted: u64, _: Duration) -> Self {
            Self::TooFew(messages, wanted)
        }
    }

    /// Each connection, and how it ends; after the last it hangs.
    struct Script(Vec<(bool, Fault)>, u64);

    impl Listener for Script {
        type Error = Fault;

        async fn listen(&mut self, tries: &mut Tries) -> Result<(), Fault> {
            let Some((connected, fault)) = self.0.pop() else {
                return std::future::pending().await;
            };
            if connected {
                tries.succeeded();
            }
            Err(fault)
        }

        async fn leave(&mut self) -> Result<(), Fault> {
            Ok(())
        }

        fn printed(&self) -> u64 {
            self.1
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_first_connection_must_succeed_at_once() {
        let mut never = Script(vec![(false, Fault::Passing)], 0);
        assert_eq!(run(&mut never, None, None).await, Err(Fault::Passing));
        let mut later = Script(
            vec![
                (false, Fault::Lasting),
                (false, Fault::Passing),
                (true, Fault::Passing),
            ],
            0,
        );
        let begun = tokio::time::Instant::now();
        assert_eq!(run(&mut later, None, None).await, Err(Fault::Lasting));
        assert_eq!(begun.elapsed().as_secs(), 1 + 2);
    }

    #[tokio::test(start_paused = true)]
    async fn too_few_messages_in_time_are_an_error() {
        let limit = Some(Duration::from_secs(5));
        for (wanted, ends) in [
            (None, Ok(())),
            (Some(2), Ok(())),
            (Some(3), Err(Fault::TooFew(2, 3))),
        ] {
            assert_eq!(run(&mut Script(Vec::new(), 2), wanted, limit).await, ends);
        }
    }
}
