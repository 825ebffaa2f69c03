//! `[csi]`: the socket at which the driver of CSI volumes asks.

use std::path::PathBuf;
use std::time::Duration;

use bursar_core::settings::Section;

/// Where the driver asks, and how it is answered.
#[derive(Debug, Clone)]
pub struct Csi {
    /// Absolute. The driver finds a provider by the name of its socket.
    pub socket: PathBuf,
    /// Whom the pods' tokens are for.
    pub audience: String,
    /// What a pod has already is good for so long without asking the broker, unless word of a change comes.
    pub refresh: Duration,
}

pub(super) fn csi(csi: &mut Section<'_>) -> Option<Csi> {
    let socket = csi.parsed("socket", socket);
    let socket = csi.required("socket", socket);
    let audience = csi.parsed("audience", audience).unwrap_or_else(|| "bursar".to_owned());
    let refresh = csi.duration("refresh").unwrap_or(Duration::from_secs(300));
    if refresh > LONGEST {
        csi.fault::<()>("refresh", "must not be longer than 1h".to_owned());
    }
    Some(Csi { socket: socket?, audience, refresh })
}

/// As the driver looks for it.
fn socket(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let name = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".sock"));
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let good = |name: &str| (1..=30).contains(&name.len()) && name.bytes().all(allowed);
    if path.is_absolute() && name.is_some_and(good) {
        return Ok(path);
    }
    Err("is an absolute path that ends in `PROVIDER.sock`, where PROVIDER is what a SecretProviderClass calls it: 1 to \
         30 letters, digits, `-` and `_`"
        .to_owned())
}

pub(super) fn audience(text: &str) -> Result<String, String> {
    let good = (1..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if good { Ok(text.to_owned()) } else { Err("is 1 to 256 characters without blanks".to_owned()) }
}

const LONGEST: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn read(lines: &str) -> Result<super::Csi, Vec<String>> {
        let text =
            format!("broker = 'https://b'\nca_file = 'ca'\nnode = 'n'\ndata_dir = 'd'\n[csi]\n{lines}");
        let config = Config::parse(&text);
        let config = config.map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        Ok(config.csi.expect("configured"))
    }

    #[test]
    fn a_socket_is_all_that_it_needs() {
        let csi = read("socket = '/var/run/secrets-store-csi-providers/bursar.sock'").expect("good");
        assert_eq!((csi.audience.as_str(), csi.refresh.as_secs()), ("bursar", 300));
    }

    #[test]
    fn a_socket_by_which_no_driver_would_find_it_is_refused() {
        let long = format!("/{}.sock", "x".repeat(31));
        for socket in ["bursar.sock", "/bursar", "/.sock", "/a b.sock", "/bursar.sock.old", "/", "", &long] {
            let faults = read(&format!("socket = '{socket}'")).expect_err("faulty");
            assert!(faults[0].starts_with("csi.socket: is an absolute path that ends in"), "{socket}");
        }
        let faults = read("audience = 'a b'\nrefresh = '2h'\nrefesh = '1m'").expect_err("faulty");
        assert_eq!(faults.len(), 4, "{faults:?}");
    }
}
