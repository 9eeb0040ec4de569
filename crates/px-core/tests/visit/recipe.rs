//! Tokens that HUMAN might have signed, or nearly: what they say, how it is written, sealed and sent is
//! chosen by bytes, one choice after the other. The bytes may be anything, and all of them are a token.

use px_core::hooks::Hooks;
use px_core::policy::{Options, Policy, Secret, TokenVersion};

use super::site::{OLD_SECRET, SECRET, Site, basic};
use super::{NOW, Reply, Visit, minted, reference};

/// Choices made by bytes; where they end, the first of everything.
pub struct Choice<'b>(pub &'b [u8]);

impl Choice<'_> {
    fn below(&mut self, bound: usize) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first) % bound
    }

    fn of<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())].clone()
    }

    /// The first, which is the ordinary one, six times in seven.
    fn mostly<T: Clone>(&mut self, list: &[T]) -> T {
        let at = self.below(256).saturating_sub(256 * 6 / 7);
        list[at % list.len()].clone()
    }

    fn rarely(&mut self) -> bool {
        self.below(8) == 7
    }
}

const UUID: &str = r#""7f9c24e8-3b12-4fef-91e0-56a2d5a7c1aa""#;
const VID: &str = r#""c0ffee00-1d2e-4f30-8a4b-5c6d7e8f9a0b""#;
const THIRD_SECRET: &str = "s3cret-C-made-up-for-tests-0000003";

