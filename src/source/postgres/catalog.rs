//! Tables, columns and row identities as the source's catalog has them, in a fixed number of queries for any number of tables.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde::Deserialize;
use tokio_postgres::{Client, Row as PgRow};

use super::resolve::whole_rows_by;
use crate::error::{Error, Result};
use crate::pgwire::control;
use crate::pgwire::errors::wrap;
use crate::pgwire::types::{self, UserType, UserTypes};
use crate::schema::{Column, Identity, RowIdentity, Table, TableName};
pub use crate::source::ids::TableIds;
use crate::transform::select::Selection;

/// A table with what only this engine needs to know of it.
#[derive(Clone, Debug)]
pub struct Described {
    /// The table in everyone's words.
    pub table: Arc<Table>,
    /// Its object id at the source.
    pub oid: u32,
    /// Whether it is a partitioned table, published in place of its leaves.
    pub partitioned: bool,
    /// The relations that hold its rows: itself, or its leaf partitions.
    pub leaves: Vec<Leaf>,
    /// Why rows cannot be found again, where `table.identity` is `None`: a sentence, and the statement that helps.
    pub no_identity: Option<(String, String)>,
    /// Type and modifier of each of `table.columns`, as the log's Relation message has them.
    pub column_types: Vec<(u32, i32)>,
    /// Columns whose values name objects of this server (`regclass`, …).
    pub object_columns: Vec<String>,
}

/// A relation that holds rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Its object id.
    pub oid: u32,
    /// Its name.
    pub name: TableName,
    /// Bytes of its main fork.
    pub bytes: u64,
    /// Rows by its statistics.
    pub rows: u64,
}

/// Why a table that the patterns select does not take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftOut {
    /// Not in the write-ahead log.
    Unlogged,
    /// Its rows lie on another server.
    Foreign,
    /// It is made by an extension.
    Extension,
    /// A partition that the patterns exclude while its parent takes part: it cannot be taken out.
    PartitionStays,
}

/// What the selection comes to.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// In name order.
    pub tables: Vec<Described>,
    /// Selected, but not carried (or the reverse, for [`LeftOut::PartitionStays`]), in name order.
    pub left_out: Vec<(TableName, LeftOut)>,
    /// Every user table by name, selected or not, leaf partitions included.
    pub all: Vec<TableName>,
}

/// Which table to look up.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    /// By object id.
    Oid(u32),
    /// By name.
    Name(&'a TableName),
}

/// The selected tables, parents of partitions instead of their leaves, in name order.
///
/// # Errors
/// `Retry` if the connection fails or a table changed between the queries.
pub async fn tables(client: &Client, selection: &Selection, ids: &TableIds) -> Result<Vec<Arc<Table>>> {
    Ok(read(client, selection, ids).await?.tables.into_iter().map(|d| d.table).collect())
}

/// The server's major version.
pub async fn server_major(client: &Client) -> Result<u32> {
    let row = client
        .query_one("SELECT pg_catalog.current_setting('server_version_num')::int / 10000", &[])
        .await
        .map_err(|e| wrap("asking the source for its version", &e))?;
    Ok(row.get::<_, i32>(0) as u32)
}

/// One table as it is now, whether selected or not; `None` if it does not exist.
pub async fn table(client: &Client, wanted: Wanted<'_>, ids: &TableIds) -> Result<Option<Described>> {
    let relations = relations(client).await?;
    let found = relations.iter().find(|r| match wanted {
        Wanted::Oid(oid) => r.oid == oid,
        Wanted::Name(name) => r.name == *name,
    });
    let Some(found) = found.map(|r| r.oid) else { return Ok(None) };
    let world = World::new(relations);
    Ok(describe(client, &world, &[found], ids).await?.pop())
}

