//! What can go wrong on the wire, for any backend.

use std::time::Duration;

use px_sandbox::{Behaviour, CertificateFault, Endpoint};

use crate::load::LARGE;
use crate::matrix::Row;
use crate::site::{Backend, Site};

/// A way to misbehave: the word in the names of tests, and the words in the table.
pub(crate) type Fault = (&'static str, &'static str);

/// A reset before there is any answer.
pub(crate) const RESET: Fault = ("reset", "resets the connection instead of answering");
pub(crate) const RESET_WITHIN: Fault = ("reset_within", "resets the connection within its answer");
pub(crate) const CUT: Fault = ("cut", "closes the connection within its answer");
pub(crate) const HALF_CLOSED: Fault = ("half_closed", "half-closes the connection, no answer");
pub(crate) const SILENT: Fault = ("silent", "accepts and never answers");
pub(crate) const TRICKLE: Fault = ("trickle", "answers byte by byte, for longer than the timeout");
pub(crate) const OVERSIZED: Fault = ("oversized", "answers with 2 MiB");
pub(crate) const GARBAGE: Fault = ("garbage", "answers with what is no HTTP");
pub(crate) const LONG_HEAD: Fault = ("long_head", "answers with 100 KiB of headers");
pub(crate) const ERROR: Fault = ("error", "answers 500");
pub(crate) const NONSENSE: Fault = ("nonsense", "answers 200 with what is no JSON");

fn behaviour(fault: Fault) -> Behaviour {
    match fault.0 {
        "reset" => Behaviour::Reset,
        "reset_within" => Behaviour::ResetWithin(10),
        "cut" => Behaviour::Truncate { declared: 1000, sent: 10 },
        "half_closed" => Behaviour::HalfClose,
        "silent" => Behaviour::Hang,
        "trickle" => Behaviour::Trickle(Duration::from_millis(20)),
        "oversized" => Behaviour::Huge(LARGE as u64),
        "garbage" => Behaviour::NotHttp(b"\0\x01\x02 no HTTP at all\r\n\r\n".to_vec()),
        "long_head" => Behaviour::NotHttp(
            format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\n", "x".repeat(100 << 10)).into_bytes(),
        ),
        "error" => Behaviour::Status(500),
        "nonsense" => Behaviour::Body(b"<html>an error page</html>".to_vec()),
        other => panic!("{other} is no fault"),
    }
}

/// What the sandbox calls what a backend is asked for.
fn endpoints(backend: Backend) -> &'static [Endpoint] {
    match backend {
        Backend::RiskApi => &[Endpoint::RiskApi],
        Backend::Collector => &[Endpoint::Activities, Endpoint::Xhr],
        Backend::Scripts => &[Endpoint::Sensor, Endpoint::Captcha],
        Backend::Node => &[Endpoint::Node],
    }
}

pub(crate) fn name(backend: Backend) -> (&'static str, &'static str) {
    match backend {
        Backend::RiskApi => ("risk_api", "Risk API"),
        Backend::Collector => ("collector", "Collector"),
        Backend::Scripts => ("scripts", "Host of the scripts"),
        Backend::Node => ("node", "Node"),
    }
}

pub(crate) fn behave(site: &Site, backends: &[Backend], behaviour: &Behaviour) {
    for backend in backends {
        for endpoint in endpoints(*backend) {
            site.backend(*backend).behave_at(*endpoint, behaviour.clone());
        }
    }
}

/// A row in which these backends, the first of which gives it its name, misbehave.
pub(crate) fn misbehaves(backends: &'static [Backend], fault: Fault) -> Row {
    let (word, words) = name(backends[0]);
    Row::new(format!("{word}_{}", fault.0), format!("{words} {}", fault.1))
        .plan(move |plan| {
            if [SILENT, TRICKLE].contains(&fault) {
                plan.impatient.extend(backends);
            }
        })
        .strike(move |site, _| behave(site, backends, &behaviour(fault)))
        .mend(move |site, _| behave(site, backends, &Behaviour::Normal))
}

/// A row in which connections are refused.
pub(crate) fn refuses(backends: &'static [Backend]) -> Row {
    let (word, words) = name(backends[0]);
    Row::new(format!("{word}_refused"), format!("{words} refuses connections"))
        .strike(move |site, _| backends.iter().for_each(|of| site.backend(*of).go_down()))
        .mend(move |site, _| {
            for backend in backends {
                site.backend(*backend).come_back().expect("the port is free");
            }
        })
}

/// A row in which somebody else answers over TLS, who cannot prove to be the backend.
pub(crate) fn is_a_stranger(backend: Backend, fault: CertificateFault) -> Row {
    let (word, words) = name(backend);
    let (of_fault, words_of_fault) = match fault {
        CertificateFault::WrongName => ("wrong_name", "has a certificate of another name"),
        CertificateFault::Expired => ("expired", "has a certificate that has expired"),
        _ => ("untrusted", "has a certificate of an authority that is not trusted"),
    };
    Row::new(format!("{word}_{of_fault}"), format!("{words} {words_of_fault}"))
        .plan(move |plan| plan.over_tls(backend, fault))
        .strike(move |site, _| site.exchange(backend))
        .mend(move |site, _| site.exchange_back(backend))
}

pub(crate) const STRANGERS: [CertificateFault; 3] =
    [CertificateFault::WrongName, CertificateFault::Expired, CertificateFault::UnknownIssuer];
