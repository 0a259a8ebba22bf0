-- Installed at the source, by a superuser, in one transaction. Everything here runs inside the application's DDL: it
-- must never make that fail, hence the exception blocks around all of it.
CREATE SCHEMA IF NOT EXISTS switchyard;

-- What each migration's publication is for: anchored regular expressions, schema and table side by side (Selection::regexes).
CREATE TABLE IF NOT EXISTS switchyard.publication (
  name text PRIMARY KEY, include_schemas text[] NOT NULL, include_tables text[] NOT NULL,
  exclude_schemas text[] NOT NULL, exclude_tables text[] NOT NULL);

CREATE OR REPLACE FUNCTION switchyard.matches(schemas text[], tables text[], nspname text, relname text) RETURNS boolean
  LANGUAGE sql IMMUTABLE SET search_path = '' AS $f$
  SELECT EXISTS (SELECT FROM ROWS FROM (pg_catalog.unnest(schemas), pg_catalog.unnest(tables)) AS p (s, t)
                  WHERE nspname ~ p.s AND relname ~ p.t)
$f$;

-- Adds a table that a migration selects to its publication, if nothing can be missing: it is physically empty (which no
-- snapshot can hide) and nobody else can write to it before this transaction ends. Says where it should be and is not.
CREATE OR REPLACE FUNCTION switchyard.publish(relation oid) RETURNS jsonb LANGUAGE plpgsql
  SET search_path = '' SET lock_timeout = '2s' AS $f$
DECLARE
  t record;
  p record;
  why text;
  missing jsonb := '[]';
BEGIN
  SELECT n.nspname::text AS schema, c.relname::text AS name, c.relkind AS kind, c.relispartition AS partition,
         c.relreplident = 'f' OR EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisvalid
           AND CASE c.relreplident WHEN 'd' THEN i.indisprimary AND i.indimmediate WHEN 'i' THEN i.indisreplident ELSE false END) AS identified
    INTO t FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE c.oid = relation AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p'
     AND n.nspname NOT IN ('switchyard', 'information_schema') AND n.nspname !~ '^pg_'
     AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                        AND e.objid = c.oid AND e.objsubid = 0 AND e.deptype = 'e');
  IF NOT FOUND THEN RETURN missing; END IF;
  FOR p IN SELECT s.*, b.oid AS id FROM switchyard.publication s JOIN pg_catalog.pg_publication b ON b.pubname = s.name LOOP
    CONTINUE WHEN (cardinality(p.include_schemas) > 0 AND NOT switchyard.matches(p.include_schemas, p.include_tables, t.schema, t.name))
      OR switchyard.matches(p.exclude_schemas, p.exclude_tables, t.schema, t.name);
    -- A partition goes with the parents that are published, selected or excluded.
    CONTINUE WHEN EXISTS (
      SELECT FROM (SELECT relation AS relid UNION ALL
                   SELECT a.relid::oid FROM pg_catalog.pg_partition_ancestors(relation) a WHERE t.partition AND a.relid <> relation) a
        JOIN pg_catalog.pg_class c ON c.oid = a.relid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
       WHERE EXISTS (SELECT FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = p.id AND r.prrelid = a.relid)
          OR (a.relid <> relation AND (cardinality(p.include_schemas) = 0
              OR switchyard.matches(p.include_schemas, p.include_tables, n.nspname, c.relname)
              OR switchyard.matches(p.exclude_schemas, p.exclude_tables, n.nspname, c.relname))));
    why := NULL;
    IF NOT t.identified THEN
      why := 'it has no primary key, and so no usable replica identity';
    ELSE
      BEGIN
        EXECUTE pg_catalog.format('LOCK TABLE %I.%I IN SHARE ROW EXCLUSIVE MODE', t.schema, t.name);
        IF (SELECT pg_catalog.sum(pg_catalog.pg_relation_size(l.relid)) > 0
              FROM (SELECT relation AS relid UNION SELECT x.relid::oid FROM pg_catalog.pg_partition_tree(relation) x) l) THEN
          why := 'it held rows before it could be published';
        ELSE
          EXECUTE pg_catalog.format('ALTER PUBLICATION %I ADD TABLE ONLY %I.%I', p.name, t.schema, t.name);
        END IF;
      EXCEPTION WHEN OTHERS THEN
        why := 'the publication could not be changed (SQLSTATE ' || sqlstate || ')';
      END;
    END IF;
    IF why IS NOT NULL THEN
      missing := missing || pg_catalog.jsonb_build_array(pg_catalog.jsonb_build_array(p.name, why));
    END IF;
  END LOOP;
  RETURN missing;
