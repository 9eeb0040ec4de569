"""The scenarios: what is asked of which nginx, and what must come of it."""

from dataclasses import dataclass

BROWSER = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 "
    "Safari/537.36"
)

# 1 kB each; what is proxied comes from a second nginx.
STATIC, STYLE_SHEET, PROXIED = "/page.html", "/style.css", "/shop/item?id=42"

BARE, MODULE, LUA = "bare nginx", "module", "Lua plugin"


@dataclass(frozen=True)
class Scenario:
    """One row of the table."""

    name: str
    title: str
    # BARE, MODULE or LUA: what is loaded into the nginx under test.
    host: str
    path: str
    # Kind and number of the cookies that are sent in turn, as bench/micro's `cookies` takes them.
    cookies: tuple[str, int] | None = None
    # Directives of the server (MODULE, BARE), or entries of the plugin's configuration (LUA).
    conf: str = ""
    # Directives of the `http` block (MODULE).
    http: str = ""
    # The row whose cost is taken off to get the own cost.
    baseline: str = ""
    blocks: bool = False
    # What the backend must receive for each request.
    risk_calls: int = 0
    activities: int = 0


# A cookie of one visitor, and those of many.
HOT, HIGH, MANY = ("good", 1), ("high", 1), ("good", 5000)
FORGED = ("forged", 500)

QUIET = "px_send_async_activities_enabled off;"
DOWN = "px_backend_url http://{nobody};"

AUTH_REQUEST = """
    auth_request /auth;
    location = /auth {{
        internal;
        proxy_pass http://service/auth;
        proxy_pass_request_body off;
        # One such line here, and none of the outer level counts: this keeps connections alive.
        proxy_set_header Connection "";
        proxy_set_header Content-Length "";
    }}
"""

