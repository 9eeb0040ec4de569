//! `px-sandbox serve`

use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use lexopt::Arg::Long;
use px_sandbox::command::{self, Failure};
use px_sandbox::{APP_ID, AUTH_TOKEN, Builder, COOKIE_SECRET, Sandbox};

const HELP: &str = "\
Usage: px-sandbox serve [options]

  --listen IP         address to listen on (127.0.0.1)
  --port N            port to listen on, 0 for a free one (8600)
  --app-id ID         app id (PXsandbox1)
  --auth-token TOKEN  bearer token of the enforcer (sandbox-auth-token-for-nobody-else)
  --secret SECRET     cookie secret (sandbox-cookie-secret-for-nobody-else)
  --config-token TOKEN
                      bearer token of the remote configuration (any is taken otherwise)
  --logger-token TOKEN
                      bearer token of shipped logs (any is taken otherwise)
  --any-app           take every app id and token
  --tls               HTTPS, with a certificate for localhost, sandbox.test, 127.0.0.1 and ::1
  --tls-name NAME     one more name for that certificate
  --ca-out FILE       write the authority that signed it to this file, PEM
  --cert FILE         HTTPS with your own certificate chain, PEM
  --key FILE          and its key, PEM
  --pxhd              give a _pxhd to browsers that have none
  --no-checks         do not hold requests against the specification
  --keep N            how many requests to remember (10000)
  --quiet             print no line per request

Complaints about requests go to standard error. http://HOST:PORT/_sandbox/ shows everything.

The Risk API takes everybody for human (score 0), but for reported requests with
  header x-px-sandbox   words: score=N action=c|b|r|j delay=MS status=N pxhd=V domain=V uuid=V
                        drc=N info=V breached=1 telemetry=1 failed=1 hang reset close invalid
  path                  /px-sandbox/ and block | captcha | ratelimit | challenge | score-N |
                        slow | error | drop | invalid
  user agent            PhantomJS/1.0: score 100, action c
and for orders: POST /_sandbox/behaviour with JSON such as
  {\"endpoint\": \"risk\", \"behaviour\": \"delay\", \"ms\": 500, \"times\": 3}
  {\"endpoint\": \"activities\", \"behaviour\": \"status\", \"status\": 503}
  {\"endpoint\": \"risk\", \"reply\": {\"status\": 200, \"body\": {\"status\": 0, \"score\": 100}}}
Endpoints: risk activities telemetry health csp config snippet logs sensor captcha checkpoint xhr
solve other. The remote configuration (config) is 404 until it is ordered:
  {\"endpoint\": \"config\", \"reply\": {\"body\": {\"id\": \"rc-1\", \"version\": 1, \"lastUpdated\":
    1750000000000, \"configValue\": {\"px_remote_config_enabled\": true}}}}
Behaviours: normal delay status body reset close_before_answer half_close truncate reset_within
trickle huge hang not_http chunked_answer keep_alive_off stale_keep_alive.
";

struct Options {
    builder: Builder,
    app_id: String,
    auth_token: String,
    secret: String,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    ca_out: Option<PathBuf>,
    is_quiet: bool,
}

pub(crate) fn run(arguments: lexopt::Parser) -> Result<ExitCode, Failure> {
    let Some(options) = parse(arguments).map_err(|failure| failure.of("serve"))? else {
        return Ok(command::print(HELP));
    };
    serve(options)
}

fn parse(mut arguments: lexopt::Parser) -> Result<Option<Options>, Failure> {
    let mut options = Options {
        builder: Sandbox::builder().port(8600),
        app_id: APP_ID.into(),
        auth_token: AUTH_TOKEN.into(),
        secret: COOKIE_SECRET.into(),
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
            Long("config-token") => builder.remote_config_token(command::text(&mut arguments)?),
            Long("logger-token") => builder.logger_token(command::text(&mut arguments)?),
            Long("any-app") => builder.any_app(true),
            Long("tls") => builder.tls(true),
            Long("tls-name") => builder.tls_name(command::text(&mut arguments)?),
            Long("pxhd") => builder.pxhd(true),
            Long("no-checks") => builder.checks(false),
            Long("keep") => builder.keep(command::value(&mut arguments)?, 256 << 20),
            Long("app-id") => {
                options.app_id = command::text(&mut arguments)?;
                builder
            }
            Long("auth-token") => {
                options.auth_token = command::text(&mut arguments)?;
                builder
            }
            Long("secret") => {
                options.secret = command::text(&mut arguments)?;
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
    let mut builder = options
        .builder
        .app_id(options.app_id.as_str())
        .auth_token(options.auth_token.as_str())
        .secret(options.secret.as_str())
        .on_complaint(|complaint| {
            let _ = writeln!(std::io::stderr(), "px-sandbox: complaint: {complaint}");
        });
    if !options.is_quiet {
        builder = builder.on_received(|received| {
            command::print(&format!(
                "#{} {} {} {} {}\n",
                received.number,
                received.endpoint.word(),
                received.method,
                received.target,
                received.subject()
            ));
        });
    }
    let sandbox = builder.start().map_err(|why| Failure::Failed(format!("cannot start: {why}")))?;
    if let Some(file) = &options.ca_out {
        let pem = sandbox
            .ca_pem()
            .ok_or_else(|| Failure::Usage("--ca-out needs --tls without --cert".into(), "serve"))?;
        std::fs::write(file, pem)
            .map_err(|why| Failure::Failed(format!("cannot write {}: {why}", file.display())))?;
    }
    greet(&sandbox, &options.app_id, &options.auth_token, &options.secret);
    loop {
        // Served by threads of its own, until a signal ends the process.
        std::thread::park();
    }
}

/// The first line is for scripts, the rest for people to copy.
fn greet(sandbox: &Sandbox, app_id: &str, auth_token: &str, secret: &str) {
    let url = sandbox.url();
    command::print(&format!(
        "px-sandbox listening on {url}\n\
         \n\
         \x20   px_app_id                {app_id};\n\
         \x20   px_auth_token            {auth_token};\n\
         \x20   px_cookie_secret         {secret};\n\
         \x20   px_backend_url           {url};\n\
         \x20   px_backend_collector_url {url};\n\
         \n\
         Overview: {url}/_sandbox/\n\n"
    ));
}
