//! Functions by name: those over numbers, moments, JSON, arrays and hashes, and the forms that look like functions.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bumpalo::Bump;
use sha2::Digest;

use super::ExprError;
use super::casts::{bytes_of, hex_in, hex_to, read_uuid, render, unhex};
use super::inverse::Shape;
use super::node::{Node, R, V, fail, fun};
use super::numeric::Dec;
use super::ops::{self, in_range, int, str_in, text, utf8};
use super::parse::nearest;
use super::resolve::{Signature, Unresolved};
use super::typed::{Result, Typed, unify};
use super::types::Base::{self, *};
use super::types::Context;
use super::{array, datetime, fields, float, json, jsonb, strings, zone};

/// Every name that [`call`] knows, for people.
const NAMES: &[&str] = &[
    "abs",
    "array_length",
    "array_to_json",
    "ascii",
    "btrim",
    "cardinality",
    "ceil",
    "ceiling",
    "char_length",
    "character_length",
    "coalesce",
    "concat",
    "concat_ws",
    "date",
    "date_part",
    "date_trunc",
    "decode",
    "encode",
    "extract",
    "floor",
    "greatest",
    "initcap",
    "json_array_length",
    "json_typeof",
    "jsonb_array_length",
    "jsonb_build_array",
    "jsonb_build_object",
    "jsonb_typeof",
    "least",
    "left",
    "length",
    "lower",
    "lpad",
    "ltrim",
    "md5",
    "mod",
    "nullif",
    "octet_length",
    "position",
    "repeat",
    "replace",
    "reverse",
    "right",
    "round",
    "rpad",
    "rtrim",
    "sha256",
    "sign",
    "split_part",
    "starts_with",
    "strpos",
    "substr",
    "substring",
    "timezone",
    "to_jsonb",
    "to_timestamp",
    "translate",
    "trim",
    "trunc",
    "upper",
    "uuid5",
];

/// A call of the function of that name.
pub(super) fn call(name: &str, mut args: Vec<Typed>, line: u64, column: u64) -> Result {
    let error = |message: String| Err(ExprError { message, line, column });
    match (name, args.len()) {
        ("coalesce", 1..) => {
            let (ty, mut args) = unify(args, name)?;
            // What is surely there ends the list.
            if let Some(at) = args.iter().position(|a| a.node.is_const() && !a.is_null() && !a.late) {
                args.truncate(at + 1);
            }
            args.retain(|a| !a.is_null());
            let nullable = args.iter().all(|a| a.nullable);
            let only_constant = args.len() == 1 && args[0].node.is_const();
            let node = match args.len() {
                0 => Node::null(),
                1 if only_constant => args.remove(0).node,
                _ => Node::Coalesce(args.into_iter().map(|a| a.node).collect()),
            };
            let typed = Typed::new(node, ty.base.clone(), nullable).at(line, column);
            Ok(Typed { ty, inverse: if only_constant { Shape::Constant } else { Shape::Opaque }, ..typed })
        }
        ("greatest" | "least", 1..) => extreme(name, args, line, column),
        ("nullif", 2) => nullif(args, line, column),
        ("concat", 1..) => {
            let bases: Vec<Base> = args.iter().map(|a| a.base().clone()).collect();
            let run = fun(move |bump, v| pasted(bump, v, &bases, b""));
            Typed::call(run, false, false, args, Text, line, column).map(late)
        }
        ("concat_ws", 2..) => {
            let separator = args.remove(0).implicit(&Text)?;
            let nullable = separator.nullable;
            let bases: Vec<Base> = args.iter().map(|a| a.base().clone()).collect();
            args.insert(0, separator);
            let run = fun(move |bump, v| match v[0] {
                V::Null => Ok(V::Null),
                by => pasted(bump, &v[1..], &bases, text(by)?),
            });
            Typed::call(run, false, nullable, args, Text, line, column).map(late)
        }
        ("uuid5", 2) => uuid5(args, line, column),
        ("jsonb_build_array", _) => {
            let bases: Vec<Base> = args.iter().map(|a| a.base().clone()).collect();
            let run = fun(move |bump, v| {
                let items = v.iter().zip(&bases).map(|(v, b)| json::Value::of(render(bump, *v, b)?, b));
                Ok(json::Value::Array(items.collect::<std::result::Result<_, _>>()?).value(bump))
            });
            Typed::call(run, false, false, args, Jsonb, line, column).map(late)
        }
        ("jsonb_build_object", n) if n % 2 == 0 => built_object(args, line, column),
        ("jsonb_build_object", _) => error("jsonb_build_object needs a value for each key".into()),
        ("to_jsonb" | "array_to_json", 1) => {
            let arg = args.remove(0);
            let base = arg.base().clone();
            if base == Unknown {
                return arg.error("to_jsonb cannot tell the type of a literal; cast it, for example to text");
            }
            if name == "array_to_json" && !matches!(base, Array(_)) {
                return arg.error(format!("array_to_json needs an array, not {base}"));
            }
            let compact = name == "array_to_json";
            let run = fun(move |bump, v| {
                let value = json::Value::of(render(bump, v[0], &base)?, &base)?;
                Ok(if compact { value.compact(bump) } else { value.value(bump) })
            });
            Typed::call(run, true, false, vec![arg], if compact { Json } else { Jsonb }, line, column).map(late)
        }
        ("array_length", 2) => on_array(args, line, column, true, |bump, v| {
            let array = array::parse(bump, text(v[0])?)?;
            let dimension = usize::try_from(int(v[1])?).ok().and_then(|n| n.checked_sub(1));
            Ok(dimension.and_then(|d| array.dimensions.get(d)).map_or(V::Null, |d| V::Int(d.1)))
        }),
        ("cardinality", 1) => {
            on_array(args, line, column, false, |bump, v| Ok(V::Int(array::elements(bump, text(v[0])?)?.len() as i64)))
        }
        ("date", 1) => args.remove(0).cast(&Date.into(), Context::Explicit),
        ("timezone", 2) => in_zone(args, line, column),
        // The literal of a hash is bytes, as it would be without the form over text.
        ("sha256", 1) if *args[0].base() == Unknown => {
            let bytes = args.remove(0).cast(&Bytes.into(), Context::Explicit)?;
            by_name(name, vec![bytes], line, column)
        }
        _ => by_name(name, args, line, column),
    }
}