/// The selection with everything that a preflight wants to know.
pub async fn read(client: &Client, selection: &Selection, ids: &TableIds) -> Result<Catalog> {
    let world = World::new(relations(client).await?);
    let (chosen, mut left_out) = choose(&world, selection);
    let mut tables = describe(client, &world, &chosen, ids).await?;
    tables.sort_by(|a, b| a.table.name.cmp(&b.table.name));
    left_out.sort_by(|a, b| a.0.cmp(&b.0));
    let all = world.by_oid.values().map(|r| r.name.clone()).collect();
    Ok(Catalog { tables, left_out, all })
}

/// A row of `pg_class`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Relation {
    pub(super) oid: u32,
    pub(super) name: TableName,
    /// `r`, `p` or `f`.
    kind: char,
    unlogged: bool,
    replident: char,
    natts: i16,
    rows: f64,
    bytes: i64,
    extension: bool,
    /// The partitioned table that it is a partition of.
    pub(super) parent: Option<u32>,
}

async fn relations(client: &Client) -> Result<Vec<Relation>> {
    // relpages and pg_relation_size differ by what was written since the last VACUUM; the size is what a copy will read.
    const SQL: &str = r#"
        SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence = 'u', c.relreplident::text,
               c.relnatts, c.reltuples::float8,
               CASE WHEN c.relkind = 'r' THEN coalesce(pg_catalog.pg_relation_size(c.oid), 0) ELSE 0 END::int8,
               e.objid IS NOT NULL, i.inhparent
          FROM pg_catalog.pg_class c
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          LEFT JOIN pg_catalog.pg_depend e
            ON e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND e.objid = c.oid AND e.objsubid = 0 AND e.deptype = 'e'
          LEFT JOIN pg_catalog.pg_inherits i ON c.relispartition AND i.inhrelid = c.oid
         WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't'
           AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'"#;
    let doing = "reading the source's list of tables";
    let rows = client.query(SQL, &[]).await.map_err(|e| wrap(doing, &e))?;
    rows.iter()
        .map(|row| {
            Ok(Relation {
                oid: get(row, 0)?,
                name: TableName::new(get::<String>(row, 1)?, get::<String>(row, 2)?),
                kind: letter(row, 3)?,
                unlogged: get(row, 4)?,
                replident: letter(row, 5)?,
                natts: get(row, 6)?,
                rows: get(row, 7)?,
                bytes: get(row, 8)?,
                extension: get(row, 9)?,
                parent: get(row, 10)?,
            })
        })
        .collect()
}

/// A table as the DDL trigger described it, in the words of the queries here.
#[derive(Debug, Deserialize)]
pub(super) struct Told {
    pub(super) relation: Relation,
    attributes: Vec<Attribute>,
    indexes: Vec<Index>,
    /// Enums and domains among the column types: object id, whether an enum, base type.
    types: Vec<(u32, bool, u32)>,
    /// What else there is to say of them; a trigger of an older version does not.
    #[serde(default)]
    details: Vec<ToldType>,
}

/// An enum, a domain or an array of them, as the DDL trigger described it.
#[derive(Debug, Deserialize)]
struct ToldType {
    oid: u32,
    schema: String,
    name: String,
    kind: char,
    base: u32,
    modifier: i32,
    element: u32,
    #[serde(default)]
    labels: Option<Vec<String>>,
}

impl Told {
    /// The table, `None` for what never takes part (foreign, unlogged, an extension's).
    pub(super) fn table(self, ids: &TableIds) -> Option<Described> {
        let r = self.relation;
        if r.kind == 'f' || r.unlogged || r.extension {
            return None;
        }
        let mut user: UserTypes = (self.types.iter())
            .map(|&(oid, is_enum, base)| {
                let domain = UserType::Domain { base, modifier: -1 };
                (oid, if is_enum { UserType::Enum { name: None, labels: Vec::new() } } else { domain })
            })
            .collect();
        user.extend(self.details.into_iter().map(|t| {
            let name = TableName::new(t.schema, t.name);
            (t.oid, control::user_type(t.kind, name, t.base, t.modifier, t.element, t.labels.unwrap_or_default()))
        }));
        let indexes = HashMap::from([(r.oid, self.indexes)]);
        let world = World::new(vec![r.clone()]);
        Some(assemble(&world, &r, self.attributes, &indexes, &user, ids))
    }
}

