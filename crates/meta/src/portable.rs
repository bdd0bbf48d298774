//! The SQL that means the same on SQLite and on PostgreSQL, and what is rewritten for each.
//!
//! The subset: `BIGINT`, `TEXT` and `BYTES` columns, explicit primary keys, `$1` parameters, keyset
//! pagination, `ON CONFLICT`, guarded updates. [`check`] finds departures; every statement is
//! checked in debug builds, every migration in a test.

use std::fmt;

/// A departure from the subset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The word or sign that is not portable.
    pub found: String,
    /// Where it stands, in bytes from the start.
    pub at: usize,
    /// What to write instead, or why not.
    pub rule: &'static str,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { found, at, rule } = self;
        write!(f, "'{found}' at byte {at}: {rule}")
    }
}

/// Words that one engine lacks, or that the engines understand differently.
const WORDS: &[(&str, &str)] = &[
    ("AUTOINCREMENT", "ids are made by the client"),
    ("SERIAL", "ids are made by the client"),
    ("BIGSERIAL", "ids are made by the client"),
    ("NEXTVAL", "ids are made by the client"),
    ("GENERATED", "values are computed by the client"),
    ("ROWID", "rows are named by their primary key"),
    ("CTID", "rows are named by their primary key"),
    ("WITHOUT", "table options are added for the engine that has them"),
    ("STRICT", "table options are added for the engine that has them"),
    ("LATERAL", "SQLite has no LATERAL"),
    ("ILIKE", "compare a column that holds the folded text"),
    ("LIKE", "ignores case on SQLite only; compare a range of the key"),
    ("GLOB", "belongs to one engine"),
    ("REGEXP", "belongs to one engine"),
    ("SIMILAR", "belongs to one engine"),
    ("COLLATE", "texts compare by their bytes on every engine"),
    ("IFNULL", "use COALESCE"),
    ("GROUP_CONCAT", "join texts in the code"),
    ("STRING_AGG", "join texts in the code"),
    ("NOW", "time comes from the Clock"),
    ("CURRENT_TIMESTAMP", "time comes from the Clock"),
    ("CURRENT_DATE", "time comes from the Clock"),
    ("CURRENT_TIME", "time comes from the Clock"),
    ("RANDOM", "randomness comes from the Rng"),
    ("TRUE", "truth values are BIGINT 0 and 1"),
    ("FALSE", "truth values are BIGINT 0 and 1"),
    ("OFFSET", "page by key"),
    ("ARRAY", "SQLite has no arrays"),
    ("FOREIGN", "references are kept by the code, as rows may live in other cells"),
    ("REFERENCES", "references are kept by the code, as rows may live in other cells"),
    ("BLOB", "write BYTES"),
    ("BYTEA", "write BYTES"),
];

/// Words that may not begin a statement.
const LEADING: &[(&str, &str)] = &[
    ("LISTEN", "poll the outbox"),
    ("NOTIFY", "poll the outbox"),
    ("PRAGMA", "belongs to one engine"),
    ("VACUUM", "belongs to one engine"),
    ("ATTACH", "belongs to one engine"),
    ("COPY", "belongs to one engine"),
    ("TRUNCATE", "use DELETE"),
    ("MERGE", "use ON CONFLICT"),
    ("REPLACE", "use ON CONFLICT"),
    ("BEGIN", "the transaction is Db::write"),
    ("COMMIT", "the transaction is Db::write"),
    ("ROLLBACK", "the transaction is Db::write"),
    ("SAVEPOINT", "the transaction is Db::write"),
];

/// Words that may not follow a certain other word.
const PAIRS: &[(&str, &str, &str)] = &[
    ("CREATE", "SEQUENCE", "ids are made by the client"),
    ("CREATE", "TRIGGER", "write the outbox row in the same transaction"),
    ("OR", "REPLACE", "use ON CONFLICT"),
    ("OR", "IGNORE", "use ON CONFLICT DO NOTHING"),
];

/// Names PostgreSQL reserves, which SQLite would take for a column.
const RESERVED: &[&str] = &[
    "analyse",
    "analyze",
    "any",
    "array",
    "both",
    "do",
    "end",
    "fetch",
    "for",
    "grant",
    "initially",
    "leading",
    "limit",
    "only",
    "placing",
    "some",
    "symmetric",
    "to",
    "trailing",
    "user",
    "variadic",
    "window",
    "authorization",
];

/// The departures of `sql` from the portable subset, in order of appearance.
pub fn check(sql: &str) -> Vec<Violation> {
    let tokens: Vec<Token<'_>> = tokens(sql).collect();
    let mut violations: Vec<Violation> =
        (0..tokens.len()).filter_map(|i| check_token(&tokens, i)).collect();
    for statement in tokens.split(|t| t.is_symbol(";")) {
        if statement.len() > 2 && statement[0].is_word("CREATE") && statement[1].is_word("TABLE") {
            check_table(statement, &mut violations);
        }
    }
    violations
}

