//! Clients that ask without a pause, whatever the broker does, and note what they are told.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_core::tlog::{Checkpoint, Verifier};
use bursar_core::{Clock, Lease, LeaseId, SystemClock};
use bursar_proto::REQUEST_ID_METADATA_KEY;
use bursar_proto::convert::duration_to_wire;
use bursar_proto::v1::leases_revoke_many_request::Selector;
use bursar_proto::v1::{
    AuditCheckpointRequest, LeasesRenewRequest, LeasesRevokeManyRequest, LeasesRevokeRequest,
    SecretsBatchReadRequest, SecretsReadRequest, SecretsReadResponse,
};
use bursar_sdk::Client;
use bursar_tests::wait_until;
use fastrand::Rng;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tonic::Request;

use crate::notes::{Notes, hash};
use crate::site::{Door, Site};

/// All clients.
pub(crate) struct Load {
    door: Door,
    verifier: Verifier,
    notes: Arc<Notes>,
    stop: watch::Sender<bool>,
    rng: std::cell::RefCell<Rng>,
}

impl Load {
    /// Clients of the broker of `site`.
    ///
    /// # Errors
    /// The files that `init` left cannot be read.
    pub(crate) fn new(site: &Site, seed: u64) -> Result<Self> {
        Ok(Self {
            door: site.door()?,
            verifier: site.verifier()?,
            notes: Arc::default(),
            stop: watch::Sender::new(false),
            rng: Rng::with_seed(seed).into(),
        })
    }

    pub(crate) fn notes(&self) -> &Notes {
        &self.notes
    }

    /// Starts them.
    pub(crate) fn begin(&self, runtime: &Runtime) -> JoinSet<Result<()>> {
        self.stop.send_replace(false);
        let mut work = JoinSet::new();
        let _context = runtime.enter();
        for number in 0..CLIENTS {
            let rng = self.rng.borrow_mut().fork();
            let client = Caller {
                client: self.door.clone(),
                notes: Arc::clone(&self.notes),
                rng,
                name: format!("client-{number}"),
                held: VecDeque::new(),
                asked: 0,
            };
            work.spawn(client.ask_until(self.stop.subscribe()));
        }
        let (door, verifier, notes) = (self.door.clone(), self.verifier.clone(), Arc::clone(&self.notes));
        work.spawn(remember_heads(door, verifier, notes, self.stop.subscribe()));
        work
    }

    /// Lets them finish what they are at.
    ///
    /// # Errors
    /// One of them met what no kill explains.
    pub(crate) fn end(&self, runtime: &Runtime, mut work: JoinSet<Result<()>>) -> Result<()> {
        self.stop.send_replace(true);
        runtime.block_on(async {
            while let Some(ended) = work.join_next().await {
                ended.context("a client panicked")??;
            }
            Ok(())
        })
    }

    /// Waits for so many more answers.
    ///
    /// # Errors
    /// They do not come.
    pub(crate) fn wait_for_answers(&self, more: u64) -> Result<()> {
        let wanted = self.notes.answers() + more;
        wait_until(LIMIT, "answers of a broker that runs", || self.notes.answers() >= wanted)
    }
}

/// One client with its leases.
struct Caller {
    client: Door,
    notes: Arc<Notes>,
    rng: Rng,
    name: String,
    held: VecDeque<LeaseId>,
    asked: u64,
}

impl Caller {
    async fn ask_until(mut self, stop: watch::Receiver<bool>) -> Result<()> {
        let client = self.client.connect()?;
        while !*stop.borrow() {
            let asked = match (self.rng.u8(0..100), self.held.len()) {
                (_, MOST_HELD..) | (0..15, 1..) => self.revoke(&client).await,
                (15..30, 1..) => self.renew(&client).await,
                (..45, _) => {
                    let reference = self.one_of(CREDENTIALS);
                    self.read(&client, reference).await
                }
                (45..50, _) => {
                    let reference = self.one_of(LACKING);
                    self.read(&client, reference).await
                }
                (50..57, _) => self.read_both(&client).await,
                (57..62, _) => self.read(&client, BULK_CREDENTIAL).await,
                (62..66, _) => self.read(&client, BULK_STATIC).await,
                (66..68, _) => self.revoke_bulk(&client).await,
                _ => self.read(&client, STATIC).await,
            };
            if asked?.is_none() {
                self.notes.failed();
                // The broker is down, most of the time.
                sleep(PAUSE).await;
            }
        }
        Ok(())
    }

