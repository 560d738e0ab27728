//! `ringway apply`.

use xds::proto::control as api;
use xds::proto::control::apply_outcome::Action;

use crate::files::{self, Document};
use crate::flags::Apply;
use crate::print;
use crate::problem::Problem;
use crate::reach::Reach;

pub async fn run(reach: &Reach, flags: Apply) -> Result<(), Problem> {
    let documents = files::read(&flags.files)?;
    let mut objects_json = Vec::with_capacity(documents.len());
    for document in &documents {
        let json = serde_json::to_string(&document.resource)
            .map_err(|error| Problem::Usage(format!("{}: {error}", document.source)))?;
        objects_json.push(json);
    }
    let mut operator = reach.operator().await?;
    let request = api::ApplyRequest { objects_json, dry_run: flags.dry_run };
    let answer = operator.apply(request).await.map_err(|status| refused(&status, &documents))?.into_inner();
    let lines = answer.outcomes.iter().map(|outcome| {
        let key = outcome.key.as_ref().map(ToString::to_string).unwrap_or_default();
        let dry = if flags.dry_run { " (dry run)" } else { "" };
        format!("{key}: {}{dry}", said(outcome.action()))
    });
    print::out(&lines.collect::<Vec<_>>().join("\n"))
}

fn said(action: Action) -> &'static str {
    match action {
        Action::Created => "created",
        Action::Configured => "configured",
        Action::Unchanged => "unchanged",
        Action::Unspecified => "done",
    }
}

/// The server's field errors, each behind the file that it is about.
fn refused(status: &tonic::Status, documents: &[Document]) -> Problem {
    let Some(refusal) = xds::operator::read_refusal(status) else { return status.clone().into() };
    let lines = refusal.errors.iter().map(|error| {
        let document = documents.get(error.object_index as usize);
        let source = document.map_or("?", |document| document.source.as_str());
        let key = document.map(|document| document.resource.key().to_string()).unwrap_or_default();
        match error.field.as_str() {
            "" => format!("{source}: {key}: {}", error.message),
            field => format!("{source}: {key}: {field}: {}", error.message),
        }
    });
    Problem::Refused(format!("nothing was applied\n{}", lines.collect::<Vec<_>>().join("\n")))
}
