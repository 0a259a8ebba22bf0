//! Reads what `pg_dump --schema-only --verbose` prints: entries with their dependencies, stages and tables. Pure.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::pgwire::quote::quoted;
use crate::schema::{SchemaObject, SchemaScript, Stage, TableName};

/// One entry of the dump.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entry {
    /// The dump's own number.
    id: u32,
    /// Numbers of the entries that it needs; the plain text says so only of comments and ownerships.
    needs: Vec<u32>,
    /// Class and object id in the catalog it came from.
    object: Option<Object>,
    name: String,
    kind: String,
    schema: String,
    sql: String,
}

/// An object in the catalog: the class (`pg_class`, `pg_type`, …) and the object id.
pub type Object = (u32, u32);

/// A row of `pg_depend`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// What depends.
    pub object: Object,
    /// What it depends on.
    pub on: Object,
    /// Whether it is a part of what it depends on (dependency types `i` and `a`).
    pub part: bool,
}

/// Which of the dump's objects are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The catalog's dependencies; needed where not everything is wanted.
    pub dependencies: &'a [Dependency],
    /// The tables of the migration; partitions are meant with their parents.
    pub tables: &'a [TableName],
    /// Whether everything else in the database is wanted, too.
    pub everything: bool,
}

/// Cuts the dump's text into objects. Objects keep the dump's order, in which they can be run.
pub fn parse(text: &str, wanted: Wanted<'_>, made_by: &str) -> SchemaScript {
    let (preamble, entries) = split(text);
    let order = Order::new(&entries, wanted);
    let mut objects: Vec<SchemaObject> = Vec::with_capacity(entries.len());
    let mut refresh = Vec::new();
    let chosen = order.chosen(&entries, wanted);
    let mut post_data = false;
    for (i, e) in entries.iter().enumerate() {
        post_data |= matches!(&*e.kind, "INDEX" | "CONSTRAINT" | "FK CONSTRAINT" | "TRIGGER" | "RULE");
        if !chosen.contains(&i) || e.sql.is_empty() {
            continue;
        }
        let table = order.table_of[i].as_ref().and_then(|t| order.copied_with(t));
        let stage = match stage(&e.kind, &e.sql, post_data) {
            // Indexes of materialized views and of tables that are not copied wait for no table.
            Stage::TableCopied if table.is_none() => Stage::Consistent,
            s => s,
        };
        let kind_of_table = matches!(&*e.kind, "TABLE" | "TABLE ATTACH" | "DEFAULT" | "SEQUENCE OWNED BY" | "SEQUENCE");
        let table = if stage == Stage::BeforeCopy && !kind_of_table { None } else { table };
        if e.kind == "MATERIALIZED VIEW" {
            refresh.push(SchemaObject {
                kind: "MATERIALIZED VIEW DATA".into(),
                schema: e.schema.clone(),
                name: e.name.clone(),
                table: None,
                sql: format!("REFRESH MATERIALIZED VIEW {}.{};", quoted(&e.schema), quoted(&e.name)),
                stage: Stage::Consistent,
            });
        }
        objects.push(SchemaObject {
            kind: e.kind.clone(),
            schema: e.schema.clone(),
            name: e.name.clone(),
            table,
            sql: e.sql.clone(),
            stage,
        });
    }
    objects.extend(refresh);
    SchemaScript { dialect: "postgres".into(), preamble, objects, made_by: made_by.into(), ..SchemaScript::default() }
}

/// When an entry is made. `post_data`: an index or a constraint came before it in the dump, so it may depend on one.
fn stage(kind: &str, sql: &str, post_data: bool) -> Stage {
    match kind {
        "CONSTRAINT" | "INDEX" | "INDEX ATTACH" | "STATISTICS" => Stage::TableCopied,
        "FK CONSTRAINT"
        | "CHECK CONSTRAINT"
        | "TRIGGER"
        | "RULE"
        | "ROW SECURITY"
        | "POLICY"
        | "EVENT TRIGGER"
        | "MATERIALIZED VIEW DATA" => Stage::Consistent,
        "COMMENT" => {
            let words = words(sql);
            let of = |n: usize| words.get(n).map_or("", |w| w.text.as_str());
            match of(2) {
                "CONSTRAINT" | "INDEX" | "TRIGGER" | "RULE" | "POLICY" | "STATISTICS" | "EVENT" => Stage::Consistent,
                _ if post_data => Stage::Consistent,
                _ => Stage::BeforeCopy,
            }
        }
        "VIEW" | "MATERIALIZED VIEW" | "FUNCTION" | "PROCEDURE" | "AGGREGATE" if post_data => Stage::Consistent,
        _ => Stage::BeforeCopy,
    }
}