fn check_token(tokens: &[Token<'_>], index: usize) -> Option<Violation> {
    let token = tokens[index];
    let follows =
        |offset: usize, word: &str| tokens.get(index + offset).is_some_and(|t| t.is_word(word));
    let before = |offset: usize| index.checked_sub(offset).map(|i| tokens[i]);
    match token.kind {
        Kind::Word => {
            if let Some((_, rule)) = WORDS.iter().find(|(word, _)| token.is_word(word)) {
                return Some(token.breaks(rule));
            }
            let leads = before(1).is_none_or(|t| t.is_symbol(";"));
            if leads && let Some((_, rule)) = LEADING.iter().find(|(word, _)| token.is_word(word)) {
                return Some(token.breaks(rule));
            }
            let pair = |(first, second, _): &&(&str, &str, &str)| {
                token.is_word(second) && before(1).is_some_and(|t| t.is_word(first))
            };
            if let Some((_, _, rule)) = PAIRS.iter().find(pair) {
                return Some(token.breaks(rule));
            }
            // PostgreSQL's sum of BIGINT is NUMERIC.
            let cast = before(1).is_some_and(|t| t.is_symbol("("))
                && before(2).is_some_and(|t| t.is_word("CAST"));
            if token.is_word("SUM") && !cast {
                return Some(token.breaks("write CAST(SUM(..) AS BIGINT)"));
            }
            if token.is_word("FOR") && (follows(1, "UPDATE") || follows(1, "SHARE")) {
                return Some(token.breaks("every write transaction is serializable already"));
            }
            if token.is_word("CONFLICT") && follows(1, "DO") && follows(2, "UPDATE") {
                return Some(
                    token.breaks("PostgreSQL needs the columns: ON CONFLICT (..) DO UPDATE"),
                );
            }
            None
        }
        Kind::Quoted => Some(token.breaks("use plain lowercase names")),
        Kind::Symbol => match token.text {
            "?" => Some(token.breaks("parameters are $1, $2, ..")),
            ":" | "@" | "::" => Some(token.breaks("use CAST and $1 parameters")),
            "->" | "->>" => Some(token.breaks("nested values are read in the code")),
            "[" | "`" => Some(token.breaks("use plain lowercase names")),
            _ => None,
        },
        Kind::Number | Kind::Text | Kind::Parameter => None,
    }
}

/// Column types and the primary key of a `CREATE TABLE`.
fn check_table(statement: &[Token<'_>], violations: &mut Vec<Violation>) {
    let primary = statement.windows(2).any(|w| w[0].is_word("PRIMARY") && w[1].is_word("KEY"));
    if !primary {
        violations.push(statement[1].breaks("a table needs an explicit PRIMARY KEY"));
    }
    let mut depth = 0;
    for (i, token) in statement.iter().enumerate() {
        let opens = depth == 0 && token.is_symbol("(") || depth == 1 && token.is_symbol(",");
        match token.text {
            "(" => depth += 1,
            ")" => depth -= 1,
            _ => {}
        }
        let (true, Some(name), Some(kind)) = (opens, statement.get(i + 1), statement.get(i + 2))
        else {
            continue;
        };
        if ["PRIMARY", "UNIQUE", "CHECK", "CONSTRAINT"].iter().any(|word| name.is_word(word)) {
            continue;
        }
        if RESERVED.iter().any(|word| name.is_word(word)) {
            violations.push(name.breaks("is reserved by PostgreSQL"));
        }
        if !["BIGINT", "TEXT", "BYTES"].contains(&kind.text) {
            violations.push(kind.breaks("columns are BIGINT, TEXT or BYTES, in capitals"));
        }
    }
}

/// `$1` becomes `?1`: SQLite numbers `$1` by first appearance, not by its digits.
pub(crate) fn for_sqlite(sql: &str) -> String {
    rewrite(sql, |token| match token.kind {
        Kind::Parameter => Some(format!("?{}", &token.text[1..])),
        _ => None,
    })
}

/// A statement of the schema for SQLite: tables check their types and are stored by primary key.
pub(crate) fn schema_for_sqlite(sql: &str) -> String {
    let mut words = tokens(sql);
    let table = words.next().is_some_and(|t| t.is_word("CREATE"))
        && words.next().is_some_and(|t| t.is_word("TABLE"));
    let mut text = rewrite(sql, |token| {
        if token.text == "BYTES" {
            Some("BLOB".to_owned())
        } else if token.text == "BIGINT" {
            Some("INTEGER".to_owned())
        } else {
            None
        }
    });
    if table {
        // On a line of its own: the statement may end in a comment.
        text.push_str("\nSTRICT, WITHOUT ROWID");
    }
    text
}

/// A statement of the schema for PostgreSQL: texts sort by their bytes, whatever the server's locale.
pub(crate) fn schema_for_postgres(sql: &str) -> String {
    rewrite(sql, |token| {
        if token.text == "BYTES" {
            Some("BYTEA".to_owned())
        } else if token.text == "TEXT" {
            Some("TEXT COLLATE \"C\"".to_owned())
        } else {
            None
        }
    })
}

/// The statements of a migration, without the semicolons between them.
pub(crate) fn statements(sql: &str) -> Vec<&str> {
    let ends = tokens(sql).filter(|t| t.is_symbol(";")).map(|t| t.at);
    let mut start = 0;
    let mut found = Vec::new();
    for end in ends.chain([sql.len()]) {
        let part = &sql[start..end];
        if tokens(part).next().is_some() {
            found.push(part.trim());
        }
        start = (end + 1).min(sql.len());
    }
    found
}

fn rewrite(sql: &str, replace: impl Fn(Token<'_>) -> Option<String>) -> String {
    let mut text = String::with_capacity(sql.len() + 32);
    let mut copied = 0;
    for token in tokens(sql) {
        if let Some(replacement) = replace(token) {
            text.push_str(&sql[copied..token.at]);
            text.push_str(&replacement);
            copied = token.at + token.text.len();
        }
    }
    text.push_str(&sql[copied..]);
    text
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Word,
    Number,
    /// `'a text'`.
    Text,
    /// `"a name"`.
    Quoted,
    /// `$1`.
    Parameter,
    Symbol,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'a> {
    kind: Kind,
    pub(crate) text: &'a str,
    at: usize,
}

impl Token<'_> {
    pub(crate) fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(word)
    }

    pub(crate) fn is_symbol(&self, symbol: &str) -> bool {
        self.kind == Kind::Symbol && self.text == symbol
    }

    fn breaks(&self, rule: &'static str) -> Violation {
        Violation { found: self.text.to_owned(), at: self.at, rule }
    }
}

/// The words of a statement that may name a table: all but what stands in texts.
pub(crate) fn words(sql: &str) -> impl Iterator<Item = &str> {
    tokens(sql).filter_map(|token| match token.kind {
        Kind::Word => Some(token.text),
        Kind::Quoted => Some(token.text.trim_matches('"')),
        Kind::Number | Kind::Parameter | Kind::Text | Kind::Symbol => None,
    })
}

/// The tables that statements of a schema create.
pub(crate) fn created_tables(sql: &str) -> Vec<&str> {
    const BETWEEN: [&str; 3] = ["IF", "NOT", "EXISTS"];
    let words: Vec<&str> = words(sql).collect();
    let creates = |pair: &[&str]| {
        pair[0].eq_ignore_ascii_case("CREATE") && pair[1].eq_ignore_ascii_case("TABLE")
    };
    let starts =
        words.windows(2).enumerate().filter(|(_, pair)| creates(pair)).map(|(at, _)| at + 2);
    let name = |at: usize| {
        let mut rest = words[at..].iter();
        rest.find(|word| !BETWEEN.iter().any(|b| b.eq_ignore_ascii_case(word))).copied()
    };
    starts.filter_map(name).collect()
}

/// The tokens of a text, without white space and comments.
pub(crate) fn tokens(sql: &str) -> impl Iterator<Item = Token<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        at += blank(&sql[at..]);
        let rest = &sql[at..];
        let (kind, length) = token(rest)?;
        let token = Token { kind, text: &rest[..length], at };
        at += length;
        Some(token)
    })
}

