//! The life of one request, as Envoy tells it to the module.

use anyhow::{Result, ensure};

use super::host::{self, Host};
use super::{ROOT, Vm};

const STREAM: i32 = 2;
/// Envoy's response flag for: no connection to the upstream could be made.
const UPSTREAM_CONNECTION_FAILURE: u64 = 0x20;

/// How a request ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The entry at this place answers with 200; those before it could not be connected to.
    Served(u64),
    /// The first entry answers with this status.
    Status(&'static str),
    /// No entry up to this place could be connected to: Envoy answers 503.
    ConnectFailed(u64),
    /// The client leaves while the first entry is asked.
    Gone,
}

/// A request.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// Where its route leads.
    pub cluster: &'a str,
    /// Its headers besides those that all have.
    pub headers: Vec<(&'a str, &'a str)>,
    /// Whom it comes from.
    pub client: &'a str,
    /// It has a body, in two chunks.
    pub has_body: bool,
    /// What the body is; 101 bytes of zeros where it says nothing.
    pub body: &'a str,
    /// How it ends.
    pub ending: Ending,
}

impl<'a> Request<'a> {
    /// A POST of JSON.
    pub fn post(cluster: &'a str, body: &'a str) -> Self {
        Request {
            headers: vec![("content-type", "application/json")],
            has_body: true,
            body,
            ..Request::get(cluster)
        }
    }

    /// A plain GET that its first entry answers.
    pub fn get(cluster: &'a str) -> Self {
        Request {
            cluster,
            headers: Vec::new(),
            client: "192.0.2.1:40000",
            has_body: false,
            body: "",
            ending: Ending::Served(0),
        }
    }
}

/// What the module asked its host for, in order, by phase.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Calls {
    /// At the request's headers and body.
    pub request: Vec<String>,
    /// At the response's headers and body.
    pub response: Vec<String>,
    /// At the stream's end.
    pub end: Vec<String>,
}

impl Calls {
    /// All of them.
    pub fn total(&self) -> usize {
        self.request.len() + self.response.len() + self.end.len()
    }
}

impl Vm {
    /// Tells a new stream of a request's headers; whether it goes on.
    pub fn arrive(&mut self, stream: i32, request: &Request<'_>) -> Result<bool> {
        let host = self.host();
        let method = if request.has_body { "POST" } else { "GET" };
        host.request_headers = host::map(&request.headers);
        let common = [
            (":method", method),
            (":path", "/"),
            (":authority", "a.test"),
        ];
        host.request_headers.extend(host::map(&common));
        let (cluster, client) = (request.cluster, request.client);
        host.properties = host::map(&[("xds.cluster_name", cluster), ("source.address", client)]);
        for (name, value) in &request.headers {
            host.set_property(&format!("request.headers.{name}"), *value);
        }
        let goes_on = self.request_headers(stream, !request.has_body)?;
        let host = self.host();
        let is_held = host.held.contains(&stream);
        ensure!(
            is_held || goes_on != host.local_answer.is_some(),
            "a request either goes on or is answered"
        );
        Ok(goes_on || is_held)
    }

    /// Tells a stream of its response's headers.
    pub fn respond(&mut self, stream: i32, ending: Ending) -> Result<()> {
        answer(self.host(), ending)?;
        self.response_headers(stream, false)
    }

    /// Serves a request from its arrival to its end. One that the module answers itself ends there.
    pub fn serve(&mut self, request: &Request<'_>) -> Result<Calls> {
        self.serve_under(ROOT, request)
    }

    /// The same under another root.
    pub fn serve_under(&mut self, root: i32, request: &Request<'_>) -> Result<Calls> {
        self.host().take_calls();
        self.create_stream(STREAM, root)?;
        let mut goes_on = self.arrive(STREAM, request)?;
        if request.has_body && goes_on {
            let body = match request.body {
                "" => &[0; 101],
                body => body.as_bytes(),
            };
            let (all, last) = body.split_at(body.len() - 1);
            self.send_body(STREAM, all, false)?;
            if self.host().local_answer.is_none() {
                self.send_body(STREAM, last, true)?;
            }
            goes_on = self.host().local_answer.is_none();
        }
        let mut calls = Calls {
            request: self.host().take_calls(),
            ..Calls::default()
        };
        if goes_on && request.ending != Ending::Gone {
            self.respond(STREAM, request.ending)?;
            self.response_body(STREAM, 2, true)?;
        } else if goes_on {
            tried(self.host(), 0)?;
        }
        calls.response = self.host().take_calls();
        self.delete(STREAM)?;
        calls.end = self.host().take_calls();
        Ok(calls)
    }
}

/// The list that the module wrote.
pub fn list(host: &Host) -> Vec<String> {
    let list = host.request_headers.get("x-gateway-destination-endpoint");
    let list = String::from_utf8_lossy(list.map_or(&[], Vec::as_slice)).into_owned();
    let entries = list.split(',').filter(|entry| !entry.is_empty());
    entries.map(str::to_owned).collect()
}

fn answer(host: &mut Host, ending: Ending) -> Result<()> {
    let (place, status) = match ending {
        Ending::Served(place) => (place, "200"),
        Ending::Status(status) => (0, status),
        Ending::ConnectFailed(place) => (place, "503"),
        Ending::Gone => return Ok(()),
    };
    tried(host, place)?;
    if matches!(ending, Ending::ConnectFailed(_)) {
        host.set_property("response.flags", UPSTREAM_CONNECTION_FAILURE.to_le_bytes());
    }
    host.response_headers = host::map(&[(":status", status)]);
    Ok(())
}

/// The entry at this place was the last that was tried. Without a list Envoy's own policy chooses.
fn tried(host: &mut Host, place: u64) -> Result<()> {
    let entries = list(host);
    let address = entries.get(usize::try_from(place)?);
    ensure!(
        entries.is_empty() || address.is_some(),
        "there is no entry {place} in {entries:?}"
    );
    let address = address.map_or("192.0.2.1:80", String::as_str);
    host.set_property("upstream.address", address);
    host.set_property("upstream.request_attempt_count", (place + 1).to_le_bytes());
    Ok(())
}
