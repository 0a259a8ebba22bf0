//! The binary log's decoder against what real servers wrote, and against the same rows read by the text protocol.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use secrecy::SecretString;
use switchyard::mywire::conn::{MyConn, Preset};
use switchyard::mywire::conninfo::MyConnInfo;
use switchyard::mywire::packet::text_fields;
use switchyard::mywire::types::ColumnType;
use switchyard::sandbox::{self, MyInstall, MyServer};
use switchyard::source::mysql::binlog::{
    Body, Decoder, Flavour, KnownColumn, LogEvent, OldRows, Step, TableLayout, TransactionTracker,
};
use switchyard::value::{Datum, Row};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/mysql")
}

/// The statements of a fixture for one of the two: `/*M … */` is MariaDB's, `/*Y … */` MySQL's.
fn script(name: &str, flavour: Flavour) -> String {
    let text = std::fs::read_to_string(fixtures().join(name)).unwrap();
    let (mine, other) = if flavour == Flavour::MariaDb { ("/*M ", "/*Y ") } else { ("/*Y ", "/*M ") };
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find("/*") {
        let end = at + rest[at..].find("*/").unwrap();
        out.push_str(&rest[..at]);
        let comment = &rest[at..end];
        assert!(comment.starts_with(mine) || comment.starts_with(other), "{comment}");
        if let Some(own) = comment.strip_prefix(mine) {
            out.push_str(own);
        }
        rest = &rest[end + 2..];
    }
    out + rest
}

/// The events of a log file, without the four bytes at its front.
pub fn events(file: &[u8]) -> Vec<Bytes> {
    assert_eq!(&file[..4], b"\xfebin");
    let file = Bytes::copy_from_slice(&file[4..]);
    let (mut found, mut at) = (Vec::new(), 0);
    while at < file.len() {
        let size = u32::from_le_bytes(file[at + 9..at + 13].try_into().unwrap()) as usize;
        found.push(file.slice(at..at + size));
        at += size;
    }
    found
}

type Known = BTreeMap<String, Vec<KnownColumn>>;
type Content = BTreeMap<String, BTreeMap<Vec<u8>, String>>;

/// Follows a log and keeps every table's rows by their first column.
struct Replay<'a> {
    decoder: Decoder,
    tracker: TransactionTracker,
    known: &'a Known,
    layouts: BTreeMap<u64, TableLayout>,
    tables: Content,
    kinds: BTreeMap<u8, usize>,
    transactions: usize,
}

fn shown(row: &Row) -> String {
    let field = |d: Datum<'_>| match d {
        Datum::Null => "NULL".to_owned(),
        Datum::Unsent => "UNSENT".to_owned(),
        Datum::Text(t) => format!("{:?}", String::from_utf8(t.to_vec()).unwrap()),
    };
    row.iter().map(field).collect::<Vec<_>>().join("\t")
}

fn key(row: &Row) -> Vec<u8> {
    match row.get(0) {
        Datum::Text(t) => t.to_vec(),
        other => panic!("a key that is {other:?}"),
    }
}

impl<'a> Replay<'a> {
    fn new(flavour: Flavour, known: &'a Known) -> Self {
        Replay {
            decoder: Decoder::new(flavour),
            tracker: TransactionTracker::new(flavour),
            known,
            layouts: BTreeMap::new(),
            tables: BTreeMap::new(),
            kinds: BTreeMap::new(),
            transactions: 0,
        }
    }

    fn run(mut self, file: &[u8]) -> Self {
        for bytes in events(file) {
            let event = self.decoder.event(&bytes).unwrap();
            self.take(&event);
            if let Body::Payload(payload) = &event.body {
                let mut reader = payload.reader().unwrap();
                while let Some(event) = self.decoder.inner(&mut reader).unwrap() {
                    self.take(&event);
                }
            }
        }
        assert!(!self.tracker.is_open());
        self
    }

