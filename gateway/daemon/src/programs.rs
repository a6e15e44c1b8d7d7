//! Programs that the configuration names, and what they print, of which so much is kept and no more.

use std::io;
use std::process::{ExitStatus, Stdio};
use tokio::io::{AsyncRead, AsyncReadExt, copy, sink};
use tokio::process::Command;

/// How a program ended, and what it printed: of each stream the first `MOST` bytes.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// Bytes of a stream that are kept.
pub(crate) const MOST: usize = 64 << 10;

/// Runs a program to its end, without input.
pub(crate) async fn run(command: &mut Command) -> io::Result<Ended> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (status, stdout, stderr) = tokio::try_join!(child.wait(), beginning(stdout), beginning(stderr))?;
    Ok(Ended {
        status,
        stdout,
        stderr,
    })
}

/// Reads to the end: who is not heard must not wait for that.
async fn beginning(stream: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    if let Some(mut stream) = stream {
        (&mut stream).take(MOST as u64).read_to_end(&mut kept).await?;
        copy(&mut stream, &mut sink()).await?;
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_what_a_program_prints_the_beginning_is_kept() {
        let script = "head -c 3000000 /dev/zero; echo why >&2; head -c 3000000 /dev/zero >&2; exit 3";
        let ended = run(Command::new("sh").args(["-c", script])).await.unwrap();
        assert_eq!(ended.status.code(), Some(3));
        assert_eq!((ended.stdout.len(), ended.stderr.len()), (MOST, MOST));
        assert!(ended.stderr.starts_with(b"why\n"));
    }
}
