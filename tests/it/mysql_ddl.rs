//! What schema changes are understood to do, compared with what MySQL and MariaDB do.

use std::collections::BTreeMap;

use secrecy::SecretString;
use switchyard::change::DdlEffect;
use switchyard::mywire::conn::{MyConn, Preset};
use switchyard::mywire::conninfo::MyConnInfo;
use switchyard::mywire::control;
use switchyard::sandbox::{self, Flavour, MyInstall, MyServer};
use switchyard::schema::{RowIdentity, Table, TableName};
use switchyard::source::ids::TableIds;
use switchyard::source::mysql::catalog::{self, Described};
use switchyard::source::mysql::ddl::{self, Consequence, Known, Session, World, keys_of};
use switchyard::transform::select::Selection;

const SETUP: &str = "DROP DATABASE IF EXISTS d; CREATE DATABASE d; USE d;
    CREATE TABLE t (id int NOT NULL AUTO_INCREMENT, name varchar(20) NOT NULL, n int unsigned, price decimal(8,2) DEFAULT '1.00',
        kind enum('a','b') NOT NULL DEFAULT 'a', at datetime(3) NULL, note text, small tinyint(1) NOT NULL DEFAULT 0,
        tags set('x','y'), twice int AS (small * 2) STORED, PRIMARY KEY (id), UNIQUE KEY name_key (name), KEY n_key (n));
    INSERT INTO t (name, n, price, kind, at, note, tags) VALUES ('one', 1, 2.50, 'b', '2024-02-03 04:05:06.7', 'x', 'x,y');
    CREATE TABLE parts (id int NOT NULL, y int NOT NULL, PRIMARY KEY (id, y)) PARTITION BY RANGE (y)
        (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN (20))";

