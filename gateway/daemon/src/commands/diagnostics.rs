//! `headgate diagnostics`: a bundle of a running gateway for whoever helps, without secrets.

use super::error::CommandError;
use super::gateway::Gateway;
use clap::Args;
use headgate_cli::{Outcome, runtime};
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Write a bundle of a running gateway for whoever helps: how it is, its log, and its configuration, with secrets taken out.
#[derive(Args)]
pub struct DiagnosticsCommand {
    #[command(flatten)]
    gateway: Gateway,
    /// The file that is made, a tar archive, compressed with zstd.
    file: PathBuf,
    /// Write over a file that is there.
    #[arg(long)]
    force: bool,
}

impl DiagnosticsCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        crate::private::make_files_private();
        let path = &self.file;
        let failed = |cause| CommandError::File {
            path: path.clone(),
            cause,
        };
        if !self.force && path.exists() {
            let there = std::io::ErrorKind::AlreadyExists.into();
            return Err(failed(there).into());
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let mut new = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new("."))).map_err(failed)?;
        let client = self.gateway.client()?;
        let mut written = Ok(());
        let mut bytes = 0;
        runtime()?.block_on(client.download("/api/v1/diagnostics", &mut |piece| {
            bytes += piece.len();
            if written.is_ok() {
                written = new.write_all(piece);
            }
        }))?;
        written.map_err(failed)?;
        new.persist(path).map_err(|error| failed(error.error))?;
        let answer = json!({ "file": path, "bytes": bytes });
        self.gateway.answer(&answer, |_| {
            format!(
                "written: {} ({bytes} bytes); it has no secrets that are known, but names and addresses",
                path.display()
            )
        });
        Ok(())
    }
}
