//! Where tables come from: a directory of resources, or the control plane.

use std::path::Path;
use std::rc::Rc;

use model::table::Table;

use crate::config::NodeConfig;
use crate::error::StartError;
use crate::node::Node;