/// Which table each entry belongs to, and the partition trees.
struct Order {
    table_of: Vec<Option<TableName>>,
    parent: HashMap<TableName, TableName>,
    copied: HashSet<TableName>,
}

impl Order {
    fn new(entries: &[Entry], wanted: Wanted<'_>) -> Order {
        let mut index_tables: HashMap<TableName, TableName> = HashMap::new();
        let mut parent = HashMap::new();
        let mut table_of = Vec::with_capacity(entries.len());
        for e in entries {
            let words = words(&e.sql);
            let after = |word: &str| position(&words, word).and_then(|p| name_at(&words, p + 1));
            let table = match &*e.kind {
                "TABLE" | "FOREIGN TABLE" => Some(NameAt::of(TableName::new(&*e.schema, &*e.name))),
                "CONSTRAINT" | "FK CONSTRAINT" | "CHECK CONSTRAINT" | "DEFAULT" | "ROW SECURITY" => after("TABLE"),
                // An identity's sequence comes as ALTER TABLE.
                "SEQUENCE" if words.first().is_some_and(|w| w.is("ALTER")) => after("TABLE"),
                "SEQUENCE OWNED BY" => after("BY").map(|n| n.column_of()),
                "INDEX" | "TRIGGER" | "POLICY" => after("ON"),
                "RULE" => after("TO"),
                "STATISTICS" => {
                    words.iter().rposition(|w| w.is("FROM") && w.depth == 0).and_then(|p| name_at(&words, p + 1))
                }
                "TABLE ATTACH" => {
                    let child = after("PARTITION").map(NameAt::table);
                    if let (Some(child), Some(p)) = (&child, after("TABLE")) {
                        parent.insert(child.clone(), p.table());
                    }
                    child.map(NameAt::of)
                }
                "INDEX ATTACH" => {
                    after("PARTITION").and_then(|i| index_tables.get(&i.table()).cloned()).map(NameAt::of)
                }
                "COMMENT" => comment_table(&words, &index_tables).map(NameAt::of),
                _ => None,
            }
            .map(NameAt::table);
            if let Some(t) = &table {
                let index = match &*e.kind {
                    "INDEX" => position(&words, "INDEX").and_then(|p| name_at(&words, p + 1)).map(|n| n.last()),
                    "CONSTRAINT" => {
                        position(&words, "CONSTRAINT").and_then(|p| name_at(&words, p + 1)).map(|n| n.last())
                    }
                    _ => None,
                };
                if let Some(index) = index {
                    index_tables.insert(TableName::new(&*t.schema, index), t.clone());
                }
            }
            table_of.push(table);
        }
        Order { table_of, parent, copied: wanted.tables.iter().cloned().collect() }
    }
    /// The table of the migration with which the relation is copied: itself or a parent of the partition.
    fn copied_with(&self, table: &TableName) -> Option<TableName> {
        let mut seen = 0;
        let mut at = table;
        loop {
            if self.copied.contains(at) {
                return Some(at.clone());
            }
            at = self.parent.get(at)?;
            seen += 1;
            if seen > self.parent.len() {
                return None;
            }
        }
    }
    /// The entries that are wanted, by index.
    fn chosen(&self, entries: &[Entry], wanted: Wanted<'_>) -> BTreeSet<usize> {
        let ours = |e: &Entry| {
            e.schema == "switchyard"
                || (e.kind == "SCHEMA" && e.name == "switchyard")
                || (e.kind == "EVENT TRIGGER" && e.name.starts_with("switchyard_"))
                // Table and trigger.
                || (e.kind == "TRIGGER" && (e.name.ends_with(" switchyard_truncate") || e.name.ends_with(" !switchyard_truncated")))
        };
        if wanted.everything {
            return (0..entries.len()).filter(|i| !ours(&entries[*i])).collect();
        }
        let by_id: HashMap<u32, usize> = entries.iter().enumerate().map(|(i, e)| (e.id, i)).collect();
        let by_object: HashMap<Object, usize> =
            entries.iter().enumerate().filter_map(|(i, e)| Some((e.object?, i))).collect();
        let mut needs: HashMap<Object, Vec<Object>> = HashMap::new();
        for d in wanted.dependencies {
            needs.entry(d.object).or_default().push(d.on);
            // A default, a check or a view's rule that is no entry of its own lies in the statement of what it belongs to.
            if d.part && !by_object.contains_key(&d.object) {
                needs.entry(d.on).or_default().push(d.object);
            }
        }
        let closure = |from: usize| {
            let mut found = BTreeSet::from([from]);
            let mut seen: HashSet<Object> = HashSet::new();
            let mut open: Vec<Object> = entries[from].object.into_iter().collect();
            open.extend(entries[from].needs.iter().filter_map(|n| entries[*by_id.get(n)?].object));
            while let Some(o) = open.pop() {
                if seen.insert(o) {
                    found.extend(by_object.get(&o));
                    open.extend(needs.get(&o).into_iter().flatten());
                }
            }
            found
        };
        let is_table = |i: &usize| entries[*i].kind == "TABLE";
        let takes_part = |i: usize| self.table_of[i].as_ref().is_some_and(|t| self.copied_with(t).is_some());
        let mut chosen: BTreeSet<usize> = BTreeSet::new();
        for (i, e) in entries.iter().enumerate() {
            if !takes_part(i) {
                continue;
            }
            match &*e.kind {
                "TABLE" | "TABLE ATTACH" | "DEFAULT" | "SEQUENCE" => chosen.extend(closure(i)),
                // A sequence that a column owns without using it.
                "SEQUENCE OWNED BY" => {
                    let owned = position(&words(&e.sql), "SEQUENCE").and_then(|p| name_at(&words(&e.sql), p + 1));
                    let owned = owned.map(NameAt::table);
                    chosen.insert(i);
                    chosen.extend(entries.iter().position(|s| {
                        s.kind == "SEQUENCE" && owned.as_ref().is_some_and(|o| o.schema == s.schema && o.name == s.name)
                    }));
                }
                _ => {}
            }
        }
        for (i, e) in entries.iter().enumerate() {
            if chosen.contains(&i) || e.kind == "COMMENT" || !takes_part(i) || ours(e) {
                continue;
            }
            let needs = closure(i);
            // A foreign key, trigger or policy that needs a table that does not take part stays behind.
            if !needs.iter().any(|n| is_table(n) && !chosen.contains(n)) {
                chosen.extend(needs);
            }
        }
        let ids: HashSet<u32> = chosen.iter().map(|i| entries[*i].id).collect();
        let schemas: HashSet<String> = chosen.iter().map(|i| entries[*i].schema.clone()).collect();
        for (i, e) in entries.iter().enumerate() {
            let belongs = match &*e.kind {
                "SCHEMA" => schemas.contains(&e.name),
                "COMMENT" => !e.needs.is_empty() && e.needs.iter().all(|n| ids.contains(n)),
                _ => false,
            };
            if belongs {
                chosen.insert(i);
            }
        }
        chosen.retain(|i| !ours(&entries[*i]));
        chosen
    }
}

