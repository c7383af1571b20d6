//! What an adapter's stream was told, so that nothing is said twice and nothing is left unsaid; and that stream itself.
//!
//! Each `Ok` item says that the source is well. So what is wrong with it is said again behind one, and else from time to
//! time; and a source that is well again says so even when it has no news. For adapters of servers; files are always there.

use std::future::Future;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use weft_model::RegistryEvent;

use crate::error::{Problem, RegistryError, RegistryErrorKind};

type Item = Result<RegistryEvent, RegistryError>;

/// What was told.
#[derive(Debug, Default)]
pub struct Telling {
    error: Option<(RegistryErrorKind, Instant)>,
    problems: Vec<Problem>,
    /// When to tell the problems that there are then.
    problems_due: Option<Instant>,
}

impl Telling {
    /// The items for changes and the source's state; `answered`: the server just answered.
    pub fn items(
        &mut self,
        events: impl IntoIterator<Item = RegistryEvent>,
        error: Option<RegistryError>,
        answered: bool,
    ) -> Vec<Item> {
        let now = Instant::now();
        let mut items: Vec<Item> = events.into_iter().map(Ok).collect();
        let Some(error) = error else {
            let was_bad = self.error.take().is_some();
            if items.is_empty() && (was_bad || answered) {
                items.push(Ok(RegistryEvent::Upsert(Vec::new())));
            }
            return items;
        };
        let due = self.error.is_none_or(|(told, at)| told != error.kind() || now >= at + REPEAT_AFTER);
        if due || !items.is_empty() {
            self.error = Some((error.kind(), now));
            items.push(Err(error));
        }
        items
    }

    /// Many objects may turn bad together, and each time the list of problems is whole: it is told once for them.
    pub fn problems_may_differ(&mut self) {
        self.problems_due.get_or_insert_with(|| Instant::now() + TELL_PROBLEMS_AFTER);
    }

    /// When to call [`Self::tell_problems`].
    pub fn problems_due(&self) -> Option<Instant> {
        self.problems_due
    }

    /// The time has come: the problems that there are now, where they are other ones.
    pub fn tell_problems(&mut self, problems: Vec<Problem>) -> Option<Item> {
        self.problems_due = None;
        if problems == self.problems {
            return None;
        }
        self.problems.clone_from(&problems);
        Some(Err(RegistryError::problems(problems)))
    }
}

/// The stream of what a task sends. The task starts with the first poll, since the caller may be outside of the runtime
/// before, and ends with the stream.
pub fn stream_of<F>(start: impl FnOnce(mpsc::Sender<Item>) -> F + Send + 'static) -> BoxStream<'static, Item>
where
    F: Future<Output = ()> + Send + 'static,
{
    // Few: a slow reader slows the reading, and the latest state is what counts.
    let (items, mut receiver) = mpsc::channel(16);
    let mut task = JoinSet::new();
    let mut start = Some((start, items));
    futures::stream::poll_fn(move |context| {
        if let Some((start, items)) = start.take() {
            task.spawn(start(items));
        }
        receiver.poll_recv(context)
    })
    .boxed()
}

/// So long bad objects are collected.
const TELL_PROBLEMS_AFTER: Duration = Duration::from_millis(100);
/// An error that goes on is said again at this rate at most.
const REPEAT_AFTER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn down() -> Option<RegistryError> {
        Some(RegistryError::source_down("no answer"))
    }

    fn news() -> Vec<RegistryEvent> {
        vec![RegistryEvent::Remove(Vec::new())]
    }

    fn shown(items: &[Item]) -> Vec<&'static str> {
        items.iter().map(|item| if item.is_ok() { "well" } else { "bad" }).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_is_said_behind_each_ok_and_else_once_a_second() {
        let mut told = Telling::default();
        assert_eq!(shown(&told.items([], down(), false)), ["bad"]);
        assert_eq!(shown(&told.items([], down(), false)), [""; 0]);
        assert_eq!(shown(&told.items(news(), down(), false)), ["well", "bad"]);
        let denied = Some(RegistryError::permission_denied("no"));
        assert_eq!(shown(&told.items([], denied, false)), ["bad"], "of another kind");
        tokio::time::advance(REPEAT_AFTER).await;
        assert_eq!(shown(&told.items([], down(), false)), ["bad"]);
    }

    #[tokio::test]
    async fn a_source_that_is_well_again_or_has_just_answered_says_so_without_news() {
        let mut told = Telling::default();
        assert_eq!(shown(&told.items([], None, false)), [""; 0]);
        assert_eq!(shown(&told.items([], None, true)), ["well"]);
        told.items([], down(), false);
        assert_eq!(shown(&told.items([], None, false)), ["well"]);
        assert_eq!(shown(&told.items(news(), None, true)), ["well"], "the news says it");
    }

    #[tokio::test]
    async fn the_task_of_a_stream_starts_with_the_first_poll_and_ends_with_the_stream() {
        let (alive, mut ended) = mpsc::channel::<()>(1);
        let mut stream = stream_of(move |items| async move {
            let _alive = alive;
            _ = items.send(Ok(RegistryEvent::Upsert(Vec::new()))).await;
            std::future::pending::<()>().await;
        });
        assert!(stream.next().await.is_some());
        drop(stream);
        assert_eq!(ended.recv().await, None, "the task lives on");
    }
}