/// Statements about `t` for both families.
const BOTH: &[&str] = &[
    // As Rails writes them.
    "ALTER TABLE `t` ADD `nickname` varchar(255)",
    "ALTER TABLE `t` ADD `logins` int DEFAULT 0 NOT NULL",
    "ALTER TABLE `t` ADD `active` tinyint(1) DEFAULT TRUE NOT NULL COMMENT 'it''s, a \"flag\"'",
    "ALTER TABLE `t` ADD `created_at` datetime(6) NOT NULL, ADD `updated_at` datetime(6) NOT NULL",
    "ALTER TABLE `t` ADD `amount` decimal(10,4) DEFAULT 1.5",
    "ALTER TABLE `t` DROP COLUMN `note`",
    "ALTER TABLE `t` CHANGE `name` `full_name` varchar(20) NOT NULL",
    "ALTER TABLE `t` CHANGE `name` `name` varchar(30) DEFAULT NULL",
    "ALTER TABLE `t` ALTER COLUMN `kind` SET DEFAULT 'b'",
    "ALTER TABLE `t` ALTER `kind` DROP DEFAULT",
    "ALTER TABLE `t` RENAME INDEX `n_key` TO `index_t_on_n`",
    "CREATE INDEX `index_t_on_at` ON `t` (`at`)",
    "CREATE UNIQUE INDEX `index_t_on_n` ON `t` (`n`) ",
    "CREATE FULLTEXT INDEX ft ON t (note)",
    "DROP INDEX `name_key` ON `t`",
    "ALTER TABLE `t` ADD INDEX `both` USING btree (`name`(10), `n`), ALGORITHM = INPLACE, LOCK=NONE",
    // As Django writes them.
    "ALTER TABLE `t` ADD COLUMN `score` double precision DEFAULT 0.5 NOT NULL",
    "ALTER TABLE `t` ADD COLUMN `uid` char(32) DEFAULT 'f47ac10b58cc4372a5670e02b2c3d479' NOT NULL",
    "ALTER TABLE `t` MODIFY `name` varchar(100) NOT NULL",
    "ALTER TABLE `t` ADD CONSTRAINT `t_n_uniq` UNIQUE (`n`)",
    "ALTER TABLE `t` ADD CONSTRAINT positive CHECK (`n` >= 0)",
    "ALTER TABLE `t` ALTER COLUMN `small` DROP DEFAULT",
    // Types, and what rows get.
    "ALTER TABLE t ADD a1 tinyint unsigned NOT NULL, ADD a2 smallint(5) zerofill, ADD a3 mediumint DEFAULT -7, ADD a4 bigint UNSIGNED NOT NULL DEFAULT '18446744073709551615'",
    "ALTER TABLE t ADD b1 float NOT NULL, ADD b2 double DEFAULT 1.25, ADD b3 real, ADD b4 float(7,3) NULL, ADD b5 double(10,2) unsigned NULL, ADD b6 float(30)",
    "ALTER TABLE t ADD c1 bit NOT NULL, ADD c2 bit(5) DEFAULT b'101', ADD c3 year NOT NULL, ADD c4 year DEFAULT '2024'",
    "ALTER TABLE t ADD d1 date NOT NULL, ADD d2 datetime DEFAULT '2020-01-02', ADD d3 datetime(6) DEFAULT '2020-01-02 03:04:05.1', ADD d4 time(2) NOT NULL, ADD d5 time DEFAULT '-12:30:00', ADD d6 timestamp NULL DEFAULT '2020-01-02 03:04:05'",
    "ALTER TABLE t ADD e1 binary(3) NOT NULL, ADD e2 varbinary(9) DEFAULT x'41ff', ADD e3 binary(4) DEFAULT 'ab', ADD e4 blob, ADD e5 mediumblob NOT NULL",
    "ALTER TABLE t ADD f1 char(3) DEFAULT 'a  ', ADD f2 national varchar(7), ADD f3 character varying(8) NOT NULL, ADD f4 text(1000), ADD f5 tinytext NOT NULL, ADD f6 long varchar, ADD f7 text(100000)",
    "ALTER TABLE t ADD g1 enum('it''s','b ','c') NOT NULL, ADD g2 set('p','q','r') DEFAULT 'r,p', ADD g3 enum('X','Y') DEFAULT 'y', ADD g4 set('p') NOT NULL",
    "ALTER TABLE t ADD h1 varchar(5) CHARACTER SET latin1 COLLATE latin1_bin DEFAULT 'q', ADD h2 char(4) CHARACTER SET binary NOT NULL, ADD h3 bool, ADD h4 integer(4), ADD h5 dec(6), ADD h6 numeric, ADD h7 int8",
    "ALTER TABLE t ADD i1 int GENERATED ALWAYS AS (small + 1) VIRTUAL, ADD i2 int AS (small + 2) STORED",
    "ALTER TABLE t ADD stamp timestamp DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, ADD s2 datetime(3) DEFAULT NOW(3) NOT NULL",
    "ALTER TABLE t ADD j1 int DEFAULT (1 + 1)",
    "ALTER TABLE t ADD k1 geometry, ADD k2 point",
    "ALTER TABLE t ADD m1 int NULL DEFAULT NULL, ADD m2 int DEFAULT 5 UNIQUE KEY COMMENT 'x'",
    // Places.
    "ALTER TABLE t ADD first_one int FIRST, ADD after_n int AFTER n, ADD (p1 int, p2 int NOT NULL)",
    "ALTER TABLE t ADD p int FIRST, ADD q int FIRST, ADD r int AFTER named, CHANGE name named varchar(20) NOT NULL AFTER at, ADD s int AFTER named, DROP price, MODIFY n int unsigned AFTER note",
    "ALTER TABLE t CHANGE n price decimal(8,2), CHANGE price n int unsigned",
    "ALTER TABLE t DROP note, ADD note varchar(10) DEFAULT 'new' AFTER id",
    "ALTER TABLE t MODIFY id bigint NOT NULL AUTO_INCREMENT FIRST, MODIFY note longtext AFTER id",
    // Types that change.
    "ALTER TABLE t MODIFY n bigint",
    "ALTER TABLE t MODIFY n int",
    "ALTER TABLE t MODIFY n bigint unsigned NOT NULL",
    "ALTER TABLE t MODIFY price decimal(12,2)",
    "ALTER TABLE t MODIFY price decimal(12,4)",
    "ALTER TABLE t MODIFY price varchar(20)",
    "ALTER TABLE t MODIFY kind enum('z','b','a') NOT NULL",
    "ALTER TABLE t MODIFY kind varchar(9)",
    "ALTER TABLE t MODIFY tags set('y','x')",
    "ALTER TABLE t MODIFY tags set('x','w','y')",
    "ALTER TABLE t MODIFY at datetime(6)",
    "ALTER TABLE t MODIFY at datetime",
    "ALTER TABLE t MODIFY at date",
    "ALTER TABLE t DROP KEY name_key, MODIFY name text",
    "ALTER TABLE t MODIFY name char(20) NOT NULL, MODIFY note varchar(300)",
    "ALTER TABLE t MODIFY note mediumtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    "ALTER TABLE t MODIFY small int",
    "ALTER TABLE t MODIFY small tinyint",
    "ALTER TABLE t MODIFY n varchar(20)",
    // Keys.
    "ALTER TABLE t MODIFY id int NOT NULL, DROP PRIMARY KEY",
    "ALTER TABLE t MODIFY id int NOT NULL, DROP PRIMARY KEY, DROP KEY name_key",
    "ALTER TABLE t MODIFY id int NOT NULL, DROP PRIMARY KEY, ADD PRIMARY KEY (name, n)",
    "ALTER TABLE t ADD UNIQUE (price, kind), ADD UNIQUE KEY (price), ADD KEY (price)",
    "ALTER TABLE t DROP COLUMN name, ADD UNIQUE u (kind)",
    "ALTER TABLE t ADD FOREIGN KEY (n) REFERENCES t2 (id) ON DELETE SET NULL ON UPDATE CASCADE",
    "ALTER TABLE t ADD COLUMN slashed ENUM('a\\\\b','n\\nl','q''q') NOT NULL DEFAULT 'a\\\\b', ADD COLUMN words VARCHAR(20) DEFAULT 'w\\\\x\\ny''z'",
    "ALTER TABLE t RENAME COLUMN name TO `select`, RENAME COLUMN n TO `a``b`",
    // Options and comments.
    "ALTER TABLE t ENGINE=InnoDB, COMMENT = 'x, ADD y int', AUTO_INCREMENT 1000, ROW_FORMAT=DYNAMIC KEY_BLOCK_SIZE=0",
    "ALTER TABLE t FORCE",
    "ALTER TABLE t ORDER BY name, n DESC",
    "ALTER TABLE t CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci",
    "ALTER TABLE t DEFAULT CHARACTER SET = latin1 COLLATE latin1_bin",
    "/* ApplicationName=x; ADD y int */ ALTER /* gh */ TABLE /*!50000 d.*/t # note\n ADD -- DROP name\n z int /* ; */",
    "alter table d.t add column ü int, add `a.b` int default 3 # end",
    "ALTER TABLE t DROP KEY name_key PARTITION BY HASH (id) PARTITIONS 4",
    "ALTER TABLE parts ADD PARTITION (PARTITION p2 VALUES LESS THAN (30))",
    "ALTER TABLE parts REORGANIZE PARTITION p0, p1 INTO (PARTITION p VALUES LESS THAN (20))",
    "ALTER TABLE parts REMOVE PARTITIONING",
    "CREATE TABLE IF NOT EXISTS t (id int)",
    "DROP TABLE IF EXISTS nothing",
    "RENAME TABLE t TO u, u TO t",
    "TRUNCATE d.t",
    "DROP TABLE t",
    "CREATE VIEW v AS SELECT * FROM t",
    "ANALYZE TABLE t",
    "OPTIMIZE TABLE t",
    // New tables.
    "CREATE TABLE u LIKE t",
    "CREATE TABLE `articles` (`id` bigint NOT NULL AUTO_INCREMENT PRIMARY KEY, `title` varchar(255), `body` text, `created_at` datetime(6) NOT NULL, INDEX `index_articles_on_title`  (`title`)) DEFAULT CHARSET=utf8mb4",
    "CREATE TABLE `dump` (`a` int unsigned NOT NULL, `b` varchar(10) COLLATE utf8mb4_bin DEFAULT NULL, `c` timestamp NULL DEFAULT NULL, `d` decimal(5,2) NOT NULL DEFAULT '0.00', PRIMARY KEY (`a`,`d`), UNIQUE KEY `b` (`b`), CONSTRAINT `fk` FOREIGN KEY (`a`) REFERENCES `t2` (`id`) ON DELETE CASCADE) ENGINE=InnoDB AUTO_INCREMENT=7 DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci COMMENT='a) b'",
    "CREATE TABLE s (id SERIAL, x int UNIQUE, y int NOT NULL, UNIQUE (y))",
    "CREATE TABLE keyless (a int, b int NOT NULL, UNIQUE (a), UNIQUE (b), CHECK (a > b))",
];