END $f$;

-- The partitions of a root, parents before children.
CREATE OR REPLACE FUNCTION switchyard.describe_partitions(root oid) RETURNS jsonb LANGUAGE sql STABLE
  SET search_path = '' AS $f$
  SELECT pg_catalog.jsonb_build_object(
    'root', pg_catalog.jsonb_build_object('schema', rn.nspname, 'name', r.relname), 'key', pg_catalog.pg_get_partkeydef(r.oid),
    'partitions', (
      SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
               'name', pg_catalog.jsonb_build_object('schema', n.nspname, 'name', c.relname),
               'parent', pg_catalog.jsonb_build_object('schema', pn.nspname, 'name', p.relname),
               'bound', pg_catalog.pg_get_expr(c.relpartbound, c.oid),
               'key', CASE c.relkind WHEN 'p' THEN pg_catalog.pg_get_partkeydef(c.oid) END,
               'empty', c.relkind = 'p' OR (c.relkind = 'r' AND c.relpersistence = 'p' AND pg_catalog.pg_relation_size(c.oid) = 0))
             ORDER BY t.level, n.nspname, c.relname), '[]')
        FROM pg_catalog.pg_partition_tree(root) t
        JOIN pg_catalog.pg_class c ON c.oid = t.relid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_catalog.pg_class p ON p.oid = t.parentrelid JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
       WHERE t.level > 0))
    FROM pg_catalog.pg_class r JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace WHERE r.oid = root
$f$;

-- A type of the user, as far as rows are concerned.
CREATE OR REPLACE FUNCTION switchyard.describe_type(type oid) RETURNS jsonb LANGUAGE sql STABLE
  SET search_path = '' AS $f$
  SELECT pg_catalog.jsonb_build_object(
    'name', pg_catalog.jsonb_build_object('schema', n.nspname, 'name', t.typname),
    'labels', (SELECT coalesce(pg_catalog.jsonb_agg(e.enumlabel ORDER BY e.enumsortorder), '[]')
                 FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid),
    'attributes', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod))
                            ORDER BY a.attnum), '[]')
                     FROM pg_catalog.pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped),
    'kind', t.typtype,
    'tables', (SELECT coalesce(pg_catalog.jsonb_agg(DISTINCT pg_catalog.jsonb_build_object('schema', cn.nspname, 'name', c.relname)), '[]')
                 FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p')
                 JOIN pg_catalog.pg_namespace cn ON cn.oid = c.relnamespace
                WHERE a.atttypid IN (t.oid, t.typarray) AND a.attnum > 0 AND NOT a.attisdropped))
    FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE t.oid = type
$f$;

