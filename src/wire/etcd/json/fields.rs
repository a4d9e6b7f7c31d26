//! How fields are in JSON whose types serde would write otherwise: integers of 64 bits, bytes, enumerations.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::display::Base64Display;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose};
use bytes::Bytes;
use serde::de::{DeserializeOwned, Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Whether the value is left out.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Reads `null` as the default value.
pub(crate) fn nullable<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Integers of 64 bits.
pub(crate) mod int {
    use std::fmt::Display;
    use std::str::FromStr;

    use super::*;

    pub(crate) fn serialize<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(crate) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: Default + FromStr + TryFrom<i64> + TryFrom<u64>,
        D: Deserializer<'de>,
    {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "an integer, or a string of one")]
        enum Written<'a> {
            Signed(i64),
            Unsigned(u64),
            #[serde(borrow)]
            Text(Cow<'a, str>),
        }
        let out_of_range = || D::Error::custom("an integer that is too large, or is negative");
        match Option::<Written<'_>>::deserialize(deserializer)? {
            None => Ok(T::default()),
            Some(Written::Signed(value)) => T::try_from(value).map_err(|_| out_of_range()),
            Some(Written::Unsigned(value)) => T::try_from(value).map_err(|_| out_of_range()),
            Some(Written::Text(text)) => text
                .parse()
                .map_err(|_| D::Error::custom(format_args!("\"{text}\" is not an integer of 64 bits"))),
        }
    }
}

/// Bytes in base64.
pub(crate) mod byte_string {
    use super::*;

    const LENIENT: GeneralPurposeConfig = general_purpose::PAD
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    const OF_STANDARD: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
    const OF_URL_SAFE: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, LENIENT);

    pub(crate) fn serialize<S: Serializer>(value: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Base64Display::new(value, &general_purpose::STANDARD))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let Base64(bytes) = nullable(deserializer)?;
        Ok(bytes)
    }

    /// Bytes, as a value of their own.
    #[derive(Default)]
    pub(super) struct Base64(pub(super) Bytes);

    impl<'de> Deserialize<'de> for Base64 {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Text;
            impl Visitor<'_> for Text {
                type Value = Base64;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("base64")
                }

                fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Base64, E> {
                    let is_break = |c| c == '\r' || c == '\n';
                    let text: Cow<'_, str> =
                        if text.contains(is_break) { text.replace(is_break, "").into() } else { text.into() };
                    let engine = if text.contains(['-', '_']) { OF_URL_SAFE } else { OF_STANDARD };
                    match engine.decode(text.as_bytes()) {
                        Ok(bytes) => Ok(Base64(bytes.into())),
                        Err(error) => Err(E::custom(format_args!("not base64: {error}"))),
                    }
                }
            }
            deserializer.deserialize_str(Text)
        }
    }

    impl Serialize for Base64 {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serialize(&self.0, serializer)
        }
    }
}

/// A list of bytes in base64.
pub(crate) mod byte_strings {
    use super::byte_string::Base64;
    use super::*;

    pub(crate) fn serialize<S: Serializer>(values: &[Bytes], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(|value| Base64(value.clone())))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Bytes>, D::Error> {
        let values: Vec<Base64> = nullable(deserializer)?;
        Ok(values.into_iter().map(|Base64(value)| value).collect())
    }
}

/// A value of an enumeration, which is a number in the message. One that has no name stays a number.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "expected the name or the number of a value that is known")]
pub(crate) enum EnumName<E> {
    Number(i32),
    Name(E),
}

impl<E: TryFrom<i32> + Into<i32> + Serialize + DeserializeOwned> EnumName<E> {
    pub(crate) fn serialize<S: Serializer>(number: &i32, serializer: S) -> Result<S::Ok, S::Error> {
        Self::of(*number).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
        Ok(Option::<Self>::deserialize(deserializer)?.map_or(0, Self::number))
    }

    fn of(number: i32) -> Self {
        E::try_from(number).map_or(Self::Number(number), Self::Name)
    }

    fn number(self) -> i32 {
        match self {
            Self::Number(number) => number,
            Self::Name(value) => value.into(),
        }
    }
}

/// A list of values of an enumeration.
pub(crate) struct EnumNames<E>(PhantomData<E>);

impl<E: TryFrom<i32> + Into<i32> + Serialize + DeserializeOwned> EnumNames<E> {
    pub(crate) fn serialize<S: Serializer>(numbers: &[i32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(numbers.iter().map(|number| EnumName::<E>::of(*number)))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<i32>, D::Error> {
        let values: Vec<EnumName<E>> = nullable(deserializer)?;
        Ok(values.into_iter().map(EnumName::number).collect())
    }
}