/// All relations, with the partition trees.
struct World {
    by_oid: BTreeMap<u32, Relation>,
    children: HashMap<u32, Vec<u32>>,
}

impl World {
    fn new(relations: Vec<Relation>) -> World {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for r in &relations {
            if let Some(parent) = r.parent {
                children.entry(parent).or_default().push(r.oid);
            }
        }
        World { by_oid: relations.into_iter().map(|r| (r.oid, r)).collect(), children }
    }
    /// The partitioned tables above it, nearest first.
    fn ancestors<'a>(&'a self, relation: &'a Relation) -> impl Iterator<Item = &'a Relation> {
        std::iter::successors(relation.parent.and_then(|p| self.by_oid.get(&p)), |r| {
            r.parent.and_then(|p| self.by_oid.get(&p))
        })
    }
    /// The relations without children below it, itself if it has none and is not partitioned; in name order.
    fn leaves<'a>(&'a self, relation: &'a Relation) -> Vec<&'a Relation> {
        let mut out = Vec::new();
        let mut open = vec![relation];
        while let Some(r) = open.pop() {
            if r.kind != 'p' {
                out.push(r);
            }
            open.extend(self.children.get(&r.oid).into_iter().flatten().filter_map(|c| self.by_oid.get(c)));
        }
        out.sort_by(|a, b| a.name.cmp(&b.name));
        out
    }
}

/// Which relations are tables of the migration. Changes of a partition are published under the topmost parent that is
/// in the publication, so a selected parent stands for everything below it; a partition is a table of its own only
/// where no parent is selected, and goes with a parent that was excluded by name.
fn choose(world: &World, selection: &Selection) -> (Vec<u32>, Vec<(TableName, LeftOut)>) {
    let mut chosen = Vec::new();
    let mut left_out = Vec::new();
    for r in world.by_oid.values() {
        let selected = selection.selects(&r.name);
        if world.ancestors(r).any(|a| selection.selects(&a.name)) {
            if selection.excludes(&r.name) {
                left_out.push((r.name.clone(), LeftOut::PartitionStays));
            }
            // A partition that is not in the log is a hole in its parent.
            if r.kind == 'f' {
                left_out.push((r.name.clone(), LeftOut::Foreign));
            } else if r.unlogged {
                left_out.push((r.name.clone(), LeftOut::Unlogged));
            }
            continue;
        }
        if !selected || world.ancestors(r).any(|a| selection.excludes(&a.name)) {
            continue;
        }
        match r {
            Relation { extension: true, .. } => left_out.push((r.name.clone(), LeftOut::Extension)),
            Relation { kind: 'f', .. } => left_out.push((r.name.clone(), LeftOut::Foreign)),
            Relation { unlogged: true, .. } => left_out.push((r.name.clone(), LeftOut::Unlogged)),
            _ => chosen.push(r.oid),
        }
    }
    (chosen, left_out)
}

/// A unique or exclusion index.
#[derive(Clone, Debug, Deserialize)]
struct Index {
    name: String,
    primary: bool,
    immediate: bool,
    replident: bool,
    /// Unique, valid, without predicate or expressions, all columns NOT NULL.
    plain: bool,
    /// Its key columns by name (empty names for expressions).
    columns: Vec<String>,
}

async fn describe(client: &Client, world: &World, chosen: &[u32], ids: &TableIds) -> Result<Vec<Described>> {
    let roots: Vec<&Relation> = chosen.iter().filter_map(|oid| world.by_oid.get(oid)).collect();
    let mut with_leaves: HashSet<u32> = chosen.iter().copied().collect();
    for r in &roots {
        with_leaves.extend(world.leaves(r).iter().map(|l| l.oid));
    }
    let with_leaves: Vec<u32> = with_leaves.into_iter().collect();
    let user = control::user_types(client, "source").await?;
    let mut columns = columns(client, chosen).await?;
    let indexes = indexes(client, &with_leaves).await?;
    roots
        .into_iter()
        .map(|r| {
            let attributes = columns.remove(&r.oid).unwrap_or_default();
            if attributes.len() != r.natts as usize {
                return Err(Error::retry(format!("reading table {}: it changed while it was being read", r.name)));
            }
            Ok(assemble(world, r, attributes, &indexes, &user, ids))
        })
        .collect()
}

