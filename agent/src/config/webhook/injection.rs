//! What is added to pods, and what pods may say about it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bursar_core::reference::BackendName;
use bursar_core::settings::Section;
use bursar_sdk::Address;

use super::object_name;
use crate::webhook::annotations;

/// What is added to pods.
#[derive(Debug, Clone)]
pub struct Injection {
    /// What injected containers run.
    pub image: String,
    /// Kubernetes's own rule when not given.
    pub image_pull_policy: Option<String>,
    /// The broker, as pods reach it.
    pub broker: Address,
    /// Whom pods' tokens are for.
    pub audience: String,
    /// Of the agent's socket, on nodes.
    pub node_socket_dir: String,
    /// Those that pods may have.
    pub shapes: Vec<Shape>,
    pub default_shape: Shape,
    pub allow: Allowed,
    /// Containers that are left out unless they are named.
    pub leave_out: Vec<String>,
    /// The sidecar may take so long for the first set.
    pub startup: Duration,
    pub resources: Resources,
    /// Whom injected containers run as.
    pub user: u32,
    pub group: u32,
    /// Namespaces whose pods are opted in.
    pub namespaces: BTreeMap<String, NamespaceDefaults>,
    /// How annotations for Vault's injector are read; they mean nothing when not given.
    pub vault: Option<VaultStore>,
}

/// How secrets get into a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// The command becomes `bursar run`.
    Exec,
    /// A native sidecar delivers files.
    Sidecar,
    /// The socket of the node's agent is mounted.
    Node,
}

/// The annotations that pods may set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    All,
    /// These, as the table of annotations names them.
    Some(Vec<&'static str>),
}

/// In the form of Kubernetes's quantities; what is not given is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resources {
    pub cpu_request: Option<String>,
    pub memory_request: Option<String>,
    pub cpu_limit: Option<String>,
    pub memory_limit: Option<String>,
    /// Sizes of memory volumes: of the program, and of files.
    pub exec_volume: String,
    pub files_volume: String,
}

/// For pods of an opted-in namespace that do not say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespaceDefaults {
    pub shape: Option<Shape>,
    pub environment: Option<String>,
}

/// Where paths of Vault are here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultStore {
    pub backend: BackendName,
    /// Mounts whose paths have `data/` in them.
    pub kv2_mounts: Vec<String>,
}

impl Shape {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Exec, Self::Sidecar, Self::Node];

    /// As annotations, configuration and metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Sidecar => "sidecar",
            Self::Node => "node",
        }
    }
}

impl std::str::FromStr for Shape {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|shape| shape.as_str() == text);
        found.ok_or_else(|| format!("is `exec`, `sidecar` or `node`, not `{}`", text.escape_default()))
    }
}

impl Allowed {
    /// Whether pods may set the annotation that the table calls `name`.
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Some(names) => names.contains(&name),
        }
    }
}

pub(super) fn injection(root: &mut Section<'_>) -> Option<Injection> {
    let image = root.parsed("image", image);
    let image = root.required("image", image);
    let image_pull_policy = root.parsed("image_pull_policy", pull_policy);
    let broker = root.parsed("broker", crate::config::broker_address);
    let broker = root.required("broker", broker);
    let audience =
        root.parsed("audience", crate::config::csi::audience).unwrap_or_else(|| "bursar".to_owned());
    let node_socket_dir =
        root.parsed("node_socket_dir", absolute_path).unwrap_or_else(|| "/run/bursar".to_owned());
    let shapes = shapes(root);
    let default_shape = root.parsed("default_shape", str::parse).unwrap_or(Shape::Exec);
    let allow = allowed(root);
    let leave_out = root.one_or_more("leave_out");
    let leave_out = leave_out.unwrap_or_else(|| MESHES.map(str::to_owned).to_vec());
    let startup = root.duration("startup").unwrap_or(Duration::from_secs(300));
    if startup < Duration::from_secs(5) || startup > Duration::from_secs(3600) {
        root.fault::<()>("startup", "must be from 5s to 1h".to_owned());
    }
    let resources = root.section("resources", resources);
    let mut number = |key| {
        let given = root.number(key, 1..=u64::from(u32::MAX - 1));
        given.and_then(|number| u32::try_from(number).ok()).unwrap_or(NOBODY)
    };
    let (user, group) = (number("user"), number("group"));
    let namespaces = root.each("namespaces", |name, section| {
        let named = object_name(name).map_err(|message| section.fault::<()>("", message));
        let shape = section.parsed("shape", str::parse);
        let environment = section.parsed("environment", environment_name);
        Some((named.ok()?, NamespaceDefaults { shape, environment }))
    });
    let vault = root.section_if_given("vault", |vault| {
        let backend = vault.parsed("backend", BackendName::parse);
        let backend = vault.required("backend", backend);
        let kv2_mounts = vault.one_or_more("kv2_mounts").unwrap_or_else(|| vec!["secret".to_owned()]);
        Some(VaultStore { backend: backend?, kv2_mounts })
    });
    for shape in std::iter::once(&default_shape)
        .chain(namespaces.iter().filter_map(|(_, defaults)| defaults.shape.as_ref()))
    {
        if !shapes.contains(shape) {
            root.fault::<()>("shapes", format!("has not `{}`, which is a default", shape.as_str()));
        }
    }
    Some(Injection {
        image: image?,
        image_pull_policy,
        broker: broker?,
        audience,
        node_socket_dir,
        shapes,
        default_shape,
        allow,
        leave_out,
        startup,
        resources,
        user,
        group,
        namespaces: namespaces.into_iter().collect(),
        vault: vault.flatten(),
    })
}

