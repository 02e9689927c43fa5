//! How to call an ingress: a command with a value that its type accepts, made up from the type's shape.

use serde_json::{Map, Value, json};

use super::parts::Part;
use super::route::percent_encode;
use super::server::Example;
use crate::io::ingress::Decoder;
use crate::module::description::MessageFormat;
use crate::module::model::{HttpIngress, PathSegment, RequestPart};
use crate::shape::Shape;

/// The id in examples.
const ID: &str = "some-id";

/// What types that nothing is known of may be written as, and what their names hint at.
fn opaque_values() -> Vec<(&'static str, Value)> {
    vec![
        ("uuid", json!("00000000-0000-4000-8000-000000000000")),
        ("naivedatetime", json!("2025-01-01T12:00:00")),
        ("datetime", json!("2025-01-01T12:00:00Z")),
        ("zoned", json!("2025-01-01T12:00:00Z")),
        ("timestamp", json!("2025-01-01T12:00:00Z")),
        ("date", json!("2025-01-01")),
        ("time", json!("12:00:00")),
        ("ipaddr", json!("127.0.0.1")),
        ("ipv4addr", json!("127.0.0.1")),
        ("ipv6addr", json!("::1")),
        ("socketaddr", json!("127.0.0.1:8080")),
        ("url", json!("http://example.com/")),
        ("decimal", json!("1.0")),
        ("text", json!("text")),
        ("number", json!(1)),
        ("map", json!({})),
        ("set", json!([])),
        ("bool", json!(false)),
        ("nothing", Value::Null),
    ]
}

/// A command that sends a message to the ingress of that spec.
pub(super) fn of(spec: &HttpIngress, decoder: Decoder) -> Example {
    let spec = spec.clone();
    Example::new(move |base| command(base, &spec, &decoder))
}

fn command(base: &str, spec: &HttpIngress, decoder: &Decoder) -> Option<String> {
    let typename = spec.value_types().first()?.as_str();
    let mut url = base.to_owned();
    for segment in spec.path_template().segments() {
        url.push('/');
        url += &match segment {
            PathSegment::Literal(text) => text,
            PathSegment::Id => ID.to_owned(),
            PathSegment::Type => percent_encode(typename),
        };
    }
    if url == base {
        url.push('/');
    }
    let mut command = format!("curl -X POST {url}");
    if spec.tls.is_some() {
        // The certificate is that of the name that clients use, and this is the machine itself.
        command += " --insecure";
    }
    if spec.auth.is_some() {
        command += " -H \"Authorization: Bearer $TOKEN\"";
    }
    let mut pointers = Vec::new();
    let named = [
        (spec.id_source(), ID, PathSegment::Id),
        (spec.type_source(), typename, PathSegment::Type),
    ];
    for (part, text, placeholder) in named {
        match part {
            Some(RequestPart::Header(name)) => {
                command = format!("{command} -H {}", quoted(&format!("{name}: {text}")));
            }
            Some(RequestPart::Pointer(pointer)) => {
                let must_be = (placeholder == PathSegment::Type).then_some(typename);
                pointers.push((pointer, must_be, text));
            }
            Some(RequestPart::Path) | None => {}
        }
    }
    let finish = |mut value: Value| {
        for (pointer, must_be, text) in &pointers {
            let found = place(&mut value, &pointer.steps().collect::<Vec<_>>())?;
            if let Some(must_be) = must_be {
                *found = json!(must_be);
            } else if Part::Pointer(pointer.clone())
                .read(&[], &http::HeaderMap::new(), Some(&value))
                .is_err()
            {
                *place(&mut value, &pointer.steps().collect::<Vec<_>>())? = json!(text);
            }
        }
        Some(value)
    };
    match body(typename, decoder, !pointers.is_empty(), finish)? {
        Body::Json(text) => Some(format!(
            "{command} -H 'Content-Type: application/json' -d {}",
            quoted(&text)
        )),
        Body::Bytes(bytes) if bytes.is_empty() => Some(format!("{command} --data-binary ''")),
        Body::Bytes(bytes) => Some(format!(
            "printf '{}' | {command} --data-binary @-",
            octal(&bytes)
        )),
    }
}

enum Body {
    Json(String),
    Bytes(Vec<u8>),
}

