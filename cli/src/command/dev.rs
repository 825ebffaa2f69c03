//! `bursar dev`: a broker and an agent on this machine, for play.
//!
//! Everything is as in earnest, only small: certificates, ledger, encrypted store, an agent that joins by a token and
//! attests. The programs are those that lie beside this one. Data lives in a temporary directory that goes at the end,
//! or in --dir, which is kept and taken up again; ports are new each time, so the configuration files are written anew
//! and are not for editing.

mod place;
mod program;
mod starter;

use std::path::PathBuf;
use std::time::Duration;

use bursar_core::retry::{Retry, Transient};
use bursar_proto::v1::SystemStatusRequest;
use bursar_sdk::Client;
use clap::Args;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use crate::error::Error;
use crate::output::Output;
use crate::progress::Progress;
use place::Place;
use program::Program;

/// Run a broker and an agent on this machine, for play, until interrupted
///
/// Begins with a starter policy, an environment and secrets of random values, and prints commands to try.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Keep the data in this directory and take it up again; without it, data goes at the end
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,
}

/// The JSON form of what was started.
#[derive(Serialize)]
struct Started<'place> {
    address: String,
    socket: PathBuf,
    administrator: &'place std::path::Path,
    directory: &'place std::path::Path,
}

impl Arguments {
    pub(super) async fn carry_out(self, output: Output) -> Result<(), Error> {
        let place = Place::prepare(self.dir)?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut programs = Vec::new();
        let lived = tokio::select! {
            lived = live(&place, output, &mut programs) => lived,
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
        };
        output.say("stopping");
        // The agent first: it tells the broker what it served.
        while let Some(program) = programs.pop() {
            program.stop().await?;
        }
        lived
    }
}

/// Starts everything, and comes back when something ends by itself.
async fn live(place: &Place, output: Output, programs: &mut Vec<Program>) -> Result<(), Error> {
    let progress = Progress::waiting("starting the broker".to_owned());
    Program::run(place, BROKER, &["init"]).await?;
    programs.push(Program::start(place, BROKER, &["serve"])?);
    let administrator = place.administrator()?;
    ready(programs, &administrator).await?;
    drop(progress);

    let progress = Progress::waiting("starting the agent".to_owned());
    starter::join_token(place, &administrator).await?;
    programs.push(Program::start(place, AGENT, &["serve"])?);
    let workload = Client::connect_lazy(&place.agent(), None)?;
    ready(programs, &workload).await?;
    if !place.is_furnished() {
        starter::furnish(place, &administrator).await?;
        place.furnished()?;
    }
    drop(progress);

    let started = Started {
        address: place.broker().to_string(),
        socket: place.socket(),
        administrator: &place.exports(),
        directory: place.directory(),
    };
    output.done(&started, &place.welcome())?;
    program::any_end(programs).await
}

/// Waits until `client` is answered, whatever the answer: an agent refuses to tell the broker's state.
async fn ready(programs: &mut [Program], client: &Client) -> Result<(), Error> {
    let answered = Retry::BACKGROUND.run(|| async {
        let status = client.once(SystemStatusRequest {}, |client, request| async move {
            client.system().status(request).await
        });
        match status.await {
            Err(error @ bursar_sdk::Error::Connect { .. }) => Err(NotYet(error)),
            _ => Ok(()),
        }
    });
    tokio::select! {
        ended = program::any_end(programs) => ended,
        answered = tokio::time::timeout(START, answered) => match answered {
            Ok(Ok(())) => Ok(()),
            Ok(Err(NotYet(error))) => Err(error.into()),
            Err(_) => Err(Error::Dev(format!("`{}` does not answer within {} s", client.address(), START.as_secs()))),
        },
    }
}

/// A program that is still starting.
struct NotYet(bursar_sdk::Error);

impl Transient for NotYet {
    fn is_transient(&self) -> bool {
        true
    }
}

const BROKER: &str = "bursar-broker";
const AGENT: &str = "bursar-agent";
/// Building key material in a debug build takes seconds on a busy machine.
const START: Duration = Duration::from_secs(60);
