-- The schema as statements, from the catalog alone. Columns: order, kind, schema, name, table's schema and name, stage
-- (b before the copy, t table copied, c consistent), statement. The session's search_path is empty, so every name that
-- the catalog's own functions print is qualified. $1: the wanted relations (tables, partitions and what they inherit from).
WITH RECURSIVE rel AS (
  SELECT c.*, n.nspname, format('%I.%I', n.nspname, c.relname) AS q
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY ($1::oid[])
), depth AS (
  SELECT oid, 0 AS d FROM rel
  UNION ALL SELECT i.inhrelid, depth.d + 1 FROM depth JOIN pg_inherits i ON i.inhparent = depth.oid
), level AS (SELECT oid, max(d) AS d FROM depth GROUP BY oid),
used AS (
  SELECT a.atttypid AS oid FROM pg_attribute a JOIN rel ON rel.oid = a.attrelid WHERE a.attnum > 0 AND NOT a.attisdropped
  UNION
  SELECT x.oid FROM used JOIN pg_type t ON t.oid = used.oid CROSS JOIN LATERAL (
    SELECT t.typelem AS oid WHERE t.typelem <> 0
    UNION ALL SELECT t.typbasetype WHERE t.typtype = 'd'
    UNION ALL SELECT a.atttypid FROM pg_attribute a WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL SELECT r.rngsubtype FROM pg_range r WHERE r.rngtypid = t.oid OR r.rngmultitypid = t.oid
    UNION ALL SELECT r.rngtypid FROM pg_range r WHERE r.rngmultitypid = t.oid) x
), typ AS (
  SELECT t.*, n.nspname, format('%I.%I', n.nspname, t.typname) AS q
    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
   WHERE t.oid IN (SELECT oid FROM used) AND t.oid >= 16384 AND t.typtype IN ('e', 'd', 'c', 'r')
     AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_type'::regclass AND e.objid = t.oid AND e.deptype = 'e')
), seq AS (
  SELECT s.*, c.relname, n.nspname, format('%I.%I', n.nspname, c.relname) AS q, o.refobjid, o.refobjsubid, o.deptype,
         CASE WHEN c.relpersistence = 'u' THEN 'UNLOGGED ' ELSE '' END AS unlogged
    FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_depend o ON o.classid = 'pg_class'::regclass AND o.objid = c.oid AND o.refclassid = 'pg_class'::regclass
          AND o.deptype IN ('a', 'i') AND o.refobjsubid > 0
   WHERE n.nspname <> 'switchyard' AND ($2 AND o.refobjid IS NULL OR o.refobjid IN (SELECT oid FROM rel) OR EXISTS (
         SELECT FROM pg_depend u JOIN pg_attrdef d ON u.classid = 'pg_attrdef'::regclass AND u.objid = d.oid
          WHERE u.refclassid = 'pg_class'::regclass AND u.refobjid = c.oid AND d.adrelid IN (SELECT oid FROM rel)))
), con AS (
  SELECT k.*, rel.q, rel.nspname, rel.relname, rel.relispartition FROM pg_constraint k JOIN rel ON rel.oid = k.conrelid
), cols AS (
  SELECT a.attrelid, string_agg(format('%I %s%s%s%s', a.attname, format_type(a.atttypid, a.atttypmod),
           CASE WHEN a.attcollation <> 0 AND a.attcollation <> t.typcollation THEN format(' COLLATE %I.%I', cn.nspname, co.collname) ELSE '' END,
           CASE WHEN a.attgenerated <> '' THEN format(' GENERATED ALWAYS AS (%s) %s', pg_get_expr(d.adbin, d.adrelid),
                     CASE a.attgenerated WHEN 's' THEN 'STORED' ELSE 'VIRTUAL' END) ELSE '' END,
           CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END), ', ' ORDER BY a.attnum)
         FILTER (WHERE a.attislocal OR rel.relispartition) AS text
    FROM pg_attribute a JOIN rel ON rel.oid = a.attrelid JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    LEFT JOIN pg_collation co ON co.oid = a.attcollation LEFT JOIN pg_namespace cn ON cn.oid = co.collnamespace
   WHERE a.attnum > 0 AND NOT a.attisdropped GROUP BY a.attrelid
), out(place, sub, kind, schema, name, ts, tn, stage, sql) AS (
  SELECT 1, 0::int8, 'SCHEMA', '', n.nspname::text, NULL::text, NULL::text, 'b', format('CREATE SCHEMA IF NOT EXISTS %I', n.nspname)
    FROM pg_namespace n WHERE n.nspname IN (SELECT nspname FROM rel UNION SELECT nspname FROM typ UNION SELECT nspname FROM seq
         UNION SELECT x.nspname FROM pg_extension e JOIN pg_namespace x ON x.oid = e.extnamespace) AND n.nspname NOT LIKE 'pg\_%'
  UNION ALL SELECT 2, e.oid::int8, 'EXTENSION', '', e.extname::text, NULL, NULL, 'b',
         format('CREATE EXTENSION IF NOT EXISTS %I WITH SCHEMA %I', e.extname, n.nspname)
    FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname <> 'plpgsql'
  UNION ALL SELECT 3, t.oid::int8, CASE t.typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END, t.nspname::text, t.typname::text, NULL, NULL, 'b',
    CASE t.typtype
      WHEN 'e' THEN format('CREATE TYPE %s AS ENUM (%s)', t.q, (SELECT string_agg(quote_literal(enumlabel), ', ' ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = t.oid))
      WHEN 'c' THEN format('CREATE TYPE %s AS (%s)', t.q, (SELECT string_agg(format('%I %s%s', a.attname, format_type(a.atttypid, a.atttypmod),
             CASE WHEN a.attcollation <> 0 AND a.attcollation <> at.typcollation THEN (SELECT format(' COLLATE %I.%I', n.nspname, c.collname) FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace WHERE c.oid = a.attcollation) ELSE '' END), ', ' ORDER BY a.attnum)
             FROM pg_attribute a JOIN pg_type at ON at.oid = a.atttypid WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped))
      WHEN 'r' THEN (SELECT format('CREATE TYPE %s AS RANGE (SUBTYPE = %s, SUBTYPE_OPCLASS = %I.%I, MULTIRANGE_TYPE_NAME = %s%s%s)', t.q, format_type(r.rngsubtype, -1), n.nspname, o.opcname,
             r.rngmultitypid::regtype, CASE WHEN r.rngsubdiff <> 0 THEN ', SUBTYPE_DIFF = ' || r.rngsubdiff::regproc ELSE '' END,
             CASE WHEN r.rngcollation <> 0 THEN ', COLLATION = ' || r.rngcollation::regcollation ELSE '' END)
             FROM pg_range r JOIN pg_opclass o ON o.oid = r.rngsubopc JOIN pg_namespace n ON n.oid = o.opcnamespace WHERE r.rngtypid = t.oid)
      ELSE format('CREATE DOMAIN %s AS %s%s%s%s%s', t.q, format_type(t.typbasetype, t.typtypmod),
             CASE WHEN t.typcollation <> 0 AND t.typcollation <> (SELECT b.typcollation FROM pg_type b WHERE b.oid = t.typbasetype) THEN ' COLLATE ' || t.typcollation::regcollation ELSE '' END,
             coalesce(' DEFAULT ' || pg_get_expr(t.typdefaultbin, 0), ''), CASE WHEN t.typnotnull THEN ' NOT NULL' ELSE '' END,
             coalesce((SELECT string_agg(format(' CONSTRAINT %I %s', conname, pg_get_constraintdef(oid)), '' ORDER BY conname) FROM pg_constraint WHERE contypid = t.oid AND contype = 'c'), ''))
    END
    FROM typ t WHERE t.typtype <> 'c' OR (SELECT relkind FROM pg_class WHERE oid = t.typrelid) = 'c'
  UNION ALL SELECT 4, s.seqrelid::int8, 'SEQUENCE', s.nspname::text, s.relname::text, NULL, NULL, 'b',
         format('CREATE %sSEQUENCE %s AS %s START WITH %s INCREMENT BY %s MINVALUE %s MAXVALUE %s CACHE %s%s', s.unlogged, s.q, s.seqtypid::regtype,
                s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache, CASE WHEN s.seqcycle THEN ' CYCLE' ELSE '' END)
    FROM seq s WHERE s.deptype IS DISTINCT FROM 'i'
  UNION ALL SELECT 5 , level.d * 10000000000 + r.oid::int8, 'TABLE', r.nspname::text, r.relname::text, r.nspname::text, r.relname::text, 'b',
         format('CREATE %sTABLE %s (%s)%s%s%s%s', CASE WHEN r.relpersistence = 'u' THEN 'UNLOGGED ' ELSE '' END, r.q,
           concat_ws(', ', (SELECT text FROM cols WHERE attrelid = r.oid),
             (SELECT string_agg(format('CONSTRAINT %I %s', conname, pg_get_constraintdef(oid)), ', ' ORDER BY conname) FROM con WHERE conrelid = r.oid AND contype = 'c' AND convalidated AND (conislocal OR r.relispartition))),
           CASE WHEN NOT r.relispartition THEN (SELECT format(' INHERITS (%s)', string_agg(i.inhparent::regclass::text, ', ' ORDER BY i.inhseqno)) FROM pg_inherits i WHERE i.inhrelid = r.oid HAVING count(*) > 0) END,
           ' PARTITION BY ' || pg_get_partkeydef(r.oid), ' WITH (' || array_to_string(r.reloptions, ', ') || ')', '')
    FROM rel r JOIN level USING (oid)
  UNION ALL SELECT 6, a.attrelid::int8 * 2000 + a.attnum, 'DEFAULT', r.nspname::text, format('%s %s', r.relname, a.attname), r.nspname::text, r.relname::text, 'b',
         format('ALTER TABLE ONLY %s ALTER COLUMN %I SET DEFAULT %s', r.q, a.attname, pg_get_expr(d.adbin, d.adrelid))
    FROM pg_attribute a JOIN rel r ON r.oid = a.attrelid JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum WHERE a.attgenerated = ''
  UNION ALL SELECT 7, level.d * 10000000000 + r.oid::int8, 'TABLE ATTACH', r.nspname::text, r.relname::text, r.nspname::text, r.relname::text, 'b',
         format('ALTER TABLE ONLY %s ATTACH PARTITION %s %s', i.inhparent::regclass, r.q, pg_get_expr(r.relpartbound, r.oid))
    FROM rel r JOIN level USING (oid) JOIN pg_inherits i ON i.inhrelid = r.oid WHERE r.relispartition AND i.inhparent IN (SELECT oid FROM rel)
  UNION ALL SELECT 8, s.seqrelid::int8, CASE s.deptype WHEN 'i' THEN 'SEQUENCE' ELSE 'SEQUENCE OWNED BY' END, s.nspname::text, s.relname::text, r.nspname::text, r.relname::text, 'b',
         CASE s.deptype WHEN 'i' THEN format('ALTER TABLE %s ALTER COLUMN %I ADD GENERATED %s AS IDENTITY (SEQUENCE NAME %s START WITH %s INCREMENT BY %s MINVALUE %s MAXVALUE %s CACHE %s%s)',
              r.q, a.attname, CASE a.attidentity WHEN 'a' THEN 'ALWAYS' ELSE 'BY DEFAULT' END, s.q, s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache, CASE WHEN s.seqcycle THEN ' CYCLE' ELSE '' END)
         ELSE format('ALTER SEQUENCE %s OWNED BY %s.%I', s.q, r.q, a.attname) END
    FROM seq s JOIN rel r ON r.oid = s.refobjid JOIN pg_attribute a ON a.attrelid = s.refobjid AND a.attnum = s.refobjsubid
  UNION ALL SELECT 9, r.oid::int8, 'REPLICA IDENTITY', r.nspname::text, r.relname::text, r.nspname::text, r.relname::text, 'b',
         format('ALTER TABLE ONLY %s REPLICA IDENTITY %s', r.q, CASE r.relreplident WHEN 'f' THEN 'FULL' ELSE 'NOTHING' END) FROM rel r WHERE r.relreplident IN ('f', 'n')
  -- Partitioned tables' keys and indexes come first and are only completed by those of their partitions.
  UNION ALL SELECT 10, level.d * 10000000000 + k.oid::int8, 'CONSTRAINT', k.nspname::text, format('%s %s', k.relname, k.conname), k.nspname::text, k.relname::text, 't',
         format('ALTER TABLE ONLY %s ADD CONSTRAINT %I %s', k.q, k.conname, pg_get_constraintdef(k.oid))
    FROM con k JOIN level ON level.oid = k.conrelid WHERE k.contype IN ('p', 'u', 'x')
  UNION ALL SELECT 11, level.d * 10000000000 + i.indexrelid::int8, 'INDEX', r.nspname::text, x.relname::text, r.nspname::text, r.relname::text, 't', pg_get_indexdef(i.indexrelid)
    FROM pg_index i JOIN rel r ON r.oid = i.indrelid JOIN level ON level.oid = r.oid JOIN pg_class x ON x.oid = i.indexrelid
   WHERE NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x')) AND (i.indisvalid OR r.relkind = 'p')
  UNION ALL SELECT 12, h.inhrelid::int8, 'INDEX ATTACH', r.nspname::text, x.relname::text, r.nspname::text, r.relname::text, 't',
         format('ALTER INDEX %s ATTACH PARTITION %s', h.inhparent::regclass, h.inhrelid::regclass)
    FROM pg_inherits h JOIN pg_index i ON i.indexrelid = h.inhrelid JOIN pg_class x ON x.oid = h.inhrelid JOIN rel r ON r.oid = i.indrelid
   WHERE (SELECT indrelid FROM pg_index WHERE indexrelid = h.inhparent) IN (SELECT oid FROM rel)
  UNION ALL SELECT 13, i.indexrelid::int8, 'REPLICA IDENTITY', r.nspname::text, r.relname::text, r.nspname::text, r.relname::text, 't',
         format('ALTER TABLE ONLY %s REPLICA IDENTITY USING INDEX %I', r.q, x.relname)
    FROM pg_index i JOIN rel r ON r.oid = i.indrelid JOIN pg_class x ON x.oid = i.indexrelid WHERE i.indisreplident AND r.relreplident = 'i'
  UNION ALL SELECT 14, k.oid::int8, CASE k.contype WHEN 'f' THEN 'FK CONSTRAINT' ELSE 'CHECK CONSTRAINT' END, k.nspname::text, format('%s %s', k.relname, k.conname), k.nspname::text, k.relname::text, 'c',
         format('ALTER TABLE %s ADD CONSTRAINT %I %s', k.q, k.conname, pg_get_constraintdef(k.oid))
    FROM con k WHERE k.conparentid = 0 AND (k.contype = 'f' AND k.confrelid IN (SELECT oid FROM rel) OR k.contype = 'c' AND NOT k.convalidated AND k.conislocal)
  UNION ALL SELECT 15, r.oid::int8 * 2000 + d.objsubid, 'COMMENT', r.nspname::text, CASE d.objsubid WHEN 0 THEN 'TABLE ' || r.relname ELSE 'COLUMN ' || r.relname || '.' || a.attname END, r.nspname::text, r.relname::text, 'b',
         format('COMMENT ON %s IS %L', CASE d.objsubid WHEN 0 THEN 'TABLE ' || r.q ELSE format('COLUMN %s.%I', r.q, a.attname) END, d.description)
    FROM pg_description d JOIN rel r ON d.classoid = 'pg_class'::regclass AND d.objoid = r.oid LEFT JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum = d.objsubid AND d.objsubid > 0
)
SELECT kind, schema, name, ts, tn, stage, sql || ';' FROM out ORDER BY place, sub, name
