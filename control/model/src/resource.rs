//! One resource, typed, and its way from and to `apiVersion`, `kind`, `metadata`, `spec`, `status`.
//!
//! Reading is strict: a field that nobody knows, one that is known but not carried out, and a wrong type are errors
//! that name the field.

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::field::FieldError;
use crate::gateway::{GatewayClassSpec, GatewaySpec};
use crate::grant::ReferenceGrantSpec;
use crate::kind::{Key, Kind};
use crate::mesh::{NodeSpec, WorkloadSpec};
use crate::metadata::{DEFAULT_NAMESPACE, Metadata};
use crate::route::{GrpcRouteSpec, HttpRouteSpec, L4RouteSpec};
use crate::service::{NamespaceSpec, ServiceSpec};
use crate::status::Status;
use crate::unsupported;

#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    pub metadata: Metadata,
    pub spec: Spec,
    pub status: Status,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Spec {
    Namespace(NamespaceSpec),
    Node(NodeSpec),
    Workload(WorkloadSpec),
    Service(ServiceSpec),
    GatewayClass(GatewayClassSpec),
    Gateway(GatewaySpec),
    HttpRoute(HttpRouteSpec),
    GrpcRoute(GrpcRouteSpec),
    TcpRoute(L4RouteSpec),
    UdpRoute(L4RouteSpec),
    ReferenceGrant(ReferenceGrantSpec),
}

impl Spec {
    pub fn kind(&self) -> Kind {
        match self {
            Spec::Namespace(_) => Kind::Namespace,
            Spec::Node(_) => Kind::Node,
            Spec::Workload(_) => Kind::Workload,
            Spec::Service(_) => Kind::Service,
            Spec::GatewayClass(_) => Kind::GatewayClass,
            Spec::Gateway(_) => Kind::Gateway,
            Spec::HttpRoute(_) => Kind::HttpRoute,
            Spec::GrpcRoute(_) => Kind::GrpcRoute,
            Spec::TcpRoute(_) => Kind::TcpRoute,
            Spec::UdpRoute(_) => Kind::UdpRoute,
            Spec::ReferenceGrant(_) => Kind::ReferenceGrant,
        }
    }

    fn read(kind: Kind, value: Value) -> Result<Spec, FieldError> {
        Ok(match kind {
            Kind::Namespace => Spec::Namespace(typed("spec", value)?),
            Kind::Node => Spec::Node(typed("spec", value)?),
            Kind::Workload => Spec::Workload(typed("spec", value)?),
            Kind::Service => Spec::Service(typed("spec", value)?),
            Kind::GatewayClass => Spec::GatewayClass(typed("spec", value)?),
            Kind::Gateway => Spec::Gateway(typed("spec", value)?),
            Kind::HttpRoute => Spec::HttpRoute(typed("spec", value)?),
            Kind::GrpcRoute => Spec::GrpcRoute(typed("spec", value)?),
            Kind::TcpRoute => Spec::TcpRoute(typed("spec", value)?),
            Kind::UdpRoute => Spec::UdpRoute(typed("spec", value)?),
            Kind::ReferenceGrant => Spec::ReferenceGrant(typed("spec", value)?),
        })
    }

    fn to_value(&self) -> Result<Value, serde_json::Error> {
        match self {
            Spec::Namespace(spec) => serde_json::to_value(spec),
            Spec::Node(spec) => serde_json::to_value(spec),
            Spec::Workload(spec) => serde_json::to_value(spec),
            Spec::Service(spec) => serde_json::to_value(spec),
            Spec::GatewayClass(spec) => serde_json::to_value(spec),
            Spec::Gateway(spec) => serde_json::to_value(spec),
            Spec::HttpRoute(spec) => serde_json::to_value(spec),
            Spec::GrpcRoute(spec) => serde_json::to_value(spec),
            Spec::TcpRoute(spec) | Spec::UdpRoute(spec) => serde_json::to_value(spec),
            Spec::ReferenceGrant(spec) => serde_json::to_value(spec),
        }
    }
}

impl Resource {
    pub fn kind(&self) -> Kind {
        self.spec.kind()
    }

    pub fn key(&self) -> Key {
        Key::new(self.kind(), &self.metadata.namespace, &self.metadata.name)
    }

