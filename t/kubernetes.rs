//! Tests for the px module: the snippets of `nginx/kubernetes`, put where the controllers put them, are
//! a configuration that nginx accepts and that does what it says. The controllers themselves are not
//! there.

mod support;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use px_sandbox::Sandbox;
use pxctl::convert::{Value, yaml_documents};
use support::nginx::{Builder, free_addr};
use support::prometheus::Metrics;
use support::{Nginx, Origin, get};

const BOT: [&str; 2] = ["User-Agent: PhantomJS/1.0", "X-PX-Block: 1"];
const APP_ID: &str = "PXabcd1234";

fn shipped(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("nginx").join(name)
}

/// The only document of a YAML file.
fn yaml(name: &str) -> Value {
    let text = fs::read_to_string(shipped(name)).expect("a file that is shipped");
    let mut documents = yaml_documents(&text).unwrap_or_else(|fault| panic!("{name}:{fault}"));
    assert_eq!(documents.len(), 1, "{name}");
    documents.remove(0)
}

/// The member that a path of names leads to.
#[track_caller]
fn at<'v>(value: &'v Value, path: &str) -> &'v Value {
    path.split('/').fold(value, |value, name| {
        value.get(name).unwrap_or_else(|| panic!("no {name} of {path} in {value:?}"))
    })
}

#[track_caller]
fn text<'v>(value: &'v Value, path: &str) -> &'v str {
    at(value, path).as_text().unwrap_or_else(|| panic!("{path} is no text"))
}

/// What stands in each context of nginx's configuration.
#[derive(Clone, Default)]
struct Snippets {
    main: String,
    http: String,
    server: String,
    location: String,
    log_format: String,
}

fn ingress_controller() -> Snippets {
    let map = yaml("kubernetes/ingress-controller/configmap.yaml");
    let data = |key: &str| text(&map, &format!("data/{key}")).to_owned();
    Snippets {
        main: data("main-snippets"),
        http: data("http-snippets"),
        server: data("server-snippets"),
        location: String::new(),
        log_format: data("log-format"),
    }
}

fn gateway_fabric(file: &str) -> Snippets {
    let resource = yaml(&format!("kubernetes/gateway-fabric/{file}"));
    let mut snippets = Snippets { log_format: "$request".to_owned(), ..Snippets::default() };
    let items = at(&resource, "spec/snippets").items();
    for item in items {
        let value = text(item, "value").to_owned();
        let place = match text(item, "context") {
            "main" => &mut snippets.main,
            "http" => &mut snippets.http,
            "http.server" => &mut snippets.server,
            "http.server.location" => &mut snippets.location,
            other => panic!("there is no context {other}"),
        };
        // The controller refuses a second one.
        assert!(place.is_empty(), "{file}");
        *place = value;
    }
    assert!((3..=4).contains(&items.len()), "{file}");
    snippets
}

/// A host with an inner server beside that of an Ingress or a route, and how it is asked.
struct Site {
    // Ended first: it has activities for the sandbox.
    nginx: Nginx,
    sandbox: Sandbox,
    _origin: Origin,
    inner: SocketAddr,
    metrics: SocketAddr,
}

impl Site {
    fn start(snippets: &Snippets) -> Self {
        let sandbox = Sandbox::builder().app_id(APP_ID).start().unwrap();
        let origin = Origin::start();
        let (inner, metrics) = (free_addr(), free_addr());
        let builder = builder(snippets.clone(), &sandbox, inner, metrics, origin.proxy_pass());
        let app = sandbox.app().clone();
        let nginx = builder.start_with(|dir| {
            fs::create_dir_all(dir.join("px-secrets")).expect("a directory can be made");
            for (name, text) in [("auth_token", &app.auth_token), ("cookie_secret", &app.secret)] {
                let path = dir.join("px-secrets").join(name);
                fs::write(&path, text).expect("a file can be written");
                fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).expect("a mode");
            }
        });
        let site = Self { nginx, sandbox, _origin: origin, inner, metrics };
        assert_eq!(get(site.nginx.addr(), "/", &[]).text(), "origin");
        site
    }
}