/// How many bytes of white space and comments the text begins with.
fn blank(text: &str) -> usize {
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        if rest.starts_with("--") {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
        } else if rest.starts_with("/*") {
            rest = rest.find("*/").map_or("", |end| &rest[end + 2..]);
        } else {
            return text.len() - rest.len();
        }
    }
}

fn token(rest: &str) -> Option<(Kind, usize)> {
    let first = rest.chars().next()?;
    let run = |keep: fn(char) -> bool| rest[1..].find(|c| !keep(c)).map_or(rest.len(), |n| n + 1);
    Some(match first {
        'a'..='z' | 'A'..='Z' | '_' => (Kind::Word, run(|c| c.is_ascii_alphanumeric() || c == '_')),
        '0'..='9' => (Kind::Number, run(|c| c.is_ascii_alphanumeric() || c == '.')),
        '$' => (Kind::Parameter, run(|c| c.is_ascii_digit())),
        '\'' => (Kind::Text, quoted(rest, '\'')),
        '"' => (Kind::Quoted, quoted(rest, '"')),
        _ => {
            let long = ["->>", "->", "::", "||", "<=", ">=", "<>", "!="];
            let length =
                long.iter().find(|s| rest.starts_with(**s)).map_or(first.len_utf8(), |s| s.len());
            (Kind::Symbol, length)
        }
    })
}

