//! Authentication and TLS: each plugin, with and without TLS, and what a refusal says.

use secrecy::SecretString;
use switchyard::mywire::conn::{Flavour, MyConn, Preset};
use switchyard::mywire::conninfo::MyConnInfo;
use switchyard::mywire::control;
use switchyard::sandbox::MyServer;
use switchyard::{Error, Result};

use super::{info, installs, quick};

/// Both kinds of session, which must agree.
async fn both(url: &str) -> Result<MyConn> {
    let info = info(url);
    let thin = MyConn::connect(&info, "source", "auth", Preset::Source).await;
    let other = control::connect(&info, "source", "auth", Preset::Source).await;
    match (&thin, &other) {
        (Ok(_), Ok(_)) => {}
        (Err(a), Err(b)) => assert_eq!((a.class(), a.hint_text()), (b.class(), b.hint_text()), "{a} / {b}"),
        (Ok(_), Err(e)) => panic!("mysql_async: {e} {url}"),
        (Err(e), Ok(_)) => panic!("ours: {e} {url}"),
    }
    thin
}

async fn refused(url: &str) -> Error {
    let e = both(url).await.err().unwrap_or_else(|| panic!("{url} was let in"));
    assert!(!e.is_retry() && e.hint_text().is_some(), "{e}");
    assert!(!e.message().contains("Se:cret"), "{e}");
    e
}

fn accounts(server: &MyServer) -> Vec<(&'static str, &'static str)> {
    let plugins: &[(&str, &str)] = match server.flavour() {
        Flavour::Mysql => &[("caching_sha2_password", "BY"), ("sha256_password", "BY")],
        Flavour::Mariadb => &[("mysql_native_password", "USING PASSWORD"), ("ed25519", "USING PASSWORD")],
    };
    let mut made = Vec::new();
    if server.flavour() == Flavour::Mariadb {
        server.sql("INSTALL SONAME 'auth_ed25519'").unwrap();
    }
    for &(plugin, how) in plugins {
        for (suffix, password) in [("", ""), ("_p", "Se:cret é ☃"), ("_l", LONG)] {
            let name: &'static str = format!("{plugin}{suffix}").leak();
            if (plugin, password) == ("ed25519", "") {
                // MariaDB's own client is not let in there either.
                continue;
            }
            let value = match (how, password) {
                ("BY", p) => format!("BY '{p}'"),
                // An empty one is made differently by either plugin.
                (_, "") if plugin == "mysql_native_password" => "USING ''".to_owned(),
                (_, p) => format!("USING PASSWORD('{p}')"),
            };
            if server.sql(&format!("CREATE USER '{name}'@'%' IDENTIFIED WITH {plugin} {value}")).is_ok() {
                made.push((name, password));
            } else {
                assert_ne!(plugin, "caching_sha2_password");
                eprintln!("{plugin} with {} bytes of password cannot be made here", password.len());
            }
        }
    }
    assert!(made.len() >= 3, "{made:?}");
    made
}

/// Longer than one hash, and than the nonce it is mixed with.
const LONG: &str = "0123456789012345678901234567890123456789012345678901234567890123456789";

#[tokio::test]
async fn given_each_plugin_when_connected_then_it_lets_in_who_knows_the_password() {
    for install in installs() {
        for tls in [false, true] {
            let server = quick(&install).tls(tls).start().unwrap();
            for (user, password) in accounts(&server) {
                // Twice: the first time the server has no hash of it in its cache. Once more after the cache is emptied.
                for round in 0..3 {
                    if round == 2 {
                        server.sql("FLUSH PRIVILEGES").unwrap();
                    }
                    let url = server.url_as(user, password, "");
                    // mysql_async does not know that one.
                    let mut conn = match user.starts_with("sha256") {
                        true => MyConn::connect(&info(&url), "source", "auth", Preset::Source).await.unwrap(),
                        false => both(&url).await.unwrap(),
                    };
                    assert_eq!(conn.is_tls(), tls);
                    let who = conn.query("select user(), connection_id()").await.unwrap();
                    assert!(who[0][0].as_ref().unwrap().starts_with(user.as_bytes()));
                    assert_eq!(who[0][1].as_deref(), Some(conn.connection_id().to_string().as_bytes()));
                }
                if user.starts_with("sha256") {
                    continue;
                }
                let wrong = refused(&server.url_as(user, "Se:cret but wrong", "")).await;
                assert_eq!(wrong.code(), Some("1045"), "{wrong}");
            }
            let e = refused(&server.url_as("root", server.password(), "nothing")).await;
            assert_eq!(e.code(), Some("1049"), "{e}");
            // For a stranger the server makes a plugin up, so as not to tell that there is no such account.
            let nobody = info(&server.url_as("nobody", "x", ""));
            let e = MyConn::connect(&nobody, "source", "auth", Preset::Source).await.unwrap_err();
            assert!(e.code() == Some("1045") && e.hint_text().is_some(), "{e}");
        }
    }
}

