//! From SQL text to typed nodes: names, literals, and the forms with a syntax of their own.

use sqlparser::ast::{
    self, BinaryOperator as Op, DataType, Expr as Ast, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
    Ident, Spanned, UnaryOperator, Value,
};
use sqlparser::dialect::dialect_from_str;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

use super::combine::{all, any, array_literal, binary, distinct, is_truth, quantified};
use super::inverse::Shape;
use super::node::{Const, Node, V, fun, truth};
use super::typed::{Result, Typed, unify};
use super::types::{Base, Context, Type};
use super::{ExprError, Input, functions, ops};

/// Expressions nested deeper than this are refused, so that no text can exhaust the stack.
const DEEPEST: usize = 64;

pub(super) fn compile(sql: &str, inputs: &[Input]) -> Result {
    let Some(dialect) = dialect_from_str("postgresql") else {
        return Err(ExprError { message: "no parser".into(), line: 1, column: 1 });
    };
    let parsed = Parser::new(&*dialect).try_with_sql(sql).and_then(|mut parser| {
        let ast = parser.parse_expr()?;
        let end = parser.peek_token();
        Ok((ast, end))
    });
    let (ast, end) = parsed.map_err(syntax)?;
    if end.token != Token::EOF {
        return Err(ExprError {
            message: format!("the expression ends before {}", end.token),
            line: end.span.start.line.max(1),
            column: end.span.start.column.max(1),
        });
    }
    let typed = Typer { inputs }.expr(&ast, 0)?;
    let mut failing = None;
    typed.node.walk(&mut |n| {
        if let Node::Fails(why) = n {
            failing.get_or_insert_with(|| why.clone());
        }
    });
    if let Some(why) = failing.filter(|w| !w.late) {
        let message = format!("this fails for every row: {}", why.message);
        return Err(ExprError { message, line: why.line, column: why.column });
    }
    Ok(typed)
}

/// The parser says the place at the end of its message.
fn syntax(e: ParserError) -> ExprError {
    let text = match e {
        ParserError::ParserError(m) | ParserError::TokenizerError(m) => m,
        ParserError::RecursionLimitExceeded => "the expression is nested too deeply".into(),
    };
    let (message, place) = text.split_once(" at Line: ").unwrap_or((&text, "1, Column: 1"));
    let mut numbers = place.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok());
    ExprError {
        message: message.trim_start_matches("sql parser error: ").to_owned(),
        line: numbers.next().unwrap_or(1),
        column: numbers.next().unwrap_or(1),
    }
}

struct Typer<'i> {
    inputs: &'i [Input],
}