const MYSQL: &[&str] = &[
    "ALTER TABLE t ADD doc json NOT NULL, ADD doc2 json DEFAULT (json_object()), ADD doc3 json",
    "ALTER TABLE t ADD COLUMN hidden int INVISIBLE, ALTER COLUMN n SET INVISIBLE, ALTER INDEX n_key INVISIBLE",
    "ALTER TABLE t ADD v vector(3), ADD COLUMN w json DEFAULT ('[]')",
    "ALTER TABLE t ADD COLUMN x int NOT NULL DEFAULT '3' , ALGORITHM=INSTANT",
    "ALTER TABLE t ADD INDEX lower_name ((lower(name))), DROP CONSTRAINT name_key",
];

const MARIADB: &[&str] = &[
    "ALTER TABLE IF EXISTS t ADD COLUMN IF NOT EXISTS name int, ADD COLUMN IF NOT EXISTS fresh int DEFAULT 4",
    "ALTER TABLE t DROP COLUMN IF EXISTS nothing, MODIFY COLUMN IF EXISTS nothing int, DROP INDEX IF EXISTS n_key",
    "CREATE OR REPLACE TABLE t (id int PRIMARY KEY, x int)",
    "ALTER ONLINE TABLE t WAIT 5 ADD INDEX IF NOT EXISTS n_key (n), ADD doc json, ADD inet inet6, ADD u uuid NOT NULL",
    "ALTER TABLE t ADD v int AS (small + 1) PERSISTENT, ADD j2 varchar(40) DEFAULT uuid(), ADD w varchar(9) DEFAULT concat('a', 'b')",
    "ALTER TABLE t ADD x int DEFAULT 3 INVISIBLE, ADD z text COMPRESSED",
    "CREATE INDEX IF NOT EXISTS at_key ON t (at) WAIT 1 COMMENT 'x'",
];

