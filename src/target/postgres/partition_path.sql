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
