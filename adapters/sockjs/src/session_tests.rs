//! A session's life on a virtual clock.

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const BOUNDS: Bounds = Bounds {
    body_bytes: 1 << 20,
    stranger_bytes: None,
    session_timeout: Duration::from_secs(5),
    heartbeat: Duration::from_secs(25),
    stall_time: Duration::from_secs(30),
    inbox_bytes: 100,
    outbox_bytes: 100,
};

/// A session and its clock.
struct Bench {
    session: SessionState,
    now: Duration,
}

impl Bench {
    fn new() -> Self {
        let now = 1_000 * SECOND;
        Self {
            session: SessionState::new(BOUNDS, now),
            now,
        }
    }

    /// With a receiver that has got the open frame.
    fn opened() -> (Self, ReceiverId) {
        let mut bench = Self::new();
        let receiver = bench.attach();
        assert_eq!(bench.next(receiver), Next::Frame(Frame::Open));
        (bench, receiver)
    }

    /// Lets time pass; whatever is due on the way is done when it is.
    fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(deadline) = self.session.deadline().filter(|deadline| *deadline <= end) {
            self.now = self.now.max(deadline);
            self.session.timeout(self.now);
        }
        self.now = end;
    }

    fn attach(&mut self) -> ReceiverId {
        self.session.attach(self.now).expect("nobody else receives")
    }

    fn next(&mut self, receiver: ReceiverId) -> Next {
        self.session.next(receiver, self.now)
    }

    fn finish(&mut self, receiver: ReceiverId) {
        self.session.detach(receiver, true, self.now);
    }

    fn interrupt(&mut self, receiver: ReceiverId) {
        self.session.detach(receiver, false, self.now);
    }

    /// What a polling request gets at once.
    fn poll(&mut self) -> Next {
        let receiver = self.attach();
        let next = self.next(receiver);
        self.finish(receiver);
        next
    }

    fn send(&mut self, message: &str) {
        self.session
            .send(message.to_owned())
            .expect("the session is open");
    }

    fn ended(&self) -> Option<&Ended> {
        self.session.ended()
    }

    fn is_forgotten(&self) -> bool {
        self.session.deadline().is_none()
    }
}

fn messages(messages: &[&str]) -> Next {
    Next::Frame(Frame::Messages(texts(messages)))
}

fn texts(messages: &[&str]) -> Vec<String> {
    messages.iter().map(|&message| message.to_owned()).collect()
}

fn closed(ended: Ended) -> Next {
    Next::Frame(Frame::Close(ended))
}

/// `Protocol.test_simpleSession`: a new session begins with an open frame; messages come in frames together.
#[test]
fn open_comes_first_and_waiting_messages_come_together() {
    let mut bench = Bench::new();
    bench.send("a");
    bench.send("b");
    assert_eq!(bench.poll(), Next::Frame(Frame::Open));
    assert_eq!(bench.poll(), messages(&["a", "b"]));
    assert_eq!(bench.poll(), Next::Wait);
}

/// A frame has a size; no message is cut, and none changes places.
#[test]
fn a_frame_carries_only_so_much() {
    let (mut bench, receiver) = Bench::opened();
    let half = "x".repeat(FRAME_BYTES / 2);
    let whole = "y".repeat(FRAME_BYTES);
    for message in [&half, &half, &whole] {
        bench.send(message);
    }
    for message in [&half, &half, &whole] {
        assert_eq!(bench.next(receiver), messages(&[message.as_str()]));
    }
    assert_eq!(bench.next(receiver), Next::Wait);
}

/// "The session must time out after 5 seconds of not having a receiving connection."
#[test]
fn a_session_without_receiver_times_out() {
    let mut bench = Bench::new();
    bench.poll();
    bench.advance(4 * SECOND);
    bench.poll();
    bench.advance(BOUNDS.session_timeout - Duration::from_millis(1));
    assert_eq!(bench.ended(), None);
    bench.advance(Duration::from_millis(1));
    assert_eq!(bench.ended(), Some(&Ended::TIMED_OUT));
    assert!(bench.is_forgotten());
}

/// A session that nobody ever received goes like any other.
#[test]
fn a_half_open_session_goes() {
    let mut bench = Bench::new();
    bench.advance(BOUNDS.session_timeout);
    assert!(bench.is_forgotten());
}

/// "The server must send a heartbeat frame every 25 seconds": after the last frame of any kind.
#[test]
fn silence_is_broken_by_heartbeats() {
    let (mut bench, receiver) = Bench::opened();
    bench.advance(24 * SECOND);
    bench.send("a");
    assert_eq!(bench.next(receiver), messages(&["a"]));
    bench.advance(24 * SECOND);
    assert_eq!(bench.next(receiver), Next::Wait);
    for _ in 0..3 {
        bench.advance(25 * SECOND);
        assert_eq!(bench.next(receiver), Next::Frame(Frame::Heartbeat));
        assert_eq!(bench.next(receiver), Next::Wait);
    }
}

