//! The token of another identity provider, which Google is to believe.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use bursar_core::backend::BackendError;
use bursar_core::secret::{SecretReader, json};
use bursar_core::{FieldName, Secret};
use zeroize::Zeroizing;

use super::Source;
use super::key::{Place, Subject, Unfit};

impl Source {
    /// The token as it is now: whoever provides it replaces it.
    pub(super) async fn subject_token(&self, subject: &Subject) -> Result<Secret, BackendError> {
        let content = match &subject.place {
            Place::File(path) => {
                let (name, path) = (format!("file `{}`", path.display()), path.clone());
                self.read(&SecretReader::new(&name, move || read(&path))).await?
            }
            Place::Url(url, headers) => {
                let mut call = self.machine.get(url.clone());
                for (name, value) in headers {
                    let value = bursar_backend_http::header(bursar_backend_http::trimmed(value));
                    let value = value.ok_or_else(|| self.unfit(&Unfit::NotUsable("headers")))?;
                    call = call.header(name, value);
                }
                Secret::from(self.exchange(call).await?.body.into_bytes())
            }
        };
        let token = match &subject.member {
            Some(member) => member_of(&content, member),
            None => Some(bursar_backend_http::trimmed(&content)),
        };
        token
            .filter(|token| !token.is_empty())
            .ok_or_else(|| self.unfit(&Unfit::NotUsable("credential_source")))
    }
}

fn member_of(content: &Secret, member: &str) -> Option<Secret> {
    let value = json::object(content.expose())?.select(Some(&FieldName::parse(member).ok()?)).ok()?;
    Some(bursar_backend_http::trimmed(&value))
}

fn read(path: &Path) -> io::Result<Secret> {
    // Room for the whole file and one byte more, so that reading neither grows the buffer nor trusts the length.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST + 1));
    File::open(path)?.take(LONGEST as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > LONGEST { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(Secret::from(bytes)) }
}

const LONGEST: usize = 64 * 1024;
