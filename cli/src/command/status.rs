use bursar_proto::v1::SystemStatusRequest;

use super::Session;
use crate::error::Error;
use crate::view::{self, StatusView};

pub(super) async fn carry_out(session: &Session) -> Result<(), Error> {
    let client = session.client()?;
    let status = client.repeatable(SystemStatusRequest {}, |client, request| async move {
        client.system().status(request).await
    });
    let status: StatusView = view::read(&client, status.await?)?;
    session.output.one(&status)?;
    if status.is_ready() { Ok(()) } else { Err(Error::NotReady) }
}