    /// Reads one document. All problems that can be told apart are returned; `status` is taken as it is if it can
    /// be read, since only the server writes it.
    pub fn from_value(value: Value) -> Result<Resource, Vec<FieldError>> {
        let Value::Object(mut document) = value else {
            let problem = format!(
                "expected an object with apiVersion, kind, metadata and spec, found {}",
                sort(&value)
            );
            return Err(vec![FieldError::new("", problem)]);
        };
        let kind = take_kind(&mut document).map_err(|error| vec![error])?;
        let metadata = document.remove("metadata").unwrap_or(Value::Null);
        let spec = document.remove("spec");
        let status = document.remove("status").unwrap_or_default();
        let mut errors: Vec<FieldError> = unsupported::fields(kind, &metadata, spec.as_ref());
        errors.extend(document.keys().map(|field| unknown_at_top(field)));
        if !errors.is_empty() {
            return Err(errors);
        }
        let metadata = read_metadata(kind, metadata);
        let spec = Spec::read(kind, spec.unwrap_or_else(|| Value::Object(Map::new())));
        match (metadata, spec) {
            (Ok(metadata), Ok(spec)) => {
                let status = serde_json::from_value(status).unwrap_or_default();
                Ok(Resource { metadata, spec, status })
            }
            (metadata, spec) => Err([metadata.err(), spec.err()].into_iter().flatten().collect()),
        }
    }
}

fn take_kind(document: &mut Map<String, Value>) -> Result<Kind, FieldError> {
    let api_version = take_text(document, "apiVersion", "gateway.networking.k8s.io/v1")?;
    let kind = take_text(document, "kind", "Gateway")?;
    Kind::from_document(&api_version, &kind).map_err(|problem| FieldError::new("", problem))
}

fn take_text(document: &mut Map<String, Value>, field: &str, example: &str) -> Result<String, FieldError> {
    match document.remove(field) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text),
        None => Err(FieldError::new(field, format!("is missing; expected text such as {example}"))),
        Some(_) => Err(FieldError::new(field, format!("expected text such as {example}"))),
    }
}

fn unknown_at_top(field: &str) -> FieldError {
    FieldError::new(field, "unknown field; a resource has apiVersion, kind, metadata, spec and status")
}

fn read_metadata(kind: Kind, value: Value) -> Result<Metadata, FieldError> {
    let value = if value.is_null() { Value::Object(Map::new()) } else { value };
    let mut metadata: Metadata = typed("metadata", value)?;
    if kind.namespaced() {
        if metadata.namespace.is_empty() {
            DEFAULT_NAMESPACE.clone_into(&mut metadata.namespace);
        }
    } else if !metadata.namespace.is_empty() {
        return Err(FieldError::new(
            "metadata.namespace",
            format!("a {kind} has no namespace; leave it out"),
        ));
    }
    Ok(metadata)
}

fn typed<T: DeserializeOwned>(root: &str, value: Value) -> Result<T, FieldError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { root.to_owned() } else { format!("{root}.{path}") };
        field_error(field, &error.into_inner().to_string())
    })
}

/// serde names a missing or unknown field in its message only; it belongs into the path.
fn field_error(parent: String, message: &str) -> FieldError {
    if let Some(field) = message.strip_prefix("missing field ") {
        return FieldError::new(format!("{parent}.{}", field.trim_matches('`')), "is missing");
    }
    let Some(rest) = message.strip_prefix("unknown field `") else {
        return FieldError::new(parent, right_form(message));
    };
    let (field, known) = rest.split_once('`').unwrap_or((rest, ""));
    // The path ends with the unknown field itself where the deserializer had already entered it.
    let path = match parent.strip_suffix(field) {
        Some(before) if before.ends_with('.') => parent,
        _ => format!("{parent}.{field}"),
    };
    FieldError::new(path, format!("unknown field{known}"))
}

/// serde tells what it expected in Rust's words.
fn right_form(message: &str) -> String {
    match message.rsplit_once("expected ") {
        Some((found, "u16")) => format!("{found}expected a number from 0 to 65535"),
        Some((found, "u32")) => format!("{found}expected a number from 0 to 4294967295"),
        Some((found, what)) if what.starts_with("struct ") => format!("{found}expected an object"),
        _ => message.to_owned(),
    }
}