/// The length of a quoted text; a doubled quote continues it.
fn quoted(rest: &str, quote: char) -> usize {
    rest[1..].find(quote).map_or(rest.len(), |end| end + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(sql: &str) -> Vec<String> {
        check(sql).into_iter().map(|v| v.found).collect()
    }

    #[test]
    fn the_subset_passes() {
        for sql in [
            "CREATE TABLE volumes (account_id TEXT NOT NULL, id TEXT NOT NULL, size BIGINT, tag BYTES, PRIMARY KEY (account_id, id))",
            "CREATE UNIQUE INDEX volumes_by_size ON volumes (account_id, size) WHERE size > 0",
            "INSERT INTO volumes (account_id, id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            "INSERT INTO volumes (account_id, id) VALUES ($1, $2) ON CONFLICT (account_id, id) DO UPDATE SET id = $2",
            "SELECT CAST(SUM(size) AS BIGINT) FROM volumes WHERE (account_id, id) > ($1, $2) ORDER BY account_id, id LIMIT $3",
            "SELECT 'LIKE ? it''s [fine]' -- not a PRAGMA",
            "UPDATE volumes SET size = size + $1 WHERE account_id = $2 AND size < 10",
        ] {
            assert_eq!(check(sql), [], "{sql}");
        }
    }

    #[test]
    fn departures_are_named() {
        for (sql, expected) in [
            ("SELECT a FROM t WHERE a LIKE $1", "LIKE"),
            ("SELECT a FROM t WHERE a = ?", "?"),
            ("SELECT a::text FROM t", "::"),
            ("SELECT \"a\" FROM t", "\"a\""),
            ("SELECT sum(a) FROM t", "sum"),
            ("SELECT a FROM t FOR UPDATE", "FOR"),
            ("SELECT a->>'b' FROM t", "->>"),
            ("INSERT OR REPLACE INTO t VALUES ($1)", "REPLACE"),
            ("INSERT INTO t (a) VALUES ($1) ON CONFLICT DO UPDATE SET a = $1", "CONFLICT"),
            ("SELECT a FROM t LIMIT 1 OFFSET 2", "OFFSET"),
            ("CREATE TABLE t (a TEXT)", "TABLE"),
            ("CREATE TABLE t (a INTEGER, PRIMARY KEY (a))", "INTEGER"),
            ("CREATE TABLE t (a TEXT NOT NULL, user TEXT, PRIMARY KEY (a))", "user"),
            ("CREATE TABLE t (a BLOB PRIMARY KEY)", "BLOB"),
            (
                "CREATE TABLE t (a BIGINT PRIMARY KEY); CREATE TABLE u (b VARCHAR(3) PRIMARY KEY)",
                "VARCHAR",
            ),
        ] {
            assert!(found(sql).contains(&expected.to_owned()), "{sql}: {:?}", found(sql));
        }
    }

    #[test]
    fn parameters_keep_their_numbers_and_texts_stay() {
        assert_eq!(for_sqlite("SELECT $2, '$1', $10 -- $3"), "SELECT ?2, '$1', ?10 -- $3");
    }

    #[test]
    fn schemas_are_rewritten_outside_texts() {
        // Types are in capitals, so a column may be named like one.
        let sql = "CREATE TABLE t (bytes BYTES PRIMARY KEY, b TEXT DEFAULT 'TEXT', c BIGINT)";
        assert_eq!(
            schema_for_sqlite(sql),
            "CREATE TABLE t (bytes BLOB PRIMARY KEY, b TEXT DEFAULT 'TEXT', c INTEGER)\nSTRICT, WITHOUT ROWID"
        );
        assert_eq!(
            schema_for_postgres(sql),
            "CREATE TABLE t (bytes BYTEA PRIMARY KEY, b TEXT COLLATE \"C\" DEFAULT 'TEXT', c BIGINT)"
        );
        assert_eq!(schema_for_sqlite("CREATE INDEX i ON t (a)"), "CREATE INDEX i ON t (a)");
    }

    #[test]
    fn statements_split_at_semicolons_only() {
        assert_eq!(statements("a ';' b; -- c;\n d;\n"), ["a ';' b", "-- c;\n d"]);
        assert!(statements(" ; -- nothing\n;").is_empty());
    }
}
