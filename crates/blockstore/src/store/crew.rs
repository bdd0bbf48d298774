//! Threads that open large reads, so that they are spread over the processors while the disk's
//! thread goes on with the next.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};

/// Something to compute.
pub(super) type Job = Box<dyn FnOnce() + Send>;

/// As many threads as there are processors. They end with the crew, after what they were given.
pub(super) struct Crew(Sender<Job>);

impl Crew {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system has none left.
    pub(super) fn start() -> io::Result<Self> {
        let (sender, jobs) = mpsc::channel();
        let jobs: Arc<Mutex<Receiver<Job>>> = Arc::new(Mutex::new(jobs));
        for _ in 0..std::thread::available_parallelism()?.get() {
            let jobs = Arc::clone(&jobs);
            std::thread::Builder::new().name("open pages".into()).spawn(move || {
                loop {
                    // Released before the job is done, or there would be one at a time.
                    let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    match next {
                        Ok(job) => job(),
                        Err(_) => return,
                    }
                }
            })?;
        }
        Ok(Self(sender))
    }

    /// Has something computed.
    pub(super) fn give(&self, job: Job) {
        if let Err(mpsc::SendError(job)) = self.0.send(job) {
            // Every thread has panicked: done here rather than never.
            job();
        }
    }
}