/// Puts a table together from what was read about it.
fn assemble(
    world: &World,
    r: &Relation,
    attributes: Vec<Attribute>,
    indexes: &HashMap<u32, Vec<Index>>,
    user: &UserTypes,
    ids: &TableIds,
) -> Described {
    let none = Vec::new();
    let mut sent = Vec::new();
    let mut column_types = Vec::new();
    let mut generated = Vec::new();
    let mut object_columns = Vec::new();
    for a in attributes.into_iter().filter(|a| !a.dropped) {
        if types::names_objects(a.type_oid, user) {
            object_columns.push(a.name.clone());
        }
        let is_generated = a.generated;
        let modified = (a.type_oid, a.type_modifier);
        let column = Column {
            kind: types::kind(a.type_oid, user),
            data: types::data_type(a.type_oid, a.type_modifier, user),
            portable_binary: types::portable_binary(a.type_oid, user),
            name: a.name,
            number: a.number,
            type_name: a.type_name,
            nullable: !a.not_null,
            identity: a.identity,
            default: a.default,
            collation: a.collation,
        };
        if is_generated {
            generated.push(column);
        } else {
            sent.push(column);
            column_types.push(modified);
        }
    }
    let own = indexes.get(&r.oid).unwrap_or(&none);
    let leaves = world.leaves(r);
    let (identity, key_index, why) = match identity(r, own, &sent) {
        Ok((identity, key)) => {
            let odd = leaves.iter().filter(|l| l.oid != r.oid && l.kind == 'r').find_map(|l| {
                let leaf_indexes = indexes.get(&l.oid).unwrap_or(&none);
                leaf_contradicts(r, &identity, &sent, l, leaf_indexes)
            });
            match odd {
                Some(why) => (RowIdentity::None, key, Some(why)),
                None => (identity, key, None),
            }
        }
        Err(why) => (RowIdentity::None, None, Some(why)),
    };
    let key_names: Option<Vec<&str>> = key_index.as_ref().map(|i| i.columns.iter().map(|c| &**c).collect());
    // The key's own index, and on partitions its copies, are the only ones that do not count.
    let has_secondary_unique = own.iter().any(|i| key_index.as_ref().is_none_or(|k| k.name != i.name))
        || leaves.iter().filter(|l| l.oid != r.oid).any(|l| {
            indexes
                .get(&l.oid)
                .unwrap_or(&none)
                .iter()
                .any(|i| !(i.plain && key_names.as_ref().is_some_and(|k| i.columns.iter().eq(k.iter()))))
        });
    let leaves: Vec<Leaf> = leaves
        .into_iter()
        .filter(|l| l.kind == 'r' && !l.unlogged)
        .map(|l| Leaf {
            oid: l.oid,
            name: l.name.clone(),
            bytes: l.bytes.max(0) as u64,
            // Never analysed: a hundred bytes a row is a guess like any other.
            rows: if l.rows >= 0.0 { l.rows as u64 } else { l.bytes.max(0) as u64 / 100 },
        })
        .collect();
    let table = Table {
        id: ids.id(&r.name),
        name: r.name.clone(),
        columns: sent,
        generated,
        identity,
        full_old_rows: r.replident == 'f',
        full_old_rows_by: whole_rows_by(&r.name),
        has_secondary_unique,
        partitioned: r.kind == 'p',
        estimated_rows: leaves.iter().map(|l| l.rows).sum(),
        bytes: leaves.iter().map(|l| l.bytes).sum(),
    };
    Described {
        table: Arc::new(table),
        oid: r.oid,
        partitioned: r.kind == 'p',
        leaves,
        no_identity: why,
        column_types,
        object_columns,
    }
}

