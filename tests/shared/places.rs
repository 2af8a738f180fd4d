//! Emulated machines of one test program, two at a time: each leaves a processor idle most of
//! the time, since its boot, and much of what its tests do, is one process after the other.

use std::sync::{Condvar, Mutex};

static FREE: (Mutex<usize>, Condvar) = (Mutex::new(2), Condvar::new());

pub(crate) struct Place;

impl Place {
    pub(crate) fn take() -> Self {
        let (free, freed) = &FREE;
        let free = free.lock().unwrap_or_else(|e| e.into_inner());
        let free = freed.wait_while(free, |n| *n == 0);
        *free.unwrap_or_else(|e| e.into_inner()) -= 1;
        Place
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *FREE.0.lock().unwrap_or_else(|e| e.into_inner()) += 1;
        FREE.1.notify_one();
    }
}
