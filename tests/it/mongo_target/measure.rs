use super::*;
use std::time::Instant;

#[test]
#[ignore]
fn measure() {
    let pair = Pair::shared("measure", "create table m (id bigint primary key, a int, b text, c timestamptz(3), n numeric(12,2), pad text);
      insert into m select g, g % 1000, 'name ' || g, '2024-01-01 00:00:00+00'::timestamptz + (g || ' ms')::interval, g / 7.0, repeat('x', 100) from generate_series(1, 1000000) g; analyze m");
    let t = Instant::now();
    let (mut daemon, mut sql) = pair.ready();
    eprintln!("copy: {:?}", t.elapsed());
    let target = pair.target();
    assert_eq!(target.count("m"), 1_000_000);
    eprintln!("size {:?}", target.run(doc! { "dbStats": 1 }));
    daemon.signal(libc::SIGSTOP);
    sql.run("do $$ begin for i in 1..3000 loop update m set a = a + 1 where id between i * 100 and i * 100 + 49; insert into m select 2000000 + i * 50 + g, 1, 'new', now()::timestamptz(3), 1, repeat('y', 100) from generate_series(1, 50) g; commit; end loop; end $$");
    let t = Instant::now();
    daemon.signal(libc::SIGCONT);
    target.wait_for("m", doc! { "_id": 2_000_000_i64 + 3000 * 50 + 50 });
    eprintln!("stream of 300 000: {:?}", t.elapsed());
    daemon.sigterm();
}
