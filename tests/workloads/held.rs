//! A mutex that is held across a call that blocks: `hold MS` has a thread sleep with the lock, and another
//! one wait for it; it says `held` when both are done.

use std::hint::black_box;
use std::io::BufRead;
use std::sync::{Barrier, Mutex};
use std::time::Duration;

#[inline(never)]
fn sleep_with_the_lock(lock: &Mutex<u64>, both: &Barrier, time: Duration) {
    let mut held = lock.lock().unwrap();
    both.wait();
    std::thread::sleep(time);
    *held += 1;
}

#[inline(never)]
fn wait_for_who_sleeps(lock: &Mutex<u64>, both: &Barrier) {
    both.wait();
    let mut held = lock.lock().unwrap();
    *held += 1;
}

fn main() {
    let lock = Mutex::new(0);
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap_or_default();
        let Some(ms) = line.strip_prefix("hold ").and_then(|ms| ms.parse().ok()) else { continue };
        let both = Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| sleep_with_the_lock(&lock, &both, Duration::from_millis(ms)));
            scope.spawn(|| wait_for_who_sleeps(&lock, &both));
        });
        println!("held {}", black_box(*lock.lock().unwrap()));
    }
}
