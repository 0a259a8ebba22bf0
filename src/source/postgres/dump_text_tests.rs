//! The dump's reader against texts that try to mislead it.

use super::*;

const DUMP: &str = r#"--
-- PostgreSQL database dump
--

\restrict abc

SET statement_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SELECT pg_catalog.set_config('search_path', '', false);

--
-- TOC entry 6 (class 2615 OID 1)
-- Name: Odd; Type: SCHEMA; Schema: -; Owner: -
--

CREATE SCHEMA "Odd";


--
-- TOC entry 7 (class 1255 OID 2)
-- Name: f(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.f() RETURNS text
    LANGUAGE sql
    AS $_$
--
-- Name: fake; Type: TABLE; Schema: public; Owner: -
--
select '$$'$_$;


SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- TOC entry 8 (class 1259 OID 3)
-- Dependencies: 6
-- Name: a; Type: x; Type: TABLE; Schema: Odd; Owner: -
--

CREATE TABLE "Odd"."a; Type: x" (
    id integer NOT NULL
);


--
-- TOC entry 9 (class 0 OID 0)
-- Dependencies: 8
-- Name: TABLE "a; Type: x"; Type: COMMENT; Schema: Odd; Owner: -
--

COMMENT ON TABLE "Odd"."a; Type: x" IS 'it''s
--
-- Name: fake2; Type: TABLE; Schema: public; Owner: -
--
';


--
-- TOC entry 10 (class 1259 OID 4)
-- Name: p; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.p (id integer, b integer) PARTITION BY RANGE (id);


--
-- TOC entry 11 (class 1259 OID 5)
-- Name: p1; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.p1 (id integer, b integer);


--
-- TOC entry 12 (class 0 OID 0)
-- Dependencies: 10 11
-- Name: p1; Type: TABLE ATTACH; Schema: public; Owner: -
--

ALTER TABLE ONLY public.p ATTACH PARTITION public.p1 FOR VALUES FROM (0) TO (10);


--
-- TOC entry 13 (class 2606 OID 6)
-- Dependencies: 10
-- Name: p p_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.p
    ADD CONSTRAINT p_pkey PRIMARY KEY (id);


--
-- TOC entry 14 (class 2606 OID 7)
-- Dependencies: 11
-- Name: p1 p1_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.p1
    ADD CONSTRAINT p1_pkey PRIMARY KEY (id);


--
-- TOC entry 15 (class 0 OID 0)
-- Dependencies: 13 14
-- Name: p1_pkey; Type: INDEX ATTACH; Schema: public; Owner: -
--

ALTER INDEX public.p_pkey ATTACH PARTITION public.p1_pkey;


--
-- TOC entry 16 (class 2620 OID 8)
-- Dependencies: 8 7
-- Name: a; Type: x tr; Type: TRIGGER; Schema: Odd; Owner: -
--

CREATE TRIGGER tr BEFORE UPDATE OF "ON" ON "Odd"."a; Type: x" FOR EACH ROW EXECUTE FUNCTION public.f();


--
-- TOC entry 17 (class 2606 OID 9)
-- Dependencies: 8 10 13
-- Name: a; Type: x fk; Type: FK CONSTRAINT; Schema: Odd; Owner: -
--

ALTER TABLE ONLY "Odd"."a; Type: x"
    ADD CONSTRAINT fk FOREIGN KEY (id) REFERENCES public.p(id);


\unrestrict abc
"#;

fn show(script: &SchemaScript) -> Vec<String> {
    script
        .objects
        .iter()
        .map(|o| {
            let table = o.table.as_ref().map_or("-".to_owned(), ToString::to_string);
            format!("{} {} {table} {:?}", o.kind, o.name, o.stage)
        })
        .collect()
}

#[test]
fn given_misleading_text_when_read_then_only_true_headers_count() {
    let tables = [TableName::new("Odd", "a; Type: x"), TableName::new("public", "p")];
    let script = parse(DUMP, Wanted { tables: &tables, everything: true, dependencies: &[] }, "test");
    assert_eq!(
        script.preamble,
        "SET client_encoding = 'UTF8';\nSELECT pg_catalog.set_config('search_path', '', false);"
    );
    let odd = "\"Odd\".\"a; Type: x\"";
    assert_eq!(
        show(&script),
        [
            "SCHEMA Odd - BeforeCopy".to_owned(),
            "FUNCTION f() - BeforeCopy".into(),
            format!("TABLE a; Type: x {odd} BeforeCopy"),
            "COMMENT TABLE \"a; Type: x\" - BeforeCopy".into(),
            "TABLE p public.p BeforeCopy".into(),
            "TABLE p1 public.p BeforeCopy".into(),
            "TABLE ATTACH p1 public.p BeforeCopy".into(),
            "CONSTRAINT p p_pkey public.p TableCopied".into(),
            "CONSTRAINT p1 p1_pkey public.p TableCopied".into(),
            "INDEX ATTACH p1_pkey public.p TableCopied".into(),
            format!("TRIGGER a; Type: x tr {odd} Consistent"),
            format!("FK CONSTRAINT a; Type: x fk {odd} Consistent"),
        ]
    );
    assert_eq!(script.objects[0].sql, "CREATE SCHEMA IF NOT EXISTS \"Odd\";");
    assert!(script.objects.iter().all(|o| !o.sql.contains("restrict") && !o.sql.contains("default_table")));
}

#[test]
fn given_a_partial_selection_when_read_then_only_what_belongs_to_it_comes() {
    let tables = [TableName::new("Odd", "a; Type: x")];
    let on = |object, on| Dependency { object, on, part: false };
    let dependencies = [
        on((1259, 3), (2615, 1)),
        on((2620, 8), (1255, 2)),
        on((2620, 8), (1259, 3)),
        on((2606, 9), (1259, 3)),
        on((2606, 9), (1259, 4)),
    ];
    let wanted = Wanted { tables: &tables, everything: false, dependencies: &dependencies };
    let script = parse(DUMP, wanted, "test");
    let kinds: Vec<&str> = script.objects.iter().map(|o| &*o.kind).collect();
    // The foreign key points at a table that does not take part.
    assert_eq!(kinds, ["SCHEMA", "FUNCTION", "TABLE", "COMMENT", "TRIGGER"]);
}

#[test]
fn given_cut_and_odd_input_when_read_then_nothing_panics() {
    let wanted = Wanted { tables: &[], everything: true, dependencies: &[] };
    for end in (0..DUMP.len()).filter(|e| DUMP.is_char_boundary(*e)).step_by(7) {
        parse(&DUMP[..end], wanted, "test");
        parse(&DUMP[end..], wanted, "test");
    }
    for odd in ["$ü$ x", "E'\\", "'", "\"", "/* /* */", "$$", "$a$ $b$", "-- Name: ; Type: ; Schema: ; Owner: "] {
        parse(odd, wanted, "test");
    }
}