#[tokio::test]
async fn given_tls_modes_when_connected_then_each_asks_what_it_promises() {
    for install in installs() {
        let plain = quick(&install).start().unwrap();
        let server = quick(&install).tls(true).setting("require_secure_transport", "ON").start().unwrap();
        let by_name = server.url("").replace("127.0.0.1", "localhost");
        let by_address = server.url("");
        let ca = server.tls_ca().unwrap().display().to_string();
        let other = quick(&install).tls(true).start().unwrap();
        let stranger = other.tls_ca().unwrap().display().to_string();

        assert!(!both(&format!("{}?ssl-mode=preferred", plain.url(""))).await.unwrap().is_tls());
        let e = refused(&format!("{}?ssl-mode=required", plain.url(""))).await;
        assert!(e.message().contains("does not offer TLS"), "{e}");

        for mode in ["preferred", "required"] {
            assert!(both(&format!("{by_address}?ssl-mode={mode}")).await.unwrap().is_tls());
        }
        let e = refused(&format!("{by_address}?ssl-mode=disabled")).await;
        assert!(e.hint_text().unwrap().contains("ssl-mode=required"), "{e} {:?}", e.hint_text());

        for url in [
            format!("{by_name}?ssl-mode=verify_identity&ssl-ca={ca}"),
            format!("{by_address}?ssl-mode=verify_ca&ssl-ca={ca}"),
            format!("{by_address}?ssl-ca={ca}"),
            format!("{by_address}?ssl-mode=required&ssl-ca={ca}"),
        ] {
            assert!(both(&url).await.unwrap().is_tls(), "{url}");
        }
        let e = refused(&format!("{by_address}?ssl-mode=verify_identity&ssl-ca={ca}")).await;
        assert!(e.message().contains("not for \"127.0.0.1\""), "{e}");
        for mode in ["verify_ca", "verify_identity", "required"] {
            let e = refused(&format!("{by_name}?ssl-mode={mode}&ssl-ca={stranger}")).await;
            assert!(e.message().contains("not signed by an authority in ssl-ca"), "{e}");
        }
        let e = refused(&format!("{by_name}?ssl-mode=verify_ca&ssl-ca=/nothing/here")).await;
        assert!(e.message().contains("ssl-ca /nothing/here"), "{e}");
    }
}

#[tokio::test]
async fn given_an_account_that_wants_a_certificate_when_connected_then_only_its_own_lets_in() {
    for install in installs() {
        let server = quick(&install).tls(true).start().unwrap();
        server.sql("CREATE USER 'certified'@'%' IDENTIFIED BY 'pw' REQUIRE SUBJECT '/CN=certified'").unwrap();
        let url = server.url_as("certified", "pw", "");
        let of = |name: &str| {
            let (cert, key) = server.client_certificate(name).unwrap();
            format!("{url}?ssl-mode=required&ssl-cert={}&ssl-key={}", cert.display(), key.display())
        };
        assert!(both(&of("certified")).await.unwrap().is_tls());
        for url in [of("somebody"), format!("{url}?ssl-mode=required")] {
            assert_eq!(refused(&url).await.code(), Some("1045"));
        }
    }
}

#[tokio::test]
async fn given_too_many_connections_when_one_more_comes_then_it_waits_for_room() {
    for install in installs() {
        let server = quick(&install).setting("max_connections", "10").start().unwrap();
        server.sql("CREATE USER 'u'@'%' IDENTIFIED BY 'pw'").unwrap();
        let info = MyConnInfo::parse("source.url", &SecretString::from(server.url_as("u", "pw", ""))).unwrap();
        let mut held = Vec::new();
        let e = loop {
            match MyConn::connect(&info, "source", "many", Preset::Source).await {
                Ok(conn) => held.push(conn),
                Err(e) => break e,
            }
        };
        assert!(held.len() >= 10 && e.is_retry() && e.code() == Some("1040"), "{} {e}", held.len());
    }
}
