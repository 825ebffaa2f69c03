//! What to do next, for each error that something can be done about. One line, in the imperative.

use bursar_exec::FolderError;
use bursar_proto::Reason;
use bursar_sdk::{ConnectError, Refusal};
use tonic::Code;

use crate::error::Error;
use crate::issuer::IssuerError;
use crate::offline::OfflineError;

/// The hint for an error.
pub(crate) fn of(error: &Error) -> Option<&'static str> {
    match error {
        Error::Call(error) | Error::Unresolved { source: error, .. } => of_call(error),
        Error::Configuration { .. } => Some("correct the file, or move it away"),
        Error::HalfAnIdentity => Some("give both: --cert FILE --key FILE, or BURSAR_CERT and BURSAR_KEY"),
        Error::TwoTokens => {
            Some("leave one out: --token-file or BURSAR_TOKEN_FILE, --token-command or BURSAR_TOKEN_COMMAND")
        }
        Error::NoIssuer(_) => Some(
            "give --issuer URL and --client-id ID, or BURSAR_ISSUER and BURSAR_CLIENT_ID, or `[token]` in config.toml",
        ),
        Error::Issuer { source, .. } => of_issuer(source),
        Error::Offline(source) => of_copies(source),
        Error::NowhereToKeep => Some("pipe it into a program, or name a file by --out FILE"),
        Error::OpenKey { .. } => Some("make it yours alone: `chmod 600 FILE`"),
        Error::SecretOnTerminal => Some("pipe it into a program or a file, or add --show"),
        Error::Import { .. } => Some("correct the file; nothing was written"),
        Error::Stuck { .. } => Some(
            "`bursar lease list --state stuck` shows why; they are tried again until their stores remove them",
        ),
        Error::NoRevocation { .. } => Some("`bursar lease revocations` shows those there are"),
        Error::LeftGoing { .. } => Some("`bursar lease revocations NUMBER` shows how far it is"),
        Error::Unconfirmed => Some("add --yes, once you are sure; nothing was done"),
        Error::Deliver { source, .. } => of_delivery(source),
        Error::Clash { .. } => Some("rename the variable, or leave --as out"),
        Error::Execute { .. } => Some("put the program after `--`, by a path or a name in PATH"),
        Error::Mask { .. } => Some("leave --mask out, or take large values out of the environment"),
        Error::Policies { .. } => Some("nothing was changed; correct the files and try again"),
        Error::WouldNotResolve { .. } => Some("`bursar env explain NAME` shows every entry"),
        Error::Unverified { .. } => {
            Some("keep this export and the broker's data as they are, and find out who could write to them")
        }
        Error::Unproven(_) => Some("check that the record's line is byte for byte as the log had it"),
        Error::VerifierKey(_) => Some("it is in `bootstrap/audit.vkey` of the broker's data directory"),
        Error::Start { .. } => {
            Some("it has to be in the directory of this program; build or install all of Bursar")
        }
        _ => None,
    }
}

fn of_copies(error: &OfflineError) -> Option<&'static str> {
    let hint = match error {
        OfflineError::NoIdentity { .. } => {
            "`bursar offline init` makes one; or name yours by --offline-identity FILE or BURSAR_OFFLINE_IDENTITY"
        }
        OfflineError::IdentityThere { .. } => {
            "use it; what was encrypted with it cannot be opened without it"
        }
        OfflineError::OpenIdentity { .. } => "make it yours alone: `chmod 600 FILE`",
        OfflineError::BadIdentity { .. } => {
            "`bursar offline init` and `age-keygen` make files of the right form"
        }
        OfflineError::Nowhere => "set $HOME, or XDG_CACHE_HOME to a folder of yours",
        OfflineError::NotKept { .. } => {
            "`bursar offline list` shows what is kept; `bursar offline keep NAME` keeps one while the broker answers"
        }
        OfflineError::NotOurs { .. } => {
            "find out who could write there, then remove it, and keep copies anew by `bursar offline keep`"
        }
        OfflineError::NoCopy { .. }
        | OfflineError::OfSomethingElse { .. }
        | OfflineError::Changed { .. }
        | OfflineError::OtherIdentity { .. } => {
            "name the identity that it was made with, or keep it anew by `bursar offline keep`"
        }
        OfflineError::Over { .. } => "`bursar offline keep NAME` keeps it anew, once the broker answers",
        OfflineError::ClockBack { .. } | OfflineError::ClockOff { .. } => "set this machine's clock",
        OfflineError::Unsealable => return None,
    };
    Some(hint)
}

fn of_delivery(error: &FolderError) -> Option<&'static str> {
    let hint = match error {
        FolderError::NoMemory => "name a directory by --dir; with --on-disk it may be on a disk",
        FolderError::OnDisk { .. } => "name one in memory, such as a tmpfs, or add --on-disk",
        FolderError::NotOurs { .. } => "have it removed, or name another directory by --dir",
        FolderError::Outside { .. } => "correct the path of the file in the environment",
        FolderError::Unwritable { .. } => "check that there is room, or name another directory by --dir",
    };
    Some(hint)
}

