//! Text to resources: YAML with several documents, or JSON. Errors name the source, the document and the field.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::field::FieldError;
use crate::kind::Key;
use crate::resource::Resource;
use crate::validate::validate;

/// A larger text is refused whole. Kubernetes' stores take 1.5 MiB an object; a directory is read file by file.
pub const MOST_BYTES: usize = 16 * 1024 * 1024;

/// One thing that is wrong with one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadError {
    /// The file's name, or `-`.
    pub source: String,
    /// Counted from 1; empty documents count.
    pub document: usize,
    /// What the document says it is (`HTTPRoute default/web`), as far as it can be told.
    pub resource: Option<String>,
    pub error: FieldError,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: document {}: ", self.source, self.document)?;
        if let Some(resource) = &self.resource {
            write!(f, "{resource}: ")?;
        }
        write!(f, "{}", self.error)
    }
}

impl std::error::Error for ReadError {}

/// Reads and validates every document of `text`. Either all are good, or every document's errors are returned.
pub fn read_documents(source: &str, text: &str) -> Result<Vec<Resource>, Vec<ReadError>> {
    let mut resources: Vec<Resource> = Vec::new();
    let mut errors = Vec::new();
    let mut seen = BTreeMap::new();
    for (document, read) in read_numbered(source, text) {
        match read {
            Ok(resource) => {
                let key = resource.key();
                if let Some(earlier) = seen.insert(key.clone(), document) {
                    errors.push(twice(source, document, &key, earlier));
                }
                resources.push(resource);
            }
            Err(more) => errors.extend(more),
        }
    }
    if errors.is_empty() { Ok(resources) } else { Err(errors) }
}

/// Which of the two is meant can only be guessed.
fn twice(source: &str, document: usize, key: &Key, earlier: usize) -> ReadError {
    let error =
        FieldError::new("metadata.name", format!("document {earlier} has the same kind, namespace and name"));
    ReadError { source: source.to_owned(), document, resource: Some(key.to_string()), error }
}

/// Each document with its own result; empty ones are left out.
pub fn read_each(source: &str, text: &str) -> Vec<Result<Resource, Vec<ReadError>>> {
    read_numbered(source, text).into_iter().map(|(_, read)| read).collect()
}

type Numbered = (usize, Result<Resource, Vec<ReadError>>);

fn read_numbered(source: &str, text: &str) -> Vec<Numbered> {
    if text.len() > MOST_BYTES {
        let problem = format!("{} bytes are more than the {MOST_BYTES} that one file may have", text.len());
        let error = FieldError::new("", problem);
        return vec![(
            1,
            Err(vec![ReadError { source: source.to_owned(), document: 1, resource: None, error }]),
        )];
    }
    let documents = split(text);
    let read = documents.into_iter().enumerate().map(|(index, part)| {
        let told = |resource: Option<String>, error| ReadError {
            source: source.to_owned(),
            document: index + 1,
            resource,
            error,
        };
        let read = read_one(part).map_err(|(resource, errors)| {
            errors.into_iter().map(|error| told(resource.clone(), error)).collect::<Vec<_>>()
        });
        read.transpose().map(|read| (index + 1, read))
    });
    read.flatten().collect()
}

type Refusal = (Option<String>, Vec<FieldError>);

fn read_one(part: Part<'_>) -> Result<Option<Resource>, Refusal> {
    let value = parse(part).map_err(|problem| (None, vec![FieldError::new("", problem)]))?;
    if value.is_null() {
        return Ok(None);
    }
    let said = describe(&value);
    let resource = Resource::from_value(value).map_err(|errors| (said, errors))?;
    let key: Key = resource.key();
    let errors = validate(&resource);
    if errors.is_empty() { Ok(Some(resource)) } else { Err((Some(key.to_string()), errors)) }
}

/// `kind namespace/name` from an object that may be anything.
fn describe(value: &Value) -> Option<String> {
    let kind = value.get("kind")?.as_str()?;
    let metadata = value.get("metadata");
    let text = |field: &str| metadata.and_then(|metadata| metadata.get(field)).and_then(Value::as_str);
    let name = text("name").unwrap_or("(no name)");
    Some(match text("namespace") {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    })
}

/// One document's text, and the number of lines before it.
struct Part<'a> {
    text: &'a str,
    first_line: usize,
}

/// Cuts at the lines that begin with `---`: YAML 1.2, section 9.1.2, allows that at the start of a line nowhere else.
/// Cutting first lets a document with a syntax error leave the others readable.
fn split(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut first_line = 0;
    let mut offset = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let before = &text[start..offset];
        // Comments and directives before the first marker belong to the document that follows.
        if is_marker(line) && !is_preamble(before) {
            parts.push(Part { text: before, first_line });
            start = offset;
            first_line = number;
        }
        offset += line.len();
    }
    parts.push(Part { text: &text[start..], first_line });
    parts
}