-- A table as src/source/postgres/catalog.rs reads it (struct Told).
CREATE OR REPLACE FUNCTION switchyard.describe_table(relation oid) RETURNS jsonb LANGUAGE sql STABLE
  SET search_path = '' AS $f$
  WITH RECURSIVE types AS (
    SELECT t.oid, t.typtype, t.typbasetype, t.typtypmod, t.typelem, t.typcategory FROM pg_catalog.pg_type t
     WHERE t.oid IN (SELECT a.atttypid FROM pg_catalog.pg_attribute a WHERE a.attrelid = relation AND a.attnum > 0)
    UNION
    SELECT b.oid, b.typtype, b.typbasetype, b.typtypmod, b.typelem, b.typcategory FROM types t
      JOIN pg_catalog.pg_type b ON t.typtype = 'd' AND b.oid = t.typbasetype OR t.typcategory = 'A' AND b.oid = t.typelem
  )
  SELECT pg_catalog.jsonb_build_object(
    'relation', pg_catalog.jsonb_build_object(
      'oid', c.oid::int8, 'name', pg_catalog.jsonb_build_object('schema', n.nspname, 'name', c.relname), 'kind', c.relkind,
      'unlogged', c.relpersistence = 'u', 'replident', c.relreplident, 'natts', c.relnatts, 'rows', 0, 'bytes', 0,
      'extension', EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                              AND e.objid = c.oid AND e.objsubid = 0 AND e.deptype = 'e'),
      'parent', (SELECT i.inhparent::int8 FROM pg_catalog.pg_inherits i WHERE c.relispartition AND i.inhrelid = c.oid LIMIT 1)),
    'attributes', (
      SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
               'number', a.attnum, 'dropped', a.attisdropped, 'name', a.attname, 'type_oid', a.atttypid::int8,
               'type_modifier', a.atttypmod,
               'type_name', CASE WHEN a.attisdropped THEN '' ELSE pg_catalog.format_type(a.atttypid, a.atttypmod) END,
               'not_null', a.attnotnull OR coalesce(t.typtype = 'd' AND t.typnotnull, false),
               'generated', a.attgenerated <> '',
               'identity', CASE a.attidentity WHEN 'a' THEN 'always' WHEN 'd' THEN 'by_default' END,
               'default', pg_catalog.pg_get_expr(d.adbin, d.adrelid),
               'collation', CASE WHEN a.attcollation <> 0 AND a.attcollation <> t.typcollation
                    THEN pg_catalog.quote_ident(cn.nspname) || '.' || pg_catalog.quote_ident(co.collname) END)
             ORDER BY a.attnum), '[]')
        FROM pg_catalog.pg_attribute a
        LEFT JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
        LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        LEFT JOIN pg_catalog.pg_collation co ON co.oid = a.attcollation
        LEFT JOIN pg_catalog.pg_namespace cn ON cn.oid = co.collnamespace
       WHERE a.attrelid = c.oid AND a.attnum > 0),
    'missing', (
      SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(a.attname, (a.attmissingval::text::text[])[1]) ORDER BY a.attnum), '[]')
        FROM pg_catalog.pg_attribute a
       WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.atthasmissing AND NOT a.attisdropped AND a.attmissingval IS NOT NULL),
    'indexes', (
      SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
               'name', x.relname, 'primary', i.indisprimary, 'immediate', i.indimmediate, 'replident', i.indisreplident,
               'plain', i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AND k.not_null,
               'columns', k.names) ORDER BY x.relname), '[]')
        FROM pg_catalog.pg_index i
        JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
       CROSS JOIN LATERAL (
             SELECT pg_catalog.bool_and(coalesce(a.attnotnull, false)) AS not_null,
                    pg_catalog.jsonb_agg(coalesce(a.attname, '') ORDER BY n.o) AS names
               FROM pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS n(attnum, o)
               LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = n.attnum AND n.attnum > 0
              WHERE n.o <= i.indnkeyatts) k
       WHERE (i.indisunique OR i.indisexclusion) AND i.indislive AND i.indrelid = c.oid),
    'types', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(oid::int8, typtype = 'e', typbasetype::int8)), '[]')
                FROM types WHERE typtype IN ('e', 'd')),
    -- The rows of `user_types`, src/pgwire/control.rs.
    'details', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('oid', t.oid::int8, 'schema', n.nspname, 'name', p.typname,
                         'kind', CASE WHEN p.typname = 'citext' THEN 't' WHEN t.typtype IN ('e', 'd') THEN t.typtype::text ELSE 'a' END,
                         'base', t.typbasetype::int8, 'modifier', t.typtypmod, 'element', t.typelem::int8,
                         'labels', (SELECT pg_catalog.jsonb_agg(l.enumlabel ORDER BY l.enumsortorder) FROM pg_catalog.pg_enum l WHERE l.enumtypid = t.oid))), '[]')
                  FROM types t JOIN pg_catalog.pg_type p ON p.oid = t.oid JOIN pg_catalog.pg_namespace n ON n.oid = p.typnamespace
                  LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
                 WHERE t.typtype IN ('e', 'd') OR p.typname = 'citext'
                    OR e.oid >= 16384 AND (e.typtype IN ('e', 'd') OR e.typname = 'citext')))
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE c.oid = relation
$f$;

