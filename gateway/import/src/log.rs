//! Where the log goes.

use crate::draft::{Draft, Of};
use crate::value::Table;

/// Where programs of this machine reach syslog.
const SYSLOG: &str = "unix:/dev/log";

const STDERR: &str = "The log goes to standard error: let the service send it where it belongs.";

/// What sinks there are, as they are told.
pub(crate) struct Sinks {
    /// Whether the gateway has any but standard error.
    pub(crate) are_there: bool,
    /// Who was the first to name the file.
    file: Option<Of>,
}

impl Sinks {
    pub(crate) fn new(are_there: bool) -> Self {
        Self {
            are_there,
            file: None,
        }
    }

    /// A file; the gateway has one.
    pub(crate) fn file(&mut self, draft: &mut Draft, of: Of, path: String) -> bool {
        if !self.are_there {
            draft.not_taken(of, format!("nothing is written to {path}"), STDERR);
            return false;
        }
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
        if !self.are_there {
            draft.not_taken(of, "nothing is sent to syslog", STDERR);
            if let Some((of, _)) = facility {
                draft.meaningless(of, "nothing is sent to syslog");
            }
            return;
        }
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
        match (self.are_there, on) {
            (true, _) => draft.set(of, "log.stderr", on),
            (false, true) => draft.is_so(of),
            (false, false) => {
                draft.not_taken(
                    of,
                    "the log goes to standard error",
                    "Set log.level = \"off\", if it must be.",
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::Directive;
    use std::path::Path;

    /// A gateway that writes to standard error alone says so, and its configuration names nothing else.
    #[test]
    fn what_the_gateway_cannot_write_to_is_not_taken() {
        let mut draft = Draft::default();
        let mut add = |name: &str| {
            draft.add(Directive {
                file: Path::new("m.conf").into(),
                line: 1,
                name: name.to_owned(),
                value: String::new(),
                between: " ",
                is_secret: false,
            })
        };
        let [file, syslog, none, stderr] = ["file", "syslog", "none", "stderr"].map(&mut add);
        let mut sinks = Sinks::new(false);
        assert!(!sinks.file(&mut draft, file, "/var/log/m.log".into()));
        sinks.syslog(&mut draft, syslog, None);
        sinks.stderr(&mut draft, none, false);
        sinks.stderr(&mut draft, stderr, true);
        let import = draft.finish("").unwrap();
        assert_eq!((import.report.not_taken(), import.config.trim()), (3, ""));
    }
}