/// What finds a row of the relation again, and the index that says so; or why nothing does and what helps.
fn identity(
    r: &Relation,
    indexes: &[Index],
    sent: &[Column],
) -> Result<(RowIdentity, Option<Index>), (String, String)> {
    let places = |i: &Index| -> Option<Vec<usize>> {
        i.columns.iter().map(|name| sent.iter().position(|c| c.name == *name)).collect()
    };
    let full = format!("ALTER TABLE {} REPLICA IDENTITY FULL", r.name);
    let candidates = || {
        indexes
            .iter()
            .filter(|i| i.plain && i.immediate && places(i).is_some())
            .min_by_key(|i| (!i.primary, i.columns.len(), i.name.clone()))
    };
    let help = || match candidates() {
        Some(i) => format!("ALTER TABLE {} REPLICA IDENTITY USING INDEX {}", r.name, crate::schema::Ident(&i.name)),
        None => full.clone(),
    };
    let by = |i: &Index| match places(i) {
        Some(key) => Ok((RowIdentity::Key(key), Some(i.clone()))),
        None => Err((
            format!("the replica identity of {} contains a generated column, which the log does not hold", r.name),
            full.clone(),
        )),
    };
    match r.replident {
        'd' => match indexes.iter().find(|i| i.primary) {
            Some(i) if i.immediate && i.plain => by(i),
            Some(_) => Err((
                format!(
                    "the primary key of {} is deferrable (or not valid), so it does not identify rows in the log",
                    r.name
                ),
                help(),
            )),
            None => Err((format!("{} has no primary key", r.name), help())),
        },
        'i' => match indexes.iter().find(|i| i.replident) {
            Some(i) => by(i),
            None => Err((format!("the index that was the replica identity of {} is gone", r.name), help())),
        },
        'f' => Ok(match candidates() {
            Some(i) => (RowIdentity::Key(places(i).unwrap_or_default()), Some(i.clone())),
            None => (RowIdentity::AllColumns, None),
        }),
        _ => Err((format!("{} has REPLICA IDENTITY NOTHING", r.name), help())),
    }
}

/// The log holds of a partition's old row what the *partition's* replica identity says, under the parent's name. Says
/// where that is less than the parent's identity promises.
fn leaf_contradicts(
    root: &Relation,
    identity: &RowIdentity,
    sent: &[Column],
    leaf: &Relation,
    indexes: &[Index],
) -> Option<(String, String)> {
    if leaf.replident == 'f' {
        return None;
    }
    let full = format!("ALTER TABLE {} REPLICA IDENTITY FULL", leaf.name);
    if root.replident == 'f' {
        let what = format!("{} has REPLICA IDENTITY FULL, but its partition {} has not", root.name, leaf.name);
        return Some((what, full));
    }
    let index = match leaf.replident {
        'd' => indexes.iter().find(|i| i.primary && i.immediate),
        'i' => indexes.iter().find(|i| i.replident),
        _ => None,
    };
    let RowIdentity::Key(key) = identity else { return None };
    let wanted: HashSet<&str> = key.iter().filter_map(|k| sent.get(*k)).map(|c| &*c.name).collect();
    match index {
        Some(i) if wanted.iter().all(|w| i.columns.iter().any(|c| c == w)) => None,
        _ => Some((
            format!("the partition {} does not have the replica identity of its parent {}", leaf.name, root.name),
            if leaf.replident == 'd' { full } else { format!("ALTER TABLE {} REPLICA IDENTITY DEFAULT", leaf.name) },
        )),
    }
}

/// A row of `pg_attribute`.
#[derive(Debug, Deserialize)]
struct Attribute {
    number: i32,
    dropped: bool,
    name: String,
    type_oid: u32,
    type_modifier: i32,
    type_name: String,
    not_null: bool,
    generated: bool,
    identity: Option<Identity>,
    default: Option<String>,
    collation: Option<String>,
}

