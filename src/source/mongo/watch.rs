//! The command that opens a change stream: where it begins, what it tells, and of which collections. Pure.

use bson::{Bson, Document, doc};

use super::known::{Known, NOT_COPIED};
use super::token::Time;
use crate::position::OplogPosition;

/// Where a stream begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// Behind the event of the position's token; by its time where it has none.
    Token,
    /// At the position's time: events that were seen come again.
    Time,
}

/// How a stream is opened.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Where it begins.
    pub from: From,
    /// The server tells of collections that are made, indexes and the like (6.0 and newer).
    pub expanded: bool,
    /// Images from before and after a change, where the server keeps them (6.0 and newer).
    pub images: bool,
    /// Events that are too large for one document come in pieces (7.0, 6.0.9 and newer).
    pub pieces: bool,
    /// Only which documents changed, for naming one that is too large.
    pub keys_only: bool,
}

/// The database to run the command in, and the command.
pub fn command(known: &Known, at: &OplogPosition, wanted: Wanted, batch: u32) -> (String, Document) {
    let mut stage = match (&at.token, wanted.from) {
        // Not `resumeAfter`: behind a dropped database only this goes on, and everywhere else both do the same.
        (Some(token), From::Token) => doc! { "startAfter": { "_data": &**token } },
        _ => doc! { "startAtOperationTime": Time::from(at).timestamp() },
    };
    if wanted.expanded {
        stage.insert("showExpandedEvents", true);
    }
    if wanted.images {
        stage.insert("fullDocument", "whenAvailable");
        stage.insert("fullDocumentBeforeChange", "whenAvailable");
    }
    let database = match known.only() {
        Some(database) => database.to_owned(),
        None => {
            stage.insert("allChangesForCluster", true);
            "admin".to_owned()
        }
    };
    let mut pipeline = vec![doc! { "$changeStream": stage }];
    pipeline.extend(filter(known).map(|f| doc! { "$match": f }));
    if wanted.keys_only {
        pipeline.push(doc! { "$project": { "operationType": 1, "clusterTime": 1, "ns": 1, "documentKey": 1 } });
    }
    if wanted.pieces {
        pipeline.push(doc! { "$changeStreamSplitLargeEvent": {} });
    }
    let concern = doc! { "level": "majority" };
    let command =
        doc! { "aggregate": 1, "pipeline": pipeline, "cursor": { "batchSize": batch }, "readConcern": concern };
    (database, command)
}

/// Which events concern the selection. `None` where all of the database do.
fn filter(known: &Known) -> Option<Document> {
    let (schemas, tables) = known.selection.include_regexes();
    let (not_schemas, not_tables) = known.selection.exclude_regexes();
    if known.only().is_some() && not_tables.is_empty() && tables.iter().any(|t| t == "^.*$") {
        return None;
    }
    // A name may hold a newline, which a point does not match by itself.
    let regex = |r: &String| doc! { "$regex": r, "$options": "s" };
    let pair = |(s, t): (&String, &String)| Bson::from(doc! { "ns.db": regex(s), "ns.coll": regex(t) });
    let mut selected = vec![doc! { "ns.db": { "$nin": NOT_COPIED.to_vec() } }];
    if !schemas.is_empty() {
        selected.push(doc! { "$or": schemas.iter().zip(&tables).map(pair).collect::<Vec<_>>() });
    }
    if !not_schemas.is_empty() {
        selected.push(doc! { "$nor": not_schemas.iter().zip(&not_tables).map(pair).collect::<Vec<_>>() });
    }
    let (database, collection) = known.markers();
    // A rename's other name may be the one that is selected.
    let always = vec!["rename", "dropDatabase", "invalidate"];
    Some(doc! { "$or": [
        { "$and": selected },
        { "ns.db": database, "ns.coll": collection },
        { "operationType": { "$in": always } },
    ] })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::schema::TableId;
    use crate::transform::select::Selection;

    fn known(home: Option<&str>, include: &[&str], exclude: &[&str]) -> Known {
        Known {
            selection: Selection::new(include, exclude).unwrap(),
            home: home.map(str::to_owned),
            fields: Arc::default(),
            options: crate::source::mongo::mapping::Options::default(),
            images: true,
            ids: Arc::new(|_| TableId(1)),
        }
    }
    const ALL: Wanted = Wanted { from: From::Token, expanded: true, images: true, pieces: false, keys_only: false };

    fn stages(command: &Document) -> Vec<Document> {
        let stages = command.get_array("pipeline").unwrap().iter();
        stages.map(|s| s.as_document().unwrap().clone()).collect()
    }

    #[test]
    fn given_one_whole_database_when_watched_then_its_stream_is_not_filtered() {
        let at: OplogPosition = "5.6,82AA".parse().unwrap();
        let (database, command) = command(&known(Some("shop"), &["shop.*"], &[]), &at, ALL, 10);
        let stages = stages(&command);
        assert_eq!((database.as_str(), stages.len()), ("shop", 1));
        let stage = stages[0].get_document("$changeStream").unwrap();
        assert_eq!(stage.get_document("startAfter").unwrap(), &doc! { "_data": "82AA" });
        assert!(stage.get("allChangesForCluster").is_none());
    }

    #[test]
    fn given_several_databases_when_watched_then_the_selection_is_the_filter() {
        let at: OplogPosition = "5.6".parse().unwrap();
        let wanted = Wanted { pieces: true, ..ALL };
        let (database, command) = command(&known(None, &["a.*", "b.x"], &["a.y"]), &at, wanted, 10);
        let stages = stages(&command);
        assert_eq!((database.as_str(), stages.len()), ("admin", 3));
        let stage = stages[0].get_document("$changeStream").unwrap();
        assert_eq!(stage.get_timestamp("startAtOperationTime").unwrap(), bson::Timestamp { time: 5, increment: 6 });
        assert!(stages[1].contains_key("$match") && stages[2].contains_key("$changeStreamSplitLargeEvent"));
    }
}
