//! The JSON of etcd's HTTP gateway: what etcd 3.4 and later read and write under `/v3/`.
//!
//! | field | written | read also |
//! |---|---|---|
//! | 64-bit integer | string | number |
//! | bytes | base64 of RFC 4648 | its URL-safe alphabet, without padding, with line breaks |
//! | enumeration | name | number |
//! | default value | left out | `null` |
//! | name of a field | as in the `.proto` file | in camelCase |
//!
//! The member that is set of a `oneof` is a field of the message. Unknown fields are ignored. An empty body is a message
//! without fields, and what follows the first message of a body that should hold one is ignored, as in etcd.
//!
//! etcd's gateways differ where clients make mistakes. Here a field that occurs twice, a second member of a `oneof` and an
//! unknown name in an enumeration are errors, each as in one of them.
//!
//! Of a stream every message is a line: `{"result":…}`, or `{"error":…}` as the last one.

mod fields;
pub(super) mod oneof;
#[cfg(test)]
mod tests;

pub(super) use fields::{EnumName, EnumNames, byte_string, byte_strings, int, is_default, nullable};

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// A request that is not JSON, or not of its message.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct JsonError(#[from] serde_json::Error);

/// The message of a body.
pub(crate) fn read<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, JsonError> {
    read_all(body).next().unwrap_or_else(|| Ok(T::default()))
}

/// The messages of a body, one after the other. Nothing follows an error.
pub(crate) fn read_all<T: DeserializeOwned>(body: &[u8]) -> impl Iterator<Item = Result<T, JsonError>> {
    let messages = serde_json::Deserializer::from_slice(body).into_iter::<Object<T>>();
    messages.map(|message| Ok(message?.0))
}

/// The body with this message.
pub(crate) fn write(message: &impl Serialize) -> Result<Vec<u8>, JsonError> {
    Ok(serde_json::to_vec(message)?)
}

/// The line with this message of a stream.
pub(crate) fn write_result(message: &impl Serialize) -> Result<Vec<u8>, JsonError> {
    #[derive(Serialize)]
    struct Line<'a, T> {
        result: &'a T,
    }
    write_line(&Line { result: message })
}

/// The body of an error with this code of gRPC. The sentence is in two fields: clients of etcd 3.6 read `message`, older
/// ones `error`.
pub(crate) fn write_error(code: i32, message: &str) -> Result<Vec<u8>, JsonError> {
    #[derive(Serialize)]
    struct Body<'a> {
        error: &'a str,
        message: &'a str,
        code: i32,
    }
    write(&Body { error: message, message, code })
}

/// The line with the error that ends a stream. The code is in two fields: clients of etcd 3.6 read `code`, older ones
/// `grpc_code`.
pub(crate) fn write_stream_error(code: i32, message: &str) -> Result<Vec<u8>, JsonError> {
    #[derive(Serialize)]
    struct Line<'a> {
        error: Body<'a>,
    }
    #[derive(Serialize)]
    struct Body<'a> {
        grpc_code: i32,
        code: i32,
        message: &'a str,
    }
    write_line(&Line { error: Body { grpc_code: code, code, message } })
}

fn write_line(line: &impl Serialize) -> Result<Vec<u8>, JsonError> {
    let mut line = write(line)?;
    line.push(b'\n');
    Ok(line)
}

/// A message that is an object. serde reads a struct from an array too, which is still so within a message.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields))
            }
        }
        deserializer.deserialize_map(Fields(PhantomData)).map(Self)
    }
}
