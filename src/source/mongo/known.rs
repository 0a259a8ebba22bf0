//! What is known of collections: which take part, and how their documents become rows. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use bson::Document;

use super::index;
use super::mapping::{Mapping, Options};
use crate::definition::TableDef;
use crate::error::{Error, Result};
use crate::exchange::CollectionFields;
use crate::schema::{Table, TableId, TableName};
use crate::transform::select::{Pattern, Selection};

/// Databases of the server's own, and the one of our bookkeeping.
pub const NOT_COPIED: [&str; 4] = ["admin", "config", "local", "switchyard"];
/// The collection that [`crate::source::Source::mark`] writes into.
pub const MARKERS: &str = "switchyard.markers";

/// One collection that takes part.
#[derive(Clone, Debug)]
pub struct Described {
    /// Its table.
    pub table: Arc<Table>,
    /// How its documents become rows of it.
    pub mapping: Arc<Mapping>,
    /// The same table for another engine.
    pub def: TableDef,
    /// Names this incarnation of it: a collection that was dropped and made again has another one.
    pub uuid: String,
    /// Bytes of a document, on average; 0 if it has none.
    pub document_bytes: u64,
    /// Whether the server throws its oldest documents away by itself.
    pub capped: bool,
    /// Whether the server keeps documents as they were before and after each change.
    pub images: bool,
}

/// What is known beforehand of every collection.
#[derive(Clone)]
pub struct Known {
    /// Which take part.
    pub selection: Selection,
    /// The database that the URL names.
    pub home: Option<String>,
    /// How documents become rows, where the configuration says so.
    pub fields: Arc<BTreeMap<TableName, CollectionFields>>,
    /// What is so of all documents.
    pub options: Options,
    /// Whether events come with the images that collections keep: change streams have them, the oplog has not.
    pub images: bool,
    /// Numbers of tables by their names.
    pub ids: Arc<dyn Fn(&TableName) -> TableId + Send + Sync>,
}

impl Known {
    /// The one database that takes part, if the selection can name no other. Then a change stream of that database is
    /// enough, and the account needs no right to any other.
    pub fn only(&self) -> Option<&str> {
        let home = self.home.as_deref()?;
        let (schemas, _) = self.selection.include_regexes();
        let literal = format!("\"{}\".x", home.replace('"', "\"\""));
        let own = Pattern::parse(&literal).ok()?.regexes().0;
        (!schemas.is_empty() && schemas.iter().all(|s| *s == own)).then_some(home)
    }
    /// Whether the collection takes part. The server's own (`system.…`, and what an aggregation writes before it gives it
    /// its name) and our markers never do.
    pub fn selects(&self, database: &str, collection: &str) -> bool {
        let own = ["system.", "tmp.agg_out.", "fs.system."].iter().any(|p| collection.starts_with(p));
        !own && collection != MARKERS
            && !NOT_COPIED.contains(&database)
            && self.selection.selects(&TableName::new(database, collection))
    }
    /// Where markers are written: a stream of one database sees no other.
    pub fn markers(&self) -> (&str, &'static str) {
        match self.only() {
            Some(home) => (home, MARKERS),
            None => ("switchyard", "markers"),
        }
    }
    /// A collection that nothing but its name and its options are known of.
    ///
    /// # Errors
    /// `Config` where its fields cannot be columns.
    pub fn describe(&self, name: &TableName, options: &Document, uuid: String) -> Result<Described> {
        let kept = options.get_document("changeStreamPreAndPostImages");
        let images = self.images && kept.is_ok_and(|o| o.get_bool("enabled").unwrap_or(false));
        let mapping = Mapping::new(name.clone(), self.fields.get(name), self.options, images)
            .map_err(|(key, what)| Error::config(format!("the rule for {name}: {key}: {what}")))?;
        let table = Table { id: (self.ids)(name), ..mapping.table().clone() };
        let mut def = mapping.definition().clone();
        def.left_behind.extend(index::options_left(options));
        Ok(Described {
            table: Arc::new(table),
            def,
            mapping: Arc::new(mapping),
            uuid,
            document_bytes: 0,
            capped: options.get_bool("capped").unwrap_or(false),
            images,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn known(home: Option<&str>, include: &[&str], exclude: &[&str]) -> Known {
        Known {
            selection: Selection::new(include, exclude).unwrap(),
            home: home.map(str::to_owned),
            fields: Arc::default(),
            options: Options::default(),
            images: true,
            ids: Arc::new(|_| TableId(1)),
        }
    }

    #[test]
    fn given_selections_when_asked_then_one_database_is_told_from_several() {
        let k = known(Some("shop"), &["shop.*", "shop.orders"], &["shop.x"]);
        assert_eq!((k.only(), k.markers()), (Some("shop"), ("shop", MARKERS)));
        assert!(k.selects("shop", "a") && !k.selects("shop", "x") && !k.selects("other", "a"));
        assert!(
            !k.selects("shop", MARKERS) && !k.selects("shop", "system.views") && !k.selects("shop", "tmp.agg_out.1")
        );
        let k = known(Some("shop"), &["*.*"], &[]);
        assert_eq!((k.only(), k.markers()), (None, ("switchyard", "markers")));
        assert!(k.selects("other", "a") && !k.selects("admin", "a") && !k.selects("switchyard", "markers"));
        assert_eq!(known(None, &["shop.*"], &[]).only(), None);
    }
}
