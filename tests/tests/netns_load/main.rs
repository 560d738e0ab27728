//! Traffic while something else happens on the same worker: a thousand tables, a thousand connections.

mod fairness;
mod swaps;
