//! The member that is set of a `oneof`, as one of the fields of the message: the field that holds it is flattened.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, EnumAccess, Error as _, MapAccess, VariantAccess, Visitor,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, forward_to_deserialize_any};

pub(crate) fn serialize<E: Serialize, S: Serializer>(
    member: &Option<E>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    member.serialize(serializer)
}

/// Reads the only field with the name of a variant. serde alone would read a member with a mistake as none.
pub(crate) fn deserialize<'de, E: DeserializeOwned, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<E>, D::Error> {
    struct Fields<E>(PhantomData<E>);
    impl<'de, E: DeserializeOwned> Visitor<'de> for Fields<E> {
        type Value = Option<E>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("fields")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Option<E>, A::Error> {
            let mut found = None;
            while let Some(name) = fields.next_key::<String>()? {
                let Some(member) = fields.next_value_seed(Member(&name, PhantomData))? else { continue };
                if found.replace(member).is_some() {
                    let reason = format_args!("\"{name}\" beside a field that excludes it");
                    return Err(A::Error::custom(reason));
                }
            }
            Ok(found)
        }
    }
    deserializer.deserialize_map(Fields(PhantomData))
}

/// Reads the value of the field with this name; `None` where no variant has the name.
struct Member<'a, E>(&'a str, PhantomData<E>);

impl<'de, E: Deserialize<'de>> DeserializeSeed<'de> for Member<'_, E> {
    type Value = Option<E>;

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<Option<E>, D::Error> {
        let mut is_member = true;
        match E::deserialize(Variant { name: self.0, value, is_member: &mut is_member }) {
            Err(_) if !is_member => Ok(None),
            member => member.map(Some),
        }
    }
}

struct Variant<'a, D> {
    name: &'a str,
    value: D,
    is_member: &'a mut bool,
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Variant<'_, D> {
    type Error = D::Error;

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _enum: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        *self.is_member = names.contains(&self.name);
        visitor.visit_enum(self)
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        visitor.visit_enum(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

impl<'de, D: Deserializer<'de>> EnumAccess<'de> for Variant<'_, D> {
    type Error = D::Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), D::Error> {
        Ok((seed.deserialize(StrDeserializer::new(self.name))?, self))
    }
}

/// Every member is one value.
impl<'de, D: Deserializer<'de>> VariantAccess<'de> for Variant<'_, D> {
    type Error = D::Error;

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, D::Error> {
        seed.deserialize(self.value)
    }

    fn unit_variant(self) -> Result<(), D::Error> {
        Err(D::Error::custom("a member without a value"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, D::Error> {
        self.value.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.value.deserialize_any(visitor)
    }
}