-- What a partition holds: for it and each partition above it the parent, what that is divided by, and the bound; of a
-- default partition also the bounds beside it. As src/target/postgres/partition_path.sql asks the target.
CREATE OR REPLACE FUNCTION switchyard.partition_path(relation oid) RETURNS jsonb LANGUAGE sql STABLE
  SET search_path = '' SET datestyle = 'ISO' SET intervalstyle = 'postgres' SET timezone = 'UTC'
  SET bytea_output = 'hex' SET extra_float_digits = 1 SET lc_monetary = 'C' AS $f$
  SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
           'parent', pg_catalog.jsonb_build_object('schema', pn.nspname, 'name', p.relname),
           'key', pg_catalog.pg_get_partkeydef(p.oid), 'bound', pg_catalog.pg_get_expr(c.relpartbound, c.oid),
           'beside', CASE WHEN pg_catalog.pg_get_expr(c.relpartbound, c.oid) = 'DEFAULT' THEN (
             SELECT pg_catalog.jsonb_agg(b.bound ORDER BY b.bound COLLATE "C")
               FROM pg_catalog.pg_inherits o JOIN pg_catalog.pg_class s ON s.oid = o.inhrelid
              CROSS JOIN LATERAL (SELECT pg_catalog.pg_get_expr(s.relpartbound, s.oid) AS bound) b
              WHERE o.inhparent = p.oid) END) ORDER BY a.n)
    FROM pg_catalog.pg_partition_ancestors($1::pg_catalog.oid) WITH ORDINALITY a (relid, n)
    JOIN pg_catalog.pg_class c ON c.oid = a.relid AND c.relispartition
    JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid
    JOIN pg_catalog.pg_class p ON p.oid = i.inhparent JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
$f$;

-- BEFORE TRUNCATE of the leaves of a published partitioned table, and before and after that of the table itself. The
-- server's own message names the table alone, and nothing where only a part of it is emptied. What is said for a leaf
-- comes before its rows go, with nothing of this statement in between.
CREATE OR REPLACE FUNCTION switchyard.on_truncate() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $f$
DECLARE
  -- Tables that are being emptied as a whole: their leaves need not be told.
  whole text[] := pg_catalog.string_to_array(coalesce(pg_catalog.current_setting('switchyard.truncating', true), ''), ',');
  path jsonb;
BEGIN
  IF tg_argv[0] = 'whole' THEN
    whole := CASE tg_when WHEN 'BEFORE' THEN pg_catalog.array_append(whole, tg_relid::text) ELSE pg_catalog.array_remove(whole, tg_relid::text) END;
    PERFORM pg_catalog.set_config('switchyard.truncating', pg_catalog.array_to_string(whole, ','), true);
    RETURN NULL;
  END IF;
  IF EXISTS (SELECT FROM pg_catalog.pg_partition_ancestors(tg_relid) a WHERE a.relid::oid::text = ANY (whole)) THEN RETURN NULL; END IF;
  path := switchyard.partition_path(tg_relid);
  -- It was detached.
  IF path IS NULL THEN RETURN NULL; END IF;
  PERFORM pg_catalog.pg_logical_emit_message(true, 'switchyard.ddl', pg_catalog.jsonb_build_object('tag', 'TRUNCATE TABLE',
    'statement', pg_catalog.current_query(), 'object', pg_catalog.format('%I.%I', tg_table_schema, tg_table_name), 'effect', 'emptied',
    'table', pg_catalog.jsonb_build_object('schema', tg_table_schema, 'name', tg_table_name), 'path', path)::text);
  PERFORM pg_catalog.pg_logical_emit_message(true, 'switchyard.pad', '');
  RETURN NULL;
