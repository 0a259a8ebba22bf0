-- Installed at the source, by a superuser, in one transaction. Everything here runs inside the application's DDL: it
-- must never make that fail, hence the exception blocks around all of it.
CREATE SCHEMA IF NOT EXISTS switchyard;

-- A table as src/source/postgres/catalog.rs reads it (struct Told).
CREATE OR REPLACE FUNCTION switchyard.describe_table(relation oid) RETURNS jsonb LANGUAGE sql STABLE
  SET search_path = '' AS $f$
  WITH RECURSIVE types AS (
    SELECT t.oid, t.typtype, t.typbasetype FROM pg_catalog.pg_type t
     WHERE t.oid IN (SELECT a.atttypid FROM pg_catalog.pg_attribute a WHERE a.attrelid = relation AND a.attnum > 0)
    UNION
    SELECT b.oid, b.typtype, b.typbasetype FROM types t JOIN pg_catalog.pg_type b ON b.oid = t.typbasetype WHERE t.typtype = 'd'
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
                FROM types WHERE typtype IN ('e', 'd')))
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE c.oid = relation
$f$;

CREATE OR REPLACE FUNCTION switchyard.on_ddl() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER
  SET search_path = '' SET datestyle = 'ISO' SET intervalstyle = 'postgres' SET timezone = 'UTC'
  SET bytea_output = 'hex' SET extra_float_digits = 1 SET lc_monetary = 'C' AS $f$
DECLARE
  c record;
  doc jsonb;
  statement text := CASE WHEN tg_tag LIKE '%USER MAPPING' OR tg_tag LIKE '%SERVER' THEN tg_tag ELSE pg_catalog.current_query() END;
  rewritten text := coalesce(pg_catalog.current_setting('switchyard.rewritten', true), '');
BEGIN
  -- One table may be reported several times by one command; the last state is all there is to say.
  FOR c IN SELECT DISTINCT ON (k.classid, k.objid) k.* FROM pg_catalog.pg_event_trigger_ddl_commands() k
            ORDER BY k.classid, k.objid, k.objsubid
  LOOP
    CONTINUE WHEN c.schema_name = 'switchyard' OR c.schema_name LIKE 'pg\_temp%' OR c.object_identity = 'switchyard' OR c.object_type LIKE 'publication%';
    doc := pg_catalog.jsonb_build_object('tag', c.command_tag, 'statement', statement, 'object', coalesce(c.object_identity, ''));
    IF c.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND NOT c.in_extension
       AND EXISTS (SELECT FROM pg_catalog.pg_class r WHERE r.oid = c.objid AND r.relkind IN ('r', 'p')) THEN
      doc := doc || pg_catalog.jsonb_build_object('effect', 'table', 'table', switchyard.describe_table(c.objid),
        'rewritten', c.objid::text = ANY (pg_catalog.string_to_array(rewritten, ',')));
    ELSIF c.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.command_tag = 'CREATE INDEX' AND NOT c.in_extension THEN
      doc := doc || (SELECT pg_catalog.jsonb_build_object('effect', 'index', 'name', x.relname,
               'table', pg_catalog.jsonb_build_object('schema', n.nspname, 'name', t.relname),
               'definition', pg_catalog.pg_get_indexdef(x.oid))
          FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
          JOIN pg_catalog.pg_class t ON t.oid = i.indrelid JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
         WHERE i.indexrelid = c.objid);
    ELSE
      doc := doc || pg_catalog.jsonb_build_object('effect', 'other');
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
    CONTINUE WHEN c.is_temporary OR c.schema_name = 'switchyard' OR c.object_identity = 'switchyard' OR c.object_type LIKE 'publication%';
    -- Dropped columns and constraints come with their table's own message.
    CONTINUE WHEN NOT (c.object_type = 'table' OR c.original) OR c.object_type IN ('table column', 'table constraint', 'default value');
    doc := pg_catalog.jsonb_build_object('tag', tg_tag, 'statement', pg_catalog.current_query(), 'object', c.object_identity, 'oid', c.objid::int8);
    IF c.object_type = 'table' THEN
      doc := doc || pg_catalog.jsonb_build_object('effect', 'dropped', 'table', pg_catalog.jsonb_build_object('schema', c.schema_name, 'name', c.object_name));
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
