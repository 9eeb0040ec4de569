"""The processes of the benchmark: the nginx under test, the origin, and the sandbox as HUMAN."""

import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import time
import urllib.request
from pathlib import Path

from scenarios import BARE, MODULE, STATIC, STYLE_SHEET

PATIENCE = 10.0

# One core for the worker under test, all others for load, origin and backend.
CORES = sorted(os.sched_getaffinity(0))
WORKER_CORE, OTHER_CORES = str(CORES[0]), ",".join(map(str, CORES[1:] or CORES))


UNVERIFIED = ssl._create_unverified_context()


class Failure(Exception):
    """Why the benchmark cannot go on; for people to read."""


def nginx_binary() -> str:
    return os.environ.get("TEST_NGINX_BINARY") or shutil.which("nginx") or "/usr/sbin/nginx"


def free_address() -> str:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def wait_for(what: str, look):
    until = time.monotonic() + PATIENCE
    while not (found := look()):
        if time.monotonic() > until:
            raise Failure(f"waited in vain for {what}")
        time.sleep(0.005)
    return found


class Process:
    """A child process on given cores, ended with the block it was started for."""

    def __init__(self, cores: str, command: list, **options):
        self.child = subprocess.Popen(
            ["taskset", "-c", cores, *map(str, command)], stdin=subprocess.DEVNULL, **options
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.terminate()
        try:
            self.child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


NGINX_CONF = """
{modules}
daemon off;
worker_processes 1;
worker_rlimit_nofile 8192;
{user}
pid {dir}/nginx.pid;
error_log {dir}/error.log warn;
events {{ worker_connections 4096; }}
http {{
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    types {{ text/html html; text/css css; }}
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_timeout 300s;
    keepalive_requests 1000000000;
    {http}
    server {{
        listen {status_address};
        {status}
        location / {{ stub_status; }}
    }}
    server {{
        listen {address} backlog=4096;
        root {dir}/html;
        {server}
    }}
}}
"""

PROXY = """
    upstream origin {{
        server {origin};
        keepalive 256;
        keepalive_requests 1000000000;
    }}
    upstream service {{
        server {service};
        keepalive 256;
        keepalive_requests 1000000000;
    }}
    proxy_http_version 1.1;
    proxy_set_header Connection "";
"""

PROTECTED = """
    px_enabled on;
    px_app_id PXsandbox1;
    px_auth_token sandbox-auth-token-for-nobody-else;
    px_cookie_secret sandbox-cookie-secret-for-nobody-else;
    px_module_mode active_blocking;
    px_backend_url http://{service};
    px_backend_collector_url http://{collector};
"""

# The plugin's own modules and those it carries, as its installation would place them.
LUA_MODULES = [
    Path("/usr/lib/nginx/modules/ndk_http_module.so"),
    Path("/usr/lib/nginx/modules/ngx_http_lua_module.so"),
]
LUA_HTTP = """
    lua_package_path "{dir}/?.lua;{plugin}/lib/?.lua;{plugin}/vendor/lua-resty-http/lib/?.lua;\
{plugin}/vendor/lua-resty-nettle/lib/?.lua;{plugin}/vendor/lustache/src/?.lua;;";
    lua_socket_pool_size 256;
    init_worker_by_lua_block {{
        require("px.utils.pxtimer").application(require("px_bench_config"))
    }}
"""

LUA_SERVER = """
        access_by_lua_block {
            require("px.pxnginx").application(require("px_bench_config"))
        }
        header_filter_by_lua_block {
            require("px.pxnginx").finalize()
        }
"""

LUA_CONFIG = """
local config = {{
    px_appId = "PXsandbox1",
    cookie_secret = "sandbox-cookie-secret-for-nobody-else",
    auth_token = "sandbox-auth-token-for-nobody-else",
    block_enabled = true,
    base_url = "127.0.0.1",
    px_port = {service_port},
    ssl_enabled = false,
}}
for name, value in pairs({{ {entries} }}) do config[name] = value end
return config
"""


class Nginx(Process):
    """An nginx with one worker. `core` is that of all its processes."""

    def __init__(self, dir: Path, core: str, server: str, http="", modules="", status=""):
        self.dir, self.address, self.status_address = dir, free_address(), free_address()
        self.questions = 0
        html = dir / "html"
        html.mkdir(parents=True, exist_ok=True)
        for path in STATIC, STYLE_SHEET:
            (html / path.strip("/")).write_text(("0123456789abcde\n" * 64)[:1024])
        conf = NGINX_CONF.format(
            dir=dir, http=http, server=server, modules=modules, status=status,
            address=self.address, status_address=self.status_address,
            user="user root;" if os.geteuid() == 0 else "",
        )
        (dir / "nginx.conf").write_text(conf)
        command = [nginx_binary(), "-p", dir, "-e", dir / "error.log", "-c", dir / "nginx.conf"]
        super().__init__(core, command, stderr=subprocess.DEVNULL)
        self.worker = wait_for("nginx", self._worker)

    def _worker(self) -> int | None:
        if self.child.poll() is not None:
            raise Failure(f"nginx does not start:\n{self.error_log()}")
        pid = self.child.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        try:
            self.requests()
        except OSError:
            return None
        return int(children[0]) if children else None

    def requests(self) -> int:
        """Requests so far, without these questions."""
        with urllib.request.urlopen(f"http://{self.status_address}/", timeout=PATIENCE) as answer:
            self.questions += 1
            return int(answer.read().split()[9]) - self.questions

    def error_log(self) -> str:
        log = self.dir / "error.log"
        return log.read_text(errors="replace") if log.exists() else ""


class Sandbox(Process):
    """px-sandbox as the Risk API, as the collector or as the service of `auth_request`."""

    def __init__(self, binary: Path, authority: Path | None = None):
        """Over TLS, where there is to be a file with the authority that signed its certificate."""
        command = [binary, "serve", "--port", 0, "--no-checks", "--quiet", "--keep", 1]
        if authority:
            command += ["--tls", "--ca-out", authority]
        self.scheme = "https" if authority else "http"
        super().__init__(OTHER_CORES, command, stdout=subprocess.PIPE, text=True)
        self.address = self.child.stdout.readline().strip().rpartition("/")[2]
        if not self.address:
            raise Failure(f"{binary} does not start")
        self._ask("behaviour", {"endpoint": "other", "reply": {"status": 204}})

    def totals(self) -> dict:
        return self._ask("totals")

    def order(self, **order):
        self._ask("behaviour", order)

    def _ask(self, page: str, body=None):
        data = None if body is None else json.dumps(body).encode()
        url = f"{self.scheme}://{self.address}/_sandbox/{page}"
        ask = urllib.request.Request(url, data)
        # Whose certificate it is matters to the nginx under test, not here.
        with urllib.request.urlopen(ask, timeout=PATIENCE, context=UNVERIFIED) as answer:
            return json.load(answer)


class Hosts:
    """Origin and backends, and the way to an nginx for each scenario."""

    def __init__(self, work: Path, module: Path, sandbox: Path, plugin: Path | None):
        self.work, self.module, self.sandbox, self.plugin = work, module, sandbox, plugin
        self.stack = contextlib.ExitStack()
        self.count = 0

    def __enter__(self):
        body = ("0123456789abcde\n" * 64)[:1024]
        server = f'location / {{ default_type text/html; return 200 "{body}"; }}'
        origin = Nginx(self.work / "origin", OTHER_CORES, server)
        self.origin = self.stack.enter_context(origin)
        # One for what is asked of HUMAN, one for what is told: so each is counted by itself.
        self.service = self.stack.enter_context(Sandbox(self.sandbox))
        self.collector = self.stack.enter_context(Sandbox(self.sandbox))
        self.authority = self.work / "authority.pem"
        self.tls = self.stack.enter_context(Sandbox(self.sandbox, self.authority))
        self.nobody = free_address()
        return self

    def __exit__(self, *why):
        return self.stack.__exit__(*why)

    def start(self, scenario, further: str = "") -> Nginx:
        """A fresh nginx for this scenario, with `further` directives of the server."""
        self.count += 1
        dir = self.work / f"{self.count}-{scenario.name}"
        dir.mkdir(parents=True)
        http = PROXY.format(origin=self.origin.address, service=self.service.address)
        conf = scenario.conf.format(
            nobody=self.nobody, nobody_port=self.nobody.rpartition(":")[2], dir=dir,
            service=self.service.address, tls=f"localhost:{self.tls.address.rpartition(chr(58))[2]}", authority=self.authority,
        )
        server = conf + further + "location /shop/ { proxy_pass http://origin; }"
        if scenario.host == BARE:
            return Nginx(dir, WORKER_CORE, server, http)
        if scenario.host == MODULE:
            # In `http`, so that a scenario may say otherwise in its server.
            http += PROTECTED.format(
                service=self.service.address, collector=self.collector.address
            )
            http += scenario.http.format(dir=dir)
            load = f"load_module {self.module};"
            return Nginx(dir, WORKER_CORE, server, http, load, "px_enabled off;")
        return self._start_lua(dir, conf, http)

    def _start_lua(self, dir: Path, conf: str, http: str) -> Nginx:
        # The plugin posts activities to the Risk API's host.
        port = self.service.address.rpartition(":")[2]
        config = LUA_CONFIG.format(service_port=port, entries=conf)
        (dir / "px_bench_config.lua").write_text(config)
        server = LUA_SERVER + "location /shop/ { proxy_pass http://origin; }"
        http += LUA_HTTP.format(dir=dir, plugin=self.plugin)
        load = "".join(f"load_module {module};" for module in LUA_MODULES)
        return Nginx(dir, WORKER_CORE, server, http, load)

    def calls(self) -> int:
        return sum(each.totals()["requests"]["risk"] for each in (self.service, self.tls))

    def activities(self) -> int:
        totals = self.service.totals(), self.collector.totals()
        return sum(total["accepted_activities"] for total in totals)


def lua_obstacle(hosts: Hosts, scenario, requests: list[str]) -> str | None:
    """Why the Lua plugin cannot be measured here, if it cannot."""
    for module in LUA_MODULES:
        if not module.exists():
            return f"{module} is missing (Debian: libnginx-mod-http-lua)"
    if not (hosts.plugin / "lib/px/pxnginx.lua").exists():
        return f"{hosts.plugin} holds no lib/px/pxnginx.lua"
    try:
        with hosts.start(scenario) as nginx:
            statuses = visit(nginx, requests[:1])
            log = nginx.error_log()
    except Failure as why:
        return str(why)
    for line in log.splitlines():
        if "module '" in line and "' not found" in line:
            name = line.partition("module '")[2].partition("'")[0]
            package = {"socket": "lua-socket", "cjson": "lua-cjson"}.get(name.split(".")[0])
            return f"Lua module '{name}' is missing" + (f" (Debian: {package})" if package else "")
        if "cannot load" in line or "cannot open shared object" in line:
            return f"{line.strip()} (Debian: nettle-dev has libnettle.so)"
    return None if statuses == [200] else f"it answers {statuses}:\n{log}"


def visit(nginx: Nginx, requests: list[str]) -> list[int]:
    """Sends each request once, one after the other on one connection; the statuses."""
    host, _, port = nginx.address.partition(":")
    statuses = []
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for request in requests:
            connection.sendall(request.encode())
            statuses.append(read_answer(connection))
    return statuses


def read_answer(connection: socket.socket) -> int:
    data = b""
    while b"\r\n\r\n" not in data:
        data += receive(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    lengths = [int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length")]
    chunked = any(line.startswith(b"transfer-encoding") for line in lines)
    while len(body) < lengths[0] if lengths else chunked and not body.endswith(b"0\r\n\r\n"):
        body += receive(connection)
    return int(lines[0].split()[1])


def receive(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise Failure("nginx closed a connection")
    return data
