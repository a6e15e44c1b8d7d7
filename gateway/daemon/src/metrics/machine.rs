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
    /// Bytes of memory,
    pub memory_total: Option<u64>,
    /// and those of it that could be had.
    pub memory_available: Option<u64>,
    /// How worn the flash memory is, of an eMMC that says so: tenths of its life that are used up; 11 is more than its life.
    pub flash_life_used: Option<u8>,
}

impl Machine {
    /// Now.
    pub(crate) fn now() -> Self {
        Self::below(Path::new("/"))
    }

    fn below(root: &Path) -> Self {
        let load = fs::read_to_string(root.join("proc/loadavg")).ok();
        let memory = fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
        Self {
            temperatures: each(&root.join("sys/class/thermal"), temperature),
            networks: each(&root.join("sys/class/net"), network),
            load: load.and_then(|text| text.split(' ').next()?.parse().ok()),
            memory_total: of_memory(&memory, "MemTotal"),
            memory_available: of_memory(&memory, "MemAvailable"),
            flash_life_used: each(&root.join("sys/block"), life_used).into_iter().max(),
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

/// A line of `/proc/meminfo`, in bytes. proc_meminfo(5)
fn of_memory(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let (_, rest) = lines.find(|(found, _)| *found == name)?;
    let kib: u64 = rest.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1_024)
}

/// The worse of the two estimates of an eMMC's life, in tenths. JESD84-B51 §7.4.90: 0x01 is the first tenth, 0x0B is more than its life.
fn life_used(device: &Path) -> Option<u8> {
    let text = fs::read_to_string(device.join("device/life_time")).ok()?;
    let values = text.split_ascii_whitespace();
    let values = values.filter_map(|value| u8::from_str_radix(value.trim_start_matches("0x"), 16).ok());
    values.filter(|value| *value > 0).max()
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
            (
                "proc/meminfo",
                "MemTotal:       506816 kB\nMemFree:  1 kB\nMemAvailable:   123 kB\n",
            ),
            ("sys/block/mmcblk0/device/life_time", "0x01 0x03\n"),
            ("sys/block/mmcblk1/device/life_time", "0x00 0x00\n"),
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
            memory_total: Some(506_816 * 1_024),
            memory_available: Some(123 * 1_024),
            flash_life_used: Some(3),
        };
        assert_eq!(Machine::below(root.path()), expected);
    }
}