SCENARIOS = [
    Scenario("bare-static", "bare nginx, 1 kB file", BARE, STATIC),
    Scenario("bare-proxied", "bare nginx, proxied", BARE, PROXIED),
    Scenario(
        "auth-request", "`auth_request` to a local service, proxied", BARE, PROXIED,
        conf=AUTH_REQUEST, baseline="bare-proxied",
    ),
    Scenario(
        "off-static", "loaded, `px_enabled off`, 1 kB file", MODULE, STATIC,
        conf="px_enabled off;", baseline="bare-static",
    ),
    Scenario(
        "off-proxied", "loaded, `px_enabled off`, proxied", MODULE, PROXIED,
        conf="px_enabled off;", baseline="bare-proxied",
    ),
    Scenario(
        "hot-static-quiet", "hot cookie, no activities, 1 kB file", MODULE, STATIC,
        cookies=HOT, conf=QUIET, baseline="bare-static",
    ),
    Scenario(
        "hot-static", "hot cookie, activities, 1 kB file", MODULE, STATIC,
        cookies=HOT, baseline="bare-static", activities=1,
    ),
    Scenario(
        "hot-quiet", "hot cookie, no activities, proxied", MODULE, PROXIED,
        cookies=HOT, conf=QUIET, baseline="bare-proxied",
    ),
    Scenario(
        "hot", "hot cookie, activities, proxied", MODULE, PROXIED,
        cookies=HOT, baseline="bare-proxied", activities=1,
    ),
    Scenario(
        "many-quiet", "5,000 cookies in turn, no activities, proxied", MODULE, PROXIED,
        cookies=MANY, conf=QUIET, baseline="bare-proxied",
    ),
    Scenario(
        "no-cookie", "no cookie → Risk API, no activities, proxied", MODULE, PROXIED,
        conf=QUIET, baseline="bare-proxied", risk_calls=1,
    ),
    Scenario(
        "block", "block page (score 100), activities", MODULE, STATIC,
        cookies=HIGH, baseline="bare-static", blocks=True, activities=1,
    ),
    Scenario(
        "filtered", "filtered `.css`, 1 kB file", MODULE, STYLE_SHEET, baseline="bare-static",
    ),
    Scenario(
        "monitor", "monitor mode, score 100, activities, proxied", MODULE, PROXIED,
        cookies=HIGH, conf="px_module_mode monitor;", baseline="bare-proxied", activities=1,
    ),
    Scenario(
        "forged", "forged cookies → Risk API, no activities, proxied", MODULE, PROXIED,
        cookies=FORGED, conf=QUIET, baseline="no-cookie", risk_calls=1,
    ),
    Scenario(
        "forged-beyond", "the same, `px_forged_cookie_budget 0`", MODULE, PROXIED,
        cookies=FORGED, conf=QUIET + "px_forged_cookie_budget 0;", baseline="no-cookie",
        risk_calls=1,
    ),
    Scenario(
        "risk-down", "no cookie, Risk API down, no activities, proxied", MODULE, PROXIED,
        conf=QUIET + DOWN, baseline="bare-proxied",
    ),
    Scenario(
        "lua-hot", "Lua plugin: hot cookie, activities, proxied", LUA, PROXIED,
        cookies=HOT, baseline="bare-proxied", activities=1,
    ),
    Scenario(
        "lua-many-quiet", "Lua plugin: 5,000 cookies, no activities, proxied", LUA, PROXIED,
        cookies=MANY, conf="send_page_requested_activity = false", baseline="bare-proxied",
    ),
    Scenario(
        "lua-no-cookie", "Lua plugin: no cookie → Risk API, no activities, proxied", LUA, PROXIED,
        conf="send_page_requested_activity = false", baseline="bare-proxied", risk_calls=1,
    ),
    Scenario(
        "lua-block", "Lua plugin: block page (score 100), activities", LUA, STATIC,
        cookies=HIGH, baseline="bare-static", blocks=True, activities=1,
    ),
    Scenario(
        "lua-filtered", "Lua plugin: filtered `.css`, 1 kB file", LUA, STYLE_SHEET,
        baseline="bare-static",
    ),
    Scenario(
        "lua-monitor", "Lua plugin: monitor mode, score 100, activities, proxied", LUA, PROXIED,
        cookies=HIGH, conf="block_enabled = false", baseline="bare-proxied", activities=1,
    ),
    Scenario(
        "lua-forged", "Lua plugin: forged cookies → Risk API, no activities, proxied", LUA,
        PROXIED, cookies=FORGED, conf="send_page_requested_activity = false",
        baseline="lua-no-cookie", risk_calls=1,
    ),
    Scenario(
        "lua-risk-down", "Lua plugin: no cookie, Risk API down, no activities, proxied", LUA,
        PROXIED, conf="send_page_requested_activity = false, px_port = {nobody_port}",
        baseline="bare-proxied",
    ),
]

# Ours and theirs, for the side-by-side table.
PAIRS = [
    ("hot", "lua-hot"),
    ("many-quiet", "lua-many-quiet"),
    ("no-cookie", "lua-no-cookie"),
    ("block", "lua-block"),
    ("filtered", "lua-filtered"),
    ("monitor", "lua-monitor"),
    ("forged", "lua-forged"),
    ("risk-down", "lua-risk-down"),
]


def request(path: str, cookie: str | None) -> str:
    """A browser's request for a path."""
    cookies = "session=6f1ed002ab5595859014ebf0951522d9; theme=dark; consent=1"
    if cookie:
        cookies += f"; _pxvid=c0ffee00-1d2e-4f30-8a4b-5c6d7e8f9a0b; {cookie}"
    return (
        f"GET {path} HTTP/1.1\r\n"
        "Host: shop.test\r\n"
        f"User-Agent: {BROWSER}\r\n"
        "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
        "Accept-Language: en-GB,en;q=0.9\r\n"
        "Accept-Encoding: gzip, deflate, br, zstd\r\n"
        "Referer: https://shop.test/\r\n"
        "Sec-Fetch-Dest: document\r\n"
        "Sec-Fetch-Mode: navigate\r\n"
        "Sec-Fetch-Site: same-origin\r\n"
        f"Cookie: {cookies}\r\n"
        "\r\n"
    )