    fn take(&mut self, event: &LogEvent) {
        *self.kinds.entry(event.header.kind).or_default() += 1;
        let step = self.tracker.step(event).unwrap_or_else(|e| panic!("{e}: {event:?}"));
        self.transactions += usize::from(step == Step::Commit);
        match &event.body {
            Body::TableMap(map) => {
                let table = map.parse().unwrap();
                let known = self.known.get(&table.table).map(|k| &k[..]);
                let layout = TableLayout::new(&table, known).unwrap();
                self.layouts.insert(map.table_id, layout);
            }
            Body::Rows(rows) => {
                let layout = &self.layouts[&rows.table_id];
                let table = self.tables.entry(layout.table.clone()).or_default();
                for change in rows.decode(layout, OldRows::Whole).unwrap() {
                    if let Some(old) = change.old {
                        // Columns that were added since are behind the others.
                        let was = table.remove(&key(&old)).expect("an old row was not there");
                        assert!(shown(&old).starts_with(&was), "an old row is not what was there");
                    }
                    if let Some(new) = change.new {
                        assert_eq!(table.insert(key(&new), shown(&new)), None);
                    }
                }
                for change in rows.decode(layout, OldRows::KeyIfChanged(&[0])).unwrap() {
                    if let (Some(old), Some(new)) = (&change.old, &change.new) {
                        assert!(key(old) != key(new) && old.iter().skip(1).all(|d| d == Datum::Null));
                    }
                }
            }
            _ => {}
        }
    }
}

async fn connect(server: &MyServer, database: &str) -> MyConn {
    let info = MyConnInfo::parse("source.url", &SecretString::from(server.url(database))).unwrap();
    MyConn::connect(&info, "source", "test", Preset::Source).await.unwrap()
}

/// All tables of the database by the text protocol: their columns' types and their rows.
async fn by_text(server: &MyServer) -> (Known, Content) {
    let mut conn = connect(server, "t").await;
    let columns = conn
        .query(
            "select table_name, column_name, column_type, character_set_name from information_schema.columns \
             where table_schema = 't' order by table_name, ordinal_position",
        )
        .await
        .unwrap();
    let mut known = Known::new();
    for c in columns {
        let text = |i: usize| c[i].as_ref().map(|t| String::from_utf8(t.to_vec()).unwrap());
        let ty = ColumnType::parse(&text(2).unwrap(), text(3).as_deref()).unwrap();
        known.entry(text(0).unwrap()).or_default().push(KnownColumn { name: text(1).unwrap(), ty });
    }
    let mut content = Content::new();
    for (table, columns) in &known {
        let list: Vec<_> = columns.iter().map(|c| c.ty.select_expr(&format!("`{}`", c.name))).collect();
        conn.query_start(format!("select {} from `{table}`", list.join(", "))).await.unwrap();
        let rows = content.entry(table.clone()).or_default();
        while let Some(block) = conn.next_block().await.unwrap() {
            for row in block.iter() {
                let mut b = switchyard::value::RowBuilder::default();
                for (field, column) in text_fields(row).zip(columns) {
                    match field.unwrap() {
                        None => b.push(Datum::Null),
                        Some(range) => {
                            let mut out = Vec::new();
                            let value = &row[range];
                            column.ty.render_text(value, &mut out).unwrap_or_else(|e| panic!("{}: {e}", column.name));
                            b.push(Datum::Text(&out));
                        }
                    }
                }
                let row = b.finish();
                rows.insert(key(&row), shown(&row));
            }
        }
    }
    (known, content)
}

/// Runs statements on a new server and returns its log's file that holds exactly them, and what was there in the end.
async fn record(server: &MyServer, statements: &str) -> (Vec<u8>, Known, Content) {
    server.sql("drop database if exists t; create database t character set utf8mb4; flush binary logs").unwrap();
    let mut conn = connect(server, "t").await;
    let text = |t: &Option<Bytes>| String::from_utf8(t.as_ref().unwrap().to_vec()).unwrap();
    let base = text(&conn.query("select @@log_bin_basename").await.unwrap()[0][0]);
    let log = text(&conn.query("show binary logs").await.unwrap().last().unwrap()[0]);
    conn.execute(format!("set session sql_mode = ''; {statements}")).await.unwrap();
    server.sql("flush binary logs").unwrap();
    let file = Path::new(&base).parent().unwrap().join(log);
    let (known, content) = by_text(server).await;
    (std::fs::read(file).unwrap(), known, content)
}

