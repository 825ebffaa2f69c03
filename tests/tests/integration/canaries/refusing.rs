//! Stores that refuse what they gave before.

use anyhow::{Result, ensure};
use bursar_tests::EVERYTHING;

use super::Site;

impl Site {
    /// AWS denies what the broker's user may not do.
    pub(super) fn refused_by_aws(&self) -> Result<()> {
        self.moto.allow("broker", NO_SECRETS)?;
        self.moto.enforce(true)?;
        let refusals: [&[&str]; 4] = [
            &["get", "aws/app#p", "--max-age", "0s"],
            &["get", "aws/app#p@AWSPREVIOUS"],
            &["get", "aws/sts/app", "--new-lease"],
            &["secret", "list", "aws"],
        ];
        for arguments in refusals {
            let said = self.admin.run(arguments)?;
            ensure!(said.code != Some(0), "`bursar {}` was not refused", arguments.join(" "));
            self.told(said, None)?;
        }
        self.moto.enforce(false)?;
        self.moto.allow("broker", EVERYTHING)
    }

    /// Google takes no token any more, gives none, and has disabled what was there.
    pub(super) fn refused_by_google(&self) -> Result<()> {
        self.drongo.change("app", "1", "disable")?;
        let read = ["get", "gcp/app#p", "--max-age", "0s"];
        let disabled = self.admin.run(&read)?;
        self.told(disabled, Some(1))?;
        self.door.refuse(true);
        self.door.end_token();
        let refusals: [&[&str]; 3] = [&read, &["secret", "list", "gcp"], &["secret", "history", "gcp/app"]];
        for arguments in refusals {
            let said = self.admin.run(arguments)?;
            ensure!(said.code != Some(0), "`bursar {}` was not refused", arguments.join(" "));
            self.told(said, None)?;
        }
        self.door.refuse(false);
        self.drongo.change("app", "1", "enable")
    }
}

/// Of an IAM user who may read nothing.
const NO_SECRETS: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}]}"#;
