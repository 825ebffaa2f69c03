//! Approvals over a real ledger, with a clock that stands still.

use bursar_core::Reference;
use bursar_core::audit::{AuditRecord, Outcome};
use bursar_core::clock::TestClock;
use bursar_core::tlog::Signer;
use futures_util::FutureExt;
use ring::rand::SystemRandom;
use ring::signature::Ed25519KeyPair;
use tempfile::TempDir;
use tokio::time::Instant;

use super::*;
use crate::identity::Caller;
use crate::ledger::{AuditQuery, LedgerConfig, LedgerPlace, Quotas};
use crate::policy::{Facts, PrincipalFacts};

struct Site {
    approvals: Arc<Approvals>,
    ledger: Ledger,
    clock: Arc<TestClock>,
    tasks: Tasks,
    key: Vec<u8>,
    folder: TempDir,
}

impl Site {
    async fn start() -> Self {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("key").as_ref().to_vec();
        Self::open(tempfile::tempdir().expect("folder"), Arc::new(TestClock::new()), key).await
    }

    async fn open(folder: TempDir, clock: Arc<TestClock>, key: Vec<u8>) -> Self {
        let config = LedgerConfig {
            place: LedgerPlace::sqlite(folder.path().join("ledger.db")),
            origin: ORIGIN.to_owned(),
            queue: 1024,
            quotas: Quotas::default(),
        };
        let ledger = Ledger::open(config, Arc::clone(&clock) as Arc<dyn Clock>).expect("ledger");
        ledger.start_signing(Signer::from_pkcs8(ORIGIN, &key).expect("signer")).expect("signing");
        let tasks = Tasks::new();
        let loaded = Approvals::load(ledger.clone(), Arc::clone(&clock) as Arc<dyn Clock>, tasks.clone());
        let approvals = Arc::new(loaded.await.expect("approvals"));
        Self { approvals, ledger, clock, tasks, key, folder }
    }

    async fn restart(self) -> Self {
        assert!(self.tasks.drain(Duration::from_secs(20)).await, "the tasks do not stop");
        drop(self.approvals);
        self.ledger.close().await;
        Self::open(self.folder, self.clock, self.key).await
    }

    fn approval(&self, principal: &str, resource: &str, approved_by: &str) -> Approval {
        let now = self.clock.now();
        Approval {
            id: self.approvals.next_id(now).expect("id"),
            principal: id(principal),
            action: Action::Read,
            target: Target::parse(Action::Read, resource).expect("target"),
            approved_by: id(approved_by),
            approved_at: now,
            expires_at: now + HOUR,
            reason: "a ticket".to_owned(),
        }
    }

    async fn put(&self, approval: Approval) -> Result<Arc<Approval>, Failure> {
        let draft = self.draft(Action::Approve).approved(vec![approval.id.clone()]);
        self.approvals.put_in_force(approval, draft).await
    }

    async fn withdraw(&self, approval: &Arc<Approval>) -> Result<Arc<Approval>, Failure> {
        self.approvals.withdraw(Arc::clone(approval), self.draft(Action::WithdrawApproval)).await
    }

    /// Who approved that `principal` reads `secret`.
    fn approvers(&self, principal: &str, secret: &str) -> Vec<SpiffeId> {
        let reference = Reference::parse(secret).expect("reference");
        let resource = Resource::secret(&reference);
        approvers(&self.approvals.covering(&id(principal), Action::Read, resource, self.clock.now()))
    }

    async fn kept(&self) -> usize {
        let page = Page { size: 1000, token: None };
        self.ledger.objects(ObjectKind::Approval, page).await.expect("objects").items.len()
    }

    async fn records(&self, action: Action) -> Vec<AuditRecord> {
        let query = AuditQuery { actions: vec![action], ..AuditQuery::default() };
        self.ledger.audit(query, Page::first(1000)).await.expect("audit").items
    }

    fn draft(&self, action: Action) -> Draft {
        let facts = Facts {
            id: id("bob"),
            method: "mtls".to_owned(),
            node: None,
            selectors: Vec::new(),
            groups: Vec::new(),
        };
        let caller = Caller {
            facts: PrincipalFacts::new(facts),
            credential: String::new(),
            account: None,
            credential_expires: self.clock.now() + HOUR,
            instance: None,
            ttl: None,
            peer: None,
        };
        let call = Call {
            caller: Arc::new(caller),
            request_id: "request".into(),
            trace_id: None,
            time: self.clock.now(),
            arrived: Instant::now(),
        };
        call.asks(action, "vault/a").allowed_as_owner()
    }
}

#[tokio::test]
async fn an_approval_counts_for_its_principal_action_and_resource_and_nothing_else() {
    let site = Site::start().await;
    site.put(site.approval("ada", "vault/prod/", "bob")).await.expect("approved");
    assert_eq!(site.approvers("ada", "vault/prod/db@3"), [id("bob")]);
    assert_eq!(site.approvers("eve", "vault/prod/db"), [], "somebody else");
    assert_eq!(site.approvers("ada", "vault/staging/db"), [], "something else");
    let reference = Reference::parse("vault/prod/db").expect("reference");
    let (resource, now) = (Resource::secret(&reference), site.clock.now());
    let written = site.approvals.covering(&id("ada"), Action::Write, resource, now);
    assert_eq!(written, [], "another action");
}

#[tokio::test]
async fn people_count_once_however_often_they_approve() {
    let site = Site::start().await;
    for (resource, by) in [("vault/a", "eve"), ("vault/a", "bob"), ("vault/", "bob")] {
        site.put(site.approval("ada", resource, by)).await.expect("approved");
    }
    assert_eq!(site.approvers("ada", "vault/a"), [id("bob"), id("eve")]);
}

