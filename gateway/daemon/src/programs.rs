//! Programs that the configuration names, and what they print, of which so much is kept and no more.

use rustix::process::{Pid, Signal, kill_process_group};
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, copy, sink};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How a program ended, and the beginning of what it printed.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// Bytes of a stream that are kept of most programs.
const MOST: u64 = 64 << 10;
/// How long a program that has ended is still read.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Runs a program to its end, without input.
pub(crate) async fn run(command: &mut Command) -> io::Result<Ended> {
    run_and_keep(MOST, command).await
}

/// The same; of each stream so many bytes are kept.
pub(crate) async fn run_and_keep(most: u64, command: &mut Command) -> io::Result<Ended> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let mut late = Group::of(&child);
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (mut out, mut error) = (Vec::new(), Vec::new());
    let reading = async {
        tokio::join!(
            beginning(most, stdout, &mut out),
            beginning(most, stderr, &mut error)
        )
    };
    let status = until_ended(&mut child, reading).await;
    late.0 = None;
    Ok(Ended {
        status: status?,
        stdout: out,
        stderr: error,
    })
}

/// A program that nobody waits for any more, with all that it has started: a shell's own programs would go on, and more of them come with each try. What a program
/// leaves behind that has ended may go on.
struct Group(Option<Pid>);

impl Group {
    /// Of a program that is the first of its group.
    fn of(child: &Child) -> Self {
        let number = child.id().and_then(|number| i32::try_from(number).ok());
        Self(number.and_then(Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Waits until a program has ended and all it printed was read. What it has started, and goes on, may have its streams still: that is not waited for.
pub(crate) async fn until_ended(child: &mut Child, reading: impl Future) -> io::Result<ExitStatus> {
    let mut reading = std::pin::pin!(reading);
    let status = tokio::select! {
        _ = &mut reading => return child.wait().await,
        status = child.wait() => status?,
    };
    let _ = timeout(LAST_WORDS, reading).await;
    Ok(status)
}

/// Reads to the end: who is not heard must not wait for that. What cannot be read was not printed.
async fn beginning(most: u64, stream: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    if let Some(mut stream) = stream
        && (&mut stream).take(most).read_to_end(kept).await.is_ok()
    {
        let _ = copy(&mut stream, &mut sink()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_what_a_program_prints_the_beginning_is_kept() {
        let script = "head -c 3000000 /dev/zero; echo why >&2; head -c 3000000 /dev/zero >&2; exit 3";
        let ended = run(Command::new("sh").args(["-c", script])).await.unwrap();
        assert_eq!(ended.status.code(), Some(3));
        assert_eq!(
            (ended.stdout.len(), ended.stderr.len()),
            (MOST as usize, MOST as usize)
        );
        assert!(ended.stderr.starts_with(b"why\n"));
    }

    /// A shell that is late waits for a program of its own.
    #[tokio::test]
    async fn a_program_that_is_late_ends_with_all_that_it_has_started() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        let script = format!(
            "sleep 600 & echo $! > {0}.new; mv {0}.new {0}; wait",
            path.display()
        );
        let mut command = Command::new("sh");
        let started = async {
            while !path.exists() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            _ = run(command.args(["-c", &script])) => unreachable!("it waits"),
            () = started => {}
        }
        let number: i32 = std::fs::read_to_string(&path).unwrap().trim().parse().unwrap();
        let state = || std::fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
        let is_over = || {
            state()
                .rsplit(')')
                .next()
                .is_none_or(|rest| rest.trim_start().starts_with(['Z', 'X']) || rest.is_empty())
        };
        timeout(Duration::from_secs(30), async {
            while !is_over() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .unwrap();
    }

    /// Such as a reboot that is put into the background.
    #[tokio::test]
    async fn what_a_program_leaves_behind_is_not_waited_for() {
        let mut command = Command::new("sh");
        let running = run(command.args(["-c", "echo so; sleep 60 & exit 0"]));
        let ended = timeout(Duration::from_secs(30), running).await.unwrap().unwrap();
        assert!(ended.status.success() && ended.stdout == b"so\n");
    }
}
