//! `ringway delete`.

use model::Kind;
use xds::proto::control as api;

use crate::files;
use crate::flags::Delete;
use crate::objects;
use crate::print;
use crate::problem::Problem;
use crate::reach::Reach;

/// Goes on after an object that is not there, and says so at the end.
pub async fn run(reach: &Reach, flags: Delete) -> Result<(), Problem> {
    let keys = keys(&flags)?;
    let mut operator = reach.operator().await?;
    let mut failures = Vec::new();
    for key in keys {
        match operator.delete(api::DeleteRequest { key: Some(key.clone()) }).await {
            Ok(_) => print::out(&format!("{key}: deleted"))?,
            Err(status) => match Problem::from(status) {
                Problem::Refused(why) => failures.push(why),
                other => return Err(other),
            },
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(Problem::Refused(failures.join("\n"))) }
}

/// Users before what they use.
fn keys(flags: &Delete) -> Result<Vec<api::ObjectKey>, Problem> {
    if flags.files.is_empty() {
        let kind: Kind = objects::kind(flags.kind.as_deref().unwrap_or_default())?;
        if flags.names.is_empty() {
            return Err(Problem::Usage(format!("which {kind}? give a name")));
        }
        return Ok(flags.names.iter().map(|name| objects::key(kind, &flags.namespace, name)).collect());
    }
    let documents = files::read(&flags.files)?;
    let keys = documents.iter().rev().map(|document| {
        let key = document.resource.key();
        objects::key(key.kind, &key.namespace, &key.name)
    });
    Ok(keys.collect())
}