    async fn read(&mut self, client: &Client, reference: &str) -> Result<Option<()>> {
        let message = self.message(reference);
        let request = self.request(message)?;
        let id = request_id(&request);
        let mut secrets = client.secrets();
        let Some(answer) = answered(secrets.read(request)).await else { return Ok(None) };
        ensure!(!LACKING.contains(&reference), "a field that is not there was handed out");
        self.note(answer, reference, id)?;
        Ok(Some(()))
    }

    async fn read_both(&mut self, client: &Client) -> Result<Option<()>> {
        let common = self.message(STATIC);
        let references = [self.one_of(CREDENTIALS), STATIC];
        let requests = references.map(|reference| SecretsReadRequest {
            reference: reference.to_owned(),
            ttl: common.ttl,
            reason: common.reason.clone(),
            instance: common.instance.clone(),
            max_age: common.max_age,
            new_lease: common.new_lease,
        });
        let request = self.request(SecretsBatchReadRequest { requests: requests.into() })?;
        let id = request_id(&request);
        let mut secrets = client.secrets();
        let Some(answer) = answered(secrets.batch_read(request)).await else { return Ok(None) };
        for (answer, reference) in answer.responses.into_iter().zip(references) {
            self.note(answer, reference, id.clone())?;
        }
        Ok(Some(()))
    }

    async fn renew(&mut self, client: &Client) -> Result<Option<()>> {
        let Some(id) = self.rng.choice(&self.held).copied() else { return Ok(Some(())) };
        let request = self.request(LeasesRenewRequest { lease_id: id.to_string(), ttl: None })?;
        let mut leases = client.leases();
        let Some(answer) = answered(leases.renew(request)).await else {
            // It may be over: the next one is another.
            self.held.retain(|held| *held != id);
            return Ok(None);
        };
        let lease = Lease::try_from(answer.lease.context("a renewal answered no lease")?)?;
        self.notes.renewed(id, lease.expires_at.as_second());
        Ok(Some(()))
    }

    async fn revoke(&mut self, client: &Client) -> Result<Option<()>> {
        let Some(id) = self.held.pop_front() else { return Ok(Some(())) };
        self.notes.unwanted(id);
        let reason = "torture".to_owned();
        let force = self.rng.u8(0..4) == 0;
        let request = self.request(LeasesRevokeRequest { lease_id: id.to_string(), reason, force })?;
        let mut leases = client.leases();
        let Some(_) = answered(leases.revoke(request)).await else { return Ok(None) };
        self.notes.revoked(id);
        Ok(Some(()))
    }

    /// Takes every lease on one of the bulk secrets back, whoever got it.
    async fn revoke_bulk(&mut self, client: &Client) -> Result<Option<()>> {
        let backend = if self.rng.bool() { "vault/database/creds/bulk" } else { "local/bulk" };
        let selector = Some(Selector::PathPrefix(backend.to_owned()));
        let message = LeasesRevokeManyRequest { selector, reason: "torture".to_owned(), dry_run: false };
        let request = self.request(message)?;
        let before = self.notes.ordering();
        let mut leases = client.leases();
        let answer = answered(leases.revoke_many(request)).await;
        // A lease that was granted before the order may be received after it.
        let now = SystemClock.now().saturating_add(Duration::from_secs(1))?;
        self.notes.ordered(LeaseId::new(now, [u8::MAX; 10]));
        let Some(answer) = answer else { return Ok(None) };
        let marked = answer.revocation.is_some_and(|revocation| revocation.marked_at.is_some());
        if marked {
            self.notes.bulk_revoked(&before, backend.starts_with("vault"));
        }
        Ok(Some(()))
    }

