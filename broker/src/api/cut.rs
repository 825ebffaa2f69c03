//! Answers that are streams end when the node whose connection they go over is evicted.
//!
//! Every other answer is short: its call was admitted, and the next one will not be. A stream was admitted once, for as
//! long as somebody listens. So it is cut from outside, whichever handler makes it, and ends as one does that was refused.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Bytes;

use super::status;
use crate::failure::Failure;

/// The stream, until `ended` says why it has to end.
pub(super) fn until<F>(body: Body, request_id: Arc<str>, ended: F) -> Body
where
    F: Future<Output = Failure> + Send + 'static,
{
    Body::new(Cut { body, request_id, ended: Some(Box::pin(ended)) })
}

struct Cut {
    body: Body,
    request_id: Arc<str>,
    /// Nothing once it has ended.
    ended: Option<Pin<Box<dyn Future<Output = Failure> + Send>>>,
}

impl http_body::Body for Cut {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(ended) = &mut self.ended else { return Poll::Ready(None) };
        if let Poll::Ready(failure) = ended.as_mut().poll(cx) {
            self.ended = None;
            // Whoever made the stream sees that nobody listens.
            self.body = Body::empty();
            let mut trailers = HeaderMap::new();
            let status = status::of(&failure, &self.request_id);
            return Poll::Ready(Some(status.add_header(&mut trailers).map(|()| Frame::trailers(trailers))));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.ended.is_none() || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use http_body::Body as _;
    use tokio::sync::{mpsc, oneshot};
    use tokio_stream::wrappers::ReceiverStream;

    use super::*;

    async fn frame(body: &mut Body) -> Option<Frame<Bytes>> {
        let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await;
        frame.map(|frame| frame.expect("no error"))
    }

    #[tokio::test]
    async fn a_stream_goes_on_until_its_node_is_evicted_and_says_why_it_ends() {
        let (events, stream) = mpsc::channel::<Result<Bytes, Status>>(2);
        let stream = Body::new(axum::body::Body::from_stream(ReceiverStream::new(stream)));
        let (evict, evicted) = oneshot::channel();
        let ended = async move {
            drop(evicted.await);
            Failure::Evicted { node: "web-1".to_owned() }
        };
        let mut cut = until(stream, "request-1".into(), ended);
        events.send(Ok(Bytes::from_static(b"event"))).await.expect("open");
        let event = frame(&mut cut).await.and_then(|frame| frame.into_data().ok());
        assert_eq!(event.as_deref(), Some(b"event".as_slice()));
        evict.send(()).expect("waiting");
        let trailers = frame(&mut cut).await.and_then(|frame| frame.into_trailers().ok());
        let status = trailers.as_ref().and_then(|trailers| trailers.get("grpc-status"));
        assert_eq!(status.map(http::HeaderValue::as_bytes), Some(b"16".as_slice()));
        assert!(frame(&mut cut).await.is_none() && events.is_closed());
    }
}
