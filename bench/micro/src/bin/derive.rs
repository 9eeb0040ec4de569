//! `derive COUNT`: CPU time of one key derivation of a `_px3` cookie (1,000 iterations, 48 bytes),
//! in nanoseconds, by the `pbkdf2` and `sha2` crates and nothing else.

use std::hint::black_box;
use std::process::ExitCode;
use std::{env, fs};

use sha2::Sha256;

fn main() -> ExitCode {
    let count = env::args().nth(1).and_then(|count| count.parse::<u32>().ok());
    let Some(count) = count.filter(|count| *count > 0) else {
        eprintln!("usage: derive COUNT");
        return ExitCode::from(2);
    };
    derive(count / 10);
    let before = cpu_ns();
    derive(count);
    println!("{}", (cpu_ns() - before) / u64::from(count));
    ExitCode::SUCCESS
}

fn derive(count: u32) {
    for number in 0..count {
        let mut key = [0; 48];
        let salt = u128::from(number).to_le_bytes();
        pbkdf2::pbkdf2_hmac::<Sha256>(
            b"sandbox-cookie-secret-for-nobody-else",
            &salt,
            1000,
            &mut key,
        );
        black_box(key);
    }
}

/// Time this thread has been running, as bench/run reads it for nginx.
fn cpu_ns() -> u64 {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux with schedstat");
    let first = stat.split(' ').next().and_then(|ns| ns.parse().ok());
    first.expect("schedstat begins with a number")
}
