//! A server that sends anything at all: an error each time, never a panic and never an endless wait.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use proptest::prelude::*;
use switchyard::mywire::binlog::{BinlogFrom, BinlogOptions};
use switchyard::mywire::conn::{MyConn, Preset};
use switchyard::mywire::packet::{self, text_fields};

use super::info;

fn packets(first: u8, payloads: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for (n, payload) in payloads.iter().enumerate() {
        out.extend_from_slice(&(payload.len() as u32).to_le_bytes()[..3]);
        out.push(first.wrapping_add(n as u8));
        out.extend_from_slice(payload);
    }
    out
}

const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
const END: &[u8] = &[0xfe, 0, 0, 2, 0, 0, 0];

fn greeting() -> Vec<u8> {
    let mut greeting = b"\x0a8.4.0\0\x07\0\0\0abcdefgh\0\xff\xf7\x2d\x02\0\xff\xdf\x15".to_vec();
    greeting.extend_from_slice(&[0; 10]);
    greeting.extend_from_slice(b"ijklmnopqrst\0caching_sha2_password\0");
    greeting
}

fn column(name: &str) -> Vec<u8> {
    let mut c = b"\x03def\x01d\x01t\x01t".to_vec();
    for _ in 0..2 {
        c.push(name.len() as u8);
        c.extend_from_slice(name.as_bytes());
    }
    c.extend_from_slice(&[12, 45, 0, 10, 0, 0, 0, 253, 0, 0, 0, 0, 0]);
    c
}

fn hear(stream: &mut TcpStream) {
    let mut head = [0; 4];
    if stream.read_exact(&mut head).is_ok() {
        let (len, _) = packet::header(&head).unwrap();
        let _ = stream.read_exact(&mut vec![0; len]);
    }
}

/// Answers the greeting and the first settings as a server does; what it says then is given.
fn serve(said: Vec<u8>, honest: bool) -> (u16, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        if honest {
            stream.write_all(&packets(0, &[&greeting()])).unwrap();
            hear(&mut stream);
            stream.write_all(&packets(2, &[OK])).unwrap();
            hear(&mut stream);
            let settings: &[&[u8]] =
                &[&[0, 0, 0, 10, 0, 0, 0], &[0, 0, 0, 10, 0, 0, 0], &[1], &column("@@m"), b"\x0867108864", END];
            stream.write_all(&packets(1, settings)).unwrap();
            hear(&mut stream);
        }
        let _ = stream.write_all(&said);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    });
    (port, thread)
}

/// What a server may say to a statement, with bytes of it changed.
fn almost() -> impl Strategy<Value = Vec<u8>> {
    let rows = packets(1, &[&[2], &column("a"), &column("b"), b"\x01x\xfb", b"\x00\x03abc", END]);
    let error = packets(1, &[b"\xff\x26\x04#23000Duplicate entry '1' for key 'k'"]);
    let file = packets(1, &[b"\xfbrows", OK]);
    let base = prop_oneof![Just(rows), Just(error), Just(file), Just(packets(1, &[OK])), any::<Vec<u8>>()];
    (base, prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), any::<prop::sample::Index>())
        .prop_map(|(mut bytes, changes, cut)| {
            if !bytes.is_empty() {
                for (at, byte) in changes {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
                bytes.truncate(cut.index(bytes.len() * 2).max(1));
            }
            bytes
        })
}

#[test]
fn given_a_server_that_sends_anything_when_asked_then_there_is_an_answer_or_an_error() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    proptest!(ProptestConfig::with_cases(400), |(said in almost(), what in 0..5, honest in prop::bool::weighted(0.9))| {
        let (port, thread) = serve(said, honest);
        let at = info(&format!("mysql://u:Se:cret@127.0.0.1:{port}/?ssl-mode=disabled"));
        runtime.block_on(async {
            let asking = async {
                let mut conn = MyConn::connect(&at, "source", "garbage", Preset::Source).await?;
                match what {
                    0 => drop(conn.query("select 1").await?),
                    1 => drop(conn.execute("delete from t").await?),
                    2 => {
                        conn.query_start("select 1").await?;
                        while let Some(block) = conn.next_block().await? {
                            assert!(block.iter().all(|row| text_fields(row).count() <= row.len()));
                        }
                    }
                    3 => {
                        conn.execute("begin").await?;
                        conn.load_local_start("load").await?;
                    }
                    _ => {
                        let options = BinlogOptions {
                            server_id: 7,
                            uuid: "u",
                            heartbeat: Duration::from_secs(1),
                            silence_limit: Duration::from_secs(1),
                            wait: true,
                        };
                        let mut stream =
                            conn.binlog_dump(BinlogFrom::File { name: "f", position: 4 }, &options).await?;
                        while stream.next().await?.is_some() {}
                    }
                }
                Ok::<_, switchyard::Error>(())
            };
            let ended = tokio::time::timeout(Duration::from_secs(5), asking).await.expect("it waited for ever");
            if let Err(e) = ended {
                assert!(!e.message().contains("Se:cret"), "{e}");
            }
        });
        thread.join().unwrap();
    });
}
