//! Who may come in, and what they may do.

use super::Source;
use super::values::flag;
use crate::value::{Table, Value};

impl Source<'_> {
    /// `mqtt.allow_anonymous`; EMQ lets nobody in without it.
    pub(super) fn lets_in_anonymous(&mut self) -> bool {
        let said = self.last("mqtt.allow_anonymous");
        said.is_some_and(|(_, text)| text == "true")
    }

    pub(super) fn access(&mut self) {
        match self.last("mqtt.allow_anonymous") {
            Some((of, _)) if self.is_shut => self.draft.meaningless(of, "nobody comes in, see the plugins"),
            Some((of, _)) => match flag(&mut self.draft, of) {
                Some(true) => {
                    self.draft.set(of, "auth.anonymous", "everywhere");
                    let but = "a name that nobody checks is nobody's: rules for users and %u do not fit it; EMQ believes it";
                    self.draft.but(of, but);
                }
                Some(false) => self.draft.set(of, "auth.anonymous", "nowhere"),
                None => self.draft.config.set("auth.anonymous", "nowhere"),
            },
            None => {
                self.draft.config.set("auth.anonymous", "nowhere");
                self.draft.remark("auth.anonymous = \"nowhere\": without mqtt.allow_anonymous EMQ lets in nobody without a name");
            }
        }
        if self.is_shut {
            self.draft.config.set("auth.anonymous", "nowhere");
            self.draft.config.set("auth.chain", Value::List(Vec::new()));
        }
        self.rules();
    }

    fn rules(&mut self) {
        let nomatch = self.last("mqtt.acl_nomatch");
        let allows = nomatch.as_ref().is_none_or(|(_, text)| text == "allow");
        // What decided who comes in may have decided that, too.
        let word = if allows && !self.is_shut { "allow" } else { "deny" };
        let until = "nothing more is allowed until there are rules in its place, for a plugin may have decided that, too";
        let Some((of, _)) = self.last("mqtt.acl_file") else {
            let effect = if self.is_shut { "deny" } else { "allow" };
            let mut rule = Table::default();
            rule.set("effect", effect);
            self.draft.config.push("auth.acl", rule);
            let why = if self.is_shut {
                until
            } else {
                "without mqtt.acl_file EMQ allows everything"
            };
            self.draft
                .remark(format!("auth.acl = [{{ effect = \"{effect}\" }}]: {why}"));
            if let Some((of, _)) = nomatch {
                self.draft
                    .meaningless(of, "without mqtt.acl_file no rule is asked");
            }
            return;
        };
        let path = self.path(of);
        let mut file = Table::default();
        file.set("path", path.display().to_string());
        file.set("format", "emq");
        file.set("nomatch", word);
        self.draft.set(of, "auth.acl_file", file);
        self.is_there(of, &path);
        match nomatch {
            Some((of, text)) if text == "allow" || text == "deny" => {
                self.draft
                    .taken(of, format!("auth.acl_file.nomatch = \"{word}\""));
                if text != word {
                    self.draft.but(of, until);
                }
            }
            Some((of, _)) => {
                self.draft
                    .not_taken(of, "allowed is allow and deny", "EMQ does not start with it.");
            }
            None => {
                let why = if self.is_shut {
                    until
                } else {
                    "without mqtt.acl_nomatch EMQ allows what no rule matches"
                };
                self.draft
                    .remark(format!("auth.acl_file.nomatch = \"{word}\": {why}"));
            }
        }
    }
}
