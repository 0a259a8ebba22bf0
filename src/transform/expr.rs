//! stub
#![allow(missing_docs, dead_code)]
use crate::schema::Kind;
use crate::value::{Datum, Row};
#[derive(Clone, Debug)]
pub struct Input {
    pub name: String,
    pub kind: Kind,
    pub type_name: String,
    pub nullable: bool,
}
#[derive(Clone, Debug)]
pub struct Expr {
    k: Kind,
    t: String,
    i: Vec<usize>,
}
#[derive(Debug)]
pub struct ExprError {
    pub message: String,
    pub line: u64,
    pub column: u64,
}
impl std::fmt::Display for ExprError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}
#[derive(Debug)]
pub enum EvalError {
    Unsent { input: usize },
    Failed { message: String },
}
pub enum Inverse {
    Exact { input: usize, expr: Box<Expr> },
    Lossy(String),
    None(String),
}
#[derive(Default, Debug)]
pub struct Scratch(Vec<u8>);
pub trait Fields {
    fn get(&self, index: usize) -> Datum<'_>;
}
impl Fields for Row {
    fn get(&self, index: usize) -> Datum<'_> {
        Row::get(self, index)
    }
}
impl Expr {
    pub fn compile(sql: &str, inputs: &[Input]) -> Result<Expr, ExprError> {
        match inputs.iter().position(|i| i.name == sql) {
            Some(i) => Ok(Expr { k: inputs[i].kind, t: inputs[i].type_name.clone(), i: vec![i] }),
            None => Err(ExprError { message: "stub".into(), line: 1, column: 1 }),
        }
    }
    pub fn kind(&self) -> Kind {
        self.k
    }
    pub fn type_name(&self) -> &str {
        &self.t
    }
    pub fn nullable(&self) -> bool {
        true
    }
    pub fn inputs(&self) -> &[usize] {
        &self.i
    }
    pub fn as_column(&self) -> Option<usize> {
        self.i.first().copied()
    }
    pub fn as_constant(&self) -> Option<Option<&[u8]>> {
        None
    }
    pub fn is_one_to_one(&self) -> bool {
        true
    }
    pub fn assign_to(self, _: Kind, _: &str) -> Result<Expr, ExprError> {
        Ok(self)
    }
    pub fn eval<'a>(&'a self, row: &'a dyn Fields, _: &'a mut Scratch) -> Result<Datum<'a>, EvalError> {
        Ok(row.get(self.i[0]))
    }
    pub fn test(&self, row: &dyn Fields, _: &mut Scratch) -> Result<bool, EvalError> {
        Ok(row.get(self.i[0]) == Datum::Text(b"t"))
    }
    pub fn inverse(&self) -> Inverse {
        Inverse::None("stub".into())
    }
}
