//! Why a token names nobody.

/// Why a token was refused. What it prints as is for the operator's log; whoever presented the token is told
/// [`Refused::told`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the `authorization` header is not one `Bearer` token")]
    Scheme,
    #[error("the token is longer than 16 KiB")]
    TooLong,
    #[error("the token is not three parts in base64url without padding")]
    Form,
    #[error("the token's header is no JSON object that is read one way only")]
    Header,
    #[error("the token's claims are no JSON object that is read one way only")]
    Claims,
    #[error("the token's `typ` or `cty` is not that of a JSON Web Token")]
    Type,
    #[error("the token's header has `crit` or `b64`, which ask for what is not done here")]
    Critical,
    #[error("the token's `alg` is none of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 and EdDSA")]
    Algorithm,
    #[error("the token does not name its key (`kid`)")]
    KeyUnnamed,
    #[error("the issuer's key set has no key of this `kid`")]
    KeyUnknown,
    #[error("the token's `alg` is not one that its key is for")]
    KeyOther,
    #[error("the token's signature is not by its issuer's key")]
    Signature,
    #[error("no `[identity.issuers.NAME]` has the token's `iss`")]
    IssuerUnknown,
    #[error("the token's `aud` has none of the issuer's `audience`")]
    Audience,
    #[error("the token has expired")]
    Expired,
    #[error("the token's `nbf` or `iat` is in the future")]
    NotYet,
    #[error("the token's claim `{0}` is missing or of the wrong form")]
    Claim(&'static str),
    #[error("no rule of the issuer fits the token")]
    NoRule,
    #[error("the rule that fits the token gives no name that it may give")]
    Principal,
    #[error(
        "the cluster does not know the token: its pod or service account is gone, or its audience is another"
    )]
    Review,
    #[error("the issuer's keys are not there: they were never fetched, or are too old")]
    KeysUnavailable,
    #[error("the cluster could not be asked about the token")]
    ReviewUnavailable,
}

impl Refused {
    /// The name in logs, metrics and audit records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scheme => "scheme",
            Self::TooLong => "too_long",
            Self::Form => "form",
            Self::Header => "header",
            Self::Claims => "claims",
            Self::Type => "type",
            Self::Critical => "critical",
            Self::Algorithm => "algorithm",
            Self::KeyUnnamed => "key_unnamed",
            Self::KeyUnknown => "key_unknown",
            Self::KeyOther => "key_other",
            Self::Signature => "signature",
            Self::IssuerUnknown => "issuer_unknown",
            Self::Audience => "audience",
            Self::Expired => "expired",
            Self::NotYet => "not_yet_valid",
            Self::Claim(_) => "claim",
            Self::NoRule => "no_rule",
            Self::Principal => "principal",
            Self::Review => "review",
            Self::KeysUnavailable => "keys_unavailable",
            Self::ReviewUnavailable => "review_unavailable",
        }
    }

    /// What whoever presented the token is told: nothing of rules, keys and clusters that the token itself does not say.
    pub fn told(self) -> &'static str {
        match self {
            Self::Scheme
            | Self::TooLong
            | Self::Form
            | Self::Header
            | Self::Claims
            | Self::Type
            | Self::Critical
            | Self::Algorithm
            | Self::KeyUnnamed => "the token is no signed JSON Web Token that is accepted here",
            Self::KeyUnknown | Self::KeyOther | Self::Signature => "the token's signature does not hold",
            Self::IssuerUnknown => "the token's issuer is not known here",
            Self::Audience => "the token is for another audience",
            Self::Expired => "the token has expired; present a new one",
            Self::NotYet => "the token is not valid yet",
            Self::Claim(_) | Self::NoRule | Self::Principal | Self::Review => "the token names nobody here",
            Self::KeysUnavailable | Self::ReviewUnavailable => {
                "the token cannot be checked now, since its issuer cannot be asked; try again"
            }
        }
    }

    /// Whether it may pass with time, since it is not the token's fault.
    pub fn may_pass(self) -> bool {
        matches!(self, Self::KeysUnavailable | Self::ReviewUnavailable)
    }
}
