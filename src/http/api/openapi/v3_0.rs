//! An OpenAPI 3.1 document as 3.0.3.
//!
//! What 3.0 cannot express is left out: a schema then admits more than the daemon does, and its description says the rest.

use serde_json::{Map, Value, json};

/// The keywords of JSON Schema that 3.0 does not have and for which it has nothing else.
const UNKNOWN: [&str; 4] = ["if", "then", "else", "dependentSchemas"];

pub(super) fn converted(mut document: Value) -> Value {
    document["openapi"] = "3.0.3".into();
    remove(&mut document["info"], "summary");
    document["info"]["license"] =
        json!({ "name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0" });
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        schemas.values_mut().for_each(convert_schema);
    }
    for part in ["paths", "components"] {
        convert_schemas_below(&mut document[part]);
    }
    document
}

fn remove(object: &mut Value, member: &str) {
    object.as_object_mut().and_then(|members| members.remove(member));
}

/// Converts the schemas of parameters, headers and media types, wherever they are.
fn convert_schemas_below(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match name.as_str() {
                    "schema" => convert_schema(member),
                    // Converted already.
                    "schemas" => {}
                    _ => convert_schemas_below(member),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(convert_schemas_below),
        _ => {}
    }
}

fn convert_schema(schema: &mut Value) {
    let Value::Object(members) = schema else { return };
    UNKNOWN.iter().for_each(|keyword| _ = members.remove(*keyword));
    if members.len() > 1
        && let Some(reference) = members.remove("$ref")
    {
        members.insert("allOf".to_owned(), json!([{ "$ref": reference }]));
    }
    if let Some(constant) = members.remove("const") {
        members.insert("enum".to_owned(), json!([constant]));
    }
    if let Some(first) = members.remove("examples").as_ref().and_then(|examples| examples.get(0)) {
        members.insert("example".to_owned(), first.clone());
    }
    if members.remove("contentEncoding").is_some() {
        members.insert("format".to_owned(), "byte".into());
    }
    convert_type(members);
    for (keyword, member) in members {
        match (keyword.as_str(), member) {
            ("properties", Value::Object(properties)) => properties.values_mut().for_each(convert_schema),
            ("allOf" | "anyOf" | "oneOf", Value::Array(schemas)) => {
                schemas.iter_mut().for_each(convert_schema)
            }
            ("items" | "not" | "additionalProperties", schema) => convert_schema(schema),
            _ => {}
        }
    }
}

/// A list of a type and `null` becomes the type, which is then `nullable`.
fn convert_type(schema: &mut Map<String, Value>) {
    let Some(Value::Array(types)) = schema.get("type") else { return };
    let (nulls, types): (Vec<_>, Vec<_>) = types.iter().cloned().partition(|one| one == "null");
    if let ([_], [one]) = (&*nulls, &*types) {
        schema.insert("type".to_owned(), one.clone());
        schema.insert("nullable".to_owned(), true.into());
    }
}