#[tokio::test]
async fn it_is_on_record_before_it_counts_and_is_there_after_a_restart() {
    let site = Site::start().await;
    let approval = site.put(site.approval("ada", "vault/a%23b/", "bob")).await.expect("approved");
    let records = site.records(Action::Approve).await;
    let [record] = records.as_slice() else { panic!("one record: {records:?}") };
    assert_eq!((record.outcome, &record.approvals), (Outcome::Ok, &vec![approval.id.to_string()]));
    let site = site.restart().await;
    assert_eq!(site.approvals.find(&approval.id, site.clock.now()), Some(approval));
    assert_eq!(site.approvers("ada", "vault/a%23b/c"), [id("bob")]);
}

#[tokio::test]
async fn it_ends_to_the_moment_and_is_forgotten_after() {
    let site = Site::start().await;
    let approval = site.put(site.approval("ada", "vault/a", "bob")).await.expect("approved");
    site.clock.advance(HOUR - Duration::from_secs(1));
    assert_eq!(site.approvers("ada", "vault/a"), [id("bob")]);
    site.clock.advance(Duration::from_secs(1));
    assert_eq!(site.approvers("ada", "vault/a"), []);
    assert_eq!(site.approvals.find(&approval.id, site.clock.now()), None);
    assert_eq!((site.approvals.count(), site.kept().await), (0, 1));
    let site = site.restart().await;
    assert_eq!(site.approvers("ada", "vault/a"), [], "a restart brings nothing back");
    site.approvals.forget_ended().await.expect("forgotten");
    assert_eq!((site.approvals.len(), site.kept().await), (0, 0));
    assert_eq!(site.records(Action::Approve).await.len(), 1, "what was approved stays on record");
}

#[tokio::test]
async fn what_is_withdrawn_counts_no_more_and_is_withdrawn_once() {
    let site = Site::start().await;
    let approval = site.put(site.approval("ada", "vault/a", "bob")).await.expect("approved");
    let other = site.put(site.approval("ada", "vault/b", "bob")).await.expect("approved");
    site.withdraw(&approval).await.expect("withdrawn");
    assert_eq!(site.approvers("ada", "vault/a"), []);
    assert_eq!(site.approvers("ada", "vault/b"), [id("bob")]);
    let again = site.withdraw(&approval).await;
    assert!(matches!(again, Err(Failure::ApprovalNotFound(_))), "{again:?}");
    let site = site.restart().await;
    assert_eq!(site.approvers("ada", "vault/a"), []);
    assert_eq!(site.approvals.list(&Page::first(10), site.clock.now()).items, [other]);
}

#[tokio::test]
async fn whoever_stops_waiting_changes_nothing() {
    let site = Site::start().await;
    let approval = site.approval("ada", "vault/a", "bob");
    assert!(site.put(approval).now_or_never().is_none(), "nobody waited");
    assert!(site.tasks.drain(Duration::from_secs(20)).await, "what was begun does not end");
    assert_eq!((site.approvers("ada", "vault/a"), site.kept().await), (vec![id("bob")], 1));
}

#[tokio::test]
async fn they_are_listed_in_pages_in_their_order() {
    let site = Site::start().await;
    let mut given = Vec::new();
    for number in 0..5 {
        site.clock.advance(Duration::from_millis(2));
        let approval = site.approval("ada", &format!("vault/{number}"), "bob");
        given.push(site.put(approval).await.expect("approved"));
    }
    let (mut listed, mut token) = (Vec::new(), None);
    for pages in 1.. {
        let page = site.approvals.list(&Page { size: 2, token }, site.clock.now());
        listed.extend(page.items);
        token = page.next;
        if token.is_none() {
            assert_eq!(pages, 3);
            break;
        }
    }
    assert_eq!(listed, given);
}

#[tokio::test]
async fn only_so_many_are_in_force_and_those_that_ended_make_room() {
    let site = Site::start().await;
    let put = |_| {
        let approval = site.approval("ada", "vault/a", "bob");
        let (name, body) = (approval.id.to_string(), body(&approval));
        let (by, at) = (approval.approved_by, approval.approved_at);
        Change::PutObject { kind: ObjectKind::Approval, name, body, expected: Some(0), by, at }
    };
    let changes = (0..CAPACITY).map(put).collect();
    site.ledger.commit(Entry { changes, records: Vec::new() }).await.expect("commit");
    let site = site.restart().await;
    assert_eq!(site.approvals.count(), CAPACITY);
    let one_more = site.put(site.approval("eve", "vault/a", "bob")).await;
    assert!(matches!(one_more, Err(Failure::ApprovalsFull { limit: CAPACITY })), "{one_more:?}");
    site.clock.advance(HOUR);
    site.put(site.approval("eve", "vault/a", "bob")).await.expect("approved");
    assert_eq!((site.approvals.len(), site.kept().await), (1, 1));
}

#[test]
fn what_is_no_id_is_refused() {
    assert_eq!("01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().map(|ApprovalId(id)| id.len()), Ok(ID_LENGTH));
    for bad in ["", "1", "01ARZ3NDEKTSV4RRFFQ69G5FA/", "01ARZ3NDEKTSV4RRFFQ69G5FAVV"] {
        assert_eq!(bad.parse::<ApprovalId>(), Err(ApprovalIdError), "{bad}");
    }
}

fn id(name: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://example.org/user/{name}")).expect("id")
}

const HOUR: Duration = Duration::from_secs(3600);
const ORIGIN: &str = "bursar.dev/test/broker";
