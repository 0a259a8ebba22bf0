//! Numbers of tables within one run of the daemon.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::schema::{TableId, TableName};

/// Gives numbers to tables, the same one for the same name as long as the run lasts.
#[derive(Debug, Default)]
pub struct TableIds {
    by_name: Mutex<HashMap<TableName, TableId>>,
}

impl TableIds {
    /// The table's number, a new one if the name was not seen before.
    pub fn id(&self, name: &TableName) -> TableId {
        let mut map = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        let next = TableId(map.len() as u32);
        *map.entry(name.clone()).or_insert(next)
    }
    /// Lets a renamed table keep its number.
    pub fn renamed(&self, id: TableId, to: &TableName) {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner).insert(to.clone(), id);
    }
}
