//! `bursar policy`: what principals may do.

mod apply;
mod approvals;
mod approve;
mod check;
mod files;
mod get;
mod history;
mod rollback;
mod test;
mod withdraw;

use clap::Subcommand;

use super::Session;
use crate::error::Error;

/// What principals may do: Cedar policies and registrations, kept as a directory of files
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Get(get::Arguments),
    History(history::Arguments),
    Apply(apply::Arguments),
    Validate(apply::Validate),
    Rollback(rollback::Arguments),
    Check(check::Arguments),
    Test(test::Arguments),
    Approve(approve::Arguments),
    Approvals(approvals::Arguments),
    Withdraw(withdraw::Arguments),
}

impl Command {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        match self {
            Self::Get(get) => get.carry_out(session).await,
            Self::History(history) => history.carry_out(session).await,
            Self::Apply(apply) => apply.carry_out(session).await,
            Self::Validate(validate) => validate.carry_out(session).await,
            Self::Rollback(rollback) => rollback.carry_out(session).await,
            Self::Check(check) => check.carry_out(session).await,
            Self::Test(test) => test.carry_out(session).await,
            Self::Approve(approve) => approve.carry_out(session).await,
            Self::Approvals(approvals) => approvals.carry_out(session).await,
            Self::Withdraw(withdraw) => withdraw.carry_out(session).await,
        }
    }
}