/// A name as SQL reads it: lower case unless it is quoted.
fn folded(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// Where an expression begins, about. Not the parser's own answer, which goes through the whole tree.
fn start(mut e: &Ast) -> (u64, u64) {
    loop {
        e = match e {
            Ast::BinaryOp { left, .. } | Ast::AnyOp { left, .. } | Ast::AllOp { left, .. } => left,
            Ast::Nested(x)
            | Ast::IsNull(x)
            | Ast::IsNotNull(x)
            | Ast::IsTrue(x)
            | Ast::IsNotTrue(x)
            | Ast::IsFalse(x)
            | Ast::IsNotFalse(x)
            | Ast::IsUnknown(x)
            | Ast::IsNotUnknown(x)
            | Ast::IsDistinctFrom(x, _)
            | Ast::IsNotDistinctFrom(x, _) => x,
            Ast::UnaryOp { expr, .. }
            | Ast::Cast { expr, .. }
            | Ast::InList { expr, .. }
            | Ast::Between { expr, .. }
            | Ast::Like { expr, .. }
            | Ast::ILike { expr, .. }
            | Ast::Extract { expr, .. }
            | Ast::Ceil { expr, .. }
            | Ast::Floor { expr, .. }
            | Ast::Position { expr, .. }
            | Ast::Substring { expr, .. }
            | Ast::Trim { expr, .. } => expr,
            Ast::AtTimeZone { timestamp, .. } => timestamp,
            Ast::Interval(i) => &i.value,
            leaf => {
                let place = match leaf {
                    Ast::Identifier(_) | Ast::CompoundIdentifier(_) | Ast::Value(_) => leaf.span().start,
                    Ast::Function(f) => f.name.span().start,
                    Ast::Case { case_token, .. } => case_token.0.span.start,
                    Ast::TypedString(t) => t.value.span.start,
                    _ => return (1, 1),
                };
                return (place.line.max(1), place.column.max(1));
            }
        };
    }
}

impl Typer<'_> {
    fn expr(&self, e: &Ast, depth: usize) -> Result {
        let (line, column) = start(e);
        if depth > DEEPEST {
            return Err(ExprError { message: "the expression is nested too deeply".into(), line, column });
        }
        Ok(self.typed(e, line, column, depth + 1)?.at(line, column))
    }

    /// The forms that nest most are apart from the rest, so that their frames on the stack stay small.
    fn typed(&self, e: &Ast, line: u64, column: u64, depth: usize) -> Result {
        match e {
            Ast::Nested(inner) => self.expr(inner, depth),
            Ast::BinaryOp { left, op, right } if !matches!(op, Op::And | Op::Or) => {
                let left = self.expr(left, depth)?;
                let right = self.expr(right, depth)?;
                binary(&op.to_string(), left, right, line, column)
            }
            Ast::Case { operand, conditions, else_result, .. } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref(), line, column, depth)
            }
            Ast::Function(f) => self.function(f, line, column, depth),
            Ast::Cast {
                kind: ast::CastKind::Cast | ast::CastKind::DoubleColon, expr, data_type, format: None, ..
            } => self.expr(expr, depth)?.at(line, column).cast(&cast_type(data_type), Context::Explicit),
            // Its frame is large.
            _ => self.form(e, line, column, depth + 3),
        }
    }

    #[inline(never)]
    fn form(&self, e: &Ast, line: u64, column: u64, depth: usize) -> Result {
        let sub = |e: &Ast| self.expr(e, depth);
        let error = |message: String| Err(ExprError { message, line, column });
        match e {
            Ast::Identifier(name) => self.name(std::slice::from_ref(name), line, column),
            Ast::CompoundIdentifier(names) => self.name(names, line, column),
            Ast::Value(v) => literal(&v.value, line, column),
            Ast::TypedString(t) => {
                let text = literal(&t.value.value, line, column)?;
                text.cast(&cast_type(&t.data_type), Context::Explicit)
            }
            Ast::Interval(i) => {
                let mut text = sub(&i.value)?;
                let fields = [&i.leading_field, &i.last_field];
                if let ([Some(unit), None], Some(number)) = (fields, text.literal()) {
                    let number = String::from_utf8_lossy(number);
                    let written = if number.bytes().all(|b| b.is_ascii_digit() || b == b'-') {
                        format!("{number} {unit}")
                    } else {
                        return error("write the unit inside of the interval's quotes: interval '1 day'".into());
                    };
                    text.node = Node::Const(Const::Str(written.into_bytes().into()));
                }
                text.cast(&Base::Interval.into(), Context::Explicit)
            }
            Ast::IsNull(x) => self.is_null(sub(x)?, false, line, column),
            Ast::IsNotNull(x) => self.is_null(sub(x)?, true, line, column),
            Ast::IsTrue(x) => is_truth(sub(x)?, Some(true), false, line, column),
            Ast::IsNotTrue(x) => is_truth(sub(x)?, Some(true), true, line, column),
            Ast::IsFalse(x) => is_truth(sub(x)?, Some(false), false, line, column),
            Ast::IsNotFalse(x) => is_truth(sub(x)?, Some(false), true, line, column),
            Ast::IsUnknown(x) => is_truth(sub(x)?, None, false, line, column),
            Ast::IsNotUnknown(x) => is_truth(sub(x)?, None, true, line, column),
            Ast::IsDistinctFrom(a, b) => distinct(sub(a)?, sub(b)?, true, line, column),
            Ast::IsNotDistinctFrom(a, b) => distinct(sub(a)?, sub(b)?, false, line, column),
            Ast::InList { expr, list, negated } => {
                let op = if *negated { "<>" } else { "=" };
                let mut tests = Vec::new();
                for item in list {
                    let item = sub(item)?;
                    let fixed = !item.node.reads();
                    tests.push((fixed, binary(op, sub(expr)?, item, line, column)?));
                }
                // The server looks at the values that no row changes first, if there are several.
                if tests.iter().filter(|t| t.0).count() > 1 {
                    tests.sort_by_key(|t| !t.0);
                }
                let tests = tests.into_iter().map(|t| t.1).collect();
                Ok(if *negated { all(tests, line, column) } else { any(tests, line, column) })
            }
            Ast::Between { expr, negated, low, high } => {
                let (l, h) = if *negated { ("<", ">") } else { (">=", "<=") };
                let tests = vec![
                    binary(l, sub(expr)?, sub(low)?, line, column)?,
                    binary(h, sub(expr)?, sub(high)?, line, column)?,
                ];
                Ok(if *negated { any(tests, line, column) } else { all(tests, line, column) })
            }
            Ast::Like { negated, any: false, expr, pattern, escape_char } => {
                let op = if *negated { "!~~" } else { "~~" };
                let pattern = self.pattern(pattern, escape_char.as_deref(), line, column, depth)?;
                binary(op, sub(expr)?, pattern, line, column)
            }
            Ast::ILike { negated, any: false, expr, pattern, escape_char } => {
                let op = if *negated { "!~~*" } else { "~~*" };
                let pattern = self.pattern(pattern, escape_char.as_deref(), line, column, depth)?;
                binary(op, sub(expr)?, pattern, line, column)
            }
            Ast::BinaryOp { op: Op::And, .. } => {
                let mut parts = Vec::new();
                self.flatten(e, &Op::And, &mut parts, depth)?;
                Ok(all(parts, line, column))
            }
            Ast::BinaryOp { op: Op::Or, .. } => {
                let mut parts = Vec::new();
                self.flatten(e, &Op::Or, &mut parts, depth)?;
                Ok(any(parts, line, column))
            }
            Ast::UnaryOp { op: UnaryOperator::Not, expr } => {
                let x = sub(expr)?.boolean("the argument of not")?;
                let run = fun(|_, v| Ok(V::Bool(truth(v[0])? == Some(false))));
                Typed::call(run, true, false, vec![x], Base::Bool, line, column)
            }
            Ast::UnaryOp { op: UnaryOperator::Minus, expr } => {
                if let Ast::Value(v) = &**expr
                    && let Value::Number(digits, _) = &v.value
                {
                    return number(&format!("-{digits}"), line, column);
                }
                signed(sub(expr)?, true, line, column)
            }
            Ast::UnaryOp { op: UnaryOperator::Plus, expr } => signed(sub(expr)?, false, line, column),
            Ast::AnyOp { left, compare_op, right, .. } => {
                quantified(&compare_op.to_string(), sub(left)?, sub(right)?, false, line, column)
            }
            Ast::AllOp { left, compare_op, right } => {
                quantified(&compare_op.to_string(), sub(left)?, sub(right)?, true, line, column)
            }
            Ast::AtTimeZone { timestamp, time_zone } => {
                functions::call("timezone", vec![sub(time_zone)?, sub(timestamp)?], line, column)
            }
            Ast::Extract { field, expr, .. } => {
                let field = Typed::constant(
                    Const::Str(field.to_string().trim_matches('\'').to_lowercase().into_bytes().into()),
                    Base::Unknown,
                );
                functions::call("extract", vec![field, sub(expr)?], line, column)
            }
            Ast::Ceil { expr, .. } => functions::call("ceil", vec![sub(expr)?], line, column),
            Ast::Floor { expr, .. } => functions::call("floor", vec![sub(expr)?], line, column),
            Ast::Position { expr, r#in } => functions::call("strpos", vec![sub(r#in)?, sub(expr)?], line, column),
            Ast::Substring { expr, substring_from, substring_for, .. } => {
                let mut args = vec![sub(expr)?];
                match substring_from {
                    Some(from) => args.push(sub(from)?),
                    None => args.push(Typed::constant(Const::Int(1), Base::Int4)),
                }
                if let Some(length) = substring_for {
                    args.push(sub(length)?);
                }
                functions::call("substring", args, line, column)
            }
            Ast::Trim { trim_where, trim_what, expr, trim_characters } => {
                let name = match trim_where {
                    Some(ast::TrimWhereField::Leading) => "ltrim",
                    Some(ast::TrimWhereField::Trailing) => "rtrim",
                    _ => "btrim",
                };
                let mut args = vec![sub(expr)?];
                for what in trim_what.as_deref().into_iter().chain(trim_characters.iter().flatten()) {
                    args.push(sub(what)?);
                }
                functions::call(name, args, line, column)
            }
            Ast::Array(ast::Array { elem, .. }) => {
                let items = elem.iter().map(sub).collect::<Result<Vec<_>>>()?;
                array_literal(items, line, column)
            }
            _ => error("this form of expression is not supported".into()),
        }
    }

    fn name(&self, names: &[Ident], line: u64, column: u64) -> Result {
        let name = names.iter().map(folded).collect::<Vec<_>>().join(".");
        if let Some(at) = self.inputs.iter().position(|i| i.name == name) {
            return Ok(Typed::column(at, &self.inputs[at]));
        }
        let message = if self.inputs.iter().any(|i| i.name.eq_ignore_ascii_case(&name)) {
            format!("no column {name:?}; a name with capitals is written in double quotes")
        } else {
            let known: Vec<&str> = self.inputs.iter().map(|i| i.name.as_str()).collect();
            match nearest(&name, &known) {
                Some(near) => format!("no column {name:?}; did you mean {near:?}?"),
                None => format!("no column {name:?}; there are: {}", known.join(", ")),
            }
        };
        Err(ExprError { message, line, column })
    }

    /// `a and (b) and c` as one list, so that long chains do not nest.
    fn flatten(&self, e: &Ast, op: &Op, parts: &mut Vec<Typed>, depth: usize) -> Result<()> {
        let mut chain = Vec::new();
        let mut rest = e;
        while let Ast::BinaryOp { left, op: o, right } = rest
            && o == op
        {
            chain.push(&**right);
            rest = left;
        }
        chain.push(rest);
        for part in chain.into_iter().rev() {
            parts.push(self.expr(part, depth)?.boolean(&format!("the argument of {op}"))?);
        }
        Ok(())
    }

    fn is_null(&self, x: Typed, negated: bool, line: u64, column: u64) -> Result {
        let run = fun(move |_, v| Ok(V::Bool(matches!(v[0], V::Null) != negated)));
        Typed::call(run, false, false, vec![x], Base::Bool, line, column)
    }

    fn pattern(&self, pattern: &Ast, escape: Option<&Ast>, line: u64, column: u64, depth: usize) -> Result {
        let pattern = self.expr(pattern, depth)?;
        match escape {
            None => Ok(pattern),
            Some(escape) => functions::call("like_escape", vec![pattern, self.expr(escape, depth)?], line, column),
        }
    }

    fn case(
        &self,
        operand: Option<&Ast>,
        arms: &[ast::CaseWhen],
        otherwise: Option<&Ast>,
        line: u64,
        column: u64,
        depth: usize,
    ) -> Result {
        let operand = operand.map(|o| self.expr(o, depth)).transpose()?;
        let operand = operand.map(|o| if *o.base() == Base::Unknown { o.implicit(&Base::Text) } else { Ok(o) });
        let operand = operand.transpose()?;
        let mut conditions = Vec::new();
        let mut keys = Vec::new();
        // The result without a match counts first when the common type is sought, as in the server.
        let none = || Typed::constant(Const::Null, Base::Unknown);
        let mut results = vec![otherwise.map_or_else(|| Ok(none()), |o| self.expr(o, depth))?];
        for arm in arms {
            let condition = self.expr(&arm.condition, depth)?;
            conditions.push(match &operand {
                None => condition.boolean("the condition of case")?.node,
                Some(of) => {
                    let (line, column) = (condition.line, condition.column);
                    keys.push(condition.clone());
                    // The operand is evaluated once and stands for itself in each comparison.
                    let of = match of.node.is_const() {
                        true => of.clone(),
                        false => Typed { node: Node::Operand, inverse: Shape::Opaque, ..of.clone() },
                    };
                    binary("=", of, condition, line, column)?.node
                }
            });
            results.push(self.expr(&arm.result, depth)?);
        }
        let (ty, mut results) = unify(results, "case")?;
        let late = results.iter().any(|r| r.late);
        let inverse = operand.as_ref().map_or(Shape::Opaque, |of| Shape::map(of, &keys, &results));
        let nullable = results.iter().any(|r| r.nullable);
        let otherwise = results.remove(0).node;
        let arms: Box<[(Node, Node)]> = conditions.into_iter().zip(results.into_iter().map(|r| r.node)).collect();
        let node = match operand {
            None => decided(arms, otherwise),
            // Its comparisons hold the constant itself.
            Some(of) if of.node.is_const() => decided(arms, otherwise),
            Some(of) => {
                // A comparison with NULL never holds, and without any other the operand is not looked at.
                let never = |c: &Node| matches!(c, Node::Const(Const::Null | Const::Bool(false)));
                let arms: Box<[(Node, Node)]> = arms.into_iter().filter(|a| !never(&a.0)).collect();
                match arms.is_empty() && !of.node.fails() {
                    true => otherwise,
                    false => Node::CaseOf(Box::new(of.node), arms, Box::new(otherwise)),
                }
            }
        };
        let late = late && node != Node::null();
        Ok(Typed { node, ty, nullable, inverse, late, line, column })
    }

    fn function(&self, f: &Function, line: u64, column: u64, depth: usize) -> Result {
        let error = |message: String| Err(ExprError { message, line, column });
        let parts: Vec<String> =
            f.name.0.iter().filter_map(|p| p.as_ident()).map(folded).filter(|p| p != "pg_catalog").collect();
        let name = parts.join(".");
        if f.over.is_some() || f.filter.is_some() || !f.within_group.is_empty() {
            return error(format!(
                "{name}: aggregates and window functions have no place in an expression over one row"
            ));
        }
        let mut args = Vec::new();
        match &f.args {
            FunctionArguments::None => {}
            FunctionArguments::Subquery(_) => return error("subqueries have no place here".into()),
            FunctionArguments::List(list) => {
                if list.duplicate_treatment.is_some() || !list.clauses.is_empty() {
                    return error(format!("{name}: this form of call is not supported"));
                }
                for arg in &list.args {
                    match arg {
                        FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => args.push(self.expr(e, depth)?),
                        _ => return error(format!("{name}: this form of argument is not supported")),
                    }
                }
            }
        }
        functions::call(&name, args, line, column)
    }
}