/// Of any type, and so by the session's settings.
fn late(typed: Typed) -> Typed {
    Typed { late: !typed.is_null(), ..typed }
}

fn by_name(name: &str, args: Vec<Typed>, line: u64, column: u64) -> Result {
    let candidates = named(name);
    let types: Vec<String> = args.iter().map(|a| a.ty.to_string()).collect();
    let known = !candidates.is_empty() || NAMES.contains(&name);
    let fits: Vec<String> = candidates.iter().map(|s| described(name, &s.args)).collect();
    let one_way = matches!(name, "md5" | "sha256");
    let message = match Typed::resolved(candidates, args, false)? {
        Ok((s, args)) => {
            let apart = args.iter().all(|a| a.inverse.is_column());
            let typed = Typed::call(s.run, s.strict, s.nulls, args, s.result, line, column)?;
            let hash = if name == "md5" { "md5" } else { "sha256" };
            return Ok(if one_way && !typed.node.is_const() {
                Typed { inverse: Shape::OneWay(hash, apart), ..typed }
            } else {
                typed
            });
        }
        Err(_) if !known => {
            let near = nearest(name, NAMES).map(|n| format!("; did you mean {n}?")).unwrap_or_default();
            format!("there is no function {name}{near} Supported are: {}", NAMES.join(", "))
        }
        Err(why) => {
            let how = if why == Unresolved::Several { "could mean several things" } else { "is not supported" };
            let fits = if fits.is_empty() { String::new() } else { format!("; there is {}", fits.join(", ")) };
            format!("{name}({}) {how}{fits}", types.join(", "))
        }
    };
    Err(ExprError { message, line, column })
}

fn described(name: &str, args: &[Base]) -> String {
    let args: Vec<String> = args.iter().map(Base::to_string).collect();
    format!("{name}({})", args.join(", "))
}

