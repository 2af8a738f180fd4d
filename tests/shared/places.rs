//! How many emulated machines of a test program run at a time, whatever RUST_TEST_THREADS is.

use std::sync::{Condvar, Mutex};

pub(crate) struct Places {
    free: Mutex<usize>,
    freed: Condvar,
}

pub(crate) struct Place<'p>(&'p Places);

impl Places {
    pub(crate) const fn new(number: usize) -> Self {
        Places {
            free: Mutex::new(number),
            freed: Condvar::new(),
        }
    }

    pub(crate) fn take(&self) -> Place<'_> {
        let free = self.free.lock().unwrap_or_else(|e| e.into_inner());
        let free = self.freed.wait_while(free, |n| *n == 0);
        *free.unwrap_or_else(|e| e.into_inner()) -= 1;
        Place(self)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(|e| e.into_inner()) += 1;
        self.0.freed.notify_one();
    }
}
