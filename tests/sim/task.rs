//! An executor in which nothing happens by itself: a task runs when the scheduler picks it, and each wait is one of these.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// A lock that only one thread ever takes.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Set when a task may go on.
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Whose task it is, and what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Call(usize),
    Settler,
    Keeper,
}

/// A task of a gateway.
pub struct Task {
    pub gateway: usize,
    pub kind: Kind,
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    flag: Arc<Flag>,
    waker: Waker,
}

impl Task {
    pub fn new(gateway: usize, kind: Kind, future: impl Future<Output = ()> + Send + 'static) -> Task {
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        Task { gateway, kind, future: Box::pin(future), waker: flag.clone().into(), flag }
    }

    pub fn is_ready(&self) -> bool {
        self.flag.0.load(Ordering::Relaxed)
    }

    /// Runs until the next wait. True when it is done.
    pub fn run(&mut self) -> bool {
        self.flag.0.store(false, Ordering::Relaxed);
        self.future.as_mut().poll(&mut Context::from_waker(&self.waker)).is_ready()
    }
}

/// What a future gives that never waits.
pub fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the books in memory answered late"),
    }
}

/// A value that comes once, from elsewhere.
pub struct Slot<T>(Arc<Mutex<(Option<T>, Option<Waker>)>>);

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Slot(self.0.clone())
    }
}

impl<T> Slot<T> {
    pub fn new() -> Slot<T> {
        Slot(Arc::new(Mutex::new((None, None))))
    }

    pub fn put(&self, value: T) {
        let mut inner = lock(&self.0);
        inner.0 = Some(value);
        if let Some(waker) = inner.1.take() {
            waker.wake();
        }
    }
}

impl<T> Future for Slot<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut inner = lock(&self.0);
        match inner.0.take() {
            Some(value) => Poll::Ready(value),
            None => {
                inner.1 = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// Lets others go first, once.
pub async fn give_way() {
    let mut waited = false;
    std::future::poll_fn(move |context| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