/// `greatest` and `least` leave NULLs out.
fn extreme(name: &str, args: Vec<Typed>, line: u64, column: u64) -> Result {
    let (ty, args) = unify(args, name)?;
    let test = if name == "greatest" { ">" } else { "<" };
    if ops::comparison(test, &ty.base, &ty.base).is_none() {
        return Err(ExprError { message: format!("{name}: values of type {ty} have no order here"), line, column });
    }
    let (base, greatest) = (ty.base.clone(), name == "greatest");
    let nullable = args.iter().all(|a| a.nullable);
    let run = fun(move |_, v| {
        let mut best = V::Null;
        for v in v.iter().filter(|v| !matches!(v, V::Null)) {
            let better = match best {
                V::Null => true,
                best if greatest => ops::compare(*v, best, &base, &base)?.is_gt(),
                best => ops::compare(*v, best, &base, &base)?.is_lt(),
            };
            if better {
                best = *v;
            }
        }
        Ok(best)
    });
    let typed = Typed::call(run, false, nullable, args, ty.base.clone(), line, column)?;
    Ok(Typed { ty, ..typed })
}

/// NULL if both are equal; of the left side's type as the comparison sees it.
fn nullif(args: Vec<Typed>, line: u64, column: u64) -> Result {
    let types = (args[0].ty.to_string(), args[1].ty.to_string());
    let candidates = ops::comparisons("=", args[0].base(), args[1].base());
    let left = args[0].ty.clone();
    match Typed::resolved(candidates, args, true)? {
        Ok((s, args)) => {
            let ty = if left.base == s.args[0] { left } else { s.args[0].clone().into() };
            if args.iter().any(Typed::is_null) && !args.iter().any(|a| a.node.fails()) {
                let mut args = args;
                return Ok(Typed { ty, inverse: Shape::Opaque, ..args.swap_remove(0) }.at(line, column));
            }
            let equal = s.run;
            let run = fun(move |bump, v| match (v[0], v[1]) {
                (V::Null, _) | (_, V::Null) => Ok(v[0]),
                _ => Ok(if matches!(equal(bump, v)?, V::Bool(true)) { V::Null } else { v[0] }),
            });
            let typed = Typed::call(run, false, true, args, ty.base.clone(), line, column)?;
            Ok(Typed { ty, ..typed })
        }
        Err(_) => {
            let message = format!("nullif: {} and {} cannot be compared", types.0, types.1);
            Err(ExprError { message, line, column })
        }
    }
}

