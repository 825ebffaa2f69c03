//! From files to what decides: parse, name, check against the schema, sort by action. Every fault is found, not the
//! first.

use std::collections::{HashMap, HashSet};
use std::str::FromStr;
use std::sync::Arc;

use bursar_core::SpiffeId;
use bursar_core::audit::Action;
use bursar_core::spiffe::TrustDomain;
use cedar_policy::ffi::DetailedError;
use cedar_policy::{Policy, PolicyId, PolicySet, Template, ValidationError, ValidationMode, Validator};

use super::diagnostic::{Diagnostic, Source, in_order};
use super::grants::{self, Granted};
use super::nesting;
use super::policies::PolicyFile;
use super::registrations::{self, Registrations};
use super::slices::Slices;
use super::vocabulary::Vocabulary;

/// The parts of a [`Policies`](super::Policies) that the files give.
pub(super) struct Compiled {
    pub(super) vocabulary: Vocabulary,
    pub(super) slices: Slices,
    pub(super) names: HashMap<PolicyId, Arc<str>>,
    pub(super) registrations: Registrations,
    pub(super) warnings: Vec<Diagnostic>,
}

/// As [`Policies::compile`](super::Policies::compile).
pub(super) fn compile(
    files: &[PolicyFile],
    domain: &TrustDomain,
    administrator: &SpiffeId,
) -> Result<Compiled, Vec<Diagnostic>> {
    let vocabulary = Vocabulary::new().map_err(|fault| vec![fault])?;
    let mut reader = Reader::new(&vocabulary);
    reader.cedar(&Source::new(BUILT_IN, GUARD));
    reader.cedar(&Source::new(BUILT_IN, TEMPLATES));
    let (mut registrations, mut granting) = (Vec::new(), None);
    let mut seen = HashSet::new();
    for file in files {
        let source = Source::new(&file.name, &file.text);
        if !seen.insert(source.name) {
            reader.faults.push(Diagnostic::whole(source.name, "the file is given twice"));
        } else if source.name == registrations::FILE {
            let (faults, warnings) = (&mut reader.faults, &mut reader.warnings);
            registrations = registrations::read(&source, domain, administrator, faults, warnings);
        } else if source.name == grants::FILE {
            granting = Some(source);
        } else if is_policy_file(source.name) {
            reader.cedar(&source);
        } else {
            let shown = source.name.chars().take(EXCERPT).flat_map(char::escape_default).collect::<String>();
            reader
                .faults
                .push(Diagnostic::whole(&shown, "no file of a set has such a name").advise(FILE_NAMES));
        }
    }
    // Last, since its templates may be in any file.
    if let Some(source) = granting {
        reader.grants(&source, &vocabulary);
    }
    reader.look_for_unused_templates();
    let Reader { policies, faults, warnings, .. } = reader;
    if !faults.is_empty() {
        return Err(in_order(faults));
    }
    let slices = Slices::new(&policies, &vocabulary)
        .map_err(|error| vec![Diagnostic::whole("", error.to_string())])?;
    let names =
        policies.iter().map(|policy| (policy.id().clone(), Arc::from(policy.id().to_string()))).collect();
    let registrations = Registrations::new(domain.clone(), registrations);
    Ok(Compiled { vocabulary, slices, names, registrations, warnings: in_order(warnings) })
}