/// A searched case without the arms that can never be, or that always are.
fn decided(arms: Box<[(Node, Node)]>, otherwise: Node) -> Node {
    let mut kept = Vec::new();
    for (condition, result) in arms {
        match condition {
            Node::Const(Const::Bool(true)) => return case_or(kept, result),
            Node::Const(Const::Bool(false) | Const::Null) => {}
            condition => kept.push((condition, result)),
        }
    }
    case_or(kept, otherwise)
}

fn case_or(arms: Vec<(Node, Node)>, otherwise: Node) -> Node {
    if arms.is_empty() { otherwise } else { Node::Case(arms.into(), Box::new(otherwise)) }
}

fn cast_type(t: &DataType) -> Type {
    Type::of_cast(&t.to_string())
}

fn literal(v: &Value, line: u64, column: u64) -> Result {
    let text = |t: &str| Ok(Typed::constant(Const::Str(t.as_bytes().into()), Base::Unknown));
    match v {
        Value::Null => Ok(Typed::constant(Const::Null, Base::Unknown)),
        Value::Boolean(b) => Ok(Typed::constant(Const::Bool(*b), Base::Bool)),
        Value::Number(digits, _) => number(digits, line, column),
        Value::SingleQuotedString(t) | Value::EscapedStringLiteral(t) | Value::UnicodeStringLiteral(t) => text(t),
        Value::DollarQuotedString(t) => text(&t.value),
        _ => Err(ExprError { message: "this form of literal is not supported".into(), line, column }),
    }
}

