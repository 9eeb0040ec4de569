//! `px-sandbox node`

use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use lexopt::Arg::Long;
use px_sandbox::command::{self, Failure};
use px_sandbox::{Attack, Builder, Endpoint, NodeMode, Received, Sandbox};

const HELP: &str = "\
Usage: px-sandbox node [options]

  --listen IP         address to listen on (127.0.0.1)
  --port N            port to listen on, 0 for a free one (8601)
  --mode MODE         blocking: answer attacks with 403 (the default)
                      monitoring: print them and answer 200
  --tls               HTTPS, with a certificate for localhost, sandbox.test, 127.0.0.1 and ::1
  --tls-name NAME     one more name for that certificate
  --ca-out FILE       write the authority that signed it to this file, PEM
  --cert FILE         HTTPS with your own certificate chain, PEM
  --key FILE          and its key, PEM
  --keep N            how many requests to remember (10000)
  --quiet             print no line per request

A traffic-analysis node of the mirror protocol. It is no web application firewall: it knows a few
well-known probes, so that a gateway can be tried out.
  path_traversal  ../ and ..\\, and files such as /etc/passwd
  sql_injection   union select, or 1=1, sleep(), drop table and the like
  xss             <script, javascript:, event handlers in elements
They are looked for in the target, in header values and in the body, in any case, percent-encoded
once or twice. Complaints about requests that are not as the protocol has them go to standard error.
http://HOST:PORT/_sandbox/ shows everything.
";

struct Options {
    builder: Builder,
    mode: NodeMode,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    ca_out: Option<PathBuf>,
    is_quiet: bool,
}

pub(crate) fn run(arguments: lexopt::Parser) -> Result<ExitCode, Failure> {
    let Some(options) = parse(arguments).map_err(|failure| failure.of("node"))? else {
        return Ok(command::print(HELP));
    };
    serve(options)
}

fn parse(mut arguments: lexopt::Parser) -> Result<Option<Options>, Failure> {
    let mut options = Options {
        builder: Sandbox::builder().port(8601),
        mode: NodeMode::Blocking,
        certificate: None,
        key: None,
        ca_out: None,
        is_quiet: false,
    };
    while let Some(argument) = arguments.next()? {
        let builder = options.builder;
        options.builder = match argument {
            Long("help") | lexopt::Arg::Short('h') => return Ok(None),
            Long("listen") => builder.ip(command::value::<IpAddr>(&mut arguments)?),
            Long("port") => builder.port(command::value(&mut arguments)?),
            Long("tls") => builder.tls(true),
            Long("tls-name") => builder.tls_name(command::text(&mut arguments)?),
            Long("keep") => builder.keep(command::value(&mut arguments)?, 256 << 20),
            Long("mode") => {
                let mode = command::text(&mut arguments)?;
                options.mode = NodeMode::from_word(&mode).ok_or_else(|| {
                    Failure::Usage(format!("{mode:?} is neither blocking nor monitoring"), "")
                })?;
                builder
            }
            Long("cert") => {
                options.certificate = Some(arguments.value()?.into());
                builder
            }
            Long("key") => {
                options.key = Some(arguments.value()?.into());
                builder
            }
            Long("ca-out") => {
                options.ca_out = Some(arguments.value()?.into());
                builder
            }
            Long("quiet") => {
                options.is_quiet = true;
                builder
            }
            other => return Err(other.unexpected().into()),
        };
    }
    options.builder = match (&options.certificate, &options.key) {
        (Some(certificate), Some(key)) => options.builder.certificate_files(certificate, key),
        (None, None) => options.builder,
        _ => return Err(Failure::Usage("--cert and --key belong together".into(), "")),
    };
    Ok(Some(options))
}

fn serve(options: Options) -> Result<ExitCode, Failure> {
    let mut builder = options.builder.node(options.mode).on_complaint(|complaint| {
        let _ = writeln!(std::io::stderr(), "px-sandbox: complaint: {complaint}");
    });
    if !options.is_quiet {
        builder = builder.on_received(|received| {
            command::print(&line(received));
        });
    }
    let node = builder.start().map_err(|why| Failure::Failed(format!("cannot start: {why}")))?;
    if let Some(file) = &options.ca_out {
        let pem = node
            .ca_pem()
            .ok_or_else(|| Failure::Usage("--ca-out needs --tls without --cert".into(), "node"))?;
        std::fs::write(file, pem)
            .map_err(|why| Failure::Failed(format!("cannot write {}: {why}", file.display())))?;
    }
    let (url, mode) = (node.url(), options.mode.word());
    command::print(&format!(
        "px-sandbox node listening on {url} ({mode})\n\
         \n\
         \x20   px_wallarm_node_address {url};\n\
         \n\
         Overview: {url}/_sandbox/\n\n"
    ));
    loop {
        // Served by threads of its own, until a signal ends the process.
        std::thread::park();
    }
}

/// What was mirrored, and what was found in it.
fn line(received: &Received) -> String {
    let found = match Attack::find(received) {
        Some(attack) if received.endpoint == Endpoint::Node => attack.to_string(),
        _ => "nothing found".to_owned(),
    };
    let (method, target) = (&received.method, &received.target);
    format!("#{} {} {method} {target}: {found}\n", received.number, received.endpoint.word())
}
