//! A JSON-RPC body, read piece by piece as it comes, each byte once. What it asks for is known before it
//! has ended: a single request's method as soon as that was read, a batch's length at its end.
//!
//! It keeps a bit for each container that is open and the text of one name or value, no more.

use super::answer::Fault;
use super::asked::Asked;
use super::number::Number;

/// How deep containers may stand in each other. serde_json has the same limit.
pub const DEPTH_MAX: u32 = 127;
/// Longest name and value that is kept, bytes, with its quotes; of a longer one nothing is known.
pub const TEXT_MAX: usize = 256;

/// Reads one body.
#[derive(Debug)]
pub struct Scanner {
    /// Most requests of a batch.
    batch_max: u32,
    /// Whether a single request's id is to be known.
    wants_id: bool,
    at: At,
    /// How many containers are open.
    depth: u32,
    /// A bit for each of them, the innermost lowest: it is an object.
    objects: u128,
    /// The text that is being read is a name, not a value.
    is_name: bool,
    /// What the text or the value is that comes now.
    role: Role,
    /// Its bytes, where it has a role.
    text: Vec<u8>,
    /// Elements of the batch so far.
    elements: u32,
    method: Option<Option<String>>,
    id: Option<Option<String>>,
    /// What it asks for, once that is known. It stands here, so that no step hands it on.
    known: Option<Asked>,
}

/// What may come next.
#[derive(Debug, Clone, Copy)]
enum At {
    Value,
    /// The first value of an array, or its end.
    ValueOrEnd,
    Name,
    /// The first name of an object, or its end.
    NameOrEnd,
    Colon,
    /// Behind a value.
    CommaOrEnd,
    Text,
    /// Behind a backslash.
    Escape,
    /// So many hex digits of an escape.
    Hex(u8),
    Number(Number),
    /// The rest of `true`, `false` or `null`.
    Word(&'static [u8]),
}

/// What a text or a value is, of those that are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Other,
    /// The name of a single request's field.
    FieldName,
    Method,
    Id,
}

impl Scanner {
    /// A scanner of a body of which nothing was read.
    pub fn new(batch_max: u32, wants_id: bool) -> Self {
        Scanner {
            batch_max,
            wants_id,
            at: At::Value,
            depth: 0,
            objects: 0,
            is_name: false,
            role: Role::Other,
            text: Vec::new(),
            elements: 0,
            method: None,
            id: None,
            known: None,
        }
    }

    /// Reads on. `Some` once enough is known, or it is known that it is wrong; it is not to be asked again
    /// then.
    pub fn read(&mut self, bytes: &[u8]) -> Option<Result<Asked, Fault>> {
        let mut rest = bytes;
        loop {
            if matches!(self.at, At::Text) {
                rest = self.skip_text(rest);
            }
            let (byte, after) = rest.split_first()?;
            if let Err(fault) = self.step(*byte) {
                return Some(Err(fault));
            }
            if self.known.is_some() {
                return self.known.take().map(Ok);
            }
            rest = after;
        }
    }