#[track_caller]
fn assert_same(replayed: &Content, read: &Content, known: &Known) {
    for (table, rows) in read {
        let empty = BTreeMap::new();
        let replayed = replayed.get(table).unwrap_or(&empty);
        assert_eq!(replayed.keys().collect::<Vec<_>>(), rows.keys().collect::<Vec<_>>(), "{table}");
        for (key, row) in rows {
            let log = replayed[key].split('\t');
            for ((log, read), column) in log.zip(row.split('\t')).zip(&known[table]) {
                assert_eq!(log, read, "{table}.{} of {}", column.name, key.escape_ascii());
            }
        }
    }
}

fn fixture(flavour: Flavour, end: &str) -> PathBuf {
    fixtures().join(format!("{}.{end}", if flavour == Flavour::MariaDb { "mariadb" } else { "mysql" }))
}

/// The log's bytes, and beside them what the text protocol said: columns, an empty line, rows.
async fn write_fixture(flavour: Flavour, file: &[u8], server: &MyServer, read: &Content) {
    let columns = server
        .sql(
            "select column_name, coalesce(character_set_name, ''), column_type from information_schema.columns \
             where table_schema = 't' order by ordinal_position",
        )
        .unwrap();
    let rows: Vec<_> = read["alltypes"].values().map(String::as_str).collect();
    std::fs::write(fixture(flavour, "bin"), file).unwrap();
    std::fs::write(fixture(flavour, "rows"), format!("{columns}\n\n{}\n", rows.join("\n"))).unwrap();
}

/// `SWITCHYARD_WRITE_FIXTURES=1 cargo nextest run -E 'test(/given_every_type/)'` makes the files anew.
#[test]
fn given_captured_logs_when_decoded_then_the_rows_are_what_the_servers_said() {
    for flavour in [Flavour::MySql, Flavour::MariaDb] {
        let text = std::fs::read_to_string(fixture(flavour, "rows")).unwrap();
        let (columns, rows) = text.split_once("\n\n").unwrap();
        let column = |line: &str| {
            let mut parts = line.splitn(3, '|');
            let (name, charset, ty) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
            let charset = (!charset.is_empty()).then_some(charset);
            KnownColumn { name: name.to_owned(), ty: ColumnType::parse(ty, charset).unwrap() }
        };
        let known = Known::from([("alltypes".to_owned(), columns.lines().map(column).collect())]);
        let replay = Replay::new(flavour, &known).run(&std::fs::read(fixture(flavour, "bin")).unwrap());
        let found: Vec<_> = replay.tables["alltypes"].values().map(String::as_str).collect();
        assert_eq!(found, rows.lines().collect::<Vec<_>>());
    }
}

fn servers() -> [(MyInstall, Flavour); 2] {
    [(sandbox::find_mysql().unwrap(), Flavour::MySql), (sandbox::find_mariadb().unwrap(), Flavour::MariaDb)]
}