fn comment_table(words: &[Word], indexes: &HashMap<TableName, TableName>) -> Option<TableName> {
    let what = words.get(2)?;
    match &*what.text {
        "TABLE" => Some(name_at(words, 3)?.table()),
        "COLUMN" => Some(name_at(words, 3)?.column_of().table()),
        "INDEX" => indexes.get(&name_at(words, 3)?.table()).cloned(),
        "CONSTRAINT" | "TRIGGER" | "RULE" | "POLICY" => {
            let on = words.iter().skip(4).position(|w| w.is("ON"))?;
            Some(name_at(words, on + 5)?.table())
        }
        _ => None,
    }
}

/// Cuts the text at its entry headers. A header counts only where no quote, dollar quote or comment is open.
fn split(text: &str) -> (String, Vec<Entry>) {
    let mut entries: Vec<Entry> = Vec::new();
    let mut preamble = String::new();
    let mut access_method = String::new();
    let mut scan = Scanner::default();
    let mut pending = Entry::default();
    let mut body = String::new();
    let finish = |entry: &mut Option<Entry>, body: &mut String, entries: &mut Vec<Entry>| {
        let sql = body.trim();
        if let Some(mut e) = entry.take() {
            e.sql = complete(&e, sql);
            entries.push(e);
        }
        body.clear();
    };
    let mut current: Option<Entry> = None;
    for line in text.split_inclusive('\n') {
        let bare = line.trim_end_matches(['\n', '\r']);
        if scan.outside() {
            if let Some(rest) = bare.strip_prefix("-- TOC entry ") {
                // -- TOC entry 221 (class 1259 OID 17068)
                let mut numbers = rest.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<u32>().ok());
                pending.id = numbers.next().unwrap_or(0);
                pending.object = numbers.next().zip(numbers.next()).filter(|o| o.1 != 0);
                continue;
            }
            if let Some(rest) = bare.strip_prefix("-- Dependencies:") {
                pending.needs = rest.split_whitespace().filter_map(|n| n.parse().ok()).collect();
                continue;
            }
            if let Some((name, kind, schema)) = header(bare) {
                if current.is_none() {
                    preamble = std::mem::take(&mut body);
                }
                finish(&mut current, &mut body, &mut entries);
                let mut e = std::mem::take(&mut pending);
                (e.name, e.kind, e.schema) = (name, kind, schema);
                if !access_method.is_empty() && matches!(&*e.kind, "TABLE" | "MATERIALIZED VIEW") {
                    body.push_str(&access_method);
                }
                current = Some(e);
                continue;
            }
            if bare.starts_with("--") || bare.starts_with('\\') {
                continue;
            }
            if let Some(method) = bare.strip_prefix("SET default_table_access_method = ") {
                access_method = if method == "heap;" { String::new() } else { format!("{bare}\n") };
                continue;
            }
            if bare.starts_with("SET default_tablespace ") {
                continue;
            }
        }
        scan.feed(line);
        body.push_str(line);
    }
    if current.is_none() {
        preamble = std::mem::take(&mut body);
    }
    finish(&mut current, &mut body, &mut entries);
    (settings(&preamble), entries)
}