END $f$;

-- Puts that trigger on what lacks it of a relation and what is below it, as far as it is published.
CREATE OR REPLACE FUNCTION switchyard.watch_truncate(relation oid) RETURNS void LANGUAGE plpgsql
  SET search_path = '' SET lock_timeout = '2s' AS $f$
DECLARE
  t record;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_partition_ancestors(relation) a JOIN pg_catalog.pg_publication_rel r ON r.prrelid = a.relid
                   JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid JOIN switchyard.publication s ON s.name = p.pubname) THEN
    RETURN;
  END IF;
  FOR t IN SELECT c.oid, n.nspname, c.relname, c.relkind FROM pg_catalog.pg_partition_tree(relation) p JOIN pg_catalog.pg_class c ON c.oid = p.relid
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p'
              AND (c.relkind = 'r' OR EXISTS (SELECT FROM pg_catalog.pg_publication_rel r WHERE r.prrelid = c.oid))
              AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger g WHERE g.tgrelid = c.oid AND g.tgname = 'switchyard_truncate')
  LOOP
    PERFORM pg_catalog.set_config('switchyard.busy', 'on', true);
    EXECUTE pg_catalog.format('CREATE TRIGGER switchyard_truncate BEFORE TRUNCATE ON %I.%I EXECUTE FUNCTION switchyard.on_truncate(%L)',
      t.nspname, t.relname, CASE t.relkind WHEN 'p' THEN 'whole' ELSE 'leaf' END);
    EXECUTE pg_catalog.format('ALTER TABLE ONLY %I.%I ENABLE ALWAYS TRIGGER switchyard_truncate', t.nspname, t.relname);
    IF t.relkind = 'p' THEN
      EXECUTE pg_catalog.format('CREATE TRIGGER "!switchyard_truncated" AFTER TRUNCATE ON %I.%I EXECUTE FUNCTION switchyard.on_truncate(''whole'')', t.nspname, t.relname);
      EXECUTE pg_catalog.format('ALTER TABLE ONLY %I.%I ENABLE ALWAYS TRIGGER "!switchyard_truncated"', t.nspname, t.relname);
    END IF;
    PERFORM pg_catalog.set_config('switchyard.busy', '', true);
  END LOOP;
END $f$;

CREATE OR REPLACE FUNCTION switchyard.on_ddl() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER
  SET search_path = '' SET datestyle = 'ISO' SET intervalstyle = 'postgres' SET timezone = 'UTC'
  SET bytea_output = 'hex' SET extra_float_digits = 1 SET lc_monetary = 'C' AS $f$
DECLARE
  c record;
  part record;
  base jsonb;
  doc jsonb;
  root oid;
  statement text := CASE WHEN tg_tag LIKE '%USER MAPPING' OR tg_tag LIKE '%SERVER' THEN tg_tag ELSE pg_catalog.current_query() END;
  rewritten text := coalesce(pg_catalog.current_setting('switchyard.rewritten', true), '');