#[tokio::test]
async fn given_every_type_when_read_from_the_log_and_by_the_text_protocol_then_the_bytes_are_the_same() {
    for (install, flavour) in servers() {
        let server = MyServer::builder(&install).start().unwrap();
        let (file, known, read) = record(&server, &script("all_types.sql", flavour)).await;
        let replay = Replay::new(flavour, &known).run(&file);
        assert_same(&replay.tables, &read, &known);
        assert!(read["alltypes"].len() >= 7);
        if std::env::var_os("SWITCHYARD_WRITE_FIXTURES").is_some() {
            write_fixture(flavour, &file, &server, &read).await;
        }
        if flavour == Flavour::MySql {
            // Nothing but the log.
            let none = Known::new();
            assert_same(&Replay::new(flavour, &none).run(&file).tables, &read, &known);
        }
        // Compressed, in each server's own way, and without the metadata.
        let (setting, kind) = match flavour {
            Flavour::MySql => ("set session binlog_transaction_compression = ON", 40),
            Flavour::MariaDb => ("set global log_bin_compress = ON, global log_bin_compress_min_len = 10", 166),
        };
        server.sql("set global binlog_row_metadata = MINIMAL").unwrap();
        let (file, known, read) = record(&server, &format!("{setting}; {}", script("all_types.sql", flavour))).await;
        let replay = Replay::new(flavour, &known).run(&file);
        assert!(replay.kinds.contains_key(&kind), "{:?}", replay.kinds);
        assert_same(&replay.tables, &read, &known);
    }
}

#[tokio::test]
async fn given_json_documents_and_their_differences_when_decoded_then_they_are_the_servers_text() {
    let server = MyServer::builder(&sandbox::find_mysql().unwrap()).start().unwrap();
    let (file, known, read) = record(&server, &script("json.sql", Flavour::MySql)).await;
    let replay = Replay::new(Flavour::MySql, &known).run(&file);
    assert!(replay.kinds[&39] >= 7, "{:?}", replay.kinds);
    assert_same(&replay.tables, &read, &known);
}