async fn columns(client: &Client, of: &[u32]) -> Result<HashMap<u32, Vec<Attribute>>> {
    const SQL: &str = r#"
        SELECT a.attrelid, a.attnum::int4, a.attisdropped, a.attname::text, a.atttypid,
               CASE WHEN a.attisdropped THEN '' ELSE pg_catalog.format_type(a.atttypid, a.atttypmod) END,
               a.attnotnull OR coalesce(t.typtype = 'd' AND t.typnotnull, false), a.attgenerated <> '', a.attidentity::text,
               pg_catalog.pg_get_expr(d.adbin, d.adrelid),
               CASE WHEN a.attcollation <> 0 AND a.attcollation <> t.typcollation
                    THEN pg_catalog.quote_ident(cn.nspname) || '.' || pg_catalog.quote_ident(co.collname) END,
               a.atttypmod
          FROM pg_catalog.pg_attribute a
          LEFT JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
          LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
          LEFT JOIN pg_catalog.pg_collation co ON co.oid = a.attcollation
          LEFT JOIN pg_catalog.pg_namespace cn ON cn.oid = co.collnamespace
         WHERE a.attnum > 0 AND a.attrelid = ANY ($1::oid[])
         ORDER BY a.attrelid, a.attnum"#;
    let doing = "reading the source's columns";
    let mut out: HashMap<u32, Vec<Attribute>> = HashMap::new();
    for row in client.query(SQL, &[&of]).await.map_err(|e| wrap(doing, &e))? {
        let attribute = Attribute {
            number: get(&row, 1)?,
            dropped: get(&row, 2)?,
            name: get(&row, 3)?,
            type_oid: get(&row, 4)?,
            type_modifier: get(&row, 11)?,
            type_name: get(&row, 5)?,
            not_null: get(&row, 6)?,
            generated: get(&row, 7)?,
            identity: match &*get::<String>(&row, 8)? {
                "a" => Some(Identity::Always),
                "d" => Some(Identity::ByDefault),
                _ => None,
            },
            default: get(&row, 9)?,
            collation: get(&row, 10)?,
        };
        out.entry(get(&row, 0)?).or_default().push(attribute);
    }
    Ok(out)
}

async fn indexes(client: &Client, of: &[u32]) -> Result<HashMap<u32, Vec<Index>>> {
    const SQL: &str = r#"
        SELECT i.indrelid, c.relname::text, i.indisprimary, i.indimmediate, i.indisreplident,
               i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AND k.not_null, k.names
          FROM pg_catalog.pg_index i
          JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
         CROSS JOIN LATERAL (
               SELECT pg_catalog.bool_and(coalesce(a.attnotnull, false)) AS not_null,
                      pg_catalog.array_agg(coalesce(a.attname, '')::text ORDER BY n.o) AS names
                 FROM pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS n(attnum, o)
                 LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = n.attnum AND n.attnum > 0
                WHERE n.o <= i.indnkeyatts) k
         WHERE (i.indisunique OR i.indisexclusion) AND i.indislive AND i.indrelid = ANY ($1::oid[])
         ORDER BY i.indrelid, c.relname"#;
    let doing = "reading the source's keys";
    let mut out: HashMap<u32, Vec<Index>> = HashMap::new();
    for row in client.query(SQL, &[&of]).await.map_err(|e| wrap(doing, &e))? {
        let index = Index {
            name: get(&row, 1)?,
            primary: get(&row, 2)?,
            immediate: get(&row, 3)?,
            replident: get(&row, 4)?,
            plain: get(&row, 5)?,
            columns: get(&row, 6)?,
        };
        out.entry(get(&row, 0)?).or_default().push(index);
    }
    Ok(out)
}

/// A field of a catalog query.
pub(super) fn get<'a, T: tokio_postgres::types::FromSql<'a>>(row: &'a PgRow, index: usize) -> Result<T> {
    row.try_get(index).map_err(|e| wrap("reading the source's catalog", &e))
}

fn letter(row: &PgRow, index: usize) -> Result<char> {
    Ok(get::<&str>(row, index)?.chars().next().unwrap_or(' '))
}