fn installs() -> [MyInstall; 2] {
    [sandbox::find_mysql().unwrap(), sandbox::find_mariadb().unwrap()]
}

struct Lab {
    _server: MyServer,
    conn: MyConn,
    books: mysql_async::Conn,
    session: Session,
    ids: TableIds,
    selection: Selection,
}

impl Lab {
    async fn start(install: &MyInstall) -> Lab {
        let server = MyServer::builder(install)
            .setting("sync_binlog", "0")
            .setting("innodb_flush_log_at_trx_commit", "0")
            .start()
            .unwrap();
        let info = MyConnInfo::parse("source.url", &SecretString::from(server.url(""))).unwrap();
        let mut conn = MyConn::connect(&info, "source", "test", Preset::Source).await.unwrap();
        let books = control::connect(&info, "source", "test", Preset::Source).await.unwrap();
        conn.execute("SET SESSION sql_mode = 'STRICT_TRANS_TABLES'").await.unwrap();
        let (a, b, c) = conn.server().number;
        let version = u32::from(a) * 10_000 + u32::from(b) * 100 + u32::from(c);
        let session = Session { mariadb: server.flavour() == Flavour::Mariadb, version, ..Session::default() };
        let session = session.with_time_zone("+00:00").with_sql_mode(1 << 21);
        let selection = Selection::new(&["d.*"], &[]).unwrap();
        Lab { _server: server, conn, books, session, ids: TableIds::default(), selection }
    }

