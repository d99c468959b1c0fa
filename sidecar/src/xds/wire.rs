//! An answer as bytes: what is large in it is shared by all streams, and the rest is written when the
//! connection takes it. A thousand proxies that ask for everything at once want no thousand copies.

use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, Resource as Entry};
use hyper::body::Bytes;
use prost::Message;
use prost::bytes::{BufMut, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use super::session::Answer;
use super::snapshot::{Name, Resource};

/// Small pieces are written together up to about so much; a larger body is a piece of its own, and
/// no copy.
const PIECE: usize = 16 << 10;
/// Tags of `DeltaDiscoveryResponse.resources`, `Resource.resource` and `Any`.
const RESOURCES: u32 = 2;
const RESOURCE: u32 = 2;
const TYPE_URL: u32 = 1;
const VALUE: u32 = 2;

/// One answer in the framing of gRPC, piece by piece.
#[derive(Debug)]
pub struct Pieces {
    type_url: &'static str,
    resources: std::vec::IntoIter<(Name, Arc<Resource>)>,
    /// What is written and not taken yet, and the body behind it.
    next: BytesMut,
    body: Bytes,
}

impl Pieces {
    /// All of an answer.
    pub fn new(answer: Answer) -> Self {
        let type_url = answer.kind.type_url();
        let head = DeltaDiscoveryResponse {
            system_version_info: answer.version,
            type_url: type_url.to_owned(),
            removed_resources: answer.removed,
            nonce: answer.nonce,
            ..DeltaDiscoveryResponse::default()
        };
        let entries = answer.resources.iter().map(|(name, resource)| {
            let length = Lengths::of(&entry(name, resource), type_url, resource).entry;
            field(RESOURCES, length)
        });
        let length = head.encoded_len() + entries.sum::<usize>();
        let mut next = BytesMut::with_capacity(length.min(PIECE));
        // Not compressed, and its length.
        next.put_u8(0);
        next.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        next.extend_from_slice(&head.encode_to_vec());
        Pieces {
            type_url,
            resources: answer.resources.into_iter(),
            next,
            body: Bytes::new(),
        }
    }

    fn write(&mut self, name: &str, resource: &Resource) {
        let entry = entry(name, resource);
        let lengths = Lengths::of(&entry, self.type_url, resource);
        begin(&mut self.next, RESOURCES, lengths.entry);
        self.next.extend_from_slice(&entry.encode_to_vec());
        begin(&mut self.next, RESOURCE, lengths.any);
        begin(&mut self.next, TYPE_URL, self.type_url.len());
        self.next.extend_from_slice(self.type_url.as_bytes());
        begin(&mut self.next, VALUE, resource.body.len());
        match resource.body.len() < PIECE {
            true => self.next.extend_from_slice(&resource.body),
            false => self.body = resource.body.clone(),
        }
    }
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        while self.body.is_empty() && self.next.len() < PIECE {
            let Some((name, resource)) = self.resources.next() else {
                break;
            };
            self.write(&name, &resource);
        }
        let piece = match self.next.is_empty() {
            false => std::mem::take(&mut self.next).freeze(),
            true => std::mem::take(&mut self.body),
        };
        (!piece.is_empty()).then_some(piece)
    }
}

/// An entry without its resource.
fn entry(name: &str, resource: &Resource) -> Entry {
    Entry {
        name: name.to_owned(),
        version: resource.version.to_string(),
        ..Entry::default()
    }
}

/// Lengths of what is inside an entry, without the fields' own keys and lengths.
struct Lengths {
    any: usize,
    entry: usize,
}

impl Lengths {
    fn of(entry: &Entry, type_url: &str, resource: &Resource) -> Self {
        let any = field(TYPE_URL, type_url.len()) + field(VALUE, resource.body.len());
        let entry = entry.encoded_len() + field(RESOURCE, any);
        Lengths { any, entry }
    }
}

/// How long a field of so many bytes is, with its key and its length.
fn field(tag: u32, length: usize) -> usize {
    key_len(tag) + encoded_len_varint(length as u64) + length
}

fn begin(into: &mut BytesMut, tag: u32, length: usize) {
    encode_key(tag, WireType::LengthDelimited, into);
    encode_varint(length as u64, into);
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::google::protobuf::Any;
    use proptest::prelude::*;

    use super::super::Kind;
    use super::*;

    fn answer(bodies: &[usize], removed: Vec<String>) -> Answer {
        let resources = bodies.iter().enumerate().map(|(number, length)| {
            let body = Any {
                type_url: Kind::Clusters.type_url().to_owned(),
                value: vec![b'x'; *length],
            };
            let name = format!("name-{number}").into();
            (name, Arc::new(Resource::new(body)))
        });
        Answer {
            kind: Kind::Clusters,
            nonce: "7".to_owned(),
            version: "v".to_owned(),
            resources: resources.collect(),
            removed,
        }
    }

    proptest! {
        #[test]
        fn an_answer_reads_back(
            bodies in prop::collection::vec(prop_oneof![0..300_usize, 0..3 * PIECE], 0..40),
            removed in prop::collection::vec("[a-z]{0,9}", 0..4),
        ) {
            let sent = answer(&bodies, removed.clone());
            let pieces: Vec<Bytes> = Pieces::new(sent.clone()).collect();
            prop_assert!(pieces.iter().all(|it| it.len() < 2 * PIECE || bodies.contains(&it.len())));
            let bytes = pieces.concat();
            let (frame, message) = bytes.split_at(5);
            prop_assert_eq!(frame[0], 0);
            prop_assert_eq!(u32::from_be_bytes(frame[1..].try_into().unwrap()) as usize, message.len());
            let read = DeltaDiscoveryResponse::decode(message).unwrap();
            let words = (&read.system_version_info[..], &read.type_url[..], &read.nonce[..]);
            prop_assert_eq!(words, ("v", Kind::Clusters.type_url(), "7"));
            prop_assert_eq!(&read.removed_resources, &removed);
            prop_assert_eq!(read.resources.len(), bodies.len());
            for (entry, (name, resource)) in read.resources.iter().zip(&sent.resources) {
                prop_assert_eq!((&*entry.name, &*entry.version), (&**name, &*resource.version));
                let any = entry.resource.as_ref().unwrap();
                prop_assert_eq!(&any.type_url, Kind::Clusters.type_url());
                prop_assert_eq!(&any.value[..], &resource.body[..]);
            }
        }
    }

    #[test]
    fn what_is_large_is_the_same_memory_for_every_stream() {
        let sent = answer(&[10, 2 * PIECE], Vec::new());
        let body = sent.resources[1].1.body.as_ptr();
        for _ in 0..2 {
            assert!(Pieces::new(sent.clone()).any(|piece| piece.as_ptr() == body));
        }
    }
}
