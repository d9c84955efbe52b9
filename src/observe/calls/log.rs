//! The call log: a thread that writes one JSON line a call on stdout.

use std::io::Write;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::{CallRecord, Queue, write_line};
use crate::observe::metrics;

/// How long a line may wait for the others with which it is written.
const WRITE_EVERY: Duration = Duration::from_millis(50);
/// Bytes that are written at once.
const WRITE_BYTES: usize = 64 << 10;

/// The queue of calls to be written.
pub struct CallLog {
    queue: Arc<Queue<Arc<CallRecord>>>,
}

impl CallLog {
    /// Starts the thread that writes on stdout; at most `max` calls wait for it.
    pub fn start(max: usize) -> std::io::Result<CallLog> {
        CallLog::onto(std::io::stdout(), max)
    }

    fn onto(out: impl Write + Send + 'static, max: usize) -> std::io::Result<CallLog> {
        let queue = Arc::new(Queue::new(max));
        let of_thread = queue.clone();
        thread::Builder::new().name("loopers-calls".into()).spawn(move || write_for_ever(&of_thread, out))?;
        Ok(CallLog { queue })
    }

    /// Hands a call over. What does not fit, because whoever reads stdout does not keep up, is counted.
    pub fn take(&self, record: Arc<CallRecord>) {
        if !self.queue.push(record) {
            metrics::log_dropped(1);
        }
    }

    /// Waits until every line is written, at most until `deadline`.
    pub async fn flush(&self, deadline: Instant) {
        if !self.queue.flush(deadline).await {
            log::warn!("not every line of the call log could be written");
        }
    }
}

fn write_for_ever(queue: &Queue<Arc<CallRecord>>, mut out: impl Write) {
    let (mut batch, mut buffer) = (Vec::new(), Vec::with_capacity(WRITE_BYTES));
    loop {
        queue.take(&mut batch);
        let mut unwritten = 0;
        for record in &batch {
            write_line(record, &mut buffer);
            unwritten += 1;
            if buffer.len() >= WRITE_BYTES {
                write_out(&mut out, &mut buffer, &mut unwritten);
            }
        }
        write_out(&mut out, &mut buffer, &mut unwritten);
        queue.done(batch.len());
        thread::sleep(WRITE_EVERY);
    }
}

fn write_out(out: &mut impl Write, buffer: &mut Vec<u8>, lines: &mut u64) {
    if !buffer.is_empty() && out.write_all(buffer).and_then(|()| out.flush()).is_err() {
        metrics::log_dropped(*lines);
    }
    buffer.clear();
    *lines = 0;
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::super::line::tests::record;
    use super::*;

    /// Says that it was written to, and writes nothing until it may.
    struct Stuck {
        reached: Sender<usize>,
        may: Receiver<()>,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.reached.send(bytes.len());
            let _ = self.may.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_reader_that_hangs_delays_nobody_and_a_flush_has_its_deadline() {
        let (reached, told) = channel();
        let (go, may) = channel();
        let log = CallLog::onto(Stuck { reached, may }, 3).unwrap();
        log.take(Arc::new(record()));
        let first = told.recv().unwrap();
        let started = Instant::now();
        for _ in 0..10_000 {
            log.take(Arc::new(record()));
        }
        assert!(started.elapsed() < Duration::from_secs(30), "it waits for the reader");
        log.flush(Instant::now() + Duration::from_millis(50)).await;
        drop(go);
        assert!(log.queue.flush(Instant::now() + Duration::from_secs(60)).await, "the reader goes on");
        assert_eq!(told.recv().unwrap(), 3 * first, "what fitted the queue, and nothing else");
    }
}
