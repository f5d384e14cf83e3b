//! Does a little work now and then until it is told `spin`; then spins until it is told `rest`.

use std::hint::black_box;
use std::io::BufRead;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[inline(always)]
fn burn(time: Duration) {
    let end = Instant::now() + time;
    let mut value = 1_u64;
    while Instant::now() < end {
        for step in 0..30_000_u64 {
            value = black_box(value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step));
        }
    }
    black_box(value);
}

#[inline(never)]
fn spin_in_rust() {
    burn(Duration::from_millis(5));
    black_box(());
}

#[inline(never)]
fn quiet_work_in_rust() {
    burn(Duration::from_millis(7));
    black_box(());
}

fn main() {
    let spinning = Arc::new(AtomicBool::new(false));
    let shown = Arc::clone(&spinning);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            let spin = line == "spin";
            shown.store(spin, Ordering::Relaxed);
            println!("{}", if spin { "spinning" } else { "resting" });
        }
        std::process::exit(0);
    });
    println!("ready");
    let mut pause = 60;
    loop {
        if spinning.load(Ordering::Relaxed) {
            spin_in_rust();
        } else {
            quiet_work_in_rust();
            // Steps of 17 ms in a range of 40 ms: never in step with the sampler.
            pause = 60 + (pause + 17) % 40;
            std::thread::sleep(Duration::from_millis(pause));
        }
    }
}
