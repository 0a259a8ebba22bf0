//! Whose server it is and of which version, from the name it gives itself.

/// Whose server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flavour {
    /// MySQL, Percona Server and services that call themselves so.
    Mysql,
    /// MariaDB.
    Mariadb,
}

impl Flavour {
    /// The word for its dialect.
    pub fn word(self) -> &'static str {
        match self {
            Flavour::Mysql => "mysql",
            Flavour::Mariadb => "mariadb",
        }
    }
}

/// A server's own description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Whose it is.
    pub flavour: Flavour,
    /// What it says, `9.7.4` or `10.11.19-MariaDB-0+deb12u1`.
    pub version: String,
    /// The same as numbers, to compare with; zeros where there are none.
    pub number: (u16, u16, u16),
}

impl Server {
    /// From the greeting's version. MariaDB before 11 puts `5.5.5-` before its own, for old replicas' sake.
    pub fn named(version: &str) -> Server {
        let mariadb = version.contains("MariaDB");
        let version = if mariadb { version.strip_prefix("5.5.5-").unwrap_or(version) } else { version };
        let mut numbers = version
            .split(|c: char| !c.is_ascii_digit() && c != '.')
            .next()
            .unwrap_or("")
            .split('.')
            .map(|n| n.parse().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        Server {
            flavour: if mariadb { Flavour::Mariadb } else { Flavour::Mysql },
            version: version.to_owned(),
            number: (next(), next(), next()),
        }
    }
    /// Whether it is MariaDB.
    pub fn is_mariadb(&self) -> bool {
        self.flavour == Flavour::Mariadb
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_names_of_servers_when_read_then_flavour_and_numbers_are_right() {
        let of = |version| {
            let s = Server::named(version);
            (s.flavour, s.number)
        };
        assert_eq!(of("9.7.4-2"), (Flavour::Mysql, (9, 7, 4)));
        assert_eq!(of("5.5.5-10.11.19-MariaDB-0+deb12u1-log"), (Flavour::Mariadb, (10, 11, 19)));
        assert_eq!(of("11.4.2-MariaDB"), (Flavour::Mariadb, (11, 4, 2)));
        assert_eq!(of("8.0.mysql_aurora.3.04.0"), (Flavour::Mysql, (8, 0, 0)));
        assert_eq!(of(""), (Flavour::Mysql, (0, 0, 0)));
    }
}