/// A heart-beat that nobody takes shows that the connection is none any more. What waits is dropped, and counted.
#[test]
fn a_receiver_that_takes_nothing_is_cut_off() {
    let (mut bench, receiver) = Bench::opened();
    bench.send("a");
    bench.advance(BOUNDS.heartbeat + BOUNDS.stall_time - SECOND);
    assert_eq!(bench.ended(), None);
    bench.advance(SECOND);
    assert_eq!(bench.ended(), Some(&Ended::STALLED));
    assert_eq!(bench.next(receiver), Next::Over);
    assert_eq!(bench.session.take_undelivered(), 1);
    bench.advance(BOUNDS.session_timeout);
    assert!(bench.is_forgotten());
}

/// "The server must not allow two receiving connections to wait on a single session."
#[test]
fn a_second_receiver_is_told_so_and_disturbs_nothing() {
    let (mut bench, receiver) = Bench::opened();
    let refused = bench.session.attach(bench.now);
    assert_eq!(refused, Err(Frame::Close(Ended::ANOTHER_RECEIVER)));
    assert_eq!(bench.ended(), None);
    bench.send("a");
    assert_eq!(bench.next(receiver), messages(&["a"]));
}

/// `HandlingClose.test_abort_xhr_polling`: after a network error "we're in an undefined state": the session is closed.
#[test]
fn an_interrupted_receiver_ends_the_session() {
    let (mut bench, receiver) = Bench::opened();
    bench.send("a");
    bench.interrupt(receiver);
    assert_eq!(bench.ended(), Some(&Ended::INTERRUPTED));
    assert!(bench.session.is_settled(), "nobody is to be waited for");
    assert_eq!(bench.session.take_undelivered(), 1);
    assert_eq!(bench.poll(), closed(Ended::INTERRUPTED));
}

/// A receiver that has finished is gone; that its connection breaks later means nothing.
#[test]
fn a_receiver_leaves_once() {
    let (mut bench, receiver) = Bench::opened();
    bench.finish(receiver);
    let second = bench.attach();
    bench.interrupt(receiver);
    assert_eq!(bench.ended(), None);
    assert_eq!(bench.next(receiver), Next::Over);
    assert_eq!(bench.next(second), Next::Wait);
}

/// `Protocol.test_closeSession`: "Until the timeout occurs, the server must constantly serve the close message." What was sent before comes before it.
#[test]
fn a_closed_session_says_so_until_it_is_forgotten() {
    let mut bench = Bench::new();
    bench.send("last words");
    bench.session.close(Ended::GO_AWAY, bench.now);
    assert_eq!(bench.session.send("late".into()), Err(Ended::GO_AWAY));
    assert_eq!(bench.poll(), Next::Frame(Frame::Open));
    assert_eq!(bench.poll(), messages(&["last words"]));
    assert!(!bench.session.is_settled());
    for _ in 0..4 {
        assert_eq!(bench.poll(), closed(Ended::GO_AWAY));
        assert!(bench.session.is_settled());
        bench.advance(SECOND);
    }
    // Asking does not keep it.
    bench.advance(SECOND);
    assert!(bench.is_forgotten());
    assert_eq!(bench.session.take_undelivered(), 0);
}

/// A slow client gets all that was sent before the end, as long as it goes on asking.
#[test]
fn last_words_are_waited_for_while_they_are_fetched() {
    let mut bench = Bench::new();
    bench.poll();
    let large = "x".repeat(FRAME_BYTES);
    (0..3).for_each(|_| bench.send(&large));
    bench.session.close(Ended::GO_AWAY, bench.now);
    for _ in 0..3 {
        bench.advance(4 * SECOND);
        assert_eq!(bench.poll(), messages(&[&large]));
    }
    bench.advance(4 * SECOND);
    assert_eq!(bench.poll(), closed(Ended::GO_AWAY));
    bench.advance(SECOND);
    assert!(bench.is_forgotten());
}

/// `HandlingClose.test_close_frame`: "When server is closing session, it should unlink current request."
#[test]
fn a_close_frame_is_the_receivers_last() {
    let (mut bench, receiver) = Bench::opened();
    bench.session.close(Ended::GO_AWAY, bench.now);
    assert_eq!(bench.session.attach(bench.now), Err(Frame::Close(Ended::GO_AWAY)));
    assert_eq!(bench.next(receiver), closed(Ended::GO_AWAY));
    assert_eq!(bench.next(receiver), Next::Over);
    assert_eq!(bench.poll(), closed(Ended::GO_AWAY));
}