fn of_call(error: &bursar_sdk::Error) -> Option<&'static str> {
    match error {
        bursar_sdk::Error::Connect { source, .. } => of_connection(source),
        bursar_sdk::Error::Token { .. } => {
            Some("name a file with one token by --token-file, BURSAR_TOKEN_FILE or `token_file`")
        }
        bursar_sdk::Error::TokenCommand { .. } => {
            Some("run it by hand: it has to write one token to standard output, and to end with 0")
        }
        bursar_sdk::Error::Refused(refusal) => of_refusal(refusal),
        bursar_sdk::Error::Interrupted { .. } | bursar_sdk::Error::Deadline { .. } => {
            Some("what was asked for may have been done; look before you repeat it")
        }
        _ => None,
    }
}

fn of_issuer(error: &IssuerError) -> Option<&'static str> {
    let hint = match error {
        IssuerError::Authority { .. } | IssuerError::NoCertificate { .. } => {
            "name the issuer's authority by --issuer-ca FILE, or leave it out for the system's"
        }
        IssuerError::NotReached { .. } | IssuerError::Late => {
            "check the host and the port of --issuer, and firewalls in between"
        }
        IssuerError::Certificate { .. } => {
            "name the authority that the issuer's certificate is by: --issuer-ca FILE"
        }
        IssuerError::OtherIssuer => {
            "write the issuer as its own discovery document has it, to the last slash"
        }
        IssuerError::NoDeviceGrant => {
            "ask whoever runs the issuer for the device grant, or get a token in another way for --token-file"
        }
        IssuerError::Refused {
            code: "invalid_client" | "unauthorized_client" | "unsupported_grant_type",
        } => "the client has to be a public one (without a secret) to which the device grant is allowed",
        IssuerError::Refused { code: "invalid_scope" } => "ask for a --scope that the client may have",
        IssuerError::NoIdToken => "ask for it by --scope with `openid` in it, or take --use access_token",
        IssuerError::Opaque => "take --use id_token",
        IssuerError::Expired => "run it again, and approve in time",
        IssuerError::Malformed { .. } | IssuerError::Status { .. } | IssuerError::TooLong { .. } => {
            "check that --issuer is the issuer's own address, and no login page or proxy in between"
        }
        _ => return None,
    };
    Some(hint)
}

fn of_connection(error: &ConnectError) -> Option<&'static str> {
    let hint = match error {
        ConnectError::NoAuthority | ConnectError::NoCertificate { what: "certificate authority" } => {
            "give the broker's authority: --ca FILE or BURSAR_CA; it is `bootstrap/ca.pem` of the broker's data"
        }
        ConnectError::NoCertificate { .. } | ConnectError::NoKey | ConnectError::Identity(_) => {
            "check that --cert and --key name the files of one certificate and its key, in PEM"
        }
        ConnectError::SocketMissing { .. } => {
            "start the agent, or name a broker by --address https://HOST:PORT or BURSAR_ADDRESS"
        }
        ConnectError::SocketForbidden { .. } => {
            "ask for access to the socket's group, or see the agent's `socket_mode`"
        }
        ConnectError::NobodyListens => "check that the broker runs and that the port is right",
        ConnectError::Unresolved { .. } => "check the spelling of the host",
        ConnectError::TimedOut { .. } => "check the host, the port, and firewalls in between",
        ConnectError::ServerExpired => {
            "the broker renews its certificate when it starts: restart it, and check its clock"
        }
        ConnectError::ServerNotYetValid => "check the clocks of this machine and of the broker",
        ConnectError::ServerUnknownAuthority => {
            "check that --ca is the authority of this very broker; each has its own"
        }
        ConnectError::ServerOtherName => {
            "use a name that the certificate is for, or add this one to `tls.names` of the broker"
        }
        ConnectError::CertificateRefused { alert } => return Some(of_alert(alert)),
        _ => return None,
    };
    Some(hint)
}

fn of_alert(alert: &str) -> &'static str {
    match alert {
        "CertificateRequired" => {
            "give a client certificate: --cert FILE --key FILE, or BURSAR_CERT and BURSAR_KEY"
        }
        "CertificateExpired" => {
            "the client certificate has expired: get a new one from whoever runs the broker"
        }
        "UnknownCA" | "DecryptError" => {
            "the client certificate is by an authority that this broker does not know"
        }
        _ => "get a new client certificate from whoever runs the broker",
    }
}

