//! Whoever gives tokens: Entra ID to an application, and a machine's own service to whoever is on it.

use serde_json::json;

use super::serve::{Request, Response};
use super::{CLIENT_ID, RESOURCE, TENANT};
use crate::canary::Canary;

/// Tokens, and to whom they are given.
#[derive(Debug)]
pub(super) struct Logins {
    pub(super) client_secret: Canary,
    /// What may be shown instead of the secret.
    pub(super) assertion: Option<Canary>,
    given: Vec<Canary>,
    /// So many of them are not taken any more.
    ended: usize,
}

impl Logins {
    pub(super) fn new() -> Self {
        let client_secret = Canary::random("secret of the application");
        Self { client_secret, assertion: None, given: Vec::new(), ended: 0 }
    }

    pub(super) fn tokens(&self) -> Vec<Canary> {
        self.given.clone()
    }

    pub(super) fn end(&mut self) {
        self.ended = self.given.len();
    }

    /// Whether a request comes with a token that is good.
    pub(super) fn knows(&self, request: &Request) -> bool {
        let header = request.headers.get("authorization").and_then(|header| header.strip_prefix("Bearer "));
        header.is_some_and(|token| self.given.iter().skip(self.ended).any(|given| given.value() == token))
    }

    /// None for a request that is no login.
    pub(super) fn answer(&mut self, request: &Request) -> Option<Response> {
        let directory = format!("/{TENANT}");
        match (request.method.as_str(), request.path.strip_prefix(&directory)) {
            ("GET", Some("/v2.0/.well-known/openid-configuration")) => Some(about(request)),
            ("POST", Some("/oauth2/v2.0/token")) => Some(self.give_application(request)),
            ("POST", None) if request.path.ends_with("/oauth2/v2.0/token") => {
                Some(refused(400, "invalid_request", 90002))
            }
            ("GET", None) if request.path == "/metadata/identity/oauth2/token" => {
                Some(self.give_machine(request))
            }
            _ => None,
        }
    }

    fn give_application(&mut self, request: &Request) -> Response {
        let is = |name: &str, value: &str| request.field(name).as_deref() == Some(value);
        if !is("grant_type", "client_credentials") {
            return refused(400, "unsupported_grant_type", 70003);
        }
        if !is("client_id", CLIENT_ID) {
            return refused(400, "unauthorized_client", 700_016);
        }
        let by_secret = is("client_secret", self.client_secret.value());
        let by_assertion = is("client_assertion_type", JWT_BEARER)
            && self.assertion.as_ref().is_some_and(|assertion| is("client_assertion", assertion.value()));
        if !by_secret && !by_assertion {
            return refused(401, "invalid_client", 7_000_215);
        }
        if !is("scope", &format!("{RESOURCE}/.default")) {
            return refused(400, "invalid_scope", 500_011);
        }
        let token = self.give();
        Response::json(
            200,
            &json!({ "token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": token }),
        )
    }

    /// Writes numbers as texts, which is how it does.
    fn give_machine(&mut self, request: &Request) -> Response {
        let told = request.headers.get("metadata").is_some_and(|value| value == "true");
        let known = request.parameter("client_id").is_none_or(|client_id| client_id == CLIENT_ID);
        if !told || !known || request.parameter("resource").as_deref() != Some(RESOURCE) {
            let body = json!({ "error": "invalid_request", "error_description": "Identity not found" });
            return Response::json(400, &body);
        }
        let token = self.give();
        Response::json(
            200,
            &json!({
                "access_token": token, "client_id": CLIENT_ID, "expires_in": "86399", "ext_expires_in": "86399",
                "resource": RESOURCE, "token_type": "Bearer",
            }),
        )
    }

    fn give(&mut self) -> String {
        let token = Canary::alphanumeric("access token");
        self.given.push(token.clone());
        token.value().to_owned()
    }
}

/// What a client asks for before it knows where tokens are given.
fn about(request: &Request) -> Response {
    let base = format!("https://{}/{TENANT}", request.host());
    Response::json(
        200,
        &json!({
            "issuer": format!("{base}/v2.0"),
            "authorization_endpoint": format!("{base}/oauth2/v2.0/authorize"),
            "token_endpoint": format!("{base}/oauth2/v2.0/token"),
        }),
    )
}

fn refused(status: u16, error: &str, number: u32) -> Response {
    let description = format!("AADSTS{number}: in the words of Entra ID");
    Response::json(
        status,
        &json!({ "error": error, "error_description": description, "error_codes": [number] }),
    )
}

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
