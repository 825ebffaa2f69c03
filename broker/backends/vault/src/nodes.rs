//! The nodes of one store, and which of them is asked.
//!
//! The nodes of a cluster hold the same data and know the same tokens, and a standby forwards what it cannot do itself. So
//! one node is asked until it fails to serve, and then the next, which is stayed with: none is better than another.

use std::sync::atomic::{AtomicUsize, Ordering};

use bursar_backend_http::{AddressError, Plaintext};
use bursar_core::backend::BackendError;
use reqwest::Url;

/// At least one node. Each is a URL that ends in `/v1`.
#[derive(Debug)]
pub(crate) struct Nodes {
    first: Url,
    others: Vec<Url>,
    /// Which of them is asked, the first being 0.
    asked: AtomicUsize,
}

/// One node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node<'nodes> {
    number: usize,
    base: &'nodes Url,
}

/// One call, on its way from node to node.
#[derive(Debug)]
pub(crate) struct Round<'nodes> {
    nodes: &'nodes Nodes,
    left: usize,
}

/// A call that came to nothing at one node.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) error: BackendError,
    pub(crate) blame: Blame,
}

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blame {
    /// The node serves, and said no to this call.
    Call,
    /// The node does not serve, and has done nothing about the call: another may be asked for whatever it is.
    Node,
    /// The node does not serve, and may have done what it was asked.
    NodeAfterAll,
}

impl Nodes {
    /// # Errors
    /// No address, or one that is none.
    pub(crate) fn new(addresses: &[String], plaintext: Plaintext) -> Result<Self, AddressError> {
        let mut bases = addresses.iter().map(|address| base(address, plaintext));
        let first = bases.next().unwrap_or(Err(AddressError::NotAUrl))?;
        Ok(Self { first, others: bases.collect::<Result<_, _>>()?, asked: AtomicUsize::new(0) })
    }

    /// Begins a call, which each node is asked for once at most.
    pub(crate) fn round(&self) -> Round<'_> {
        Round { nodes: self, left: self.count() }
    }

    fn node(&self, number: usize) -> Node<'_> {
        let other = number.checked_sub(1).and_then(|other| self.others.get(other));
        Node { number, base: other.unwrap_or(&self.first) }
    }

    fn count(&self) -> usize {
        1 + self.others.len()
    }

    /// Whoever comes next asks another, unless somebody has seen to that.
    fn leave(&self, node: Node<'_>) {
        let next = self.node((node.number + 1) % self.count());
        let left =
            self.asked.compare_exchange(node.number, next.number, Ordering::Relaxed, Ordering::Relaxed);
        if left.is_ok() && next.number != node.number {
            let (from, to) = (node.base.authority(), next.base.authority());
            tracing::warn!(from, to, "a node does not serve; another is asked");
        }
    }
}

impl<'nodes> Round<'nodes> {
    /// The node to ask.
    pub(crate) fn node(&self) -> Node<'nodes> {
        self.nodes.node(self.nodes.asked.load(Ordering::Relaxed))
    }

    /// After a refusal of `node`: whether another is to be asked.
    ///
    /// # Errors
    /// That of the refusal, where the call may have been done or no other node is left.
    pub(crate) fn go_on(&mut self, node: Node<'_>, refusal: Refusal) -> Result<(), BackendError> {
        self.left = self.left.saturating_sub(1);
        if refusal.blame != Blame::Call {
            self.nodes.leave(node);
        }
        match refusal.blame {
            Blame::Node if self.left > 0 => Ok(()),
            Blame::Node | Blame::NodeAfterAll | Blame::Call => Err(refusal.error),
        }
    }
}

impl Node<'_> {
    /// The place of `path` there, as the store writes it, without escapes.
    pub(crate) fn url(self, path: &str) -> Url {
        let mut url = self.base.clone();
        // Escapes each segment. An `https` base always has segments.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(path.split('/'));
        }
        url
    }
}

impl Refusal {
    pub(crate) fn of(blame: Blame, error: BackendError) -> Self {
        Self { error, blame }
    }
}

fn base(address: &str, plaintext: Plaintext) -> Result<Url, AddressError> {
    let mut base = bursar_backend_http::address(address, plaintext)?;
    base.path_segments_mut().map_err(|()| AddressError::NotAUrl)?.pop_if_empty().push("v1");
    Ok(base)
}