    /// What stands before the next byte of a text that means something.
    fn skip_text<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let words = bytes.as_chunks::<8>().0;
        let plain = words.iter().take_while(|word| is_plain(**word)).count();
        let plain = plain.saturating_mul(8);
        let means = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
        let rest = bytes.get(plain..).unwrap_or(&[]);
        let length = rest.iter().position(means).unwrap_or(rest.len());
        let length = length.saturating_add(plain);
        let (text, rest) = bytes.split_at_checked(length).unwrap_or((bytes, &[]));
        self.keep(text);
        rest
    }

    fn step(&mut self, byte: u8) -> Result<(), Fault> {
        match self.at {
            At::Text | At::Escape | At::Hex(_) => self.step_in_text(byte),
            At::Word(word) => match word.split_first() {
                Some((next, rest)) if *next == byte => {
                    self.keep(&[byte]);
                    self.at = At::Word(rest);
                    if rest.is_empty() {
                        self.end_value();
                    }
                    Ok(())
                }
                _ => Err(Fault::NotJson),
            },
            At::Number(number) => match number.after(byte) {
                Some(next) => {
                    self.keep(&[byte]);
                    self.at = At::Number(next);
                    Ok(())
                }
                None if number.is_whole() => {
                    self.end_value();
                    match self.known {
                        Some(_) => Ok(()),
                        None => self.step_between(byte),
                    }
                }
                None => Err(Fault::NotJson),
            },
            _ => self.step_between(byte),
        }
    }

    fn step_in_text(&mut self, byte: u8) -> Result<(), Fault> {
        self.keep(&[byte]);
        self.at = match (self.at, byte) {
            (At::Text, b'"') => {
                self.end_text();
                return Ok(());
            }
            (At::Text, b'\\') => At::Escape,
            (At::Escape, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => At::Text,
            (At::Escape, b'u') => At::Hex(4),
            (At::Hex(1), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => At::Text,
            (At::Hex(left), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                At::Hex(left.saturating_sub(1))
            }
            _ => return Err(Fault::NotJson),
        };
        Ok(())
    }

    fn step_between(&mut self, byte: u8) -> Result<(), Fault> {
        let in_object = self.depth > 0 && self.objects & 1 == 1;
        let in_array = self.depth > 0 && !in_object;
        match (self.at, byte) {
            (_, b' ' | b'\t' | b'\n' | b'\r') => Ok(()),
            (At::ValueOrEnd | At::CommaOrEnd, b']') if in_array => self.close(),
            (At::NameOrEnd | At::CommaOrEnd, b'}') if in_object => self.close(),
            (At::CommaOrEnd, b',') => {
                self.at = if in_object { At::Name } else { At::Value };
                Ok(())
            }
            (At::Name | At::NameOrEnd, b'"') => {
                self.is_name = true;
                let role = match self.depth {
                    1 => Role::FieldName,
                    _ => Role::Other,
                };
                self.begin(role, byte, At::Text);
                Ok(())
            }
            (At::Colon, b':') => {
                self.at = At::Value;
                Ok(())
            }
            (At::Value | At::ValueOrEnd, _) => self.begin_value(byte, in_array),
            _ => Err(Fault::NotJson),
        }
    }

    fn begin_value(&mut self, byte: u8, in_array: bool) -> Result<(), Fault> {
        let at = match byte {
            b'{' | b'[' => return self.open(byte == b'{', in_array),
            b'"' => At::Text,
            b'-' => At::Number(Number::Minus),
            b'0' => At::Number(Number::Zero),
            b'1'..=b'9' => At::Number(Number::Digits),
            b't' => At::Word(b"rue"),
            b'f' => At::Word(b"alse"),
            b'n' => At::Word(b"ull"),
            _ => return Err(Fault::NotJson),
        };
        if self.depth == 0 {
            return Err(Fault::NoRequest);
        }
        self.count_element(in_array)?;
        self.is_name = false;
        self.begin(self.role, byte, at);
        Ok(())
    }

    fn open(&mut self, object: bool, in_array: bool) -> Result<(), Fault> {
        self.count_element(in_array)?;
        if self.depth >= DEPTH_MAX {
            return Err(Fault::TooDeep);
        }
        self.depth = self.depth.saturating_add(1);
        self.objects = (self.objects << 1) | u128::from(object);
        self.at = if object {
            At::NameOrEnd
        } else {
            At::ValueOrEnd
        };
        // A container is no method and no id.
        self.note(None);
        Ok(())
    }

    fn count_element(&mut self, in_array: bool) -> Result<(), Fault> {
        if self.depth == 1 && in_array {
            self.elements = self.elements.saturating_add(1);
            if self.elements > self.batch_max {
                return Err(Fault::BatchTooLong);
            }
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), Fault> {
        let was_object = self.objects & 1 == 1;
        self.depth = self.depth.saturating_sub(1);
        self.objects >>= 1;
        self.at = At::CommaOrEnd;
        match (self.depth, was_object, self.elements) {
            (0, true, _) => self.close_single(),
            (0, false, 0) => return Err(Fault::EmptyBatch),
            (0, false, elements) => self.known = Some(Asked::Batch(elements)),
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, role: Role, byte: u8, at: At) {
        self.role = role;
        self.at = at;
        self.text.clear();
        self.keep(&[byte]);
    }

    /// Keeps a text that has a role; one byte more than is looked at, so that it is seen to be too long.
    fn keep(&mut self, bytes: &[u8]) {
        if self.role != Role::Other {
            let room = TEXT_MAX.saturating_add(1).saturating_sub(self.text.len());
            let kept = bytes.get(..room).unwrap_or(bytes);
            self.text.extend_from_slice(kept);
        }
    }

    fn end_text(&mut self) {
        if !self.is_name {
            return self.end_value();
        }
        self.at = At::Colon;
        self.role = match self.role {
            Role::FieldName => role_of(&self.text),
            _ => Role::Other,
        };
        // The first of several counts.
        let is_known = match self.role {
            Role::Method => self.method.is_some(),
            _ => self.id.is_some() || !self.wants_id,
        };
        if is_known {
            self.role = Role::Other;
        }
    }

    fn end_value(&mut self) {
        self.at = At::CommaOrEnd;
        if self.role != Role::Other {
            let value = match self.role {
                Role::Method => unescaped(&self.text),
                _ => id_of(&self.text),
            };
            self.note(value);
        }
    }

    /// Takes in a value of the role that it has, which ends with it.
    fn note(&mut self, value: Option<String>) {
        match std::mem::replace(&mut self.role, Role::Other) {
            Role::Method => self.method = Some(value),
            Role::Id => self.id = Some(value),
            Role::Other | Role::FieldName => return,
        }
        if self.method.is_some() && (self.id.is_some() || !self.wants_id) {
            self.close_single();
        }
    }

    fn close_single(&mut self) {
        self.known = Some(Asked::Single {
            method: self.method.take().flatten(),
            id: self.id.take().flatten(),
        });
    }
}

/// What the value is that has this name, which stands there with its quotes. Hardly any has an escape.
fn role_of(name: &[u8]) -> Role {
    match name {
        br#""method""# => Role::Method,
        br#""id""# => Role::Id,
        _ if name.contains(&b'\\') => match unescaped(name).as_deref() {
            Some("method") => Role::Method,
            Some("id") => Role::Id,
            _ => Role::Other,
        },
        _ => Role::Other,
    }
}

/// Whether none of eight bytes of a text is a quote, a backslash or below a blank.
fn is_plain(bytes: [u8; 8]) -> bool {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const HIGHEST: u64 = EACH << 7;
    let bytes = u64::from_le_bytes(bytes);
    let each = |byte: u8| EACH.wrapping_mul(byte.into());
    // A byte's highest bit comes from below alone where it is less; what it hands on to the next byte
    // matters no more then.
    let less = |bytes: u64, than: u8| bytes.wrapping_sub(each(than)) & !bytes;
    let is = |byte: u8| less(bytes ^ each(byte), 1);
    (less(bytes, b' ') | is(b'"') | is(b'\\')) & HIGHEST == 0
}

/// What a text says that stands there with its quotes; `None` for what is none, and for one too long.
fn unescaped(text: &[u8]) -> Option<String> {
    match text.len() {
        0..=TEXT_MAX => serde_json::from_slice(text).ok(),
        _ => None,
    }
}

/// An id as it stands there. It is sent back, so it must be one, and be text.
fn id_of(text: &[u8]) -> Option<String> {
    let is_id = match text.first()? {
        b'"' => unescaped(text).is_some(),
        b'-' | b'0'..=b'9' | b'n' => text.len() <= TEXT_MAX,
        _ => false,
    };
    let id = std::str::from_utf8(text).ok().filter(|_| is_id);
    id.map(str::to_owned)
}
