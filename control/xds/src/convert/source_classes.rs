//! Source classes: our own resource type, which also closes a publication (`ads`).

use model::table::SourceClass;

use super::error::FieldError;
use super::wire::clip;
use crate::proto::mesh;

/// The one resource of its type.
pub(super) const NAME: &str = "node";

pub(super) fn encode(table_version: u64, classes: &[SourceClass]) -> mesh::SourceClasses {
    let classes = classes
        .iter()
        .map(|class| mesh::SourceClass {
            class: class.class.clone(),
            interfaces: class.interfaces.clone(),
            addresses: class.addresses.iter().map(ToString::to_string).collect(),
        })
        .collect();
    mesh::SourceClasses { table_version, classes }
}

pub(super) fn decode(message: mesh::SourceClasses) -> Result<(u64, Vec<SourceClass>), FieldError> {
    let mut classes = Vec::with_capacity(message.classes.len());
    for (index, class) in message.classes.into_iter().enumerate() {
        let path = format!("classes[{index}]");
        if class.class.is_empty() {
            return Err(FieldError::missing("class").within(&path));
        }
        let mut addresses = Vec::with_capacity(class.addresses.len());
        for address in &class.addresses {
            let parsed = address.parse().map_err(|_| {
                let wrong = format!("{:?} is not an IP address", clip(address));
                FieldError::out_of_range("addresses", wrong).within(&path)
            })?;
            addresses.push(parsed);
        }
        classes.push(SourceClass { class: class.class, interfaces: class.interfaces, addresses });
    }
    Ok((message.table_version, classes))
}