fn is_marker(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

fn is_preamble(text: &str) -> bool {
    text.lines().all(|line| {
        let line = line.trim();
        line.is_empty() || line.starts_with(['#', '%'])
    })
}

fn parse(part: Part<'_>) -> Result<Value, String> {
    let options = serde_saphyr::options! {
        // `yes`, `on` and their like are text, as in YAML 1.2.
        strict_booleans: true,
        with_snippet: false,
    };
    let text = part.text.trim_start_matches('\u{feff}');
    if is_preamble(text.strip_prefix("---").unwrap_or(text)) {
        return Ok(Value::Null);
    }
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let at = error.location().map(|location| {
            format!("line {}, column {}: ", location.line() as usize + part.first_line, location.column())
        });
        let message = error.without_snippet().to_string();
        let first = message.lines().next().unwrap_or_default();
        // The parser counts lines from the document's begin; the file's line stands before the message instead.
        let problem = first.split(" at line ").next().unwrap_or_default();
        format!("{}not YAML: {problem}", at.unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        read_documents("web.yaml", text).unwrap_err().iter().map(ReadError::to_string).collect()
    }

    const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n";

    #[test]
    fn an_error_names_file_document_resource_field_and_the_right_form() {
        let text = format!(
            "{NAMESPACE}---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: web}}\nspec:\n  rules:\n  - matches:\n    - method: GET\n    - path: {{type: Prefix, value: /}}\n"
        );
        assert_eq!(
            shown(&text),
            [
                "web.yaml: document 2: HTTPRoute web: spec.rules[0].matches[1].path.type: unknown variant `Prefix`, \
              expected one of `Exact`, `PathPrefix`, `RegularExpression`"
            ]
        );
    }

    #[test]
    fn one_document_with_bad_syntax_leaves_the_others_readable() {
        let text = format!("{NAMESPACE}---\na: [b\n---\n{NAMESPACE}");
        let documents = read_each("web.yaml", &text);
        assert!(documents[0].is_ok() && documents[2].is_ok());
        let error = documents[1].as_ref().unwrap_err()[0].to_string();
        assert!(error.starts_with("web.yaml: document 2: line 5, column 4: not YAML: "), "{error}");
    }

    #[test]
    fn empty_documents_comments_and_byte_order_marks_are_no_resources() {
        for text in ["", "# nothing\n", "---\n---\n# nothing\n---\n", "\u{feff}", "%YAML 1.2\n---\n"] {
            assert_eq!(read_documents("web.yaml", text), Ok(Vec::new()), "{text:?}");
        }
        let text = format!("\u{feff}# first\n---\n{NAMESPACE}---\n");
        assert_eq!(read_documents("web.yaml", &text).unwrap().len(), 1);
        let text = format!("---\n---\n{NAMESPACE}---\nkind: Pod\napiVersion: v1\n");
        assert_eq!(shown(&text), ["web.yaml: document 3: Pod (no name): kind Pod is not supported"]);
    }

    #[test]
    fn one_resource_twice_in_a_text_is_refused_and_both_documents_named() {
        let text = format!("{NAMESPACE}---\n{NAMESPACE}");
        assert_eq!(
            shown(&text),
            [
                "web.yaml: document 2: Namespace a: metadata.name: document 1 has the same kind, namespace and name"
            ]
        );
    }

    #[test]
    fn json_is_read_as_yaml_is() {
        let text = r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a", "labels": {"on": "yes"}}}"#;
        let resource = read_documents("a.json", text).unwrap().remove(0);
        assert_eq!(resource.metadata.labels["on"], "yes");
    }

    #[test]
    fn what_is_no_object_or_has_a_key_twice_is_refused() {
        assert!(
            shown("- a\n")[0]
                .contains("expected an object with apiVersion, kind, metadata and spec, found a list")
        );
        assert!(shown("kind: Pod\nkind: Pod\n")[0].contains("duplicate mapping key: kind"));
    }

    #[test]
    fn a_text_larger_than_the_bound_is_refused_whole() {
        let text = "#".repeat(MOST_BYTES + 1);
        assert!(shown(&text)[0].contains("more than the 16777216"));
    }

    #[test]
    fn aliases_cannot_multiply_without_bound() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let alias = format!("*a{},", level - 1).repeat(10);
            text.push_str(&format!("a{level}: &a{level} [{alias}]\n"));
        }
        assert!(!shown(&text).is_empty());
    }
}
