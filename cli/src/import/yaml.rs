//! YAML: one mapping of values, or of mappings of values. A scalar is the text that was written, whatever type YAML would
//! give it: a PIN keeps its zeros, and `no` stays `no`.

use bursar_core::Secret;
use yaml_rust2::Event;
use yaml_rust2::parser::{MarkedEventReceiver, Parser};
use yaml_rust2::scanner::Marker;
use zeroize::Zeroizing;

use super::{Entry, Fault, Named};

pub(super) fn read(text: &str) -> Result<Vec<Named<Entry>>, Fault> {
    let mut reader = Reader::default();
    let parsed = Parser::new_from_str(text).load(&mut reader, true);
    if let Some(fault) = reader.fault {
        return Err(fault);
    }
    // What the library says may quote the text.
    parsed.map_err(|error| Fault::Line { line: error.marker().line(), what: "is not YAML" })?;
    Ok(reader.entries)
}

/// Takes events down as they come.
#[derive(Default)]
struct Reader {
    entries: Vec<Named<Entry>>,
    /// The mapping within the first, under its name.
    inner: Option<Named<Vec<Named<Secret>>>>,
    /// The name whose value comes next.
    name: Option<String>,
    begun: bool,
    fault: Option<Fault>,
}

impl MarkedEventReceiver for Reader {
    fn on_event(&mut self, event: Event, mark: Marker) {
        if self.fault.is_none()
            && let Err(what) = self.take(event)
        {
            self.fault = Some(Fault::Line { line: mark.line(), what });
        }
    }
}

impl Reader {
    fn take(&mut self, event: Event) -> Result<(), &'static str> {
        match event {
            Event::Scalar(text, ..) => self.scalar(text),
            Event::MappingStart(..) => self.begin(),
            Event::MappingEnd => {
                if let Some((name, fields)) = self.inner.take() {
                    self.entries.push((name, Entry::Fields(fields)));
                }
                Ok(())
            }
            Event::SequenceStart(..) => Err("has a list; write it as a text"),
            Event::Alias(_) => Err("has an alias; write the value itself"),
            Event::SequenceEnd
            | Event::DocumentStart
            | Event::DocumentEnd
            | Event::StreamStart
            | Event::StreamEnd
            | Event::Nothing => Ok(()),
        }
    }

    fn begin(&mut self) -> Result<(), &'static str> {
        match (self.begun, self.name.take()) {
            (false, None) => {
                self.begun = true;
                Ok(())
            }
            (true, Some(name)) if self.inner.is_none() => {
                self.inner = Some((name, Vec::new()));
                Ok(())
            }
            (true, Some(_)) => Err("is nested three deep; a secret has fields, and those have values"),
            _ => Err("is a second document, or a mapping as a name"),
        }
    }

    fn scalar(&mut self, text: String) -> Result<(), &'static str> {
        if !self.begun {
            return Err("is no mapping");
        }
        let Some(name) = self.name.take() else {
            self.name = Some(text);
            return Ok(());
        };
        let text = Zeroizing::new(text);
        let value = Secret::new(text.as_bytes().to_vec());
        match &mut self.inner {
            Some((_, fields)) => fields.push((name, value)),
            None => self.entries.push((name, Entry::Value(value))),
        }
        Ok(())
    }
}