/// The first end counts.
#[test]
fn a_session_ends_once() {
    let (mut bench, receiver) = Bench::opened();
    bench.session.close(Ended::GO_AWAY, bench.now);
    bench.interrupt(receiver);
    bench.advance(BOUNDS.session_timeout);
    assert_eq!(bench.ended(), Some(&Ended::GO_AWAY));
}

/// What never gets to the client is counted, also if the application closed in good order.
#[test]
fn what_a_client_does_not_fetch_is_counted() {
    let mut bench = Bench::new();
    bench.poll();
    bench.send("a");
    bench.send("b");
    bench.session.close(Ended::GO_AWAY, bench.now);
    bench.advance(BOUNDS.session_timeout);
    assert!(bench.is_forgotten());
    assert_eq!(bench.session.take_undelivered(), 2);
}

/// The inbox has a bound in bytes, of which an empty message has its share. A body is taken whole or not at all.
#[test]
fn a_full_inbox_takes_nothing_until_it_is_read() {
    let mut bench = Bench::new();
    let body = texts(&["", "", "", ""]);
    assert_eq!(bench.session.deliver(body.clone()), Ok(()));
    assert_eq!(bench.session.deliver(body.clone()), Err(NotTaken::Full(body)));
    for _ in 0..4 {
        assert_eq!(bench.session.read(), Some(String::new()));
    }
    // An empty inbox takes any one body.
    let large = vec!["x".repeat(1_000)];
    assert_eq!(bench.session.deliver(large), Ok(()));
    assert_eq!(
        bench.session.deliver(texts(&[""])),
        Err(NotTaken::Full(texts(&[""])))
    );
}

/// A sender that was told that its messages were taken can rely on it.
#[test]
fn what_was_taken_is_read_after_the_end_too() {
    let (mut bench, receiver) = Bench::opened();
    bench.session.deliver(texts(&["a"])).unwrap();
    bench.interrupt(receiver);
    assert_eq!(bench.session.deliver(texts(&["b"])), Err(NotTaken::Ended));
    bench.advance(BOUNDS.session_timeout);
    assert!(bench.is_forgotten());
    assert_eq!(bench.session.read(), Some("a".into()));
    assert_eq!(bench.session.read(), None);
}

/// The application waits when the outbox is full.
#[test]
fn a_full_outbox_makes_the_application_wait() {
    let (mut bench, receiver) = Bench::opened();
    while bench.session.may_send() {
        bench.send("0123456789");
    }
    assert_eq!(bench.session.outbox.messages.len(), 3);
    assert_ne!(bench.next(receiver), Next::Wait);
    assert!(bench.session.may_send());
}

/// Whatever happens in whatever order: deadlines are never missed for ever, bounds hold, and a session that is left alone is forgotten.
#[test]
fn any_life_comes_to_an_end() {
    for seed in 0..2_000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut bench = Bench::new();
        let mut receivers = Vec::new();
        let (mut sent, mut got) = (0, 0);
        for _ in 0..60 {
            match rng.u8(..9) {
                0 => receivers.extend(bench.session.attach(bench.now)),
                1 | 2 if !receivers.is_empty() => {
                    let receiver = receivers[rng.usize(..receivers.len())];
                    if let Next::Frame(Frame::Messages(messages)) = bench.next(receiver) {
                        got += messages.len();
                    }
                }
                3 if !receivers.is_empty() => {
                    let receiver = receivers.swap_remove(rng.usize(..receivers.len()));
                    bench.session.detach(receiver, rng.u8(..4) > 0, bench.now);
                }
                4 if bench.session.may_send() => sent += usize::from(bench.session.send("m".into()).is_ok()),
                5 => drop(bench.session.deliver(texts(&["m"]))),
                6 => drop(bench.session.read()),
                7 if rng.u8(..10) == 0 => bench.session.close(Ended::GO_AWAY, bench.now),
                _ => bench.advance(Duration::from_millis(rng.u64(..6_000))),
            }
            assert!(bench.session.inbox.bytes <= BOUNDS.inbox_bytes);
            assert!(bench.session.outbox.bytes <= BOUNDS.outbox_bytes + Queue::cost("m"));
        }
        bench.advance(10 * (BOUNDS.heartbeat + BOUNDS.stall_time));
        assert!(bench.is_forgotten(), "seed {seed}: {:?}", bench.session);
        assert_eq!(
            got + bench.session.take_undelivered(),
            sent,
            "seed {seed}: none is lost without a count"
        );
    }
}