fn builder(
    snippets: Snippets,
    sandbox: &Sandbox,
    inner: SocketAddr,
    metrics: SocketAddr,
    pass: String,
) -> Builder {
    let url = sandbox.url();
    Nginx::builder().conf(move |dir: &Path, addr| {
        let d = dir.display();
        let Snippets { main, http, server, location, log_format } = &snippets;
        let conf = format!(
            "daemon off;\npid {d}/nginx.pid;\nerror_log {d}/error.log info;\n{main}\n\
             events {{ }}\nhttp {{\n\
             client_body_temp_path {d}/a; proxy_temp_path {d}/b; fastcgi_temp_path {d}/c;\n\
             uwsgi_temp_path {d}/d; scgi_temp_path {d}/e;\n{http}\n\
             px_backend_url {url}; px_backend_collector_url {url}; px_client_host {url};\n\
             px_captcha_script_host {url}; px_initial_telemetry_enabled off;\n\
             px_batch_activities_timeout_ms 20; px_max_errors_threshold 0;\n\
             log_format main '{log_format}';\naccess_log {d}/access.log main;\n\
             server {{ listen {inner}; location / {{ {pass} }} }}\n\
             server {{\nlisten {addr};\nserver_name shop.example.com;\n\
             error_page 403 /denied;\n{server}\n\
             location = /denied {{ return 200 denied; }}\n\
             location / {{\n{location}\n{pass}\n}}\n}}\n}}\n"
        );
        conf.replace("load_module modules/ngx_http_px_module.so;", &support::nginx::load_module())
            .replace(
                "load_module /usr/lib/nginx/modules/ngx_http_px_module.so;",
                &support::nginx::load_module(),
            )
            .replace("/etc/nginx/px-secrets", &format!("{d}/px-secrets"))
            .replace("listen 9114;", &format!("listen {metrics};"))
            .replace("allow 10.0.0.0/8;", "allow 127.0.0.0/8;")
    })
}

#[track_caller]
fn assert_at_work(snippets: &Snippets, metrics: impl Fn(&Site) -> String) {
    let site = Site::start(snippets);
    let page = get(site.nginx.addr(), "/", &BOT);
    assert!(page.status == 403 && page.text().contains("_pxUuid"), "{}", page.text());
    // A sensitive route or not, the sensor comes from the site itself.
    let script = format!("/{}/init.js", APP_ID.trim_start_matches("PX"));
    assert_eq!(get(site.nginx.addr(), &script, &[]).status, 200);
    // The controllers' own servers stay as they are.
    let calls = site.sandbox.risk_calls().len();
    assert_eq!(get(site.inner, "/", &BOT).status, 200);
    assert_eq!(site.sandbox.risk_calls().len(), calls);
    let text = metrics(&site);
    let metrics = Metrics::parse(&text).unwrap_or_else(|wrong| panic!("{wrong}\n{text}"));
    let block = [("app_id", APP_ID), ("reason", "s2s_high_score"), ("verdict", "block")];
    assert_eq!(metrics.get("px_requests_total", &block), 1.0);
    let log = site.nginx.error_log();
    assert!(!log.contains("[warn]"), "{log}");
}

#[test]
fn the_config_map_of_the_ingress_controller_works() {
    assert_at_work(&ingress_controller(), |site| get(site.metrics, "/metrics", &[]).text());
}

#[test]
fn the_snippets_of_the_gateway_work() {
    for file in ["snippets-filter.yaml", "snippets-policy.yaml"] {
        let metrics = |site: &Site| get(site.nginx.addr(), "/px/metrics", &[]).text();
        assert_at_work(&gateway_fabric(file), metrics);
    }
}

/// In these hosts nginx runs before the configuration that loads the module arrives, and when it is
/// taken back.
#[test]
fn the_module_comes_and_goes_with_a_reload() {
    let snippets = gateway_fabric("snippets-filter.yaml");
    let site = Site::start(&snippets);
    let with = fs::read_to_string(site.nginx.dir().join("nginx.conf")).expect("it is there");
    let without = format!(
        "daemon off;\npid {d}/nginx.pid;\nerror_log {d}/error.log info;\nevents {{ }}\n\
         http {{ access_log off; server {{ listen {}; return 204; }} }}\n",
        site.nginx.addr(),
        d = site.nginx.dir().display(),
    );
    for _ in 0..2 {
        for (conf, status) in [(&without, 204), (&with, 403)] {
            let old = site.nginx.workers();
            site.nginx.reload(|_| conf.clone());
            site.nginx.wait_for_workers_to_end(&old);
            assert_eq!(get(site.nginx.addr(), "/", &BOT).status, status);
        }
    }
}

