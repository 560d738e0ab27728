//! What a resource must satisfy by itself.

use crate::resource::{FieldError, Resource};

/// Every rule that the resource breaks; empty: it is good.
pub fn validate(_resource: &Resource) -> Vec<FieldError> {
    Vec::new()
}
