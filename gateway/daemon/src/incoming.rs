//! A file that somebody sends, written to the disk piece by piece within bounds: bytes, time, and what of the disk stays free.

use crate::archive::free_bytes;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use std::fmt::Display;
use std::fs::File;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

/// Bytes that stay free on the disk: the gateway goes on writing there.
pub(crate) const RESERVE: u64 = 64 << 20;
/// How often it is looked whether the disk has room, in bytes.
const LOOK_EVERY: u64 = 4 << 20;
/// So long nothing of a file may come.
const STALL: Duration = Duration::from_secs(30);
/// And so long all of it may take.
const LONGEST: Duration = Duration::from_secs(2 * 3_600);

/// Why a file is not here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IncomingError {
    /// It is too long.
    #[error("such a file has {0} bytes at most")]
    TooLong(u64),
    /// The disk would be full.
    #[error("no room for the file: {RESERVE} bytes of the disk stay free for the gateway itself; free some")]
    NoRoom,
    /// Nothing came any more.
    #[error("the file did not come in time")]
    Late,
    /// It broke off.
    #[error("the file did not come: {0}")]
    Broken(String),
    /// It cannot be written.
    #[error("the file cannot be written: {0}")]
    Io(#[from] io::Error),
}

/// Writes what comes to a file below `folder`, and waits for the disk. `told`: bytes that are told to come; `most`: bytes that may.
pub(crate) async fn write_body<E: Display>(
    folder: &Path,
    file: File,
    told: Option<u64>,
    most: u64,
    body: impl Stream<Item = Result<Bytes, E>>,
) -> Result<(), IncomingError> {
    let writing = async {
        let room = || free_bytes(folder).saturating_sub(RESERVE);
        if told.is_some_and(|told| told > most) {
            return Err(IncomingError::TooLong(most));
        }
        if told.unwrap_or(0) > room() {
            return Err(IncomingError::NoRoom);
        }
        let mut file = tokio::fs::File::from_std(file);
        let (mut bytes, mut looked_at) = (0_u64, None);
        let mut body = pin!(body);
        loop {
            let next = timeout(STALL, body.next()).await;
            let Some(piece) = next.map_err(|_| IncomingError::Late)? else {
                break;
            };
            let piece = piece.map_err(|error| IncomingError::Broken(error.to_string()))?;
            bytes += piece.len() as u64;
            if bytes > most {
                return Err(IncomingError::TooLong(most));
            }
            if looked_at.is_none_or(|at| bytes - at >= LOOK_EVERY) {
                looked_at = Some(bytes);
                if room() < LOOK_EVERY {
                    return Err(IncomingError::NoRoom);
                }
            }
            file.write_all(&piece).await?;
        }
        file.flush().await?;
        Ok(file.sync_all().await?)
    };
    timeout(LONGEST, writing).await.map_err(|_| IncomingError::Late)?
}