/// The preamble's settings that mean the same on every server version. Time limits are the session's own affair.
fn settings(preamble: &str) -> String {
    preamble.lines().map(str::trim).filter(|l| !l.is_empty() && !l.contains("_timeout")).collect::<Vec<_>>().join("\n")
}

/// `-- Name: items; Type: TABLE; Schema: public; Owner: -`. The name may hold anything, so it is read from the end.
fn header(line: &str) -> Option<(String, String, String)> {
    let rest = line.strip_prefix("-- Name: ")?;
    let (rest, _owner) = rest.rsplit_once("; Owner: ")?;
    let (rest, schema) = rest.rsplit_once("; Schema: ")?;
    let (name, kind) = rest.rsplit_once("; Type: ")?;
    let schema = if schema == "-" { "" } else { schema };
    Some((name.to_owned(), kind.to_owned(), schema.to_owned()))
}

/// A schema may exist at the target already.
fn complete(entry: &Entry, sql: &str) -> String {
    match sql.strip_prefix("CREATE SCHEMA ") {
        Some(rest) if entry.kind == "SCHEMA" => format!("CREATE SCHEMA IF NOT EXISTS {rest}"),
        _ => sql.to_owned(),
    }
}

/// Follows SQL's quotes and comments across lines.
#[derive(Debug, Default)]
struct Scanner {
    open: Open,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Open {
    #[default]
    Nothing,
    /// `'…'`; whether backslashes escape (`E'…'`).
    Text(bool),
    Name,
    Dollar(String),
    Comment(u32),
}

impl Scanner {
    fn outside(&self) -> bool {
        self.open == Open::Nothing
    }
    fn feed(&mut self, line: &str) {
        let bytes = line.as_bytes();
        let mut i = 0;
        while i < bytes.len() {
            let rest = &line.as_bytes()[i..];
            match &mut self.open {
                Open::Nothing => match rest[0] {
                    b'\'' => {
                        let escapes = i > 0 && matches!(bytes[i - 1], b'e' | b'E') && (i < 2 || !is_word(bytes[i - 2]));
                        self.open = Open::Text(escapes);
                    }
                    b'"' => self.open = Open::Name,
                    b'-' if rest.starts_with(b"--") => return,
                    b'/' if rest.starts_with(b"/*") => {
                        self.open = Open::Comment(1);
                        i += 1;
                    }
                    b'$' if i == 0 || !is_word(bytes[i - 1]) => {
                        let end = rest[1..].iter().position(|b| *b == b'$' || !is_word(*b));
                        if let Some(end) = end.filter(|e| rest[1 + e] == b'$') {
                            // The tag lies between ASCII dollars, so the cut is at character borders.
                            self.open = Open::Dollar(line[i..i + end + 2].to_owned());
                            i += end + 1;
                        }
                    }
                    _ => {}
                },
                Open::Text(true) if rest[0] == b'\\' => i += 1,
                Open::Text(_) if rest[0] == b'\'' => self.open = Open::Nothing,
                Open::Name if rest[0] == b'"' => self.open = Open::Nothing,
                Open::Dollar(tag) if rest.starts_with(tag.as_bytes()) => {
                    i += tag.len() - 1;
                    self.open = Open::Nothing;
                }
                Open::Comment(depth) => {
                    if rest.starts_with(b"/*") {
                        *depth += 1;
                        i += 1;
                    } else if rest.starts_with(b"*/") {
                        *depth -= 1;
                        i += 1;
                        if *depth == 0 {
                            self.open = Open::Nothing;
                        }
                    }
                }
                _ => {}
            }
            i += 1;
        }
    }
}

fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80
}

