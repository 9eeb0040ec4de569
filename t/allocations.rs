//! Tests for the px module: what a request asks of the heap besides its own pool.

mod support;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use px_sandbox::Sandbox;
use support::{BROWSER, Connection, Nginx, Origin, client, protect, shared_library};

const REQUESTS: usize = 100;

/// An nginx whose module is watched while it asks the heap for memory.
struct Watched {
    nginx: Nginx,
    counter: fs::File,
}

impl Watched {
    fn start(server: &str) -> Self {
        let mut counter = PathBuf::new();
        let builder = Nginx::builder().server(server);
        let nginx = builder.start_with_env(|dir| {
            counter = dir.join("allocations");
            fs::write(&counter, [0; 8]).expect("the counter can be made");
            let shim = shared_library::build("t/support/count_allocations.c", dir, &[]);
            vec![("LD_PRELOAD", shim.into()), ("PX_ALLOCATIONS", counter.clone().into())]
        });
        let counter = fs::File::open(counter).expect("the counter is there");
        Self { nginx, counter }
    }

    fn count(&self) -> u64 {
        let mut bytes = [0; 8];
        self.counter.read_exact_at(&mut bytes, 0).expect("the counter can be read");
        u64::from_ne_bytes(bytes)
    }

    /// Allocations of the module for so many requests with these header lines.
    fn cost(&self, count: usize, path: &str, lines: &[&str]) -> u64 {
        let mut connection = Connection::open(self.nginx.addr());
        let before = self.count();
        for _ in 0..count {
            connection.send(client::text("GET", path, lines, b""));
            assert_eq!(connection.receive().status, 200);
        }
        // Requests are logged just after they are answered; the next one tells that the last was.
        self.count() - before
    }
}

fn server(sandbox: &Sandbox, origin: &Origin, more: &str) -> String {
    // Variables of numbers are written out where they are logged.
    let location = format!("location / {{ access_log off; {} }}", origin.proxy_pass());
    format!("{}{more}\n{location}", protect(sandbox))
}

/// Built into nginx the module's code can't be told from nginx's.
fn is_counted() -> bool {
    let is_loaded = !support::nginx::load_module().is_empty();
    if !is_loaded {
        eprintln!("skipped: the module is built in");
    }
    is_loaded
}

#[test]
fn a_known_cookie_costs_no_heap_allocation() {
    if !is_counted() {
        return;
    }
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let site = Watched::start(&server(&sandbox, &origin, "px_send_async_activities_enabled off;"));
    let cookie = format!("Cookie: {}", sandbox.mint(BROWSER).cookie());
    let lines = [cookie.as_str(), "Accept-Language: en", "Referer: https://site.test/"];
    // The shim does see the module: a cookie that nobody has seen is decrypted on the heap.
    assert_ne!(site.cost(2, "/shop/item?id=42", &lines), 0);
    assert_eq!(site.cost(REQUESTS, "/shop/item?id=42", &lines), 0);
    assert_eq!(site.cost(REQUESTS, "/style.css", &lines), 0);
}

#[test]
fn activities_are_built_in_a_buffer_that_is_used_again() {
    if !is_counted() {
        return;
    }
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let site = Watched::start(&server(&sandbox, &origin, ""));
    let cookie = format!("Cookie: {}", sandbox.mint(BROWSER).cookie());
    site.cost(REQUESTS, "/", &[&cookie]);
    let cost = site.cost(REQUESTS, "/", &[&cookie]);
    // Growth of a fresh buffer and the queue's place, for each batch and not for each request.
    assert!(cost < REQUESTS as u64 / 2, "{cost} allocations");
}
