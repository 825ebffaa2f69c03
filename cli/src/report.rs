//! A failure as people see it: what happened, its causes, each fault, what to do next, and the request's id.

use std::error::Error as _;
use std::io::Write as _;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};

use crate::error::Error;
use crate::hint;
use crate::text::printable;

/// Writes the failure to standard error and answers the exit code. Silent when whoever read the output went away.
pub(crate) fn failure(error: &Error) -> ExitCode {
    let code = error.exit_code();
    if code != 0 {
        let text = describe(error);
        // Nobody is left to be told that standard error cannot be written.
        drop(anstream::stderr().write_all(text.as_bytes()));
    }
    ExitCode::from(code)
}

fn describe(error: &Error) -> String {
    let mut text = format!("{ERROR}error:{ERROR:#} {}\n", printable(&error.to_string()));
    let mut cause = error.source();
    while let Some(next) = cause {
        let line = printable(&next.to_string());
        // A server's text repeated by its own wrapper says nothing new.
        if !text.contains(line.as_str()) {
            push(&mut text, "  because: ", &line);
        }
        cause = next.source();
    }
    if let Error::Unverified { place: Some(place), .. } = error {
        push(&mut text, "  where: ", place);
    }
    let refusal = match error {
        Error::Call(call) | Error::Unresolved { source: call, .. } => call.refusal(),
        _ => None,
    };
    for violation in refusal.map(|refusal| refusal.violations.as_slice()).unwrap_or_default() {
        let (field, description) = (printable(&violation.field), printable(&violation.description));
        match field.as_str() {
            "" => push(&mut text, "  - ", &description),
            _ if description.contains(&field) => push(&mut text, "  - ", &description),
            _ => push(&mut text, "  - ", &format!("{field}: {description}")),
        }
    }
    if let Some(hint) = hint::of(error) {
        push(&mut text, &format!("{HINT}hint:{HINT:#} "), hint);
    }
    if let Some(id) = refusal.and_then(|refusal| refusal.request_id.as_deref()) {
        push(&mut text, "request id: ", &printable(id));
    }
    text
}

fn push(text: &mut String, lead: &str, line: &str) {
    text.push_str(lead);
    text.push_str(line);
    text.push('\n');
}

const ERROR: Style = AnsiColor::Red.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default();

#[cfg(test)]
mod tests {
    use bursar_proto::Reason;
    use bursar_sdk::{Address, ConnectError, Refusal, Violation};

    use super::*;

    fn plain(error: &Error) -> String {
        anstream::adapter::strip_str(&describe(error)).to_string()
    }

    fn refused(message: &str, violations: &[(&str, &str)]) -> bursar_sdk::Error {
        let violation = |(field, description): &(&str, &str)| Violation {
            field: (*field).to_owned(),
            description: (*description).to_owned(),
        };
        bursar_sdk::Error::Refused(Box::new(Refusal {
            code: Reason::EnvironmentInvalid.code(),
            reason: Some(Reason::EnvironmentInvalid),
            message: message.to_owned(),
            request_id: Some("01J".to_owned()),
            violations: violations.iter().map(violation).collect(),
            retry_after: None,
        }))
    }

    #[test]
    fn a_refusal_names_every_fault_the_hint_and_the_request() {
        let source =
            refused("2 references failed", &[("local/a", "not found"), ("local/b", "local/b: denied")]);
        let error = Error::Unresolved { environment: "shop".to_owned(), program: "app".to_owned(), source };
        assert_eq!(
            plain(&error),
            "error: environment `shop` cannot be resolved, so `app` was not started\n\
             \x20 because: 2 references failed\n\
             \x20 - local/a: not found\n\
             \x20 - local/b: denied\n\
             hint: correct what is named above, then try again\n\
             request id: 01J\n"
        );
        assert_eq!(error.exit_code(), 78);
    }

    #[test]
    fn a_connection_that_fails_says_why_and_what_to_do() {
        let address = Address::unix("/run/bursar/agent.sock");
        let source = ConnectError::SocketMissing { path: "/run/bursar/agent.sock".into() };
        let error = Error::Call(bursar_sdk::Error::Connect { address, source });
        assert_eq!(
            plain(&error),
            "error: cannot connect to `unix:///run/bursar/agent.sock`\n\
             \x20 because: there is no socket `/run/bursar/agent.sock`\n\
             hint: start the agent, or name a broker by --address https://HOST:PORT or BURSAR_ADDRESS\n"
        );
        assert_eq!(error.exit_code(), 69);
    }

    #[test]
    fn what_a_server_says_cannot_drive_the_terminal() {
        let text = plain(&Error::Call(refused("\u{1b}[2Jgone\r\u{7}", &[])));
        assert!(!text.contains(['\u{1b}', '\r', '\u{7}']), "{text:?}");
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let error = Error::Output(std::io::ErrorKind::BrokenPipe.into());
        assert_eq!(error.exit_code(), 0);
    }
}