/// Values as JSON writes them; an empty one is left out.
const IDS: [&str; 9] = [
    UUID,
    VID,
    r#""""#,
    r#""a \u0022<\u2028\ud83d\ude00""#,
    "7",
    "null",
    "",
    r#"["u"]"#,
    r#""C0FFEE00-1d2e-4f30-8a4b-5c6d7e8f9a0b""#,
];
const TIMES: [&str; 16] = [
    "1750000330000",
    "1750000000000",
    "1749999999999",
    "1749999999999.9999",
    "1750000000000.0",
    "1.75e12",
    "1750000000e3",
    "17499999999995E-1",
    "1e300",
    "-1",
    "0",
    "9007199254740993000",
    "18446744073709551616",
    r#""1750000330000""#,
    "null",
    "true",
];
const SCORES: [&str; 18] = [
    "0",
    "100",
    "99",
    "99.5",
    "99.99999999999999999",
    "100.0",
    "1e2",
    "1000E-1",
    "60",
    "59.9",
    "-0",
    "-1",
    "101",
    "1e-7",
    "18446744073709551616",
    r#""100""#,
    "null",
    "",
];
const ACTIONS: [&str; 9] =
    [r#""c""#, r#""b""#, r#""r""#, r#""j""#, r#""""#, r#""\u0062""#, r#""<zz>""#, "5", "null"];
const SELECTORS: [&str; 13] = [
    "",
    r#""u""#,
    r#""s""#,
    r#""us""#,
    r#""su""#,
    r#""""#,
    "null",
    r#""q""#,
    r#""uu""#,
    r#""usu""#,
    r#""\u0073""#,
    "5",
    "[]",
];
const APPROVALS: [&str; 8] = ["", "true", "1", "false", "0", r#""""#, r#""x""#, "{}"];
const UNKNOWN: [&str; 8] = [
    "",
    r#""z":[1,{"y":-0.0}],"#,
    r#""\u00e9\n":"\u2603\u0000\/","#,
    r#""n":1e21,"m":123456789012345678901,"#,
    r#""s":100,"#,
    r#""t":0,"#,
    r#""u":"first","#,
    r#""__proto__":{"s":100},"#,
];
const USER_AGENTS: [&[u8]; 7] = [
    b"Mozilla/5.0 (X11; Linux x86_64) TestBrowser/12.3",
    b"",
    b"a",
    "d\u{e9}j\u{e0} vu \u{1f600}".as_bytes(),
    b"\xff\xfe\xc3",
    b"203.0.113.77",
    b"none",
];

/// A visit with such a token, and the site it comes to.
pub fn visit(bytes: &[u8]) -> (Visit, Site<'static>) {
    let choice = &mut Choice(bytes);
    let version = choice.of(&[3, 3, 2, 1]);
    let mut options = options(version, choice);
    let user_agent = choice.mostly(&USER_AGENTS);
    let peer = choice.mostly(&["203.0.113.77", "2001:db8::7", "::ffff:192.0.2.1", "0.0.0.0"]);
    let is_mobile = choice.rarely();
    let mut visit = Visit {
        headers: vec![(b"Host".to_vec(), b"shop.example.com".to_vec())],
        peer: peer.to_owned(),
        reply: choice.of(&[Reply::Timeout, Reply::Http(503, Vec::new())]),
        ..Visit::usual()
    };
    if !choice.rarely() {
        visit = visit.with("User-Agent", user_agent);
    }
    if choice.rarely() {
        options.ip_headers = vec!["x-true-ip".to_owned()];
        visit = visit.with("X-True-IP", choice.of(&["192.0.2.5", "x, 2001:db8::5", "none"]));
    }
    // As the site will cut and find them.
    let limit = options.user_agent_max_length;
    let cut = match std::str::from_utf8(visit.header("user-agent")) {
        Ok(text) => text.chars().take(limit).collect::<String>().into_bytes(),
        Err(_) => visit.header("user-agent").iter().copied().take(limit).collect(),
    };
    let ip = reference::client_ip(&visit.headers, "", &options.ip_headers, &visit.peer);
    let token = match version {
        3 => v3(
            choice,
            &options,
            if is_mobile { b"" } else { &cut },
            if is_mobile { "" } else { &ip },
        ),
        2 => v2(choice, if is_mobile { b"" } else { &cut }),
        _ => v1(choice, if is_mobile { b"" } else { &cut }, &ip),
    };
    if choice.rarely() {
        let lengths = [token.len(), token.len() - 1, 0];
        options.risk_cookie_max_length = choice.of(&lengths);
    }
    visit = sent(visit, &token, version, is_mobile, choice);
    let hooks = Hooks { is_sensitive: choice.rarely(), ..Hooks::NONE };
    (visit, Site::with(Policy::compile(options).expect("valid options"), hooks))
}

fn options(version: u8, choice: &mut Choice<'_>) -> Options {
    let secrets: [&[&str]; 7] = [
        &[SECRET],
        &[SECRET, OLD_SECRET],
        &[OLD_SECRET, SECRET],
        &["", SECRET],
        &[SECRET, SECRET],
        &[OLD_SECRET, THIRD_SECRET, SECRET],
        &[THIRD_SECRET],
    ];
    let secrets = choice.mostly(&secrets).iter().map(|text| Secret::new((*text).to_owned()));
    let (least, most) = choice.mostly(&[(1, 1000), (1, 1), (2, 3), (0, 2), (7, 500)]);
    Options {
        token_version: match version {
            3 => choice.of(&[TokenVersion::V3, TokenVersion::V3OrV1]),
            2 => TokenVersion::V2,
            _ => TokenVersion::V3OrV1,
        },
        cookie_secrets: secrets.collect(),
        blocking_score: choice.mostly(&[100, 60, 99, 1, 0]),
        risk_cookie_min_iterations: least,
        risk_cookie_max_iterations: most,
        user_agent_max_length: choice.mostly(&[8528, 5, 1, 0]),
        enable_server_calls: !choice.rarely(),
        // Whatever it takes to look into all of them.
        forged_cookie_budget: 4,
        ..basic()
    }
}

/// Fields of a payload, in an order and with blanks of its own.
fn payload(fields: &[(&str, &str)], choice: &mut Choice<'_>) -> String {
    let blank = choice.mostly(&["", " ", "\n\t"]);
    let given = fields.iter().filter(|(_, value)| !value.is_empty());
    let mut fields: Vec<_> =
        given.map(|(key, value)| format!("\"{key}\":{blank}{value}{blank},{blank}")).collect();
    let turn = choice.below(fields.len().max(1));
    fields.rotate_left(turn);
    if choice.rarely() {
        fields.reverse();
    }
    let unknown = choice.mostly(&UNKNOWN);
    fields.insert(choice.below(fields.len() + 1), unknown.to_owned());
    let text = fields.concat();
    let text = text.trim_end().trim_end_matches(',');
    let (before, after) = choice.mostly(&[("{", "}"), ("[{", "}]"), (" {", "} "), ("{", "")]);
    format!("{before}{blank}{text}{after}")
}

fn secret(choice: &mut Choice<'_>) -> &'static str {
    choice.mostly(&[SECRET, OLD_SECRET, THIRD_SECRET])
}

/// A tag as it is sent: nearly always as it is.
fn tag(tag: &str, choice: &mut Choice<'_>) -> String {
    match choice.below(32) {
        13 => tag.to_ascii_uppercase(),
        14 => tag[1..].to_owned(),
        15 => tag.replace(['0', '1'], "2"),
        _ => tag.to_owned(),
    }
}

fn base64_written(text: &str, choice: &mut Choice<'_>) -> String {
    match choice.below(32) {
        12 => text.trim_end_matches('=').to_owned(),
        13 => text.replace('+', "-").replace('/', "_"),
        14 => text.replacen(|letter: char| letter.is_ascii_lowercase(), "!", 1),
        15 => text[..text.len() / 2].to_owned(),
        _ => text.to_owned(),
    }
}

/// `<salt>:<iterations>:<ciphertext>`
fn sealed(payload: &str, options: &Options, choice: &mut Choice<'_>, secret: &str) -> String {
    let (least, most) = (options.risk_cookie_min_iterations, options.risk_cookie_max_iterations);
    let usual = least.max(1).to_string();
    let iterations = match choice.below(24) {
        6 => most.to_string(),
        7 => (most + 1).to_string(),
        8 => least.saturating_sub(1).to_string(),
        9 => format!("00{usual}"),
        10 => choice.of(&["+1", " 1", "1 ", "1.0", "1e0", "0x1", "-1", "1a"]).to_owned(),
        11 => choice.of(&["", "0", "4294967297", "18446744073709551617"]).to_owned(),
        _ => usual,
    };
    let number = iterations.parse().unwrap_or(1).clamp(1, 1001);
    let length = choice.mostly(&[4, 1, 16, 75, 76, 0]);
    let salt = [choice.of(&[0xfb, b's', 0])].repeat(length);
    let [salt, ciphertext] = minted::seal(secret, &salt, number, payload.as_bytes());
    let salt = base64_written(&salt, choice);
    let ciphertext = base64_written(&ciphertext, choice);
    format!("{salt}:{iterations}:{ciphertext}")
}

fn v3(choice: &mut Choice<'_>, options: &Options, user_agent: &[u8], ip: &str) -> String {
    let selector = choice.mostly(&SELECTORS);
    let fields = [
        ("u", choice.mostly(&IDS)),
        ("v", choice.mostly(&IDS)),
        ("t", choice.mostly(&TIMES)),
        ("s", choice.mostly(&SCORES)),
        ("a", choice.mostly(&ACTIONS)),
        ("x", selector),
        ("cpa", choice.mostly(&APPROVALS)),
    ];
    let payload = payload(&fields, choice);
    let secret = secret(choice);
    let rest = sealed(&payload, options, choice, secret);
    // Nearly always the fields that the payload names.
    let named: &str = match selector {
        "" | "null" | r#""""# => "u",
        r#""\u0073""# => "s",
        other => other,
    };
    let signed = choice.mostly(&[named, "u", "", "s", "us", "su"]);
    let mut message = rest.clone().into_bytes();
    for field in signed.chars() {
        match field {
            'u' => message.extend(user_agent),
            's' => message.extend(ip.as_bytes()),
            _ => {}
        }
    }
    let tag = tag(&reference::hmac(secret, &message), choice);
    let token = format!("{tag}:{rest}");
    match choice.below(32) {
        14 => format!("{token}:"),
        15 => token.replacen(':', "", 1),
        _ => token,
    }
}

fn v2(choice: &mut Choice<'_>, user_agent: &[u8]) -> String {
    let (id, vid, time) =
        (choice.mostly(&IDS), choice.mostly(&[VID, UUID, IDS[2], IDS[8]]), choice.mostly(&TIMES));
    let secret = secret(choice);
    // As HUMAN signs it: a number's shortest text.
    let time_text = match time {
        "1.75e12" | "1750000000e3" | "1750000000000.0" => "1750000000000",
        "17499999999995E-1" => "1749999999999.5",
        other => other,
    };
    let verdict = choice.mostly(&["0", "1", "2", ""]);
    let text = |json: &str| json.trim_matches('"').to_owned();
    let signed = format!("{time_text}{}{}{verdict}", text(id), text(vid));
    let tag = tag(&reference::hmac(secret, &[signed.as_bytes(), user_agent].concat()), choice);
    let tag = choice.mostly(&[format!("\"{tag}\""), "5".to_owned(), String::new()]);
    let fields = [("t", time), ("u", id), ("v", vid), ("h", &*tag)];
    let encoded = base64(&payload(&fields, choice));
    base64_written(&encoded, choice)
}

fn v1(choice: &mut Choice<'_>, user_agent: &[u8], ip: &str) -> String {
    let (id, vid, time) =
        (choice.mostly(&IDS), choice.mostly(&IDS), choice.mostly(&["1750000330000", "1", "1e3"]));
    let (bot, score) = (choice.mostly(&["0", "7"]), choice.mostly(&["0", "100", "60", "null"]));
    let secret = secret(choice);
    let ip = choice.mostly(&["", ip]);
    let text = |json: &str| json.trim_matches('"').to_owned();
    let time_text = if time == "1e3" { "1000" } else { time };
    let signed = format!("{time_text}{bot}{score}{}{}{ip}", text(id), text(vid));
    let tag = tag(&reference::hmac(secret, &[signed.as_bytes(), user_agent].concat()), choice);
    let scores = choice.mostly(&[format!(r#"{{"a":{bot},"b":{score}}}"#), score.to_owned()]);
    let tag = format!("\"{tag}\"");
    let fields = [("t", time), ("s", &*scores), ("u", id), ("v", vid), ("h", &*tag)];
    let payload = payload(&fields, choice);
    sealed(&payload, &basic(), choice, secret)
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// Puts the token where it comes from: a cookie, alone or among others, or an app's headers.
fn sent(visit: Visit, token: &str, version: u8, is_mobile: bool, choice: &mut Choice<'_>) -> Visit {
    if is_mobile {
        let prefixed = format!("{}:{token}", choice.mostly(&[version, 3, 2, 1, 0]));
        return match choice.of(&["token", "original", "both"]) {
            "token" => visit.with("X-PX-AUTHORIZATION", prefixed),
            "original" => visit
                .with("x-px-authorization", choice.of(&["1", "4", "007"]))
                .with("x-px-original-token", prefixed),
            _ => visit
                .with("x-px-authorization", prefixed.clone())
                .with("x-px-original-token", prefixed),
        };
    }
    let name = ["_px", "_px2", "_px3"][usize::from(version) - 1];
    let token = match choice.below(32) {
        14 => token.replace(':', "%3A").replace('=', "%3d"),
        15 => token.replace('/', "%2F"),
        _ => token.to_owned(),
    };
    let cookie = format!("{name}={token}");
    let visit = match choice.mostly(&["", "vid", "odd vid", "pxhd"]) {
        "vid" => visit.with("cookie", format!("_pxvid={}", UUID.trim_matches('"'))),
        "odd vid" => visit.with("cookie", "_pxvid=odd"),
        "pxhd" => visit.with("cookie", "_pxhd=h"),
        _ => visit,
    };
    match choice.mostly(&["alone", "last", "first", "custom", "quoted"]) {
        "last" => visit.with("Cookie", format!("{name}=other; a=1;  {cookie} ;;")),
        "first" => visit.with("Cookie", format!("{cookie}; {name}=other")),
        "custom" => visit.with("Cookie", format!("{name}=other")).with("X-PX-Cookies", cookie),
        "quoted" => visit.with("Cookie", format!("{name}=\"{token}\"")),
        _ => visit.with("Cookie", cookie),
    }
}

/// For those who count on it.
const _: () = assert!(NOW == 1_750_000_000_000);