BEGIN
  -- Our own statements, made on the application's.
  IF coalesce(pg_catalog.current_setting('switchyard.busy', true), '') = 'on' THEN RETURN; END IF;
  -- One table may be reported several times by one command; the last state is all there is to say. What a table needs
  -- comes before it, what belongs to it after it.
  FOR c IN SELECT * FROM (
             SELECT DISTINCT ON (cmd.classid, cmd.objid) cmd.*, r.relkind, coalesce(r.relispartition, false) AS partition
               FROM pg_catalog.pg_event_trigger_ddl_commands() cmd
               LEFT JOIN pg_catalog.pg_class r ON r.oid = cmd.objid AND cmd.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
              ORDER BY cmd.classid, cmd.objid, cmd.objsubid) cmd
            ORDER BY CASE WHEN cmd.classid = 'pg_catalog.pg_type'::pg_catalog.regclass OR cmd.relkind = 'c' THEN 1 WHEN cmd.relkind = 'S' THEN 2
              WHEN cmd.relkind IN ('r', 'p') THEN 3 ELSE 4 END, cmd.partition, cmd.objid
  LOOP
    CONTINUE WHEN c.schema_name = 'switchyard' OR c.schema_name LIKE 'pg\_temp%' OR c.object_identity = 'switchyard' OR c.object_type LIKE 'publication%'
      OR (c.object_type = 'trigger' AND c.object_identity ~ '^"?!?switchyard_truncate');
    -- CREATE TABLE … (LIKE …) is also reported as the ALTER TABLE that it makes of itself.
    base := pg_catalog.jsonb_build_object('tag', CASE WHEN tg_tag LIKE 'CREATE%' OR tg_tag = 'SELECT INTO' THEN tg_tag ELSE c.command_tag END, 'statement', statement, 'object', coalesce(c.object_identity, ''),
      'xid', pg_catalog.pg_current_xact_id()::text);
    IF c.relkind IN ('r', 'p') AND NOT c.in_extension THEN
      doc := base || pg_catalog.jsonb_build_object('effect', 'table', 'table', switchyard.describe_table(c.objid),
        'unpublished', switchyard.publish(c.objid),
        'rewritten', c.objid::text = ANY (pg_catalog.string_to_array(rewritten, ',')));
      PERFORM pg_catalog.pg_logical_emit_message(true, 'switchyard.ddl', doc::text);
      IF c.relkind = 'p' OR c.partition THEN
        PERFORM switchyard.watch_truncate(c.objid);
        root := pg_catalog.pg_partition_root(c.objid);
        PERFORM pg_catalog.pg_logical_emit_message(true, 'switchyard.ddl', (base || pg_catalog.jsonb_build_object('effect', 'partitions')
          || switchyard.describe_partitions(root))::text);
      END IF;
      FOR part IN SELECT s.oid, sn.nspname, s.relname, a.attname, tn.nspname AS of_schema, t.relname AS of_table
                 FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S'
                 JOIN pg_catalog.pg_namespace sn ON sn.oid = s.relnamespace
                 JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
                 JOIN pg_catalog.pg_class t ON t.oid = d.refobjid JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
                WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refclassid = d.classid
                  AND d.refobjid = c.objid AND d.deptype = 'a' AND pg_catalog.age(d.xmin) <= 0
      LOOP
        PERFORM pg_catalog.pg_logical_emit_message(true, 'switchyard.ddl', (base || pg_catalog.jsonb_build_object('effect', 'sequence',
          'name', pg_catalog.jsonb_build_object('schema', part.nspname, 'name', part.relname),
          'definition', pg_catalog.format('ALTER SEQUENCE %I.%I OWNED BY %I.%I.%I', part.nspname, part.relname, part.of_schema, part.of_table, part.attname)))::text);
      END LOOP;
      -- Constraints that this transaction made (their age is zero, or less in a subtransaction), those of a partition's parent left to it.
      FOR part IN SELECT n.contype, n.conname, pg_catalog.pg_get_constraintdef(n.oid) AS definition, t.relname, s.nspname
                 FROM pg_catalog.pg_constraint n JOIN pg_catalog.pg_class t ON t.oid = n.conrelid JOIN pg_catalog.pg_namespace s ON s.oid = t.relnamespace
                WHERE n.conrelid = c.objid AND n.contype IN ('p', 'u', 'x', 'c', 'f') AND n.conparentid = 0 AND n.conislocal
                  AND pg_catalog.age(n.xmin) <= 0
                ORDER BY n.contype <> 'p', n.conname
      LOOP
        PERFORM pg_catalog.pg_logical_emit_message(true, 'switchyard.ddl', (base || CASE WHEN part.contype = 'f' THEN
            pg_catalog.jsonb_build_object('effect', 'other', 'tag', 'FOREIGN KEY', 'object', pg_catalog.format('%I of %I.%I', part.conname, part.nspname, part.relname))
          ELSE pg_catalog.jsonb_build_object('effect', 'index', 'name', part.conname,
            'table', pg_catalog.jsonb_build_object('schema', part.nspname, 'name', part.relname),
            'definition', pg_catalog.format('ALTER TABLE %I.%I ADD CONSTRAINT %I %s', part.nspname, part.relname, part.conname, part.definition)) END)::text);
      END LOOP;
      CONTINUE;
    ELSIF c.relkind IN ('i', 'I') AND c.command_tag = 'CREATE INDEX' AND NOT c.in_extension THEN
      -- A constraint's index comes with the constraint, a partition's with its parent's.
      CONTINUE WHEN c.partition OR EXISTS (SELECT FROM pg_catalog.pg_constraint n WHERE n.conindid = c.objid AND n.contype IN ('p', 'u', 'x'));
      doc := base || (SELECT pg_catalog.jsonb_build_object('effect', 'index', 'name', x.relname,
               'table', pg_catalog.jsonb_build_object('schema', n.nspname, 'name', t.relname),
               -- Of a partitioned table's index it says ONLY, which would leave the partitions without.
               'definition', CASE x.relkind WHEN 'I' THEN pg_catalog.regexp_replace(pg_catalog.pg_get_indexdef(x.oid), ' ON ONLY ', ' ON ')
                             ELSE pg_catalog.pg_get_indexdef(x.oid) END)
          FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
          JOIN pg_catalog.pg_class t ON t.oid = i.indrelid JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
         WHERE i.indexrelid = c.objid);
    ELSIF c.relkind = 'S' AND NOT c.in_extension THEN
      -- An identity column's comes with it.
      CONTINUE WHEN EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                               AND d.objid = c.objid AND d.deptype = 'i');
      doc := base || (SELECT pg_catalog.jsonb_build_object('effect', 'sequence',
               'name', pg_catalog.jsonb_build_object('schema', n.nspname, 'name', r.relname),
               'definition', pg_catalog.format('CREATE SEQUENCE %I.%I AS %s INCREMENT %s MINVALUE %s MAXVALUE %s START %s CACHE %s%s',
                 n.nspname, r.relname, pg_catalog.format_type(q.seqtypid, NULL), q.seqincrement, q.seqmin, q.seqmax, q.seqstart, q.seqcache,
                 CASE WHEN q.seqcycle THEN ' CYCLE' ELSE '' END))
          FROM pg_catalog.pg_sequence q JOIN pg_catalog.pg_class r ON r.oid = q.seqrelid JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
         WHERE q.seqrelid = c.objid);
    ELSIF NOT c.in_extension AND (c.relkind = 'c' OR c.classid = 'pg_catalog.pg_type'::pg_catalog.regclass) THEN
      doc := base || pg_catalog.jsonb_build_object('effect', 'type', 'type', switchyard.describe_type(
        CASE WHEN c.relkind = 'c' THEN (SELECT r.reltype FROM pg_catalog.pg_class r WHERE r.oid = c.objid) ELSE c.objid END));
    ELSE
      doc := base || pg_catalog.jsonb_build_object('effect', 'other');
    END IF;
    PERFORM pg_catalog.pg_logical_emit_message(true, 'switchyard.ddl', doc::text);
  END LOOP;
  -- A message is decoded at the place where its record ends, which is where the next one begins; and as the block's own
  -- subtransaction wrote it, it would come after a row of the same place (LogLogicalMessage, logicalmsg_decode). An
  -- empty message between them keeps it before the rows of the new shape.
  PERFORM pg_catalog.pg_logical_emit_message(true, 'switchyard.pad', '');
  PERFORM pg_catalog.set_config('switchyard.rewritten', '', true);
