//! A stand-in for HUMAN's (formerly PerimeterX) Bot Defender backend that runs on your machine:
//! Risk API, activities, telemetry, sensor and captcha scripts, and the mint of risk cookies; CSP
//! policies, remote configuration, snippets and shipped logs.
//!
//! Four uses: try an enforcer without an account (`px-sandbox serve`), stand in for a traffic-analysis
//! node (`px-sandbox node`), look into a risk cookie (`px-sandbox explain`), and be the other side in tests, where it keeps all it received, holds
//! it against the specification and misbehaves to order.
//!
//! ```
//! use px_sandbox::{Behaviour, Reply, Sandbox};
//!
//! let sandbox = Sandbox::start().unwrap();
//! sandbox.answer_risk(Reply::risk(100, "c"));
//! sandbox.behave_next(Behaviour::Status(503));
//! println!("px_backend_url {};", sandbox.url());
//! // … requests through the enforcer …
//! assert!(sandbox.risk_calls().is_empty());
//! sandbox.assert_no_complaints();
//! ```
//!
//! # How the Risk API judges
//!
//! Where nothing else was ordered, by the reported request. Everybody is human, score 0, but for
//!
//! * a header `x-px-sandbox` with words such as `score=100 action=b`; also `delay=<ms>`,
//!   `status=<HTTP status>`, `pxhd=`, `domain=`, `uuid=`, `drc=`, `info=`, `breached=1`,
//!   `telemetry=1`, `failed=1`, `hang`, `reset`, `close`, `invalid`;
//! * a path with `/px-sandbox/block` (action b), `captcha` (c), `ratelimit` (r), `challenge` (j),
//!   `score-<N>` (c), `slow` (10 s), `error` (500), `drop`, `invalid`;
//! * a user agent that holds `PhantomJS/1.0`: score 100, action c.
//!
//! # What an enforcer talks to in the background
//!
//! * `GET /v1/enforcer-data` gives the policy of [`Sandbox::set_csp_policy`], by default one that
//!   hardly forbids anything.
//! * `GET /config/` gives the document of [`Sandbox::set_remote_config`], 404 before. [`Sandbox::sign`]
//!   makes the header that tells an enforcer of it, and the one that asks for telemetry.
//! * `GET /snippet/<app id>` gives the text of [`Sandbox::set_snippet`], by default a small script.
//! * `POST /enforcer-logs/` takes what [`Sandbox::log_records`] shows.
//!
//! # As a traffic-analysis node
//!
//! A sandbox that is started with [`Builder::node`] is a node of the mirror protocol (docs/node.md of the
//! project) and nothing else: it looks through what is mirrored to it for a few well-known probes,
//! answers 403 or 200, and complains of requests that are not as the protocol has them.
//! [`Attack::find`] says what it looks for, [`Sandbox::mirrored`] what it was sent.
//!
//! # Looking inside
//!
//! `GET /_sandbox/` is a page for people; `/_sandbox/received`, `/_sandbox/activities`,
//! `/_sandbox/logs`, `/_sandbox/complaints` and `/_sandbox/totals` are JSON; `POST /_sandbox/behaviour` takes orders
//! (see [`Behaviour::from_json`]), `POST /_sandbox/clear` forgets what was received and `POST
//! /_sandbox/reset` the orders as well.
//!
//! Nothing here is shared with the enforcer of this project: tokens and checks are written from
//! the specification a second time, so that each side tests the other.
#![forbid(unsafe_code)]

mod answer;
mod app;
mod behaviour;
mod browser;
mod check;
mod clock;
mod closing;
pub mod command;
mod console;
mod control;
pub mod cookie;
mod crypto;
mod endpoint;
mod explain;
mod http;
mod journal;
mod listening;
mod node;
mod plan;
mod received;
mod reply;
mod rules;
mod sandbox;
mod server;
mod tls;
mod wire;

pub use app::{APP_ID, AUTH_TOKEN, App, COOKIE_SECRET};
pub use behaviour::{Behaviour, OnAccept};
pub use cookie::{Mint, Version};
pub use endpoint::Endpoint;
pub use explain::{Explanation, Outcome, Reading, explain};
pub use node::{Attack, NodeMode};
pub use received::Received;
pub use reply::Reply;
pub use sandbox::{Builder, Sandbox};
pub use tls::CertificateFault;
