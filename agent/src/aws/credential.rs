//! What a request says about who sends it: a token of an issuer, or that the kernel knows.
//!
//! A signature of AWS says nothing here, so it is not looked at. Its session token is where the SDKs let a token of another
//! kind travel, as `AWS_SESSION_TOKEN`; one of AWS's own is none of ours and goes no further. A request of the agent's kind
//! has to bring a header in any case: whoever makes a program fetch a URL of his choice cannot add one.

use bursar_core::Secret;
use http::{HeaderMap, HeaderValue};

use super::fault::Fault;
use crate::attest::Bearer;

/// Who is to be believed about the caller.
#[derive(Debug)]
pub(super) enum Credential {
    /// The kernel.
    Kernel,
    /// The issuer of a token, of whom the broker knows.
    Token(Bearer),
}

/// Whose manners the request has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manners {
    /// Those of AWS's agent.
    Agent,
    /// Those of an SDK of AWS.
    Sdk,
}

/// Takes whatever may be a token out of the request, so that nothing behind this meets it.
pub(super) fn take(headers: &mut HeaderMap, manners: Manners) -> Result<Credential, Fault> {
    let several = ALL.iter().any(|name| headers.get_all(*name).iter().nth(1).is_some());
    let [aws, vault, session, authorization] = ALL.map(|name| headers.remove(name));
    if several {
        return Err(bad("a header with a token stands there twice"));
    }
    let signed = |header: &HeaderValue| header.as_bytes().starts_with(SIGNED);
    let authorization = authorization.filter(|header| manners == Manners::Agent || !signed(header));
    let session = session.filter(|token| manners == Manners::Sdk && is_jwt(token.as_bytes()));
    let bearing = authorization.map(|header| match header.as_bytes().split_at_checked(BEARER.len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(BEARER) => issued(token),
        _ => Err(bad("the `authorization` header is not `Bearer` and a token")),
    });
    let [aws, vault, session] =
        [aws, vault, session].map(|header| header.map(|header| said(header.as_bytes())));
    let mut said = [aws, vault, session, bearing].into_iter().flatten();
    match (said.next(), said.next()) {
        (Some(_), Some(_)) => Err(bad("there are several tokens; send one")),
        (Some(said), None) => said,
        (None, _) if manners == Manners::Sdk => Ok(Credential::Kernel),
        (None, _) => Err(bad(
            "there is no token; send `peer`, or a token of an issuer, as `X-Aws-Parameters-Secrets-Token`",
        )),
    }
}

fn said(header: &[u8]) -> Result<Credential, Fault> {
    if header == PEER { Ok(Credential::Kernel) } else { issued(header) }
}

fn issued(token: &[u8]) -> Result<Credential, Fault> {
    let unlike = || bad("the token is neither `peer` nor one of an issuer, a signed JSON Web Token");
    if !is_jwt(token) {
        return Err(unlike());
    }
    Bearer::of(Secret::new(token.to_vec())).map(Credential::Token).map_err(|_| unlike())
}

/// Three parts in the alphabet of a JSON Web Token (RFC 7515, section 7.1). Tokens of AWS have none.
fn is_jwt(token: &[u8]) -> bool {
    let mut parts = token.split(|byte| *byte == b'.');
    let is_part = |part: &[u8]| {
        !part.is_empty()
            && part.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    parts.by_ref().take(3).filter(|part| is_part(part)).count() == 3 && parts.next().is_none()
}

fn bad(why: &str) -> Fault {
    Fault::unknown_caller(format!("Bad Token: {why}"))
}

/// AWS's agent takes the second too, for those who speak to it as to a Vault.
const ALL: [&str; 4] =
    ["x-aws-parameters-secrets-token", "x-vault-token", "x-amz-security-token", "authorization"];
const BEARER: &[u8] = b"Bearer ";
const SIGNED: &[u8] = b"AWS4-";
/// What a caller sends that wants to be known by its process.
const PEER: &[u8] = b"peer";

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn taken(manners: Manners, pairs: &[(&str, &str)]) -> Result<&'static str, String> {
        let pair = |(name, value): &(&str, &str)| {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            (name, HeaderValue::from_str(value).expect("a value"))
        };
        let mut headers = HeaderMap::new();
        pairs.iter().map(pair).for_each(|(name, value)| {
            headers.append(name, value);
        });
        let taken = take(&mut headers, manners);
        assert!(headers.is_empty(), "something was left for others to meet");
        match taken {
            Ok(Credential::Kernel) => Ok("kernel"),
            Ok(Credential::Token(_)) => Ok("token"),
            Err(fault) => Err(fault.message),
        }
    }

    const TOKEN: (&str, &str) = ("x-aws-parameters-secrets-token", "ey.can_a.ry-");

    #[test]
    fn the_agents_way_needs_a_header_that_says_who_asks() {
        let agent = |pairs: &[_]| taken(Manners::Agent, pairs);
        assert_eq!(agent(&[TOKEN]), Ok("token"));
        assert_eq!(agent(&[("x-vault-token", "peer")]), Ok("kernel"));
        assert_eq!(agent(&[("authorization", "bearer a.b.c")]), Ok("token"));
        for bad in [
            &[][..],
            &[TOKEN, ("authorization", "Bearer a.b.c")],
            &[TOKEN, TOKEN],
            &[("x-aws-parameters-secrets-token", "")],
            &[("x-aws-parameters-secrets-token", "Peer")],
            &[("x-aws-parameters-secrets-token", "a.b.c.d")],
            &[("x-aws-parameters-secrets-token", "a..c")],
            &[("authorization", "AWS4-HMAC-SHA256 x")],
            &[("authorization", "Basic eDp5")],
            &[("authorization", "Bearer peer")],
            &[("x-amz-security-token", "a.b.c")],
        ] {
            assert!(agent(bad).expect_err("refused").starts_with("Bad Token"), "{bad:?}");
        }
    }

    #[test]
    fn an_sdk_is_known_by_its_process_unless_its_session_token_is_one_of_an_issuer() {
        let sdk = |pairs: &[_]| taken(Manners::Sdk, pairs);
        let signed = ("authorization", "AWS4-HMAC-SHA256 Credential=x/y");
        assert_eq!(sdk(&[signed]), Ok("kernel"));
        assert_eq!(sdk(&[signed, ("x-amz-security-token", "IQoJb3JpZ2luX2VjEJz/+=")]), Ok("kernel"));
        assert_eq!(sdk(&[signed, ("x-amz-security-token", "a.b.c")]), Ok("token"));
        assert_eq!(sdk(&[("authorization", "Bearer a.b.c")]), Ok("token"));
        assert!(sdk(&[("authorization", "Bearer a")]).is_err());
        assert!(sdk(&[TOKEN, ("x-amz-security-token", "a.b.c")]).is_err());
    }
}