EXCEPTION WHEN OTHERS THEN
  BEGIN
    PERFORM pg_catalog.pg_logical_emit_message(true, 'switchyard.ddl', pg_catalog.jsonb_build_object(
      'tag', tg_tag, 'statement', statement, 'object', '', 'effect', 'unknown', 'error', sqlstate)::text);
    PERFORM pg_catalog.pg_logical_emit_message(true, 'switchyard.pad', '');
  EXCEPTION WHEN OTHERS THEN NULL;
  END;
END $f$;

CREATE OR REPLACE FUNCTION switchyard.on_drop() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER
  SET search_path = '' AS $f$
DECLARE
  c record;
  doc jsonb;
BEGIN
  FOR c IN SELECT * FROM pg_catalog.pg_event_trigger_dropped_objects() LOOP
    CONTINUE WHEN c.is_temporary OR c.schema_name = 'switchyard' OR c.object_identity = 'switchyard' OR c.object_type LIKE 'publication%'
      OR (c.object_type = 'trigger' AND c.object_identity ~ '^"?!?switchyard_truncate');
    -- Dropped columns come with their table's own message.
    CONTINUE WHEN NOT (c.object_type = 'table' OR c.original) OR c.object_type IN ('table column', 'default value');
    doc := pg_catalog.jsonb_build_object('tag', tg_tag, 'statement', pg_catalog.current_query(), 'object', c.object_identity, 'oid', c.objid::int8);
    IF c.object_type = 'table' THEN
      doc := doc || pg_catalog.jsonb_build_object('effect', 'dropped', 'table', pg_catalog.jsonb_build_object('schema', c.schema_name, 'name', c.object_name));
    ELSIF c.object_type = 'table constraint' THEN
      doc := doc || pg_catalog.jsonb_build_object('effect', 'undone', 'name', c.address_names[3],
        'table', pg_catalog.jsonb_build_object('schema', c.address_names[1], 'name', c.address_names[2]));
    ELSIF c.object_type = 'index' THEN
      doc := doc || pg_catalog.jsonb_build_object('effect', 'undone', 'name', c.object_name, 'schema', c.schema_name);
    ELSE
      doc := doc || pg_catalog.jsonb_build_object('effect', 'other');
    END IF;
    PERFORM pg_catalog.pg_logical_emit_message(true, 'switchyard.ddl', doc::text);
  END LOOP;
  PERFORM pg_catalog.pg_logical_emit_message(true, 'switchyard.pad', '');