/// The files name each other's resources, the image's module and the secrets where they are mounted.
#[test]
fn the_files_fit_together() {
    for (dir, volumes, mounts) in [
        ("kubernetes/ingress-controller", "controller/volumes", "controller/volumeMounts"),
        ("kubernetes/gateway-fabric", "nginx/pod/volumes", "nginx/container/volumeMounts"),
        ("kong", "deployment/userDefinedVolumes", "deployment/userDefinedVolumeMounts"),
    ] {
        let values = yaml(&format!("{dir}/values.yaml"));
        let named: Vec<&str> =
            at(&values, volumes).items().iter().map(|item| text(item, "name")).collect();
        let mounted: Vec<&str> =
            at(&values, mounts).items().iter().map(|item| text(item, "name")).collect();
        assert_eq!(named, mounted, "{dir}");
        let secrets = at(&values, volumes).items().last().expect("a volume");
        assert_eq!(text(secrets, "secret/secretName"), "px-secrets", "{dir}");
        // Decimal: YAML's versions differ about octal numbers.
        let mode = at(secrets, "secret/defaultMode");
        assert_eq!(*mode, Value::Number(0o440.to_string()), "{dir}");
        let mount = text(at(&values, mounts).items().last().expect("a mount"), "mountPath");
        let uses = match dir {
            "kong" => fs::read_to_string(shipped("kong/px/server.conf")).expect("it is shipped"),
            "kubernetes/gateway-fabric" => gateway_fabric("snippets-filter.yaml").http,
            _ => ingress_controller().http,
        };
        for name in ["auth_token", "cookie_secret"] {
            assert!(uses.contains(&format!("{mount}/{name};")), "{dir}: {mount}/{name}");
        }
    }
    let map = yaml("kubernetes/ingress-controller/configmap.yaml");
    let values = yaml("kubernetes/ingress-controller/values.yaml");
    let name = format!("{}/{}", text(&map, "metadata/namespace"), text(&map, "metadata/name"));
    assert_eq!(text(&values, "controller/customConfigMap"), name);
    let route = yaml("kubernetes/gateway-fabric/httproute.yaml");
    let rule = &at(&route, "spec/rules").items()[0];
    let filter = at(&at(rule, "filters").items()[0], "extensionRef");
    let resource = yaml("kubernetes/gateway-fabric/snippets-filter.yaml");
    for (own, other) in [("kind", "kind"), ("name", "metadata/name")] {
        assert_eq!(text(filter, own), text(&resource, other));
    }
    assert!(text(&resource, "apiVersion").starts_with(text(filter, "group")));
}

/// Kong's variables are the same in the image, in the values of the chart and in Docker Compose.
#[test]
fn kong_gets_the_same_variables_everywhere() {
    let dockerfile = fs::read_to_string(shipped("kong/Dockerfile")).expect("it is shipped");
    let image: Vec<(&str, &str)> =
        dockerfile.lines().filter_map(|line| line.strip_prefix("ENV ")?.split_once('=')).collect();
    assert_eq!(image.len(), 4);
    let values = yaml("kong/values.yaml");
    for (name, value) in image {
        let key = name.to_lowercase().replacen("kong_", "", 1);
        assert_eq!(text(&values, &format!("env/{key}")), value);
        if let Some(path) = value.strip_prefix("/etc/kong/px/") {
            assert!(shipped("kong/px").join(path).exists(), "{value}");
        }
    }
    let compose = yaml("kong/docker-compose.yml");
    let kong = at(&compose, "services/kong");
    assert_eq!(text(kong, "environment/KONG_PROXY_ACCESS_LOG"), "/dev/stdout px");
    assert_eq!(text(&values, "env/proxy_access_log"), "/dev/stdout px");
    let server = fs::read_to_string(shipped("kong/px/server.conf")).expect("it is shipped");
    for secret in at(kong, "secrets").items() {
        let target = text(secret, "target");
        assert!(server.contains(&format!("{target};")), "{target}");
        let file = format!("secrets/{}/file", text(secret, "source"));
        assert!(text(&compose, &file).starts_with("./secrets/"), "{file}");
    }
    let routes = yaml("kong/kong.yml");
    assert_eq!(at(&routes, "services").items().len(), 2);
}

/// What the images do when they are built: a module that does not fit is refused there.
#[test]
fn an_image_refuses_a_module_that_does_not_fit() {
    if support::nginx::load_module().is_empty() {
        // It is a part of this nginx.
        return;
    }
    let module = support::nginx::module().display().to_string();
    let nginx = support::nginx::binary().display().to_string();
    for dir in ["kong", "kubernetes/ingress-controller", "kubernetes/gateway-fabric"] {
        let dockerfile =
            fs::read_to_string(shipped(dir).join("Dockerfile")).expect("it is shipped");
        let (_, command) = dockerfile.split_once("\nRUN ").expect("a command");
        let end = command.match_indices('\n').find(|(at, _)| !command[..*at].ends_with('\\'));
        let command = &command[..end.expect("its end").0];
        for (module, fits) in [(module.as_str(), true), ("/bin/sh", false)] {
            let scratch = support::nginx::fresh_dir();
            let command = command
                .replace("/usr/local/openresty/nginx/sbin/nginx", "nginx")
                .replace("/usr/local/lib/kong/px/ngx_http_px_module.so", module)
                .replace("/usr/lib/nginx/modules/ngx_http_px_module.so", module)
                .replace("/tmp/px-check", &scratch.join("check").display().to_string())
                // What these hosts have, and versions before 1.19.5 have not.
                .replace(" -e stderr", "")
                .replace("&& nginx ", &format!("&& {nginx} "));
            let output = Command::new("sh").args(["-c", &command]).output().expect("a shell");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.success(), fits, "{dir} {module}: {said}\n{command}");
            assert!(said.contains(if fits { "test is successful" } else { "[emerg]" }), "{said}");
            assert_eq!(scratch.join("check").exists(), !fits, "{dir}");
            let _ = fs::remove_dir_all(scratch);
        }
    }
}