/// The texts of values behind one another, NULLs left out.
fn pasted<'a>(bump: &'a Bump, values: &[V<'a>], bases: &[Base], by: &[u8]) -> R<'a> {
    let mut out = bumpalo::collections::Vec::new_in(bump);
    let mut first = true;
    for (v, base) in values.iter().zip(bases) {
        let Some(t) = render(bump, *v, base)? else { continue };
        if !first {
            out.extend_from_slice_copy(by);
        }
        first = false;
        out.extend_from_slice_copy(t);
    }
    Ok(V::Str(out.into_bump_slice()))
}

fn uuid5(mut args: Vec<Typed>, line: u64, column: u64) -> Result {
    let value = args.remove(1).cast(&Text.into(), Context::Explicit)?;
    let namespace = &args[0];
    let text_of = namespace.literal().and_then(|t| read_uuid(t).ok());
    let Some(namespace) = text_of.and_then(|t| uuid::Uuid::parse_str(&t).ok()) else {
        return namespace
            .error("the namespace of uuid5 is a literal uuid, for example '6ba7b810-9dad-11d1-80b4-00c04fd430c8'");
    };
    let run = fun(move |bump, v| {
        let id = uuid::Uuid::new_v5(&namespace, text(v[0])?);
        let out = bump.alloc_slice_copy(&[0u8; uuid::fmt::Hyphenated::LENGTH]);
        Ok(V::Str(id.hyphenated().encode_lower(out).as_bytes()))
    });
    let apart = value.inverse.is_column();
    let typed = Typed::call(run, true, false, vec![value], Uuid, line, column)?;
    Ok(if typed.node.is_const() { typed } else { Typed { inverse: Shape::OneWay("uuid5", apart), ..typed } })
}

fn built_object(args: Vec<Typed>, line: u64, column: u64) -> Result {
    for key in args.iter().step_by(2) {
        if matches!(key.base(), Json | Jsonb | Array(_)) {
            return key.error("a key must be scalar, not an array or JSON");
        }
    }
    let bases: Vec<Base> = args.iter().map(|a| a.base().clone()).collect();
    let run = fun(move |bump, v| {
        let mut members = Vec::with_capacity(v.len() / 2);
        for (pair, bases) in v.chunks(2).zip(bases.chunks(2)) {
            let key = match json::Value::of(render(bump, pair[0], &bases[0])?, &bases[0])? {
                json::Value::Null => return fail("a key must not be null"),
                json::Value::String(key) => key,
                json::Value::Bool(b) => b.to_string(),
                _ => String::from_utf8_lossy(render(bump, pair[0], &bases[0])?.unwrap_or(b"")).into_owned(),
            };
            members.push((key, json::Value::of(render(bump, pair[1], &bases[1])?, &bases[1])?));
        }
        Ok(json::object(members).value(bump))
    });
    Typed::call(run, false, false, args, Jsonb, line, column).map(late)
}

fn on_array<F>(mut args: Vec<Typed>, line: u64, column: u64, nulls: bool, f: F) -> Result
where
    F: for<'a> Fn(&'a Bump, &[V<'a>]) -> R<'a> + Send + Sync + 'static,
{
    if !matches!(args[0].base(), Array(_)) {
        return args[0].error(format!("an array is needed, not {}", args[0].ty));
    }
    if args.len() == 2 {
        let second = args.remove(1).implicit(&Int4)?;
        args.push(second);
    }
    Typed::call(fun(f), true, nulls, args, Int4, line, column)
}

fn in_zone(args: Vec<Typed>, line: u64, column: u64) -> Result {
    let fixed = match args[0].literal() {
        Some(name) => match std::str::from_utf8(name).ok().and_then(zone::find) {
            Some(zone) => Some(zone),
            None => {
                let name = String::from_utf8_lossy(name).into_owned();
                return args[0].error(format!("unknown time zone {name:?}; use a name such as UTC or Europe/Zurich"));
            }
        },
        None => None,
    };
    let candidates = vec![datetime::at_zone(&Timestamp, fixed.clone()), datetime::at_zone(&TimestampTz, fixed)];
    let moment = args[1].ty.to_string();
    match Typed::resolved(candidates, args, false)? {
        Ok((s, args)) => Typed::call(s.run, true, false, args, s.result, line, column),
        Err(_) => Err(ExprError { message: format!("at time zone needs a timestamp, not {moment}"), line, column }),
    }
}

/// A number's function over integers, decimals and floats.
fn numbers(
    ints: Option<fn(i64) -> Option<i64>>,
    decimal: fn(Dec) -> Dec,
    float: fn(f64) -> f64,
    singles: bool,
) -> Vec<Signature> {
    let mut all = Vec::new();
    if let Some(f) = ints {
        for base in [Int2, Int4, Int8] {
            let b = base.clone();
            all.push(Signature::new(std::slice::from_ref(&base), base.clone(), move |_, v| {
                Ok(V::Int(in_range(f(int(v[0])?), &b)?))
            }));
        }
    }
    all.push(Signature::new(&[Numeric], Numeric, move |bump, v| Ok(decimal(Dec::of(v[0])?).value(bump))));
    if singles {
        all.push(Signature::new(&[Float4], Float4, move |_, v| Ok(V::Float(float(float::of(v[0], true)?)))));
    }
    all.push(Signature::new(&[Float8], Float8, move |_, v| Ok(V::Float(float(float::of(v[0], false)?)))));
    all
}

/// A decimal's function with a number of digits.
fn digits(f: fn(&Dec, i32) -> Dec) -> Signature {
    Signature::new(&[Numeric, Int4], Numeric, move |bump, v| {
        let digits = int(v[1])?.clamp(-200_000, 16_383) as i32;
        Ok(f(&Dec::of(v[0])?, digits).value(bump))
    })
}

fn named(name: &str) -> Vec<Signature> {
    match name {
        "abs" => numbers(Some(i64::checked_abs), Dec::absolute, f64::abs, true),
        "sign" => numbers(None, Dec::signum, |x| if x == 0.0 || x.is_nan() { 0.0 } else { x.signum() }, false),
        "ceil" | "ceiling" => numbers(None, |d| d.whole(true), f64::ceil, false),
        "floor" => numbers(None, |d| d.whole(false), f64::floor, false),
        "round" => {
            let mut all = numbers(None, |d| d.round(0), f64::round_ties_even, false);
            all.push(digits(Dec::round));
            all
        }
        "trunc" => {
            let mut all = numbers(None, |d| d.truncated(0), f64::trunc, false);
            all.push(digits(Dec::truncated));
            all
        }
        "mod" => ops::arithmetic('%'),
        "extract" => fields::parts(true),
        "date_part" => fields::parts(false),
        "date_trunc" => fields::truncations(),
        "to_timestamp" => {
            vec![Signature::new(&[Float8], TimestampTz, |_, v| datetime::from_unix(float::of(v[0], false)?))]
        }
        "jsonb_array_length" => vec![Signature::new(&[Jsonb], Int4, jsonb::length)],
        "json_array_length" => vec![Signature::new(&[Json], Int4, jsonb::length)],
        "jsonb_typeof" => vec![Signature::new(&[Jsonb], Text, jsonb::type_of)],
        "json_typeof" => vec![Signature::new(&[Json], Text, jsonb::type_of)],
        "md5" => vec![
            Signature::new(&[Text], Text, |bump, v| Ok(digits_of(bump, &md5::Md5::digest(text(v[0])?)))),
            Signature::new(&[Bytes], Text, |bump, v| Ok(digits_of(bump, &md5::Md5::digest(bytes_of(v[0])?)))),
        ],
        "sha256" => vec![
            Signature::new(&[Bytes], Bytes, |bump, v| Ok(hex_in(bump, &sha2::Sha256::digest(bytes_of(v[0])?)))),
            Signature::new(&[Text], Bytes, |bump, v| Ok(hex_in(bump, &sha2::Sha256::digest(text(v[0])?)))),
        ],
        "encode" => vec![Signature::new(&[Bytes, Text], Text, |bump, v| {
            let t = text(v[0])?;
            match utf8(v[1])?.to_ascii_lowercase().as_str() {
                "hex" => Ok(V::Str(t.strip_prefix(b"\\x").unwrap_or(t))),
                "base64" => Ok(str_in(bump, &to_base64(&bytes_of(v[0])?))),
                _ => fail("encoding not supported: use hex or base64"),
            }
        })],
        "decode" => {
            vec![Signature::new(&[Text, Text], Bytes, |bump, v| match utf8(v[1])?.to_ascii_lowercase().as_str() {
                "hex" => Ok(hex_in(bump, &unhex(text(v[0])?)?)),
                "base64" => Ok(hex_in(bump, &from_base64(text(v[0])?)?)),
                _ => fail("encoding not supported: use hex or base64"),
            })]
        }
        other => strings::named(other),
    }
}

fn digits_of<'a>(bump: &'a Bump, bytes: &[u8]) -> V<'a> {
    let mut out = bumpalo::collections::Vec::with_capacity_in(bytes.len() * 2, bump);
    hex_to(&mut out, bytes);
    V::Str(out.into_bump_slice())
}

/// Reads what PostgreSQL reads: padding is needed, bits behind the end do not matter.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// Lines of 76 characters, as PostgreSQL breaks them.
fn to_base64(bytes: &[u8]) -> String {
    let plain = BASE64.encode(bytes);
    let mut out = String::with_capacity(plain.len() + plain.len() / 76);
    for (at, c) in plain.chars().enumerate() {
        if at > 0 && at % 76 == 0 {
            out.push('\n');
        }
        out.push(c);
    }
    out
}

fn from_base64(text: &[u8]) -> std::result::Result<Vec<u8>, super::EvalError> {
    let dense: Vec<u8> = text.iter().copied().filter(|b| !matches!(b, b' ' | b'\t' | b'\n' | b'\r')).collect();
    BASE64.decode(dense).or_else(|_| fail("invalid base64 text"))
}
