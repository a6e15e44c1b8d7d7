//! Where the log goes.

use crate::draft::{Draft, Of};
use crate::value::Table;

/// Where programs of this machine reach syslog.
const SYSLOG: &str = "unix:/dev/log";

/// The destinations, as they are told.
#[derive(Default)]
pub(crate) struct Sinks {
    /// Who was the first to name the file.
    file: Option<Of>,
}

impl Sinks {
    /// A file; the gateway has one.
    pub(crate) fn file(&mut self, draft: &mut Draft, of: Of, path: String) -> bool {
        if let Some(first) = self.file {
            let place = draft.place(first);
            let because = format!("the log has one file, see {place}");
            draft.not_taken(of, because, "log.level says what is written there.");
            return false;
        }
        self.file = Some(of);
        draft.set(of, "log.file.path", path);
        true
    }

    /// syslog, with a heading for its lines.
    pub(crate) fn syslog(&self, draft: &mut Draft, of: Of, facility: Option<(Of, String)>) {
        let mut syslog = Table::default();
        syslog.set("address", SYSLOG);
        if let Some((facility_of, facility)) = facility {
            draft.taken(facility_of, format!("log.syslog.facility = \"{facility}\""));
            syslog.set("facility", facility);
        }
        draft.set(of, "log.syslog", syslog);
    }

    /// Whether it goes to standard error, and who says so.
    pub(crate) fn stderr(&self, draft: &mut Draft, of: Of, on: bool) {
        draft.set(of, "log.stderr", on);
    }
}
