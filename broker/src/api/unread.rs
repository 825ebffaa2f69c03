//! What arrives of a call that is refused before anybody has looked at its message.
//!
//! Where the answer leaves first, the rest of the call finds its stream given up. The connection throws it away and keeps
//! count: h2 (since 0.4.16) takes whoever sends some hundreds of such small pieces for an attacker and ends the connection,
//! with every call on it. An agent has one connection for all its workloads, so one of them that is refused again and again
//! would do that to the others. So what belongs to a refused call is read off first.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use http_body::Body as _;
use tonic::body::Body;
use tonic::codegen::Bytes;

/// Reads `body` off, as far as it comes soon and is no more than a call is.
pub(super) async fn read_off(mut body: Body) {
    let all = async {
        let mut left = MOST;
        while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { return };
            left = rest;
        }
    };
    // Whoever is slower has its answer then, and what comes later is counted.
    drop(tokio::time::timeout(PATIENCE, all).await);
}

const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes. Larger pieces than those of a message are not counted against a connection.
const MOST: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use futures_util::stream::{self, Stream, StreamExt};
    use tokio::time::Instant;
    use tonic::Status;

    use super::*;

    fn body(pieces: impl Stream<Item = usize> + Send + 'static) -> Body {
        let piece = |length| Ok::<_, Status>(Bytes::from(vec![0; length]));
        Body::new(axum::body::Body::from_stream(pieces.map(piece)))
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_is_read_to_its_end_and_nobody_waits_for_more() {
        let begun = Instant::now();
        read_off(body(stream::iter([20, 0, 4096]))).await;
        read_off(body(stream::repeat(1024))).await;
        assert!(begun.elapsed().is_zero());
        read_off(body(stream::iter([20]).chain(stream::pending()))).await;
        assert_eq!(begun.elapsed().as_secs(), PATIENCE.as_secs());
    }
}
