//! What the system says of the machine: how warm it is, how busy, and which of its networks are up.

use std::fs;
use std::path::Path;

/// Sensors and networks that are told, at most.
const MOST: usize = 16;

/// Nothing of what the system does not say.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Machine {
    /// Degrees Celsius of each thermal zone, by the zone's type: `cpu-thermal`.
    pub temperatures: Vec<(String, f64)>,
    /// Whether each network interface carries, but for the loopback.
    pub networks: Vec<(String, bool)>,
    /// Tasks that ran or wanted to, over the last minute.
    pub load: Option<f64>,
}

impl Machine {
    /// Now.
    pub(crate) fn now() -> Self {
        Self::below(Path::new("/"))
    }

    fn below(root: &Path) -> Self {
        let load = fs::read_to_string(root.join("proc/loadavg")).ok();
        Self {
            temperatures: each(&root.join("sys/class/thermal"), temperature),
            networks: each(&root.join("sys/class/net"), network),
            load: load.and_then(|text| text.split(' ').next()?.parse().ok()),
        }
    }
}

/// What is found in each of a folder's folders, in the order of their names.
fn each<T>(folder: &Path, look: impl Fn(&Path) -> Option<T>) -> Vec<T> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().filter_map(|path| look(path)).take(MOST).collect()
}

/// Linux tells thousandths of a degree.
fn temperature(zone: &Path) -> Option<(String, f64)> {
    let text = |file: &str| fs::read_to_string(zone.join(file)).ok();
    let kind = text("type")?.trim().to_owned();
    let thousandths: f64 = text("temp")?.trim().parse().ok()?;
    Some((kind, thousandths / 1_000.0))
}

fn network(interface: &Path) -> Option<(String, bool)> {
    let name = interface.file_name()?.to_str()?.to_owned();
    let state = fs::read_to_string(interface.join("operstate")).ok()?;
    // Tunnels and serial links say `unknown` while they are up.
    (name != "lo").then_some((name, matches!(state.trim(), "up" | "unknown")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_is_told_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Machine::below(root.path()), Machine::default());
        for (file, text) in [
            ("proc/loadavg", "0.52 0.58 0.59 1/467 12345\n"),
            ("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n"),
            ("sys/class/thermal/thermal_zone0/temp", "48250\n"),
            ("sys/class/thermal/thermal_zone1/type", "broken\n"),
            ("sys/class/thermal/cooling_device0/type", "fan\n"),
            ("sys/class/net/lo/operstate", "unknown\n"),
            ("sys/class/net/eth0/operstate", "up\n"),
            ("sys/class/net/eth1/operstate", "down\n"),
            ("sys/class/net/wwan0/operstate", "unknown\n"),
        ] {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let network = |name: &str, up| (name.to_owned(), up);
        let expected = Machine {
            temperatures: vec![("cpu-thermal".into(), 48.25)],
            networks: vec![
                network("eth0", true),
                network("eth1", false),
                network("wwan0", true),
            ],
            load: Some(0.52),
        };
        assert_eq!(Machine::below(root.path()), expected);
    }
}
