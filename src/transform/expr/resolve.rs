//! Which of several operators or functions of one name is meant: PostgreSQL's rules (documentation, chapter 10).

use super::node::{Fun, R, V, fun};
use super::types::{Base, Category, Context};
use bumpalo::Bump;

/// One function or operator over given types.
pub(super) struct Signature {
    pub args: Vec<Base>,
    pub result: Base,
    pub run: Fun,
    /// NULL if an argument is.
    pub strict: bool,
    /// Whether the result can be NULL though no argument is.
    pub nulls: bool,
}

impl Signature {
    pub fn new<F>(args: &[Base], result: Base, run: F) -> Signature
    where
        F: for<'a> Fn(&'a Bump, &[V<'a>]) -> R<'a> + Send + Sync + 'static,
    {
        Signature { args: args.to_vec(), result, run: fun(run), strict: true, nulls: false }
    }
    pub fn or_null(mut self) -> Signature {
        self.nulls = true;
        self
    }
}

/// Why there is not exactly one.
#[derive(Debug, PartialEq)]
pub(super) enum Unresolved {
    Nothing,
    Several,
}

/// The one candidate that PostgreSQL would take. Operators take an undecided literal beside a known type for that type
/// first.
pub(super) fn choose(mut candidates: Vec<Signature>, given: &[&Base], operator: bool) -> Result<Signature, Unresolved> {
    candidates.retain(|c| c.args.len() == given.len());
    if operator && given.len() == 2 {
        let assumed: Vec<&Base> = match (given[0], given[1]) {
            (Base::Unknown, known) => vec![known, known],
            (known, Base::Unknown) => vec![known, known],
            _ => given.to_vec(),
        };
        if let Some(at) = candidates.iter().position(|c| c.args.iter().eq(assumed.iter().copied())) {
            return Ok(candidates.swap_remove(at));
        }
    }
    candidates.retain(|c| c.args.iter().zip(given).all(|(to, from)| from.can_become(to, Context::Implicit)));
    one_or(candidates, |candidates| {
        let exact = |c: &Signature| count(c, given, |to, from| to == from);
        one_or(most(candidates, exact), |candidates| {
            let fitting = |c: &Signature| {
                count(c, given, |to, from| {
                    *from != Base::Unknown && (to == from || to.preferred() && to.category() == from.category())
                })
            };
            one_or(most(candidates, fitting), |candidates| by_category(candidates, given))
        })
    })
}

fn one_or(
    mut candidates: Vec<Signature>,
    next: impl FnOnce(Vec<Signature>) -> Result<Signature, Unresolved>,
) -> Result<Signature, Unresolved> {
    match candidates.len() {
        0 => Err(Unresolved::Nothing),
        1 => candidates.pop().ok_or(Unresolved::Nothing),
        _ => next(candidates),
    }
}

fn count(c: &Signature, given: &[&Base], fits: impl Fn(&Base, &Base) -> bool) -> usize {
    c.args.iter().zip(given).filter(|(to, from)| fits(to, from)).count()
}

fn most(candidates: Vec<Signature>, score: impl Fn(&Signature) -> usize) -> Vec<Signature> {
    let best = candidates.iter().map(&score).max().unwrap_or(0);
    candidates.into_iter().filter(|c| score(c) == best).collect()
}

/// Decides by what the undecided literals could be.
fn by_category(mut candidates: Vec<Signature>, given: &[&Base]) -> Result<Signature, Unresolved> {
    let unknown: Vec<usize> = (0..given.len()).filter(|i| *given[*i] == Base::Unknown).collect();
    if unknown.is_empty() {
        return Err(Unresolved::Several);
    }
    let mut wanted = Vec::new();
    for &i in &unknown {
        let categories: Vec<Category> = candidates.iter().map(|c| c.args[i].category()).collect();
        let category = if categories.contains(&Category::String) {
            Category::String
        } else if categories.iter().all(|c| *c == categories[0]) {
            categories[0]
        } else {
            wanted.clear();
            break;
        };
        let preferred = candidates.iter().any(|c| c.args[i].category() == category && c.args[i].preferred());
        wanted.push((i, category, preferred));
    }
    if !wanted.is_empty() {
        let fits = |c: &Signature| {
            wanted.iter().all(|&(i, category, preferred)| {
                c.args[i].category() == category && (!preferred || c.args[i].preferred())
            })
        };
        if candidates.iter().any(fits) {
            candidates.retain(fits);
        }
    }
    one_or(candidates, |mut candidates| {
        // If what is known is all of one type, so is the rest.
        let mut known = given.iter().filter(|g| ***g != Base::Unknown);
        let Some(first) = known.next() else { return Err(Unresolved::Several) };
        if known.any(|k| k != first) {
            return Err(Unresolved::Several);
        }
        candidates.retain(|c| c.args.iter().all(|to| first.can_become(to, Context::Implicit)));
        one_or(candidates, |_| Err(Unresolved::Several))
    })
}

/// The type that all branches of a `case`, `coalesce` and the like get; the two that do not fit otherwise.
pub(super) fn common(types: &[&Base]) -> Result<Base, (Base, Base)> {
    let mut known = types.iter().filter(|t| ***t != Base::Unknown);
    let Some(first) = known.next() else { return Ok(Base::Text) };
    let mut chosen: Base = (*first).clone();
    for next in known {
        if **next == chosen {
            continue;
        }
        if next.category() != chosen.category() {
            return Err((chosen, (*next).clone()));
        }
        if !chosen.preferred()
            && chosen.can_become(next, Context::Implicit)
            && !next.can_become(&chosen, Context::Implicit)
        {
            chosen = (*next).clone();
        }
    }
    match types.iter().find(|t| !t.can_become(&chosen, Context::Implicit)) {
        Some(odd) => Err((chosen, (*odd).clone())),
        None => Ok(chosen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Base::*;

    fn chosen(candidates: &[[Base; 2]], given: [Base; 2]) -> Option<Vec<Base>> {
        let signatures = candidates.iter().map(|c| Signature::new(c, Bool, |_, _| Ok(V::Null))).collect();
        choose(signatures, &[&given[0], &given[1]], true).ok().map(|s| s.args)
    }

    #[test]
    fn given_several_operators_when_one_is_chosen_then_it_is_the_servers() {
        let plus =
            [[Int4, Int4], [Int8, Int8], [Float4, Float4], [Float8, Float8], [Float4, Float8], [Numeric, Numeric]];
        assert_eq!(chosen(&plus, [Int4, Int8]), Some(vec![Int8, Int8]));
        assert_eq!(chosen(&plus, [Float4, Int4]), Some(vec![Float4, Float8]));
        assert_eq!(chosen(&plus, [Int4, Unknown]), Some(vec![Int4, Int4]));
        assert_eq!(chosen(&[[Text, Text], [Bpchar, Bpchar]], [Bpchar, Text]), Some(vec![Text, Text]));
        assert_eq!(chosen(&plus, [Text, Int4]), None);
    }

    #[test]
    fn given_branches_when_their_type_is_sought_then_it_holds_them_all() {
        assert_eq!(common(&[&Unknown, &Int4, &Numeric, &Int2]), Ok(Numeric));
        assert_eq!(common(&[&Unknown, &Unknown]), Ok(Text));
        assert_eq!(common(&[&Int4, &Text]), Err((Int4, Text)));
    }
}
