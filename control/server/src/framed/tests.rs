//! Heads in pieces, lies about lengths, and messages that never end.

use futures::{StreamExt, stream};
use http_body_util::{BodyExt, StreamBody};
use tonic::Code;

use super::*;

fn message(flag: u8, announced: usize, bytes: usize) -> Vec<u8> {
    let length = u32::try_from(announced).unwrap().to_be_bytes();
    [&[flag], length.as_slice(), &vec![7; bytes]].concat()
}

fn pieces(bytes: &[u8], of: usize) -> Result<bool, Code> {
    let mut messages = Messages::default();
    for piece in bytes.chunks(of) {
        messages.follow(piece).map_err(|status| status.code())?;
    }
    Ok(messages.is_between())
}

#[test]
fn messages_are_followed_however_they_are_cut() {
    let row = [message(0, 3, 3), message(0, 0, 0), message(0, 70_000, 70_000)].concat();
    for of in [1, 2, 5, 6, 1000, row.len()] {
        assert_eq!(pieces(&row, of), Ok(true), "in pieces of {of}");
        assert_eq!(pieces(&row[..row.len() - 1], of), Ok(false), "in pieces of {of}");
    }
}

#[test]
fn what_is_compressed_too_large_or_no_grpc_is_refused_at_its_head() {
    for (bytes, code) in [
        (message(1, 10, 0), Code::Unimplemented),
        (message(2, 10, 0), Code::Internal),
        (message(0, LARGEST_REQUEST + 1, 0), Code::ResourceExhausted),
        (message(0, u32::MAX as usize, 0), Code::ResourceExhausted),
        ([message(0, 2, 2), message(1, 0, 0)].concat(), Code::Unimplemented),
    ] {
        assert_eq!(pieces(&bytes, 3), Err(code));
    }
}

type Piece = Result<Frame<Bytes>, Status>;

/// Watches a body of these bytes that never ends.
fn endless(
    bytes: Vec<u8>,
    budget: &Arc<Semaphore>,
) -> Watched<impl HttpBody<Data = Bytes, Error = Status> + Unpin> {
    let begun: Piece = Ok(Frame::data(bytes.into()));
    let body = StreamBody::new(stream::iter([begun]).chain(stream::pending()));
    Watched::new(body, Arc::clone(budget))
}

#[tokio::test(start_paused = true)]
async fn a_message_that_does_not_become_whole_ends_the_stream_and_silence_between_does_not() {
    let budget = Arc::new(Semaphore::new(BUDGET));
    let start = Instant::now();
    let mut half = endless(message(0, 100, 50), &budget);
    half.frame().await.unwrap().unwrap();
    assert_eq!(half.frame().await.unwrap().unwrap_err().code(), Code::DeadlineExceeded);
    assert_eq!(start.elapsed(), WHOLE_WITHIN);
    let mut silent = endless(message(0, 100, 100), &budget);
    silent.frame().await.unwrap().unwrap();
    assert!(tokio::time::timeout(10 * WHOLE_WITHIN, silent.frame()).await.is_err());
}

#[tokio::test]
async fn large_messages_share_a_budget_and_small_ones_always_pass() {
    let budget = Arc::new(Semaphore::new(LARGEST_REQUEST));
    let large = || endless(message(0, LARGEST_REQUEST - 10, 10), &budget);
    let mut first = large();
    first.frame().await.unwrap().unwrap();
    assert_eq!(large().frame().await.unwrap().unwrap_err().code(), Code::ResourceExhausted);
    endless(message(0, SMALL, 1), &budget).frame().await.unwrap().unwrap();
    drop(first);
    large().frame().await.unwrap().unwrap();
    assert_eq!(budget.available_permits(), LARGEST_REQUEST);
}
