//! `ringway get`.

use model::Kind;
use serde_json::{Value, json};
use xds::operator::Client;
use xds::proto::control as api;

use crate::columns;
use crate::flags::{Get, Output};
use crate::print;
use crate::problem::Problem;
use crate::reach::Reach;

pub async fn run(reach: &Reach, flags: Get) -> Result<(), Problem> {
    let kind = if flags.kind == "all" { None } else { Some(kind(&flags.kind)?) };
    if kind.is_none() && flags.name.is_some() {
        return Err(Problem::Usage("a name needs a kind other than all".to_owned()));
    }
    let mut operator = reach.operator().await?;
    let objects = match (kind, &flags.name) {
        (Some(kind), Some(name)) => vec![find(&mut operator, kind, &flags.place.namespace, name).await?],
        (kind, _) => {
            let scoped = kind.is_none_or(Kind::namespaced) && !flags.place.all_namespaces;
            let namespace = if scoped { flags.place.namespace.clone() } else { String::new() };
            let kind = kind.map_or(String::new(), |kind| kind.name().to_owned());
            list(&mut operator, kind, namespace).await?
        }
    };
    let text = match flags.output {
        Output::Table if objects.is_empty() => {
            eprintln!("there is none");
            return Ok(());
        }
        Output::Table => columns::of_objects(&objects, flags.place.all_namespaces),
        Output::Yaml => yaml(&objects)?,
        Output::Json => pretty_json(match (flags.name, objects.as_slice()) {
            (Some(_), [object]) => object.clone(),
            _ => json!({ "kind": "List", "apiVersion": "v1", "items": objects }),
        }),
    };
    print::out(&text)
}

pub fn kind(word: &str) -> Result<Kind, Problem> {
    let known = || Kind::ALL.map(|kind| kind.name().to_ascii_lowercase()).join(", ");
    Kind::from_word(word).ok_or_else(|| Problem::Usage(format!("no kind {word:?}; there are {}", known())))
}

pub fn key(kind: Kind, namespace: &str, name: &str) -> api::ObjectKey {
    let key = model::Key::new(kind, namespace, name);
    api::ObjectKey { kind: kind.name().to_owned(), namespace: key.namespace, name: key.name }
}

pub async fn find(operator: &mut Client, kind: Kind, namespace: &str, name: &str) -> Result<Value, Problem> {
    let request = api::GetRequest { key: Some(key(kind, namespace, name)) };
    parse(&operator.get(request).await?.into_inner().object_json)
}

async fn list(operator: &mut Client, kind: String, namespace: String) -> Result<Vec<Value>, Problem> {
    let answer = operator.list(api::ListRequest { kind, namespace }).await?.into_inner();
    answer.objects_json.iter().map(|object| parse(object)).collect()
}

fn parse(object: &str) -> Result<Value, Problem> {
    serde_json::from_str(object)
        .map_err(|error| Problem::Refused(format!("the control plane's answer is not JSON: {error}")))
}

fn yaml(objects: &[Value]) -> Result<String, Problem> {
    let texts: Result<Vec<String>, Problem> = objects.iter().map(print::yaml).collect();
    Ok(texts?.join("---\n"))
}

pub fn pretty_json(value: Value) -> String {
    format!("{value:#}")
}
