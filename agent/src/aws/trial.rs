//! For those who try what can be done to the parsers by who sends requests, or by a kernel of another make.

use std::net::SocketAddr;

use axum::body::Body;
use bursar_core::Reference;
use http::Request;
use http::request::Parts;
use tonic::codegen::Bytes;

use super::ask::Ask;
use super::credential::{self, Manners};
use super::fault::Fault;
use super::front::{Wanted, wanted};
use super::kernel;
use super::names::Names;
use super::targets::Asked;
use crate::attest::Held;
use crate::config::Aws;

/// The references that a request with this body asks for, where `config` says what names mean.
///
/// # Errors
/// The status that it is answered with.
pub fn references(config: &Aws, parts: Parts, body: Bytes) -> Result<Vec<Reference>, u16> {
    let mut request = Request::from_parts(parts, Body::empty());
    let asked = |request: &mut Request<Body>| {
        let (asks, manners) = match wanted(request)? {
            Wanted::Ping => return Ok(Vec::new()),
            Wanted::Get(ask) => (vec![ask], Manners::Agent),
            Wanted::Target(target) => match Asked::read(target, &body)? {
                Asked::Value(ask) | Asked::Description(ask) => (vec![ask], Manners::Sdk),
                Asked::Values(asks) => (asks, Manners::Sdk),
            },
        };
        credential::take(request.headers_mut(), manners)?;
        let names = Names::of(config);
        let reference = |ask: &Ask| {
            let request = ask.request(&names.find(&ask.secret_id)?)?;
            Reference::parse(&request.reference).map_err(|error| Fault::parameter(error.to_string()))
        };
        asks.iter().map(reference).collect()
    };
    asked(&mut request).map_err(|fault: Fault| fault.status.as_u16())
}

/// The socket at `peer` that is connected to `local`, by an answer of the kernel's.
pub fn connected(answer: &[u8], peer: SocketAddr, local: SocketAddr) -> Option<Held> {
    kernel::read(answer, peer, local).ok()
}