fn of_refusal(refusal: &Refusal) -> Option<&'static str> {
    let Some(reason) = refusal.reason else {
        return (refusal.code == Code::Unimplemented)
            .then_some("an agent does not answer this: name the broker by --address https://HOST:PORT");
    };
    let hint = match reason {
        Reason::ReferenceMalformed => {
            "write BACKEND/PATH[#FIELD][@VERSION], such as local/payments/db#password"
        }
        Reason::BackendUnknown => "`bursar backend list` shows the backends there are",
        Reason::SecretNotFound => "check the path; `bursar secret list BACKEND` shows what a local store has",
        Reason::FieldNotFound => "leave `#FIELD` out to read all fields as one JSON object",
        Reason::VersionNotFound => "leave `@VERSION` out for the newest version",
        Reason::AccessDenied => "`bursar policy check` says why, to those who may ask it",
        Reason::Unauthenticated => {
            "give a client certificate (--cert FILE --key FILE) or a token (--token-file FILE, or --token-command 'bursar token'), or call through this machine's agent"
        }
        Reason::CertificateInvalid => "get a new client certificate from whoever runs the broker",
        Reason::TokenInvalid => {
            "present a token that is made for this broker and belongs to whoever asks; the broker's log says what is wrong with this one"
        }
        Reason::TokenExpired => {
            "present a new token: --token-file is read anew for each call, and `bursar token --new` gets one"
        }
        Reason::IssuerUnknown => {
            "whoever runs the broker has to name the token's issuer in `[identity.issuers.NAME]`"
        }
        Reason::IssuerUnavailable => {
            "try again in a moment; the broker's log says why the token's issuer cannot be asked"
        }
        Reason::JoinTokenInvalid => {
            "make another with `bursar node token NAME`; each works once, for a short time"
        }
        Reason::EnvironmentNotFound => "`bursar env list` shows the environments you may see",
        Reason::EnvironmentInvalid if refusal.violations.is_empty() => {
            "`bursar env explain NAME` shows what each entry is made of"
        }
        Reason::EnvironmentInvalid => "correct what is named above, then try again",
        Reason::EnvironmentNotKept => {
            "`bursar run` without --offline works while the broker answers; docs/offline.md says what may be kept"
        }
        Reason::EnvironmentCycle => "take one link out of the circle",
        Reason::RevisionConflict => "somebody else changed it: look at it again, then decide",
        Reason::LeaseNotFound => "`bursar lease list` shows the leases you may see",
        Reason::LeaseNotRenewable => "read the secret again for a new lease",
        Reason::BackendUnavailable | Reason::BackendTimeout => {
            "`bursar backend list` shows which stores are well"
        }
        Reason::BackendSealed => "an operator has to unseal the store",
        Reason::BackendDenied => {
            "the broker's own login at the store lacks a right: tell whoever runs the broker"
        }
        Reason::BackendThrottled => "the store asks for fewer calls: wait, then try again",
        Reason::BackendMalformed | Reason::BackendMisconfigured | Reason::Internal => {
            "tell whoever runs the broker; the request id finds this in its log"
        }
        Reason::LedgerUnavailable | Reason::ShuttingDown => "try again in a moment",
        Reason::LedgerFull => "make room on the broker's disk; `bursar status` shows when it has recovered",
        Reason::QuotaExceeded => "`bursar lease top` shows who holds most; revoke what is not needed",
        Reason::RateLimited => {
            "wait, then ask less often; `[limits.rate]` of the broker says how often one may"
        }
        Reason::PolicyInvalid => "`bursar policy validate` shows every fault",
        Reason::NodeUnknown => "`bursar node list` shows the nodes there are",
        Reason::ApprovalNotFound => "`bursar policy approvals` shows those in force",
        Reason::OwnApproval => "ask somebody whom policy lets `approve` this",
        Reason::ApprovalsFull => "`bursar policy approvals` shows them; `bursar policy withdraw` ends one",
        Reason::RegistrationMissing => {
            "see to the registrations of this workload in `registrations.toml`, then `bursar policy apply`"
        }
        Reason::RequestTooLarge => "send less at once; docs/errors.md has every limit",
        Reason::NotImplemented => "a later release does this",
        _ => return None,
    };
    Some(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(reason: Option<Reason>, code: Code) -> Refusal {
        Refusal {
            code,
            reason,
            message: String::new(),
            request_id: None,
            violations: Vec::new(),
            retry_after: None,
        }
    }

    #[test]
    fn every_reason_that_a_person_can_act_on_has_a_hint() {
        let silent = [Reason::RequestInvalid];
        for reason in Reason::ALL {
            let hint = of_refusal(&refusal(Some(reason), reason.code()));
            assert_eq!(hint.is_none(), silent.contains(&reason), "{reason}: {hint:?}");
        }
    }

    #[test]
    fn a_call_that_an_agent_does_not_answer_points_to_the_broker() {
        let hint = of_refusal(&refusal(None, Code::Unimplemented));
        assert!(hint.is_some_and(|hint| hint.contains("--address")));
    }

    #[test]
    fn a_refused_certificate_says_what_it_lacks() {
        let hint = |alert: &str| of_connection(&ConnectError::CertificateRefused { alert: alert.to_owned() });
        assert!(hint("CertificateRequired").is_some_and(|hint| hint.contains("--cert")));
        assert!(hint("CertificateExpired").is_some_and(|hint| hint.contains("expired")));
    }
}
