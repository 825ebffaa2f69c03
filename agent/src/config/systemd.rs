//! `[systemd]`: the socket at which systemd asks for the credentials of units.

use std::path::PathBuf;

use bursar_core::settings::Section;

/// Where systemd asks, and what units may have.
#[derive(Debug, Clone)]
pub struct Systemd {
    /// Absolute; units name it by `LoadCredential=`.
    pub socket: PathBuf,
    pub units: Vec<Unit>,
}

/// What one unit may have, or all instances of a template.
#[derive(Debug, Clone)]
pub struct Unit {
    /// `web.service`, `web@1.service`, or `web@.service` for every instance.
    pub name: String,
    /// Whose variables and files its credentials are.
    pub environment: String,
}

impl Systemd {
    /// The entry of the unit `name`: its own, or that of its template.
    pub fn unit(&self, name: &str) -> Option<&Unit> {
        let of = |name: &str| self.units.iter().find(|unit| unit.name == name);
        of(name).or_else(|| of(&template(name)?))
    }
}

/// `web@.service` of `web@1.service`; nothing of a unit that is no instance.
fn template(name: &str) -> Option<String> {
    let (prefix, instance) = name.split_once('@')?;
    instance.strip_suffix(SERVICE).filter(|instance| !instance.is_empty())?;
    Some(format!("{prefix}@{SERVICE}"))
}

pub(super) fn systemd(systemd: &mut Section<'_>) -> Option<Systemd> {
    let socket = systemd.parsed("socket", super::files::absolute);
    let socket = systemd.required("socket", socket);
    let units = systemd.each("units", |name, unit| {
        let named = unit_name(name).map_err(|message| unit.fault::<()>("", message));
        let environment = unit.text("environment");
        let environment = unit.required("environment", environment);
        Some(Unit { name: named.ok()?, environment: environment? })
    });
    Some(Systemd { socket: socket?, units })
}

/// As systemd names services (systemd.unit(5)).
fn unit_name(name: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":_.-\\@".contains(&byte);
    let stem = name.strip_suffix(SERVICE).unwrap_or_default();
    if stem.is_empty() || name.len() > 255 || !name.bytes().all(allowed) {
        return Err("is no name of a service like `web.service` or `web@.service`".to_owned());
    }
    Ok(name.to_owned())
}

const SERVICE: &str = ".service";

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn read(lines: &str) -> Result<super::Systemd, Vec<String>> {
        let text =
            format!("broker = 'https://b'\nca_file = 'ca'\nnode = 'n'\ndata_dir = 'd'\n[systemd]\n{lines}");
        let config = Config::parse(&text);
        let config = config.map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        Ok(config.systemd.expect("configured"))
    }

    #[test]
    fn an_instance_has_what_its_template_has_unless_it_has_an_entry_of_its_own() {
        let systemd = read(
            "socket = '/run/bursar/systemd.sock'\n[systemd.units]\n'web@.service' = { environment = 'all' }\n\
             'web@1.service' = { environment = 'one' }\n'db.service' = { environment = 'db' }\n",
        );
        let systemd = systemd.expect("good");
        let environment = |name: &str| systemd.unit(name).map(|unit| unit.environment.as_str());
        assert_eq!((environment("web@1.service"), environment("web@2.service")), (Some("one"), Some("all")));
        assert_eq!(environment("db.service"), Some("db"));
        for none in ["web.service", "web@.socket", "db@1.service", "xdb.service", ""] {
            assert_eq!(environment(none), None, "{none}");
        }
    }

    #[test]
    fn what_names_no_service_is_refused() {
        let faults = read("[systemd.units]\n'web.socket' = { environment = 'e' }\n'a b.service' = {}\n");
        let faults = faults.expect_err("faulty");
        assert_eq!(
            faults,
            [
                "systemd.socket: is required",
                "systemd.units.a b.service: is no name of a service like `web.service` or `web@.service`",
                "systemd.units.a b.service.environment: is required",
                "systemd.units.web.socket: is no name of a service like `web.service` or `web@.service`",
            ]
        );
    }
}