fn shapes(root: &mut Section<'_>) -> Vec<Shape> {
    let Some(named) = root.one_or_more("shapes") else { return Shape::ALL.to_vec() };
    let mut shapes = Vec::new();
    for name in named {
        match name.parse() {
            Ok(shape) => shapes.push(shape),
            Err(message) => root.fault("shapes", message).unwrap_or_default(),
        }
    }
    shapes
}

fn allowed(root: &mut Section<'_>) -> Allowed {
    let Some(named) = root.one_or_more("allow") else { return Allowed::All };
    let mut allowed = Vec::new();
    for name in named {
        match annotations::KNOWN.iter().find(|known| known.name == name) {
            Some(known) => allowed.push(known.name),
            None => {
                let names: Vec<_> = annotations::KNOWN.iter().map(|known| known.name).collect();
                let message = format!(
                    "`{}` is no annotation; they are `{}`",
                    name.escape_default(),
                    names.join("`, `")
                );
                root.fault::<()>("allow", message);
            }
        }
    }
    Allowed::Some(allowed)
}

fn resources(resources: &mut Section<'_>) -> Resources {
    let mut given = |key| resources.parsed(key, quantity);
    Resources {
        cpu_request: given("cpu_request").or_else(|| Some("10m".to_owned())),
        memory_request: given("memory_request").or_else(|| Some("16Mi".to_owned())),
        cpu_limit: given("cpu_limit"),
        memory_limit: given("memory_limit").or_else(|| Some("64Mi".to_owned())),
        exec_volume: given("exec_volume").unwrap_or_else(|| "64Mi".to_owned()),
        files_volume: given("files_volume").unwrap_or_else(|| "16Mi".to_owned()),
    }
}

/// As Kubernetes writes amounts: digits, perhaps with a fraction, and a unit.
fn quantity(text: &str) -> Result<String, String> {
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end).unwrap_or((text, ""));
    let units = ["", "m", "k", "M", "G", "Ki", "Mi", "Gi"];
    match number.parse::<f64>() {
        Ok(number) if number > 0.0 && units.contains(&unit) => Ok(text.to_owned()),
        _ => Err("is an amount as Kubernetes writes it, such as `10m` or `64Mi`".to_owned()),
    }
}

fn image(text: &str) -> Result<String, String> {
    let good =
        (1..=512).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'$');
    if good {
        Ok(text.to_owned())
    } else {
        Err("is the name of an image, such as `registry.example.org/bursar:1.0`".to_owned())
    }
}

fn pull_policy(text: &str) -> Result<String, String> {
    match text {
        "Always" | "IfNotPresent" | "Never" => Ok(text.to_owned()),
        _ => Err("is `Always`, `IfNotPresent` or `Never`".to_owned()),
    }
}

/// A path that kubelet can mount at: absolute, normal, and without what Kubernetes reads in it.
pub(crate) fn absolute_path(text: &str) -> Result<String, String> {
    let path = PathBuf::from(text);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'_' | b'-');
    let plain = text.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."));
    match path.is_absolute() && plain && text.len() <= 255 && text.bytes().all(allowed) {
        true => Ok(text.to_owned()),
        false => {
            Err("is an absolute path of letters, digits, `.`, `_` and `-`, without `.` and `..`, and not `/`"
                .to_owned())
        }
    }
}

/// As the broker names environments. It has the last word: what is no name is refused here so that its author hears early.
pub(crate) fn environment_name(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    let segment = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(allowed);
    match text.len() <= 255 && text.split('/').all(segment) {
        true => Ok(text.to_owned()),
        false => {
            Err("is the name of an environment: parts of a-z, 0-9, `.`, `_` and `-` with `/` between them"
                .to_owned())
        }
    }
}

/// Who belongs to a mesh, and not to whoever wrote the pod.
const MESHES: [&str; 2] = ["istio-proxy", "linkerd-proxy"];
/// Of images that have nobody else.
const NOBODY: u32 = 65_532;