EXCEPTION WHEN OTHERS THEN
  BEGIN
    PERFORM pg_catalog.pg_logical_emit_message(true, 'switchyard.ddl', pg_catalog.jsonb_build_object(
      'tag', tg_tag, 'statement', tg_tag, 'object', '', 'effect', 'unknown', 'error', sqlstate)::text);
    PERFORM pg_catalog.pg_logical_emit_message(true, 'switchyard.pad', '');
  EXCEPTION WHEN OTHERS THEN NULL;
  END;
END $f$;

CREATE OR REPLACE FUNCTION switchyard.on_rewrite() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER
  SET search_path = '' AS $f$
BEGIN
  PERFORM pg_catalog.set_config('switchyard.rewritten', pg_catalog.concat_ws(',',
    nullif(pg_catalog.current_setting('switchyard.rewritten', true), ''), pg_catalog.pg_event_trigger_table_rewrite_oid()), true);
EXCEPTION WHEN OTHERS THEN NULL;
END $f$;

DROP EVENT TRIGGER IF EXISTS switchyard_ddl;
DROP EVENT TRIGGER IF EXISTS switchyard_drop;
DROP EVENT TRIGGER IF EXISTS switchyard_rewrite;
CREATE EVENT TRIGGER switchyard_ddl ON ddl_command_end EXECUTE FUNCTION switchyard.on_ddl();
CREATE EVENT TRIGGER switchyard_drop ON sql_drop EXECUTE FUNCTION switchyard.on_drop();
CREATE EVENT TRIGGER switchyard_rewrite ON table_rewrite EXECUTE FUNCTION switchyard.on_rewrite();
ALTER EVENT TRIGGER switchyard_ddl ENABLE ALWAYS;
ALTER EVENT TRIGGER switchyard_drop ENABLE ALWAYS;
ALTER EVENT TRIGGER switchyard_rewrite ENABLE ALWAYS;
