//! Tests for the px module: requests wait for the verdict of a traffic-analysis node.

mod support;

use support::node::Site;
use support::{get, request};

#[test]
fn a_request_that_the_node_passes_reaches_the_origin_once_and_unchanged() {
    let site = Site::start("");
    let answer = get(site.nginx.addr(), "/page?x=1", &["X-A: 1", "Cookie: a=b", "X-A: 2"]);
    assert_eq!((answer.status, answer.text().as_str()), (200, "origin"));
    assert_eq!(site.origin.texts().len(), 1);
    let mirrored = site.node.mirrored();
    assert_eq!(mirrored.len(), 1);
    eprintln!("{}", String::from_utf8_lossy(&mirrored[0].head));
    eprintln!("{:?}", site.log(1));
    site.node.assert_no_complaints();
}

#[test]
fn block() {
    let site = Site::start("");
    let answer = request(site.nginx.addr(), "POST", "/etc/passwd", &[], b"abc");
    assert_eq!(answer.status, 403);
    assert_eq!(answer.text(), "{\"error\":{\"code\":403,\"message\":\"request blocked\"}}");
    site.node.assert_no_complaints();
    eprintln!("{:?}", site.log(1));
}
