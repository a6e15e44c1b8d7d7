//! The OpenAPI document, made of the [table](super::routes) and of the types that handlers take and give. OpenAPI 3.1, whose schemas are those of JSON Schema
//! 2020-12.

use super::routes::{Operation, PREFIX};
use headgate_admin::Role;
use schemars::JsonSchema;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// What one entry takes and gives.
pub(super) struct Shape {
    /// Name, schema, whether it must be there.
    pub(super) query: Vec<(String, Value, bool)>,
    /// Content type and schema.
    pub(super) body: Option<(&'static str, Value)>,
    pub(super) answer: (&'static str, Value),
}

/// The schemas that entries share.
pub(super) struct Schemas {
    given: SchemaGenerator,
    taken: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.meta_schema = None;
            settings.definitions_path = "/components/schemas".into();
        });
        let taken = settings
            .clone()
            .with(|settings| settings.inline_subschemas = true);
        Self {
            given: settings.for_serialize().into_generator(),
            taken: taken.for_deserialize().into_generator(),
        }
    }

    pub(super) fn given<T: JsonSchema>(&mut self) -> Value {
        self.given.subschema_for::<T>().to_value()
    }

    pub(super) fn taken<T: JsonSchema>(&mut self) -> Value {
        self.taken.subschema_for::<T>().to_value()
    }

    /// Each by itself: what a query has.
    pub(super) fn fields_of<T: JsonSchema>(&mut self) -> Vec<(String, Value, bool)> {
        let schema = self.taken::<T>();
        let is_required = |name: &str| {
            let required = schema["required"].as_array();
            required.is_some_and(|required| required.iter().any(|known| known == name))
        };
        let fields = schema["properties"].as_object().into_iter().flatten();
        fields
            .map(|(name, field)| (name.clone(), field.clone(), is_required(name)))
            .collect()
    }
}

/// The document.
pub(super) fn document(operations: &[Operation]) -> Value {
    let mut schemas = Schemas::new();
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations {
        let described = describe(operation, &mut schemas);
        let path = paths.entry(format!("{PREFIX}{}", operation.path));
        let path = path.or_insert_with(|| json!({}));
        path[operation.method.as_str().to_ascii_lowercase()] = described;
    }
    let definitions = schemas.given.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Headgate",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What a running gateway can be asked. Roles: each may do what the ones before it may: viewer, operator, administrator.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "security": [{ "session": [] }, { "key": [] }],
        "paths": paths,
        "components": {
            "schemas": definitions,
            "securitySchemes": {
                "session": { "type": "apiKey", "in": "cookie", "name": super::guard::COOKIE },
                "key": { "type": "http", "scheme": "basic", "description": "The id of an API key as the name, its secret as the password." },
            },
        },
    })
}

fn describe(operation: &Operation, schemas: &mut Schemas) -> Value {
    let mut shape = Shape {
        query: Vec::new(),
        body: None,
        answer: ("application/json", json!({})),
    };
    (operation.describe)(&mut shape, schemas);
    let in_path = operation
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let in_path = in_path
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }));
    let in_query = shape.query.iter().map(|(name, schema, required)| {
        json!({ "name": name, "in": "query", "required": required, "schema": schema })
    });
    let (kind, answer) = shape.answer;
    let mut described = json!({
        "summary": operation.summary,
        "operationId": operation_id(operation),
        "parameters": in_path.chain(in_query).collect::<Vec<_>>(),
        "responses": {
            "200": { "description": "Done.", "content": { kind: { "schema": answer } } },
            "default": { "description": "Not done.", "content": { "application/json": { "schema": error() } } },
        },
    });
    match operation.role {
        Some(role) => described["x-role"] = Role::name(role).into(),
        None => described["security"] = json!([]),
    }
    if let Some((kind, body)) = shape.body {
        described["requestBody"] = json!({ "required": true, "content": { kind: { "schema": body } } });
    }
    described
}

fn error() -> Value {
    json!({ "type": "object", "properties": { "error": { "type": "string" } }, "required": ["error"] })
}

/// `get_clients_client_queue`: one of its kind.
fn operation_id(operation: &Operation) -> String {
    let words = operation.path.split(['/', '{', '}', '-']);
    let words = words.filter(|word| !word.is_empty());
    let method = operation.method.as_str().to_ascii_lowercase();
    std::iter::once(&*method)
        .chain(words)
        .collect::<Vec<_>>()
        .join("_")
}