/// A word of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Word {
    text: String,
    quoted: bool,
    /// Open parentheses around it.
    depth: u32,
    /// Whether a dot stands right before it.
    dotted: bool,
}

impl Word {
    fn is(&self, keyword: &str) -> bool {
        !self.quoted && !self.dotted && self.text == keyword
    }
}

/// How much of a statement is looked at: its head names its table. Statistics name theirs at the end, but are short.
const HEAD: usize = 20_000;

/// The identifiers and keywords of a statement's head.
fn words(sql: &str) -> Vec<Word> {
    let mut out = Vec::new();
    let mut chars = sql.char_indices().peekable();
    let (mut depth, mut dotted) = (0_u32, false);
    while let Some((at, c)) = chars.next() {
        if at > HEAD {
            break;
        }
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '.' => {
                dotted = true;
                continue;
            }
            '\'' => while chars.next().is_some_and(|(_, c)| c != '\'') {},
            '"' => {
                let mut text = String::new();
                while let Some((_, c)) = chars.next() {
                    if c == '"' {
                        if chars.peek().is_some_and(|(_, c)| *c == '"') {
                            chars.next();
                        } else {
                            break;
                        }
                    }
                    text.push(c);
                }
                out.push(Word { text, quoted: true, depth, dotted });
            }
            c if c.is_alphanumeric() || c == '_' => {
                let mut text = String::from(c);
                while let Some((_, c)) = chars.next_if(|(_, c)| c.is_alphanumeric() || *c == '_' || *c == '$') {
                    text.push(c);
                }
                out.push(Word { text, quoted: false, depth, dotted });
            }
            _ => {}
        }
        dotted = false;
    }
    out
}

fn position(words: &[Word], keyword: &str) -> Option<usize> {
    words.iter().position(|w| w.is(keyword))
}

/// A dotted name.
#[derive(Clone, Debug)]
struct NameAt(Vec<String>);

impl NameAt {
    fn of(t: TableName) -> NameAt {
        NameAt(vec![t.schema, t.name])
    }
    /// The table whose column this is.
    fn column_of(mut self) -> NameAt {
        self.0.pop();
        self
    }
    fn table(self) -> TableName {
        let mut parts = self.0.into_iter();
        match (parts.next(), parts.next()) {
            (Some(schema), Some(name)) => TableName { schema, name },
            (name, _) => TableName::new("", name.unwrap_or_default()),
        }
    }
    fn last(mut self) -> String {
        self.0.pop().unwrap_or_default()
    }
}

/// The name that begins at a word, `ONLY` skipped.
fn name_at(words: &[Word], at: usize) -> Option<NameAt> {
    let at = if words.get(at)?.is("ONLY") { at + 1 } else { at };
    let mut parts = vec![words.get(at)?.text.clone()];
    parts.extend(words[at + 1..].iter().take_while(|w| w.dotted).map(|w| w.text.clone()));
    Some(NameAt(parts))
}

#[cfg(test)]
#[path = "dump_text_tests.rs"]
mod tests;
