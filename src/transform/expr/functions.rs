//! Functions by name, and the forms that look like functions.
use super::ExprError;
use super::node::Node;
use super::typed::{Result, Typed, unify};

pub(super) fn call(name: &str, args: Vec<Typed>, line: u64, column: u64) -> Result {
    match name {
        "coalesce" if !args.is_empty() => {
            let (ty, args) = unify(args, name)?;
            let nullable = args.iter().all(|a| a.nullable);
            let nodes = args.into_iter().map(|a| a.node).collect();
            let t = Typed::new(Node::Coalesce(nodes), ty.base.clone(), nullable).at(line, column);
            Ok(Typed { ty, ..t })
        }
        _ => Err(ExprError { message: format!("no function {name}"), line, column }),
    }
}