    async fn run(&mut self, sql: &str) {
        self.conn.execute_each(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    }

    async fn tables(&mut self) -> BTreeMap<String, Described> {
        let read = catalog::read(&mut self.books, self.session.mariadb, &self.selection, &self.ids).await.unwrap();
        read.tables.into_iter().map(|d| (d.table.name.name.clone(), d)).collect()
    }

    async fn known(&mut self) -> Known {
        let mut known = Known::new(false);
        for d in self.tables().await.values() {
            known.add((*d.table).clone(), &keys_of(&d.def));
        }
        known
    }

    fn say(&self, known: &mut Known, statement: &str) -> Vec<Consequence> {
        let stated = ddl::read(statement, "d", &self.session);
        let world = World { selects: &|t| self.selection.selects(t), id: &|t| self.ids.id(t) };
        known.carry(statement, &stated, &self.session, &world)
    }

    /// The first row of `t`, canonical, by column name.
    async fn row(&mut self, d: &Described) -> BTreeMap<String, Option<String>> {
        let mut out = BTreeMap::new();
        for (c, ty) in d.table.columns.iter().zip(&d.types) {
            let Ok(ty) = ty else { continue };
            let quoted = format!("`{}`", c.name.replace('`', "``"));
            let sql = format!("SELECT {} FROM d.`{}` LIMIT 1", ty.select_expr(&quoted), d.table.name.name);
            let rows = self.conn.query(sql).await.unwrap();
            let Some(row) = rows.first() else { continue };
            let text = row.first().cloned().flatten().map(|b| {
                let mut rendered = Vec::new();
                ty.render_text(&b, &mut rendered).unwrap();
                String::from_utf8(rendered).unwrap()
            });
            out.insert(c.name.clone(), text);
        }
        out
    }
}

/// What must agree, as text.
fn shown(t: &Table, columns: &[&switchyard::schema::Column]) -> String {
    let mut out = String::new();
    for c in columns {
        let computed = t.generated.iter().any(|g| g.name == c.name);
        // The catalog of MariaDB prints a default of NULL; expressions are printed as each server likes.
        let default =
            c.default.as_deref().filter(|d| *d != "NULL" && !d.contains('(') && !d.contains("\\'") && !computed);
        // Bytes are printed as far as a text can hold them.
        let default = default.filter(|_| c.kind != switchyard::schema::Kind::Bytes);
        let nullable = if c.nullable { "" } else { " NOT NULL" };
        out.push_str(&format!(
            "{} {}{nullable} {:?} default {default:?} computed {computed}\n",
            c.name, c.type_name, c.identity
        ));
    }
    let key = match &t.identity {
        RowIdentity::Key(k) => k.iter().map(|&k| t.columns[k].name.clone()).collect::<Vec<_>>().join(","),
        other => format!("{other:?}"),
    };
    out + &format!("key {key} unique {} partitioned {}\n", t.has_secondary_unique, t.partitioned)
}

/// Runs a statement on fresh tables, and gives back what was understood wrongly.
async fn compare(lab: &mut Lab, statement: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut same = |what: &str, understood: String, is: String| {
        if understood != is {
            wrong.push(format!("{statement}: {what}\nunderstood\n{understood}\nis\n{is}\n"));
        }
    };
    lab.run(&format!("{SETUP}; CREATE TABLE t2 (id int unsigned NOT NULL PRIMARY KEY); INSERT INTO t2 VALUES (1)"))
        .await;
    let before = lab.tables().await;
    let row_before = lab.row(&before["t"]).await;
    let mut known = lab.known().await;
    if let Err(e) = lab.conn.execute_each(statement).await {
        same("the server", "accepts it".into(), e.to_string());
        return wrong;
    }
    let after = lab.tables().await;
    let consequences = lab.say(&mut known, statement);
    let stopped = consequences.iter().find_map(|c| match c {
        Consequence::Ddl(d) => match &d.effect {
            DdlEffect::Unfollowed { why, .. } => Some(why.clone()),
            _ => None,
        },
        _ => None,
    });
    if let Some(why) = stopped {
        same("stops", why, String::new());
        return wrong;
    }
    let of = |name: &str| TableName::new("d", name);
    for (name, d) in &after {
        let Some(table) = known.table(&of(name)) else {
            same(name, "unknown".into(), String::new());
            continue;
        };
        let theirs = {
            let mut all: Vec<_> = d.table.columns.iter().chain(&d.table.generated).collect();
            all.sort_by_key(|c| c.number);
            shown(&d.table, &all)
        };
        same(name, shown(table, &known.ordered(&of(name)).unwrap()), theirs);
        for c in table.columns.iter() {
            let Some(there) = d.table.columns.iter().find(|o| o.name == c.name) else { continue };
            same(&c.name, format!("{:?} {:?}", c.kind, c.data), format!("{:?} {:?}", there.kind, there.data));
        }
    }
    for name in before.keys().filter(|n| !after.contains_key(*n)) {
        same(name, known.table(&of(name)).is_some().to_string(), "false".into());
    }
    // What became of the row.
    let effect = consequences.iter().find_map(|c| match c {
        Consequence::Ddl(d) => match &d.effect {
            DdlEffect::Table { after, missing_values, rewritten } if after.name.name == "t" => {
                Some((missing_values.clone(), *rewritten))
            }
            _ => None,
        },
        _ => None,
    });
    let replaced = consequences.iter().any(|c| match c {
        Consequence::Ddl(d) => matches!(d.effect, DdlEffect::Dropped { .. }),
        Consequence::Truncate(_) => true,
        Consequence::Shadow { .. } => false,
    });
    let Some(d) = after.get("t").filter(|_| !replaced) else { return wrong };
    let (missing, rewritten) = effect.unwrap_or_default();
    if rewritten {
        return wrong;
    }
    let row_after = lab.row(d).await;
    let now = known.table(&of("t")).unwrap();
    for (name, value) in &row_after {
        let Some(at) = now.column(name) else { continue };
        let number = now.columns[at].number;
        let was = before["t"].table.columns.iter().find(|c| c.number == number);
        let expected = match was {
            Some(c) => row_before[&c.name].clone(),
            None => missing.iter().find(|(c, _)| c == name).map(|(_, v)| v.clone()),
        };
        same(&format!("the row's {name}"), format!("{expected:?}"), format!("{value:?}"));
    }
    wrong
}

async fn compare_all(install: &MyInstall) {
    let mut lab = Lab::start(install).await;
    let own = if lab.session.mariadb { MARIADB } else { MYSQL };
    let mut wrong = Vec::new();
    for statement in BOTH.iter().chain(own) {
        wrong.extend(compare(&mut lab, statement).await);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn given_statements_when_run_on_mysql_then_shapes_and_rows_are_as_they_were_understood() {
    compare_all(&sandbox::find_mysql().unwrap()).await;
}

#[tokio::test]
async fn given_statements_when_run_on_mariadb_then_shapes_and_rows_are_as_they_were_understood() {
    compare_all(&sandbox::find_mariadb().unwrap()).await;
}

/// Statements that the log holds, without those that have no part in it.
const ONLINE: &[(&str, &[&str])] = &[
    (
        "gh-ost",
        &[
            "create /* gh-ost */ table `d`.`_t_ghc` (id bigint unsigned auto_increment, last_update timestamp not null DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, hint varchar(64) charset ascii not null, value varchar(4096) charset ascii not null, primary key(id), unique key hint_uidx(hint)) auto_increment=256 comment='gh-ost-changelog'",
            "create /* gh-ost */ table `d`.`_t_gho` like `d`.`t`",
            "alter /* gh-ost */ table `d`.`_t_gho` ADD COLUMN level int NOT NULL DEFAULT 3 AFTER id, MODIFY n bigint unsigned, DROP COLUMN note",
            "insert ignore into d._t_gho (id, name, n, price, kind, at, small, tags) select id, name, n, price, kind, at, small, tags from d.t",
            "create /* gh-ost */ table `d`.`_t_del` (id int auto_increment primary key) engine=InnoDB comment='ghost-cut-over-sentry'",
            "drop /* gh-ost */ table if exists `d`.`_t_del`",
            "rename /* gh-ost */ table `d`.`t` to `d`.`_t_del`, `d`.`_t_gho` to `d`.`t`",
            "drop /* gh-ost */ table if exists `d`.`_t_ghc`",
        ],
    ),
    (
        "gh-ost in two steps",
        &[
            "create /* gh-ost */ table `d`.`_t_gho` like `d`.`t`",
            "alter /* gh-ost */ table `d`.`_t_gho` ADD COLUMN flag tinyint(1) NOT NULL, ADD extra varchar(9) DEFAULT 'q'",
            "insert ignore into d._t_gho (id, name, n, price, kind, at, note, small, tags) select id, name, n, price, kind, at, note, small, tags from d.t",
            "alter /* gh-ost */ table `d`.`t` rename `_t_del`",
            "alter /* gh-ost */ table `d`.`_t_gho` rename `t`",
        ],
    ),
    (
        "pt-online-schema-change",
        &[
            "CREATE TABLE `d`.`_t_new` (`id` int NOT NULL AUTO_INCREMENT, `name` varchar(20) NOT NULL, `n` int unsigned DEFAULT NULL, `price` decimal(8,2) DEFAULT '1.00', `kind` enum('a','b') NOT NULL DEFAULT 'a', `at` datetime(3) DEFAULT NULL, `note` text, `small` tinyint(1) NOT NULL DEFAULT '0', `tags` set('x','y') DEFAULT NULL, `twice` int GENERATED ALWAYS AS (`small` * 2) STORED, PRIMARY KEY (`id`), UNIQUE KEY `name_key` (`name`), KEY `n_key` (`n`)) ENGINE=InnoDB AUTO_INCREMENT=2 DEFAULT CHARSET=utf8mb4",
            "ALTER TABLE `d`.`_t_new` ADD COLUMN level smallint DEFAULT 7 FIRST, ADD KEY (level)",
            "CREATE TRIGGER `pt_osc_d_t_del` AFTER DELETE ON `d`.`t` FOR EACH ROW DELETE IGNORE FROM `d`.`_t_new` WHERE `d`.`_t_new`.`id` <=> OLD.`id`",
            "INSERT LOW_PRIORITY IGNORE INTO `d`.`_t_new` (id, name, n, price, kind, at, note, small, tags) SELECT id, name, n, price, kind, at, note, small, tags FROM d.t LOCK IN SHARE MODE",
            "RENAME TABLE `d`.`t` TO `d`.`_t_old`, `d`.`_t_new` TO `d`.`t`",
            "DROP TABLE IF EXISTS `d`.`_t_old`",
        ],
    ),
];

#[tokio::test]
async fn given_online_schema_changes_when_their_statements_are_run_then_the_swap_changes_the_table() {
    for install in installs() {
        let mut lab = Lab::start(&install).await;
        for (tool, statements) in ONLINE {
            lab.run(SETUP).await;
            let before = lab.tables().await;
            let row_before = lab.row(&before["t"]).await;
            let mut known = lab.known().await;
            let mut effects = Vec::new();
            for s in *statements {
                lab.run(s).await;
                if s.to_lowercase().starts_with("insert") {
                    continue;
                }
                for c in lab.say(&mut known, s) {
                    if let Consequence::Ddl(d) = c {
                        effects.push(d.effect);
                    }
                }
            }
            let after = lab.tables().await;
            let name = TableName::new("d", "t");
            let t = known.table(&name).unwrap();
            assert_eq!(t.id, lab.ids.id(&name), "{tool}");
            let theirs = {
                let mut all: Vec<_> = after["t"].table.columns.iter().chain(&after["t"].table.generated).collect();
                all.sort_by_key(|c| c.number);
                shown(&after["t"].table, &all)
            };
            assert_eq!(shown(t, &known.ordered(&name).unwrap()), theirs, "{tool}");
            let [DdlEffect::Table { missing_values, rewritten: false, .. }] = &effects[..] else {
                panic!("{tool}: {effects:?}");
            };
            for (column, value) in lab.row(&after["t"]).await {
                let number = t.columns[t.column(&column).unwrap()].number;
                let was = before["t"].table.columns.iter().find(|c| c.number == number);
                let expected = match was {
                    Some(c) => row_before[&c.name].clone(),
                    None => missing_values.iter().find(|(c, _)| *c == column).map(|(_, v)| v.clone()),
                };
                assert_eq!(value, expected, "{tool}: {column}");
            }
            assert!(known.is_shadow(&TableName::new("d", "_t_gho")) && known.is_shadow(&TableName::new("d", "_t_old")));
        }
    }
}