struct Reader {
    validator: Validator,
    /// The actions there are, as advice.
    actions: String,
    policies: Vec<Policy>,
    templates: HashMap<String, Template>,
    /// Templates that a grant fills in.
    used: HashSet<String>,
    /// Where each id was given.
    ids: HashMap<String, Diagnostic>,
    faults: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

impl Reader {
    fn new(vocabulary: &Vocabulary) -> Self {
        let actions: Vec<&str> = vocabulary.actions().map(Action::as_str).collect();
        Self {
            validator: Validator::new(vocabulary.schema.clone()),
            actions: format!(
                "the actions are `use`, `administer` and `govern`, and `{}`",
                actions.join("`, `")
            ),
            policies: Vec::new(),
            templates: HashMap::new(),
            used: HashSet::new(),
            ids: HashMap::new(),
            faults: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Takes up the policies of one file. They are checked file by file, since positions are those of one text.
    fn cedar(&mut self, source: &Source<'_>) {
        if let Some(at) = nesting::too_deep(source.text) {
            return self.faults.push(source.at(at, "the policy nests too deeply").advise(nesting::ADVICE));
        }
        let parsed = match PolicySet::from_str(source.text) {
            Ok(parsed) => parsed,
            Err(errors) => return self.faults.extend(errors.iter().map(|error| source.cedar(error.into()))),
        };
        let mut checked = PolicySet::new();
        for Statement { what, id, given, at } in statements(source, &parsed) {
            if let Err(fault) = self.take_id(source, &id, given, at) {
                self.faults.push(fault);
                continue;
            }
            let added = match what {
                What::Policy(policy) => {
                    let policy = policy.new_id(PolicyId::new(&id));
                    self.policies.push(policy.clone());
                    checked.add(policy)
                }
                What::Template(_) if !given => {
                    let fault = source.at(at, "the template has no `@id`, by which a grant could name it");
                    self.faults.push(fault.advise("write `@id(\"NAME\")` before it"));
                    continue;
                }
                What::Template(template) => {
                    let template = template.new_id(PolicyId::new(&id));
                    self.templates.insert(id, template.clone());
                    checked.add_template(template)
                }
            };
            if let Err(error) = added {
                self.faults.push(source.cedar((&error).into()));
            }
        }
        self.validate(&checked, |_, error| source.cedar(error));
    }

    /// Takes up the policies that grants make of templates.
    fn grants(&mut self, source: &Source<'_>, vocabulary: &Vocabulary) {
        let granted = grants::read(source, &self.templates, vocabulary, &mut self.faults);
        let (mut checked, mut places) = (PolicySet::new(), HashMap::new());
        for Granted { policy, template, id, given, at } in granted {
            self.used.insert(template);
            if let Err(fault) = self.take_id(source, &id, given, at) {
                self.faults.push(fault);
                continue;
            }
            places.insert(policy.id().clone(), at);
            self.policies.push(policy.clone());
            if let Err(error) = checked.add(policy) {
                self.faults.push(source.at(at, error.to_string()));
            }
        }
        // What Cedar would show is the template, in another file.
        let at = |id: &PolicyId| places.get(id).copied().unwrap_or_default();
        self.validate(&checked, |id, error| {
            let diagnostic = source.at(at(id), error.message);
            error.help.map_or(diagnostic.clone(), |help| diagnostic.advise(&help))
        });
    }

    fn look_for_unused_templates(&mut self) {
        for id in self.templates.keys().filter(|id| !id.starts_with(RESERVED) && !self.used.contains(*id)) {
            if let Some(place) = self.ids.get(id) {
                let message =
                    format!("no grant fills the template `{id}` in, so it permits and forbids nothing");
                self.warnings.push(Diagnostic { message, ..place.clone() });
            }
        }
    }

    /// Checks policies against the schema; `place` makes a fault of what is said about a policy.
    fn validate(&mut self, policies: &PolicySet, place: impl Fn(&PolicyId, DetailedError) -> Diagnostic) {
        let result = self.validator.validate(policies, ValidationMode::Strict);
        for error in result.validation_errors() {
            let fault = place(error.policy_id(), error.into());
            self.faults.push(match error {
                // What Cedar suggests here is not the name nearest to what was written.
                ValidationError::UnrecognizedActionId(_) => fault.advise(&self.actions),
                _ => fault,
            });
        }
        let warnings = result.validation_warnings();
        self.warnings.extend(warnings.map(|warning| place(warning.policy_id(), warning.into())));
    }

    fn take_id(&mut self, source: &Source<'_>, id: &str, given: bool, at: usize) -> Result<(), Diagnostic> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/');
        if given && (id.is_empty() || id.len() > MAX_ID || !id.bytes().all(allowed)) {
            let shown = id.chars().take(EXCERPT).flat_map(char::escape_default).collect::<String>();
            return Err(source.at(at, format!("`{shown}` is no id of a policy")).advise(IDS));
        }
        if id.starts_with(RESERVED) && source.name != BUILT_IN {
            return Err(source.at(at, format!("ids that begin with `{RESERVED}` are the broker's own")));
        }
        let here = source.at(at, "");
        match self.ids.get(id) {
            Some(first) => {
                let place = format!("{} line {}", first.file, first.line);
                Err(source.at(at, format!("the id `{id}` is given twice; the first is in {place}")))
            }
            None => {
                self.ids.insert(id.to_owned(), here);
                Ok(())
            }
        }
    }
}

/// A policy or template where it stands in its file.
struct Statement<'a> {
    what: What<'a>,
    /// `@id` where it is given, else the file's name and the policy's number in it.
    id: String,
    given: bool,
    /// Where it begins, in bytes.
    at: usize,
}

enum What<'a> {
    Policy(&'a Policy),
    Template(&'a Template),
}

/// The policies and templates of `parsed` in the order of the text. Cedar numbers them in that order and keeps the text of each.
fn statements<'a>(source: &Source<'_>, parsed: &'a PolicySet) -> Vec<Statement<'a>> {
    let number = |id: &PolicyId| id.to_string().strip_prefix("policy")?.parse().ok();
    let number = |id: &PolicyId| number(id).unwrap_or(usize::MAX);
    let policies = parsed.policies().map(|policy| (number(policy.id()), What::Policy(policy)));
    let templates = parsed.templates().map(|template| (number(template.id()), What::Template(template)));
    let mut numbered: Vec<_> = policies.chain(templates).collect();
    numbered.sort_unstable_by_key(|(number, _)| *number);
    let mut end = 0;
    let mut statements = Vec::with_capacity(numbered.len());
    for (number, what) in numbered {
        let (text, given) = match &what {
            What::Policy(policy) => (policy.to_string(), policy.annotation("id")),
            What::Template(template) => (template.to_string(), template.annotation("id")),
        };
        let at = source.text.get(end..).and_then(|rest| rest.find(&text)).map_or(end, |at| end + at);
        end = source.text.len().min(at + text.len());
        let id = given.map_or_else(|| format!("{}#{}", source.name, number.saturating_add(1)), str::to_owned);
        statements.push(Statement { what, id, given: given.is_some(), at });
    }
    statements
}

fn is_policy_file(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let segment = |text: &str| !matches!(text, "" | "." | ".." | ".cedar") && text.bytes().all(allowed);
    name.len() <= MAX_NAME && name.ends_with(".cedar") && name.split('/').all(segment)
}

/// In force in every set. No file can have this name.
const BUILT_IN: &str = "(built in)";
const GUARD: &str = include_str!("guard.cedar");
/// There in every set, and in force in none that does not fill them in.
const TEMPLATES: &str = include_str!("templates.cedar");
const RESERVED: &str = "bursar.";
const MAX_ID: usize = 128;
const MAX_NAME: usize = 255;
const EXCERPT: usize = 64;
const IDS: &str = "write 1 to 128 of letters, digits, `.`, `_`, `-` and `/`";
const FILE_NAMES: &str = "the names are `registrations.toml`, `grants.toml`, and for policies `NAME.cedar` or `FOLDER/NAME.cedar`, of \
                          letters, digits, `.`, `_` and `-`";
