//! The commands, one file for each group. Every file has its arguments as they are typed, and what they do.

pub(crate) mod audit;
pub(crate) mod backend;
pub(crate) mod completions;
pub(crate) mod dev;
mod doctor;
pub(crate) mod env;
pub(crate) mod get;
pub(crate) mod lease;
pub(crate) mod node;
pub(crate) mod offline;
pub(crate) mod policy;
pub(crate) mod run;
pub(crate) mod secret;
mod status;
pub(crate) mod token;
mod version;

use std::future::Future;
use std::process::ExitCode;

use bursar_proto::convert::WireError;
use bursar_sdk::Client;
use tokio::runtime::Runtime;

use crate::arguments::{Arguments, Command};
use crate::connection;
use crate::dumps::CoreLimit;
use crate::error::Error;
use crate::output::{Output, Row};
use crate::settings::{ConnectionArguments, Folders, Settings};
use crate::{page, view};

/// What every command needs. Settings are read only by the commands that connect: a faulty file does not keep anybody
/// from verifying an export.
#[derive(Debug)]
pub(crate) struct Session {
    connection: ConnectionArguments,
    output: Output,
    core_limit: CoreLimit,
}

impl Session {
    fn settings(&self) -> Result<Settings, Error> {
        Settings::decide(self.connection.clone(), &Folders::of_environment())
    }

    fn client(&self) -> Result<Client, Error> {
        connection::client(&self.settings()?)
    }

    /// Shows `limit` items of a list at most, as rows, and says when there are more; `nothing` says in words that it is
    /// empty. `page` fetches a page: see [`page::fetch`].
    async fn list<V: TryFrom<M, Error = WireError> + Row, M>(
        &self,
        limit: usize,
        nothing: &str,
        mut page: impl AsyncFnMut(Client, u32, String) -> Result<(Vec<M>, String), Error>,
    ) -> Result<(), Error> {
        let client = self.client()?;
        let fetched = page::fetch(limit, async |size, token| page(client.clone(), size, token).await).await?;
        let rows: Vec<V> = view::read_all(&client, fetched.items)?;
        self.output.list(&rows, nothing)?;
        self.output.say_more(fetched.more);
        Ok(())
    }
}

/// Carries a command out.
///
/// # Errors
/// [`Error`].
pub(crate) fn carry_out(arguments: Arguments) -> Result<ExitCode, Error> {
    let session = Session {
        connection: arguments.connection,
        output: Output::new(arguments.output),
        core_limit: CoreLimit::forbid().map_err(std::io::Error::from)?,
    };
    match arguments.command {
        Command::Run(run) => run.carry_out(&session),
        Command::Completions(completions) => completions.carry_out(),
        Command::Version => version::carry_out(session.output),
        Command::Get(get) => wait(get.carry_out(&session)),
        Command::Env(env) => wait(env.carry_out(&session)),
        Command::Secret(secret) => wait(secret.carry_out(&session)),
        Command::Lease(lease) => wait(lease.carry_out(&session)),
        Command::Audit(audit) => wait(audit.carry_out(&session)),
        Command::Policy(policy) => wait(policy.carry_out(&session)),
        Command::Node(node) => wait(node.carry_out(&session)),
        Command::Backend(backend) => wait(backend.carry_out(&session)),
        Command::Offline(offline) => wait(offline.carry_out(&session)),
        Command::Status => wait(status::carry_out(&session)),
        Command::Token(token) => wait(token.carry_out(&session)),
        Command::Doctor => wait(doctor::carry_out(&session)),
        Command::Dev(dev) => wait(dev.carry_out(session.output)),
    }
}

fn wait(work: impl Future<Output = Result<(), Error>>) -> Result<ExitCode, Error> {
    block_on(work)?.map(|()| ExitCode::SUCCESS)
}

fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Error> {
    Ok(runtime()?.block_on(work))
}

/// One thread is enough for one connection, and starts faster than several.
fn runtime() -> Result<Runtime, Error> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
