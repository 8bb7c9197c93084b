//! Values of type jsonb, put together from parts that are jsonb already.
//!
//! Pure. Owns the layout, which is Postgres's on-disk format (`utils/jsonb.h`): a container is a word
//! with its kind and count, a word for each key and value with its type and length, then their
//! bytes. What a source returned is copied as it is, which building the document in SQL would take
//! apart and put together once more.

use crate::error::{Error, Kind, Result};

const OBJECT: u32 = 0x2000_0000;
const ARRAY: u32 = 0x4000_0000;
const TYPE_NULL: u32 = 0x4000_0000;
const TYPE_STRING: u32 = 0;
const TYPE_CONTAINER: u32 = 0x5000_0000;
const HAS_OFFSET: u32 = 0x8000_0000;
/// Largest length or offset that an entry can hold.
const MAX_LENGTH: usize = 0x0FFF_FFFF;
/// Every so many entries hold an offset instead of a length.
const STRIDE: usize = 32;
/// Bytes of the length that a value in memory starts with.
const HEADER: usize = 4;

/// A part of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Json {
    Null,
    Text(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
    /// The container of an object or an array of Postgres's making.
    Container(Vec<u8>),
}

/// A value of type jsonb in memory, aligned for any type.
#[derive(Debug, PartialEq, Eq)]
pub struct Value {
    words: Box<[u64]>,
    length: usize,
}

impl Value {
    /// Its bytes, the length in front.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `words` holds at least `length` initialised bytes.
        unsafe { core::slice::from_raw_parts(self.words.as_ptr().cast(), self.length) }
    }
}

impl Json {
    /// The whole value. `self` must be an object or an array.
    pub fn into_value(self) -> Result<Value> {
        // Alignment counts from the length, which comes first.
        let mut bytes = vec![0; HEADER];
        self.write(&mut bytes)?;
        let length = bytes.len();
        let words = bytes
            .chunks(8)
            .map(|chunk| {
                let mut word = [0; 8];
                word[..chunk.len()].copy_from_slice(chunk);
                u64::from_ne_bytes(word)
            })
            .collect();
        Ok(Value { words, length })
    }

    /// Appends the value; returns its type and length.
    fn write(self, bytes: &mut Vec<u8>) -> Result<(u32, usize)> {
        let start = bytes.len();
        let kind = match self {
            Json::Null => TYPE_NULL,
            Json::Text(text) => {
                bytes.extend_from_slice(text.as_bytes());
                TYPE_STRING
            }
            Json::Container(container) => {
                align(bytes);
                bytes.extend_from_slice(&container);
                TYPE_CONTAINER
            }
            Json::Array(elements) => {
                align(bytes);
                let mut entries = Entries::begin(bytes, ARRAY, elements.len(), elements.len());
                for element in elements {
                    entries.add(bytes, element)?;
                }
                TYPE_CONTAINER
            }
            Json::Object(mut pairs) => {
                align(bytes);
                // Postgres looks keys up by length first.
                pairs.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
                pairs.dedup_by(|(a, _), (b, _)| a == b);
                let mut entries = Entries::begin(bytes, OBJECT, pairs.len(), pairs.len() * 2);
                let (keys, values): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
                for key in keys {
                    entries.add(bytes, Json::Text(key))?;
                }
                for value in values {
                    entries.add(bytes, value)?;
                }
                TYPE_CONTAINER
            }
        };
        Ok((kind, bytes.len() - start))
    }
}

/// The entries of a container that is being written.
struct Entries {
    position: usize,
    index: usize,
    total: usize,
}

impl Entries {
    fn begin(bytes: &mut Vec<u8>, kind: u32, count: usize, entries: usize) -> Self {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&(kind | count).to_ne_bytes());
        let position = bytes.len();
        bytes.resize(position + entries * 4, 0);
        Self {
            position,
            index: 0,
            total: 0,
        }
    }

    fn add(&mut self, bytes: &mut Vec<u8>, value: Json) -> Result<()> {
        let (kind, length) = value.write(bytes)?;
        self.total += length;
        if self.total > MAX_LENGTH {
            return Err(Error::new(
                Kind::ProgramLimitExceeded,
                "the tenant context document is too large",
            )
            .hint("Register fewer rows or columns."));
        }
        let entry = if self.index.is_multiple_of(STRIDE) {
            kind | self.total as u32 | HAS_OFFSET
        } else {
            kind | length as u32
        };
        let at = self.position + self.index * 4;
        bytes[at..at + 4].copy_from_slice(&entry.to_ne_bytes());
        self.index += 1;
        Ok(())
    }
}

fn align(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(value: &Value) -> Vec<u32> {
        let chunks = value.bytes()[HEADER..].chunks_exact(4);
        chunks
            .map(|word| u32::from_ne_bytes(word.try_into().unwrap()))
            .collect()
    }

    #[test]
    fn an_object_is_laid_out_as_postgres_does() {
        let object = Json::Object(vec![
            ("bb".into(), Json::Text("x".into())),
            ("c".into(), Json::Array(vec![Json::Null])),
        ]);
        let value = object.into_value().unwrap();
        let expected = [
            OBJECT | 2,
            // "c": the first entry holds an offset; "bb"; the array with the byte that aligns it; "x".
            HAS_OFFSET | 1,
            2,
            TYPE_CONTAINER | 9,
            1,
            u32::from_ne_bytes([b'c', b'b', b'b', 0]),
            ARRAY | 1,
            HAS_OFFSET | TYPE_NULL,
        ];
        assert_eq!(words(&value), expected);
        assert_eq!(value.bytes()[HEADER + 32..], *b"x");
    }

    #[test]
    fn every_thirty_second_entry_holds_an_offset() {
        let array = Json::Array(vec![Json::Text("ab".into()); 40]);
        let value = array.into_value().unwrap();
        let entries = words(&value);
        assert_eq!(entries[1], HAS_OFFSET | 2);
        assert_eq!(entries[2], 2);
        assert_eq!(entries[33], HAS_OFFSET | 66);
    }

    #[test]
    fn a_container_is_copied() {
        let inner = Json::Array(vec![Json::Text("a".into())]);
        let copied = inner.clone().into_value().unwrap().bytes()[HEADER..].to_vec();
        let around = |inner| {
            Json::Object(vec![("k".into(), inner)])
                .into_value()
                .unwrap()
        };
        assert_eq!(around(Json::Container(copied)), around(inner));
    }
}
