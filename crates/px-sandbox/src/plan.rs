//! What the sandbox was told to answer, and how, at each endpoint.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::behaviour::{Behaviour, OnAccept};
use crate::endpoint::Endpoint;
use crate::received::Received;
use crate::reply::Reply;

/// Makes a reply from a request.
pub(crate) type MakeReply = Arc<dyn Fn(&Received) -> Reply + Send + Sync>;

#[derive(Default)]
pub(crate) struct Plan(Mutex<Told>);

#[derive(Default)]
struct Told {
    on_accept: OnAccept,
    endpoints: HashMap<Endpoint, AtEndpoint>,
    paths: Vec<(String, Reply)>,
}

#[derive(Default)]
struct AtEndpoint {
    behaviour: Option<Behaviour>,
    next_behaviours: VecDeque<Behaviour>,
    reply: Option<MakeReply>,
    next_replies: VecDeque<Reply>,
}

/// What was told for one request; nothing where the endpoint shall decide for itself.
#[derive(Default)]
pub(crate) struct Orders {
    pub(crate) behaviour: Option<Behaviour>,
    pub(crate) reply: Option<Reply>,
}

impl Plan {
    pub(crate) fn behave(&self, endpoint: Endpoint, behaviour: Behaviour) {
        let behaviour = (behaviour != Behaviour::Normal).then_some(behaviour);
        let mut told = self.lock();
        let place = told.endpoints.entry(endpoint).or_default();
        place.next_behaviours.clear();
        place.behaviour = behaviour;
    }

    pub(crate) fn behave_next(&self, endpoint: Endpoint, times: usize, behaviour: &Behaviour) {
        let mut told = self.lock();
        let place = told.endpoints.entry(endpoint).or_default();
        place.next_behaviours.extend(std::iter::repeat_n(behaviour.clone(), times));
    }

    pub(crate) fn answer(&self, endpoint: Endpoint, make: Option<MakeReply>) {
        let mut told = self.lock();
        let place = told.endpoints.entry(endpoint).or_default();
        place.next_replies.clear();
        place.reply = make;
    }

    pub(crate) fn answer_next(&self, endpoint: Endpoint, reply: Reply) {
        self.lock().endpoints.entry(endpoint).or_default().next_replies.push_back(reply);
    }

    pub(crate) fn answer_path(&self, path: &str, reply: Reply) {
        let mut told = self.lock();
        told.paths.retain(|(known, _)| known != path);
        told.paths.push((path.to_owned(), reply));
    }

    pub(crate) fn on_accept(&self, on_accept: OnAccept) {
        self.lock().on_accept = on_accept;
    }

    pub(crate) fn at_accept(&self) -> OnAccept {
        self.lock().on_accept
    }

    /// Takes the orders for a request; those for the next request only are used up by it.
    pub(crate) fn take(&self, received: &Received) -> Orders {
        let mut told = self.lock();
        let path_reply = told
            .paths
            .iter()
            .find(|(path, _)| path == received.path())
            .map(|(_, reply)| reply.clone());
        let Some(place) = told.endpoints.get_mut(&received.endpoint) else {
            return Orders { behaviour: None, reply: path_reply };
        };
        let behaviour = place.next_behaviours.pop_front().or_else(|| place.behaviour.clone());
        let reply = place.next_replies.pop_front();
        let make = place.reply.clone();
        // The maker may well ask the sandbox about itself.
        drop(told);
        let reply = reply.or_else(|| make.map(|make| make(received))).or(path_reply);
        Orders { behaviour, reply }
    }

    pub(crate) fn forget(&self) {
        *self.lock() = Told::default();
    }

    /// One line per order, for people.
    pub(crate) fn describe(&self) -> Vec<String> {
        let told = self.lock();
        let mut lines = Vec::new();
        if told.on_accept != OnAccept::Serve {
            lines.push(format!("on accept: {:?}", told.on_accept));
        }
        for endpoint in Endpoint::ALL {
            let Some(place) = told.endpoints.get(&endpoint) else { continue };
            let word = endpoint.word();
            for behaviour in &place.next_behaviours {
                lines.push(format!("{word}, once: {behaviour}"));
            }
            if let Some(behaviour) = &place.behaviour {
                lines.push(format!("{word}: {behaviour}"));
            }
            if place.reply.is_some() || !place.next_replies.is_empty() {
                lines.push(format!("{word}: answers as it was told"));
            }
        }
        lines.extend(told.paths.iter().map(|(path, _)| format!("{path}: answers as it was told")));
        lines
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
