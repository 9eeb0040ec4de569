//! Puts an answer on the wire, the way a behaviour says.

use std::io::{self, Write};
use std::time::Duration;

use crate::behaviour::Behaviour;
use crate::closing::Closing;
use crate::reply::{Reply, risk_answer};
use crate::wire::Wire;

/// How long a connection that was closed may take to notice.
const LEAVE_TAKING: Duration = Duration::from_secs(2);

/// Gives the answer. True where the connection may serve another request.
pub(crate) fn give(
    wire: &mut Wire,
    reply: Reply,
    behaviour: &Behaviour,
    is_head: bool,
    keep_alive: bool,
    closing: &Closing,
) -> io::Result<bool> {
    let again = |wire: &mut Wire, reply, then: &Behaviour| {
        give(wire, reply, then, is_head, keep_alive, closing)
    };
    match behaviour {
        Behaviour::Normal => send(wire, &reply, is_head, keep_alive),
        Behaviour::Delay(pause) => {
            closing.pause(*pause);
            send(wire, &reply, is_head, keep_alive)
        }
        Behaviour::After(pause, then) => {
            closing.pause(*pause);
            again(wire, reply, then)
        }
        Behaviour::Status(status) => again(wire, status_reply(*status), &Behaviour::Normal),
        Behaviour::Body(body) => {
            let reply = Reply::bytes("application/json", body.clone());
            again(wire, reply, &Behaviour::Normal)
        }
        Behaviour::Huge(bytes) => again(wire, huge_reply(*bytes), &Behaviour::Normal),
        Behaviour::Reset => {
            wire.reset_on_close();
            Ok(false)
        }
        Behaviour::CloseBeforeAnswer => Ok(leave(wire)),
        Behaviour::HalfClose => {
            wire.cut();
            wire.drain(None);
            Ok(false)
        }
        Behaviour::Hang => {
            wire.drain(None);
            Ok(false)
        }
        Behaviour::NotHttp(bytes) => {
            wire.write_all(bytes)?;
            wire.flush()?;
            Ok(leave(wire))
        }
        Behaviour::Truncate { declared, sent } => {
            truncate(wire, &reply, *declared, *sent)?;
            wire.cut();
            wire.drain(Some(LEAVE_TAKING));
            Ok(false)
        }
        Behaviour::ResetWithin(sent) => {
            truncate(wire, &reply, reply.body.len() as u64, *sent)?;
            wire.reset_on_close();
            Ok(false)
        }
        Behaviour::Trickle(pause) => trickle(wire, &reply, *pause, is_head, keep_alive, closing),
        Behaviour::ChunkedAnswer => {
            send_chunked(wire, &reply, is_head, keep_alive)?;
            Ok(keep_alive || leave(wire))
        }
        Behaviour::KeepAliveOff => send(wire, &reply, is_head, false),
        Behaviour::StaleKeepAlive => {
            send(wire, &reply, is_head, true)?;
            wire.finish();
            Ok(false)
        }
    }
}

/// Closes politely; never to be reused, which is what the `false` says.
fn leave(wire: &mut Wire) -> bool {
    wire.finish();
    wire.drain(Some(LEAVE_TAKING));
    false
}

fn send(wire: &mut Wire, reply: &Reply, is_head: bool, keep_alive: bool) -> io::Result<bool> {
    wire.write_all(&message(reply, is_head, keep_alive))?;
    wire.flush()?;
    Ok(keep_alive || leave(wire))
}

/// Head and body in one piece: one packet where they fit.
fn message(reply: &Reply, is_head: bool, keep_alive: bool) -> Vec<u8> {
    let mut message = reply.head(&length_of(reply), keep_alive);
    if !is_head && !reply.is_bodyless() {
        message.extend_from_slice(&reply.body);
    }
    message
}

fn length_of(reply: &Reply) -> String {
    let is_framed = reply.has_header("content-length") || reply.has_header("transfer-encoding");
    if is_framed || reply.is_bodyless() {
        String::new()
    } else {
        format!("Content-Length: {}", reply.body.len())
    }
}

fn trickle(
    wire: &mut Wire,
    reply: &Reply,
    pause: Duration,
    is_head: bool,
    keep_alive: bool,
    closing: &Closing,
) -> io::Result<bool> {
    for byte in message(reply, is_head, keep_alive) {
        if !closing.pause(pause) {
            return Ok(false);
        }
        wire.write_all(&[byte])?;
        wire.flush()?;
    }
    Ok(keep_alive || leave(wire))
}

fn truncate(wire: &mut Wire, reply: &Reply, declared: u64, sent: u64) -> io::Result<()> {
    let mut message = reply.head(&format!("Content-Length: {declared}"), true);
    let body = &reply.body[..reply.body.len().min(to_usize(sent))];
    message.extend_from_slice(body);
    message.resize(message.len() + (to_usize(sent) - body.len()), b' ');
    wire.write_all(&message)?;
    wire.flush()
}

fn send_chunked(wire: &mut Wire, reply: &Reply, is_head: bool, keep_alive: bool) -> io::Result<()> {
    if is_head || reply.is_bodyless() {
        wire.write_all(&message(reply, is_head, keep_alive))?;
        return wire.flush();
    }
    wire.write_all(&reply.head("Transfer-Encoding: chunked", keep_alive))?;
    // At least three chunks where there are three bytes, each in a packet of its own.
    for chunk in reply.body.chunks((reply.body.len() / 3).max(1)) {
        wire.write_all(format!("{:x}\r\n", chunk.len()).as_bytes())?;
        wire.write_all(chunk)?;
        wire.write_all(b"\r\n")?;
        wire.flush()?;
    }
    wire.write_all(b"0\r\n\r\n")?;
    wire.flush()
}

fn status_reply(status: u16) -> Reply {
    let message = format!("the sandbox was told to answer {status}");
    Reply::json(serde_json::json!({ "status": -1, "message": message })).status(status)
}

/// A good answer that is exactly so large; smaller than the answer itself it cannot be.
fn huge_reply(bytes: u64) -> Reply {
    let answer = risk_answer(0, "c").to_string();
    let opened = format!("{},\"padding\":\"", answer.trim_end_matches('}'));
    let padding = to_usize(bytes).saturating_sub(opened.len() + 2);
    let mut body = opened.into_bytes();
    body.resize(body.len() + padding, b'x');
    body.extend_from_slice(b"\"}");
    Reply::bytes("application/json", body)
}

fn to_usize(bytes: u64) -> usize {
    // Half of the address space, so that adding a head to it cannot overflow.
    usize::try_from(bytes).unwrap_or(usize::MAX).min(usize::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_huge_reply_is_json_of_exactly_that_size() {
        let reply = huge_reply(10_000);
        assert_eq!(reply.body.len(), 10_000);
        let answer: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(answer["status"], 0);
    }
}