/// The smallest of integer, bigint and numeric that holds it.
fn number(digits: &str, line: u64, column: u64) -> Result {
    if let Ok(n) = digits.parse::<i64>() {
        let base = if i32::try_from(n).is_ok() { Base::Int4 } else { Base::Int8 };
        return Ok(Typed::constant(Const::Int(n), base));
    }
    Typed::constant(Const::Str(digits.as_bytes().into()), Base::Unknown)
        .at(line, column)
        .cast(&Base::Numeric.into(), Context::Explicit)
}

fn signed(x: Typed, minus: bool, line: u64, column: u64) -> Result {
    let base = x.ty.clone();
    match Typed::resolved(ops::sign(minus), vec![x], true)? {
        Ok((s, args)) => Typed::call(s.run, true, false, args, s.result, line, column),
        Err(_) => {
            let op = if minus { '-' } else { '+' };
            Err(ExprError { message: format!("there is no operator {op} before {base}"), line, column })
        }
    }
}

/// The name that is most like another, if one is near.
pub(super) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let near = known.iter().map(|k| (distance(name, k), *k)).min_by_key(|(d, _)| *d)?;
    (near.0 <= 1 + name.len() / 4).then_some(near.1)
}

/// How many letters must be changed, added or removed.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = before + usize::from(x != *y);
            before = row[j + 1];
            row[j + 1] = change.min(before + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