    fn one_of(&mut self, references: [&'static str; 2]) -> &'static str {
        let [first, second] = references;
        if self.rng.bool() { first } else { second }
    }

    fn message(&mut self, reference: &str) -> SecretsReadRequest {
        // Half of the leases end by themselves soon; a static one is asked for by several instances.
        let short = self.rng.bool().then(|| self.rng.u64(1..=3));
        SecretsReadRequest {
            reference: reference.to_owned(),
            ttl: short.map(|seconds| duration_to_wire(Duration::from_secs(seconds))),
            reason: "torture".to_owned(),
            instance: format!("{}-{}", self.name, self.rng.u8(0..4)),
            max_age: None,
            // Else most reads would be given the credential that their instance has.
            new_lease: self.rng.u8(0..3) > 0,
        }
    }

    fn request<M>(&mut self, message: M) -> Result<Request<M>> {
        self.asked += 1;
        let id = format!("{}-{}-{:x}", self.name, self.asked, self.rng.u64(..));
        let mut request = Request::new(message);
        request.metadata_mut().insert(REQUEST_ID_METADATA_KEY, id.parse()?);
        Ok(request)
    }

    fn note(&mut self, answer: SecretsReadResponse, reference: &str, request: String) -> Result<()> {
        let mut answer = answer;
        let value = answer.take_value();
        let lease = Lease::try_from(answer.lease.take().context("a value came without a lease")?)?;
        let is_credential = reference == BULK_CREDENTIAL || CREDENTIALS.contains(&reference);
        let user = is_credential.then(|| hash(value.expose()));
        let bulk = [BULK_CREDENTIAL, BULK_STATIC].contains(&reference);
        self.notes.received(lease.id, request, (user, bulk), lease.expires_at.as_second());
        if !self.held.contains(&lease.id) {
            self.held.push_back(lease.id);
        }
        Ok(())
    }
}

/// Looks at the log's signed head all the time. Whatever was seen once has to be the beginning of the log for ever.
async fn remember_heads(
    door: Door,
    verifier: Verifier,
    notes: Arc<Notes>,
    stop: watch::Receiver<bool>,
) -> Result<()> {
    let client = door.connect()?;
    while !*stop.borrow() {
        let mut audit = client.audit();
        if let Some(answer) = answered(audit.checkpoint(Request::new(AuditCheckpointRequest {}))).await {
            let note = answer.checkpoint.context("no checkpoint in the answer")?.note;
            notes.head(Checkpoint::open(&note, &verifier)?.head());
        }
        sleep(PAUSE).await;
    }
    Ok(())
}

/// What the broker answered, unless it refused, failed or died.
async fn answered<T>(call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>) -> Option<T> {
    Some(timeout(LIMIT, call).await.ok()?.ok()?.into_inner())
}

fn request_id<M>(request: &Request<M>) -> String {
    let id = request.metadata().get(REQUEST_ID_METADATA_KEY).and_then(|id| id.to_str().ok());
    id.unwrap_or_default().to_owned()
}

/// The user alone: its password is nothing that a note needs.
const CREDENTIALS: [&str; 2] = ["vault/database/creds/torture#username", "pg/creds/torture#username"];
/// Created at the store, and not handed out.
const LACKING: [&str; 2] = ["vault/database/creds/torture#absent", "pg/creds/torture#absent"];
const STATIC: &str = "local/torture#value";
/// What is taken back from everybody at once, now and then.
const BULK_CREDENTIAL: &str = "vault/database/creds/bulk#username";
const BULK_STATIC: &str = "local/bulk#value";

const CLIENTS: u32 = 8;
const MOST_HELD: usize = 8;
const PAUSE: Duration = Duration::from_millis(20);
const LIMIT: Duration = Duration::from_secs(30);
