//! Stands before a program until it ends, and through the changes of its secrets.
//!
//! A set of changes is one action. Restarts are at least [`APART`] apart: what changes meanwhile comes with the next,
//! so that a secret which is rewritten without end restarts a program every few seconds and not more often. Whatever
//! goes wrong with a change, the program goes on with what it has, and that is said: a secret that cannot be had any
//! more is no reason to end what still works.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use bursar_core::Explained;
use bursar_exec::{Ended, Outputs, Program, Running, Supervisor};
use bursar_sdk::{Followed, Follower, ResolvedEnvironment};
use tokio::time::{Instant, sleep_until, timeout};

use super::change::{Action, Change};
use super::deliver::Delivered;
use super::{Arguments, Session, patterns};
use crate::error::Error;

/// What stays the same while a program is attended.
pub(super) struct Attendance<'run> {
    pub(super) arguments: &'run Arguments,
    pub(super) session: &'run Session,
    /// The program, as people are told of it.
    pub(super) program: String,
    pub(super) outputs: Outputs,
    /// What the program sees of this process's own variables.
    pub(super) passed: BTreeMap<OsString, OsString>,
}

/// What there is of a program at one time.
struct Life {
    running: Running,
    began: Instant,
    delivered: Delivered,
}

impl Attendance<'_> {
    /// Runs the program to its end.
    pub(super) async fn attend(self, mut delivered: Delivered) -> Result<ExitCode, Error> {
        let mut supervisor = Supervisor::new().map_err(|source| self.cannot_run(source))?;
        let variables = std::mem::take(&mut delivered.variables);
        let running = self.start(&mut supervisor, variables, &mut delivered)?;
        let ended = supervisor.wait(&running, &running).await;
        supervisor.drain(running).await;
        // Its files go after it: until then it reads them.
        drop(delivered);
        Ok(ExitCode::from(ended.exit_code()))
    }

    /// Runs the program to its end, and acts on changes until then.
    pub(super) async fn follow(
        self,
        mut follower: Follower,
        mut resolved: ResolvedEnvironment,
        mut delivered: Delivered,
    ) -> Result<ExitCode, Error> {
        let mut supervisor = Supervisor::new().map_err(|source| self.cannot_run(source))?;
        if self.arguments.tied {
            let tied = supervisor.tie_to_input(self.arguments.stop_timeout);
            tied.map_err(|source| self.cannot_run(source))?;
        }
        let running = self.start(&mut supervisor, delivered.variables.clone(), &mut delivered)?;
        let mut life = Life { running, began: Instant::now(), delivered };
        let ended = loop {
            let followed = tokio::select! {
                ended = supervisor.wait(&life.running, &life.running) => break ended,
                followed = follower.next() => followed,
            };
            let new = match followed {
                Ok(Followed::Resolved(new)) => new,
                Ok(Followed::Deaf(error)) => {
                    let why = Explained(&error);
                    self.say(&format!("changes are seen when leases are renewed, and not before: {why}"));
                    continue;
                }
                Err(error) => {
                    let (environment, program, why) = (&self.arguments.env, &self.program, Explained(&error));
                    self.say(&format!(
                        "environment `{environment}` cannot be resolved again, and `{program}` goes on with what it has: {why}"
                    ));
                    continue;
                }
            };
            let default = self.arguments.on_change.unwrap_or(Action::None);
            let Some(change) = Change::between(&resolved, &new, default) else { continue };
            match self.act(&mut supervisor, life, &change, &resolved, &new).await? {
                Acted::Lives(next) => life = next,
                Acted::Ended(last, ended) => {
                    life = last;
                    break ended;
                }
            }
            resolved = new;
        };
        supervisor.drain(life.running).await;
        drop(life.delivered);
        Ok(ExitCode::from(ended.exit_code()))
    }

    /// Does what a change asks for.
    async fn act(
        &self,
        supervisor: &mut Supervisor,
        mut life: Life,
        change: &Change,
        old: &ResolvedEnvironment,
        new: &ResolvedEnvironment,
    ) -> Result<Acted, Error> {
        let wait = Instant::now() + self.arguments.splay.mul_f64(fastrand::f64());
        let wait = if change.action == Action::Restart { wait.max(life.began + APART) } else { wait };
        tokio::select! {
            ended = supervisor.wait(&life.running, &life.running) => return Ok(Acted::Ended(life, ended)),
            () = sleep_until(wait) => {}
        }
        match self.deliver(&life.delivered, old, new) {
            Ok(delivered) => life.delivered = delivered,
            Err(error) => {
                self.say(&format!("what changed is not delivered: {}", Explained(&error)));
                return Ok(Acted::Lives(life));
            }
        }
        let (names, program) = (change.names.join(", "), &self.program);
        match change.action {
            Action::None => {}
            Action::Signal => {
                self.say(&format!("{names} changed: sending a signal to `{program}`"));
                life.running.signal(self.arguments.signal);
            }
            Action::Hook => {
                self.say(&format!("{names} changed: running the hook"));
                self.hook(supervisor, &life, change).await;
            }
            Action::Restart => {
                self.say(&format!("{names} changed: restarting `{program}`"));
                let ended = supervisor.stop(&life.running, self.arguments.stop_timeout).await;
                if supervisor.is_to_end() {
                    return Ok(Acted::Ended(life, ended));
                }
                supervisor.drain(life.running).await;
                let variables = life.delivered.variables.clone();
                let running = self.start(supervisor, variables, &mut life.delivered)?;
                life = Life { running, began: Instant::now(), delivered: life.delivered };
            }
        }
        Ok(Acted::Lives(life))
    }

    /// Masks what is new, then delivers it.
    fn deliver(
        &self,
        before: &Delivered,
        old: &ResolvedEnvironment,
        new: &ResolvedEnvironment,
    ) -> Result<Delivered, Error> {
        if let Outputs::Masked(sought) = &self.outputs {
            // The program has the old values until it has let go of them.
            sought.replace(patterns(&self.program, &[new, old])?);
        }
        Delivered::new(self.arguments, self.passed.clone(), new, &self.program, before.folder.clone())
    }

    /// Runs the hook beside the program, with the same variables.
    async fn hook(&self, supervisor: &mut Supervisor, life: &Life, change: &Change) {
        let Some(hook) = &self.arguments.hook else {
            return self.say("there is no hook to run; name one by --hook");
        };
        let mut variables = life.delivered.variables.clone();
        variables.insert("BURSAR_CHANGED".into(), change.names.join(",").into());
        let core_limit = self.session.core_limit.before();
        let program = Program { command: hook.0.clone(), variables, core_limit };
        let hook = match supervisor.start_beside(program, &self.outputs) {
            Ok(hook) => hook,
            Err(error) => return self.say(&format!("the hook cannot be run: {error}")),
        };
        match timeout(LONGEST_HOOK, supervisor.wait(&hook, &life.running)).await {
            Ok(Ended::Exited(0)) => {}
            Ok(ended) => self.say(&format!("the hook failed, with exit code {}", ended.exit_code())),
            Err(_) => {
                self.say(&format!("the hook took longer than {} s, and was ended", LONGEST_HOOK.as_secs()));
                supervisor.stop(&hook, Duration::ZERO).await;
            }
        }
        supervisor.drain(hook).await;
    }

    fn start(
        &self,
        supervisor: &mut Supervisor,
        variables: BTreeMap<OsString, OsString>,
        delivered: &mut Delivered,
    ) -> Result<Running, Error> {
        let command = self.arguments.command.clone();
        let program = Program { command, variables, core_limit: self.session.core_limit.before() };
        let running = supervisor.start(program, &self.outputs).map_err(|source| self.cannot_run(source));
        // It has inherited them.
        delivered.descriptors.clear();
        running
    }

    fn cannot_run(&self, source: std::io::Error) -> Error {
        Error::Run { program: self.program.clone(), source }
    }

    fn say(&self, words: &str) {
        self.session.output.say(words);
    }
}

/// What became of the program.
enum Acted {
    Lives(Life),
    Ended(Life, Ended),
}

/// Between two starts of a program at least.
const APART: Duration = Duration::from_secs(5);
const LONGEST_HOOK: Duration = Duration::from_secs(60);