fn sort(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

impl Serialize for Resource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Document<'a> {
            api_version: String,
            kind: &'static str,
            metadata: &'a Metadata,
            #[serde(skip_serializing_if = "Option::is_none")]
            spec: Option<Value>,
            #[serde(skip_serializing_if = "Status::is_empty")]
            status: &'a Status,
        }
        let kind = self.kind();
        let spec = if kind == Kind::Namespace { None } else { Some(self.spec.to_value()) };
        Document {
            api_version: kind.api_version(),
            kind: kind.name(),
            metadata: &self.metadata,
            spec: spec.transpose().map_err(serde::ser::Error::custom)?,
            status: &self.status,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Resource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Resource::from_value(value).map_err(|errors| {
            let errors: Vec<String> = errors.iter().map(FieldError::to_string).collect();
            D::Error::custom(errors.join("; "))
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{errors, resource};
    use crate::{Kind, Resource};

    #[test]
    fn unknown_fields_are_refused_by_name_at_every_depth() {
        for (text, error) in [
            ("apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\ndata: {}", "data: unknown field"),
            ("apiVersion: v1\nkind: Namespace\nmetadata: {name: a, nam: b}", "metadata.nam: unknown field"),
            (
                "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80, prt: 1}]}",
                "spec.ports[0].prt: unknown field",
            ),
        ] {
            assert!(errors(text)[0].starts_with(error), "{:?}", errors(text));
        }
    }

    #[test]
    fn known_fields_that_are_not_carried_out_are_refused_by_name() {
        let route = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: a, finalizers: [x]}\nspec: {rules: [{}, {retry: {}, sessionPersistence: {}}]}";
        assert_eq!(
            errors(route),
            [
                "metadata.finalizers: is not supported yet; leave it out",
                "spec.rules[1].retry: is not supported yet; leave it out",
                "spec.rules[1].sessionPersistence: is not supported yet; leave it out",
            ]
        );
    }

    #[test]
    fn missing_fields_and_wrong_types_are_named() {
        let service = |spec: &str| {
            errors(&format!("apiVersion: v1\nkind: Service\nmetadata: {{name: a}}\nspec: {spec}"))
        };
        assert_eq!(service("{}"), ["spec.ports: is missing"]);
        assert_eq!(service("{ports: [{}]}"), ["spec.ports[0].port: is missing"]);
        assert!(
            service("{ports: [{port: x}]}")[0].contains("spec.ports[0].port: invalid type: string \"x\"")
        );
        assert!(service("{ports: [{port: 65536}]}")[0].ends_with("expected a number from 0 to 65535"));
        assert!(
            service("{ports: [{port: 1, targetPort: {}}]}")[0]
                .contains("port number from 1 to 65535 or the name")
        );
    }

    #[test]
    fn kinds_outside_namespaces_refuse_one_and_others_have_a_default() {
        let node =
            "apiVersion: ringway.mesh/v1alpha1\nkind: Node\nmetadata: {name: a, namespace: b}\nspec: {}";
        assert_eq!(errors(node), ["metadata.namespace: a Node has no namespace; leave it out"]);
        let service = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}";
        assert_eq!(resource(service).key().to_string(), "Service default/a");
    }

    #[test]
    fn older_versions_of_a_kind_are_written_in_the_newest() {
        let route = "apiVersion: gateway.networking.k8s.io/v1alpha2\nkind: TCPRoute\nmetadata: {name: a}\nspec: {rules: [{backendRefs: [{name: b, port: 1}]}]}";
        let json = serde_json::to_value(resource(route)).unwrap();
        assert_eq!(json["apiVersion"], "gateway.networking.k8s.io/v1");
        let back: Resource = serde_json::from_value(json).unwrap();
        assert_eq!(back.kind(), Kind::TcpRoute);
    }

    #[test]
    fn a_status_that_cannot_be_read_is_dropped_since_only_the_server_writes_it() {
        let service = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}\nstatus: {conditions: 3}";
        assert!(resource(service).status.is_empty());
    }
}