/// Every character of one or two bytes in every set, as the server converts it.
#[tokio::test]
async fn given_all_characters_of_every_set_when_decoded_then_they_are_the_servers() {
    use switchyard::mywire::types::charset::Charset;
    for (install, flavour) in servers() {
        let server = MyServer::builder(&install).start().unwrap();
        let mut conn = connect(&server, "").await;
        let recursion = "set session cte_max_recursion_depth = 70000";
        let _ = conn.execute(recursion).await;
        let _ = conn.execute("set session max_recursive_iterations = 70000").await;
        let names =
            conn.query("select character_set_name, maxlen from information_schema.character_sets").await.unwrap();
        for row in names {
            let text = |i: usize| String::from_utf8(row[i].as_ref().unwrap().to_vec()).unwrap();
            let (name, longest) = (text(0), text(1).parse::<u32>().unwrap());
            if name == "binary" {
                continue;
            }
            let Ok(charset) = Charset::named(&name) else {
                assert!(["big5", "eucjpms", "gb18030", "gb2312", "sjis", "ujis"].contains(&&*name), "{name}");
                continue;
            };
            let mut wrong = Vec::new();
            for (from, to) in [(0, 255), (0x8000, 0xffff)] {
                if from > 0 && longest == 1 {
                    continue;
                }
                let width = if from == 0 { 2 } else { 4 };
                conn.query_start(format!(
                    "with recursive r(n) as (select {from} union all select n + 1 from r where n < {to}), \
                     b(x) as (select unhex(lpad(hex(n), {width}, '0')) from r) \
                     select hex(x), hex(convert(convert(x using {name}) using utf8mb4)), \
                     hex(convert(convert(convert(x using {name}) using utf8mb4) using {name})) from b"
                ))
                .await
                .unwrap();
                while let Some(block) = conn.next_block().await.unwrap() {
                    for row in block.iter() {
                        let fields: Vec<_> = text_fields(row)
                            .map(|f| f.unwrap().map(|r| String::from_utf8(row[r].to_vec()).unwrap()))
                            .collect();
                        let bytes = unhex(fields[0].as_ref().unwrap());
                        let mut out = Vec::new();
                        let ours = charset.decode(&bytes, &mut out).ok().map(|()| String::from_utf8(out).unwrap());
                        // Half a surrogate pair of ucs2 becomes what is no UTF-8.
                        let theirs = fields[1].as_ref().and_then(|h| String::from_utf8(unhex(h)).ok());
                        // A character is what comes back as the bytes it was.
                        let whole = fields[2] == fields[0] && !theirs.as_ref().is_some_and(|t| t.contains('\u{fffd}'));
                        // MySQL refuses bytes that a column cannot hold; a mark is for those that it can.
                        // gbk has a hundred of those that later editions of it gave characters to.
                        let mark = flavour == Flavour::MySql
                            && name != "gbk"
                            && theirs.as_ref().is_some_and(|t| t.contains('?') && !bytes.contains(&b'?'));
                        if (whole && ours != theirs) || (mark && ours.is_some()) {
                            wrong.push((fields[0].clone().unwrap(), ours, theirs));
                        }
                    }
                }
            }
            assert!(wrong.is_empty(), "{name}: {} differ: {:?}", wrong.len(), &wrong[..wrong.len().min(20)]);
        }
    }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

/// What ends transactions in other ways than COMMIT, and what stands between them.
#[tokio::test]
async fn given_ddl_xa_savepoints_and_temporary_tables_when_followed_then_every_transaction_is_whole() {
    for (install, flavour) in servers() {
        let server = MyServer::builder(&install).start().unwrap();
        let statements = "create table a (id int primary key, v varchar(10)); \
             create table b (primary key (id)) select 1 id, 'x' v; \
             insert into a values (1, 'a'); \
             begin; insert into a values (2, 'b'); savepoint s; insert into a values (3, 'c'); rollback to s; \
             update a set v = 'd' where id = 1; commit; \
             create temporary table tmp (x int); insert into tmp values (1); drop temporary table tmp; \
             begin; insert into a values (9, 'no'); rollback; \
             xa start 'one'; insert into a values (4, 'x'); xa end 'one'; xa prepare 'one'; xa commit 'one'; \
             xa start 'two'; insert into a values (5, 'x'); xa end 'two'; xa commit 'two' one phase; \
             create view w as select * from a; create procedure p() insert into a values (6, 'p'); call p(); \
             create trigger g after insert on a for each row insert into b values (new.id + 100, new.v); \
             insert into a values (7, 'g'); alter table a add column n int; update a set n = id; \
             set @x = 8; insert into a values (@x, 'u', rand()); analyze table a; \
             create user u@localhost identified by 'p'; grant select on *.* to u@localhost; drop user u@localhost; \
             delete from a where id = 7; create table gone (id int primary key); insert into gone values (1); \
             truncate gone; drop table gone; set foreign_key_checks = 0; insert into a values (11, 'f', 1)";
        let own = match flavour {
            Flavour::MySql => "",
            Flavour::MariaDb => {
                "; create sequence q; select nextval(q); create or replace table c (id int primary key) engine = MyISAM; \
                 insert into c values (1); create table d (primary key (id)) engine = Aria select 1 id"
            }
        };
        let (file, mut known, mut read) = record(&server, &format!("{statements}{own}")).await;
        // A sequence is a table of one row to the log; a view is none.
        for map in ["q", "w"] {
            read.remove(map);
            known.remove(map);
        }
        // Tables change their columns here: the log alone says what they are at each place.
        let none = Known::new();
        let mut replay = Replay::new(flavour, &none).run(&file);
        replay.tables.remove("q");
        for rows in replay.tables.values_mut() {
            rows.retain(|_, row| row.contains('\t'));
        }
        let ids = |c: &Content, t: &str| c[t].keys().map(|k| String::from_utf8(k.clone()).unwrap()).collect::<Vec<_>>();
        assert_eq!(ids(&replay.tables, "a"), ids(&read, "a"), "{flavour:?}");
        assert_eq!(ids(&replay.tables, "b"), ids(&read, "b"), "{flavour:?}");
        assert!(replay.transactions >= 9, "{}", replay.transactions);
    }
}

#[tokio::test]
async fn given_sets_of_transaction_ids_when_computed_with_then_the_server_agrees() {
    use switchyard::gtid::GtidSet;
    let server = MyServer::builder(&sandbox::find_mysql().unwrap()).start().unwrap();
    let mut conn = connect(&server, "").await;
    let (a, b) = ("3e11fa47-71ca-11e1-9e33-c80aa9429562", "1e11fa47-71ca-11e1-9e33-c80aa9429562");
    let sets = [
        String::new(),
        format!("{a}:1-5"),
        format!("{a}:3:5-9:11"),
        format!("{b}:1-3,{a}:4"),
        format!("{a}:1-5:Blue:2-3:_x:1,{b}:7"),
        format!("{a}:blue:1-9,{a}:2:_x:1-2"),
        format!("{a}:1-20:blue:1-20:_x:1-20,{b}:1-20"),
    ];
    for x in &sets {
        for y in &sets {
            let row = conn
                .query(format!(
                    "select gtid_subset('{x}', '{y}'), gtid_subtract('{x}', '{y}'), gtid_subtract('{x}', '')"
                ))
                .await
                .unwrap();
            let text = |i: usize| String::from_utf8(row[0][i].as_ref().unwrap().to_vec()).unwrap().replace('\n', "");
            let (x, y): (GtidSet, GtidSet) = (x.parse().unwrap(), y.parse().unwrap());
            assert_eq!(text(0), u8::from(y.is_superset(&x)).to_string());
            assert_eq!(text(1), x.subtract(&y).to_string());
            assert_eq!(text(2), x.to_string());
        }
    }
    // What the server writes into its log is what is sent to it.
    server
        .sql("create table mysql.zz (a int); set gtid_next = 'AUTOMATIC:blue'; insert into mysql.zz values (1); \
              set gtid_next = 'AUTOMATIC:a_very_long_tag_of_32_characters'; insert into mysql.zz values (1); flush binary logs")
        .unwrap();
    let text = |t: &Option<Bytes>| String::from_utf8(t.as_ref().unwrap().to_vec()).unwrap();
    let base = text(&conn.query("select @@log_bin_basename").await.unwrap()[0][0]);
    let log = text(&conn.query("show binary logs").await.unwrap().last().unwrap()[0]);
    let executed: GtidSet = text(&conn.query("select @@gtid_executed").await.unwrap()[0][0]).parse().unwrap();
    let file = std::fs::read(Path::new(&base).parent().unwrap().join(log)).unwrap();
    let mut decoder = Decoder::new(Flavour::MySql);
    let mut found = None;
    for bytes in events(&file) {
        if let Body::PreviousGtids(set) = decoder.event(&bytes).unwrap().body {
            assert_eq!(set.encode(), bytes[19..bytes.len() - 4]);
            found = Some(set);
        }
    }
    assert_eq!(found, Some(executed));
}

#[tokio::test]
async fn given_rows_that_are_not_logged_whole_when_decoded_then_what_is_missing_is_unsent() {
    for (install, flavour) in servers() {
        let server = MyServer::builder(&install).start().unwrap();
        let statements = "set session binlog_row_image = MINIMAL; \
             create table a (id int primary key, v varchar(10), b text, n int); insert into a (id, v) values (1, 'x'); \
             update a set n = 5; delete from a";
        let (file, _, _) = record(&server, statements).await;
        let (mut decoder, mut layout, mut found) = (Decoder::new(flavour), None, Vec::new());
        for bytes in events(&file) {
            match decoder.event(&bytes).unwrap().body {
                Body::TableMap(map) => layout = Some(TableLayout::new(&map.parse().unwrap(), None).unwrap()),
                Body::Rows(rows) => {
                    let all = rows.decode(layout.as_ref().unwrap(), OldRows::Whole).unwrap();
                    found.extend(all.into_iter().map(|c| (c.old.map(|r| shown(&r)), c.new.map(|r| shown(&r)))));
                }
                _ => {}
            }
        }
        assert_eq!(found.len(), 3);
        let key = "\"1\"\tUNSENT\tUNSENT\tUNSENT".to_owned();
        assert!(found[0].1.as_ref().unwrap().starts_with("\"1\"\t\"x\"\t"), "{found:?}");
        assert_eq!(found[1], (Some(key.clone()), Some("UNSENT\tUNSENT\tUNSENT\t\"5\"".to_owned())));
        assert_eq!(found[2], (Some(key), None));
    }
}