fn body(
    typename: &str,
    decoder: &Decoder,
    has_pointers: bool,
    finish: impl Fn(Value) -> Option<Value>,
) -> Option<Body> {
    let Some(definition) = decoder.definition(typename) else {
        // Whatever it is: the application takes it as it comes.
        return Some(Body::Json(finish(json!({}))?.to_string()));
    };
    if definition.format == MessageFormat::Protobuf {
        // A message without fields is one of every Protobuf type: all have their defaults.
        let bytes = if typename == "io.statefun.types/string" {
            b"\x0a\x04text".to_vec()
        } else {
            Vec::new()
        };
        let decodes = !has_pointers && decoder.decode(typename, bytes.clone().into()).is_ok();
        return decodes.then_some(Body::Bytes(bytes));
    }
    let shape = (definition.shape)();
    let values = || opaque_values().into_iter().map(|(_, value)| value);
    let hinted = values().map(|value| Opaque { value, hints: true });
    let plain = values().map(|value| Opaque {
        value,
        hints: false,
    });
    hinted.chain(plain).find_map(|opaque| {
        let value = finish(skeleton(&shape, &opaque, 0)?)?;
        let body = match definition.format {
            MessageFormat::Msgpack => Body::Bytes(rmp_serde::to_vec_named(&value).ok()?),
            _ => Body::Json(value.to_string()),
        };
        let bytes = match &body {
            Body::Json(text) => text.clone().into_bytes(),
            Body::Bytes(bytes) => bytes.clone(),
        };
        decoder
            .decode(typename, bytes.into())
            .is_ok()
            .then_some(body)
    })
}

/// What to write for types that nothing is known of.
struct Opaque {
    value: Value,
    /// Whether a type's name may tell better.
    hints: bool,
}

/// A value of a shape; none when every such value is infinite.
fn skeleton(shape: &Shape, opaque: &Opaque, depth: usize) -> Option<Value> {
    if depth > 32 {
        return None;
    }
    let inner = |shape: &Shape| skeleton(shape, opaque, depth + 1);
    Some(match shape {
        Shape::Unit => Value::Null,
        Shape::Bool => json!(false),
        Shape::Int(_) | Shape::Uint(_) => json!(1),
        Shape::Float(_) => json!(1.0),
        Shape::Char => json!("a"),
        Shape::String => json!("text"),
        Shape::Bytes => json!([]),
        Shape::Option(shape) => inner(shape).unwrap_or_default(),
        Shape::Seq(shape) => inner(shape).map_or_else(|| json!([]), |one| json!([one])),
        Shape::Map(key, value) => match (inner(key), inner(value)) {
            (Some(Value::String(key)), Some(value)) => json!({ key: value }),
            (Some(key @ (Value::Number(_) | Value::Bool(_))), Some(value)) => {
                json!({ key.to_string(): value })
            }
            _ => json!({}),
        },
        Shape::Tuple(shapes) => Value::Array(shapes.iter().map(inner).collect::<Option<_>>()?),
        Shape::Struct { fields, .. } => {
            let mut object = Map::new();
            for field in fields {
                match inner(&field.shape) {
                    Some(value) => drop(object.insert(field.name.clone(), value)),
                    None if field.optional => {}
                    None => return None,
                }
            }
            Value::Object(object)
        }
        Shape::Enum { variants, .. } => {
            variants.iter().find_map(|variant| match &variant.shape {
                Shape::Unit => Some(json!(variant.name)),
                shape => inner(shape).map(|value| json!({ variant.name.as_str(): value })),
            })?
        }
        Shape::Recursive(_) => return None,
        Shape::Opaque(name) => {
            let name = name.rsplit("::").next().unwrap_or(name).to_lowercase();
            let hinted = opaque_values()
                .into_iter()
                .find(|(hint, _)| opaque.hints && name.contains(hint));
            hinted.map_or_else(|| opaque.value.clone(), |(_, value)| value)
        }
    })
}

/// The place of those steps, made where it is missing.
fn place<'a>(value: &'a mut Value, steps: &[String]) -> Option<&'a mut Value> {
    let Some((first, rest)) = steps.split_first() else {
        return Some(value);
    };
    let next = match value {
        Value::Object(object) => object.entry(first.as_str()).or_insert_with(|| json!({})),
        Value::Array(array) => array.get_mut(first.parse::<usize>().ok()?)?,
        _ => return None,
    };
    place(next, rest)
}

/// As one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// As `printf` of every shell reads it.
fn octal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |out, byte| match byte {
        plain if plain.is_ascii_alphanumeric() => out + &char::from(*plain).to_string(),
        other => out + &format!("\\{other:03o}"),
    })
}
