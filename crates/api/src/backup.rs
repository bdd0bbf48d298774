//! Backups of the rows: written while the server runs, from one consistent moment, and restored into a new data
//! directory or database.
//!
//! A backup holds the root of trust and every table but the trail's: who there is (accounts, users, roles,
//! policies, credentials), keys with their sealed material, grants and aliases, and what the rows say of volumes, snapshots
//! and jobs. It holds no bytes of volumes and snapshots; those are files and objects beside the rows. The layout of
//! the envelope is `kms::backup`'s.

use crate::world::MIGRATIONS;
use aws_lc_rs::digest::{SHA256, digest};
use base::{Rng, Timestamp};
use kms::backup::{BackupError, BackupReader, BackupWriter, Recovery};
use kms::seal::Root;
use meta::dump::{Table, tables};
use meta::{Db, Migration, Param, Tx};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The layout of the records.
const LAYOUT: u32 = 1;

/// Why a backup cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The envelope.
    #[error(transparent)]
    Envelope(#[from] BackupError),
    /// The rows.
    #[error("the rows cannot be read or written: {0}")]
    Rows(#[from] meta::Error),
    /// The file.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// A record is not what it should be, although its seal opened: another release wrote it.
    #[error("the backup was written by a release that this one does not understand: {problem}")]
    Foreign {
        /// What is not understood.
        problem: String,
    },
    /// The database already holds rows.
    #[error("the database holds rows in {table}: restore into a new one")]
    NotEmpty {
        /// The first table found so.
        table: String,
    },
}

/// What a backup says about itself, its first record.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Manifest {
    layout: u32,
    /// When it was made, in milliseconds since 1970.
    pub made_ms: i64,
    /// Names the root of trust, in hexadecimal.
    pub root_id: String,
    /// How far the rows were.
    pub epoch: u64,
    /// The migrations that had been applied.
    pub migrations: Vec<String>,
    /// The tables in it.
    pub tables: Vec<TableEntry>,
    /// The tables that were left out: the trail.
    pub left_out: Vec<String>,
}

/// A table of a backup.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TableEntry {
    /// Its name.
    pub name: String,
    /// Its columns.
    pub columns: Vec<String>,
}

/// How many rows of which table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Count {
    /// The table.
    pub table: String,
    /// Its rows.
    pub rows: u64,
}

/// What is in a backup.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Contents {
    /// What it says about itself.
    pub manifest: Manifest,
    /// How many rows there are.
    pub counts: Vec<Count>,
    /// Bytes of the file.
    pub bytes: u64,
}

/// What a backup is made of and with.
#[derive(Clone)]
pub struct Making {
    /// The rows.
    pub db: Db,
    /// The root of trust they are sealed under.
    pub root: Arc<Root>,
    /// Salts.
    pub rng: Arc<dyn Rng>,
    /// The present moment.
    pub now: Timestamp,
    /// What opens the backup.
    pub recovery: Recovery,
}

/// What a backup is restored onto.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Onto {
    /// An empty database.
    Empty,
    /// An empty database, or what an earlier restore of the same backup wrote before it ended.
    CutShort,
}

/// Every record but the manifest.
#[derive(Debug)]
enum Entry {
    /// A row of the table with this number in the manifest.
    Row(u16, Vec<Param>),
    /// The end, with the number of rows: a backup that ends elsewhere is not whole.
    End(u64),
}

/// All migrations, those of the trail, and those of the rest.
fn migrations() -> (Vec<Migration>, Vec<Table>, Vec<Table>) {
    let all = MIGRATIONS.concat();
    let trail = tables(events::MIGRATIONS).expect("a test reads every migration");
    let every = tables(&all).expect("a test reads every migration");
    let (out, kept) = every.into_iter().partition(|table| trail.contains(table));
    (all, kept, out)
}

/// Makes a backup at `target`, which must not exist. It is there, whole and durable, when this returns, and not at all
/// otherwise.
///
/// # Errors
/// See [`Error`].
pub async fn create(making: Making, target: &Path) -> Result<Contents, Error> {
    let fail = |action, path: &Path| {
        let path = path.to_owned();
        move |source| Error::File { action, path, source }
    };
    if target.exists() {
        let source = std::io::ErrorKind::AlreadyExists.into();
        return Err(fail("create", target)(source));
    }
    let mut partial = target.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let (db, path) = (making.db.clone(), partial.clone());
    // One read, one moment. If the engine runs it again it begins the file anew, under a new salt.
    let written = db.read(move |tx| write_all(tx, &making, &path)).await;
    let contents = match written {
        Ok(contents) => contents,
        Err(error) => {
            // What was begun is of no use to anybody; that the file may not be there is no matter.
            let _gone = std::fs::remove_file(&partial);
            return Err(error);
        }
    };
    std::fs::hard_link(&partial, target).map_err(fail("create", target))?;
    std::fs::remove_file(&partial).map_err(fail("remove", &partial))?;
    let parent = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(fail("sync", parent))?;
    Ok(contents)
}

fn write_all(tx: &mut Tx<'_>, making: &Making, path: &Path) -> Result<Contents, Error> {
    let fail = |action| move |source| Error::File { action, path: path.to_owned(), source };
    let (all, kept, out) = migrations();
    let entry =
        |table: &Table| TableEntry { name: table.name.clone(), columns: table.columns.clone() };
    let manifest = Manifest {
        layout: LAYOUT,
        made_ms: making.now.0,
        root_id: hex::encode(making.root.id()),
        epoch: kms::anchor::epoch(tx)?,
        migrations: all.iter().map(|migration| migration.name.to_owned()).collect(),
        tables: kept.iter().map(entry).collect(),
        left_out: out.into_iter().map(|table| table.name).collect(),
    };
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(fail("create"))?;
    let target = BufWriter::new(file);
    let mut writer = BackupWriter::new(target, &making.recovery, &making.root, &*making.rng)?;
    writer.record(&serde_json::to_vec(&manifest).expect("names and numbers serialize"))?;
    let mut counts = Vec::new();
    let mut total = 0;
    for (number, table) in kept.iter().enumerate() {
        let number = u16::try_from(number).expect("there are few tables");
        let mut rows = 0;
        let mut last: Option<Vec<Param>> = None;
        loop {
            let page = table.page(tx, last.as_deref())?;
            for row in &page {
                writer.record(&encode(&Entry::Row(number, row.clone())))?;
            }
            rows += page.len() as u64;
            match page.into_iter().next_back() {
                Some(row) => last = Some(row),
                None => break,
            }
        }
        total += rows;
        counts.push(Count { table: table.name.clone(), rows });
    }
    writer.record(&encode(&Entry::End(total)))?;
    let file =
        writer.finish()?.into_inner().map_err(|error| BackupError::Io(error.into_error()))?;
    file.sync_all().map_err(fail("sync"))?;
    let bytes = file.metadata().map_err(fail("read"))?.len();
    Ok(Contents { manifest, counts, bytes })
}

/// A backup that is being read.
pub struct Backup {
    reader: BackupReader<BufReader<File>>,
    /// What it says about itself.
    pub manifest: Manifest,
    bytes: u64,
}

impl Backup {
    /// Opens a backup.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open(path: &Path, recovery: &Recovery) -> Result<Self, Error> {
        let fail = |source| Error::File { action: "open", path: path.to_owned(), source };
        let file = File::open(path).map_err(fail)?;
        let bytes = file.metadata().map_err(fail)?.len();
        let mut reader = BackupReader::new(BufReader::new(file), recovery)?;
        let foreign =
            |problem: &dyn std::fmt::Display| Error::Foreign { problem: problem.to_string() };
        let first = reader.record()?.ok_or_else(|| foreign(&"it is empty"))?;
        let manifest: Manifest = serde_json::from_slice(&first).map_err(|error| foreign(&error))?;
        if manifest.layout != LAYOUT {
            return Err(foreign(&format!("its layout is {}", manifest.layout)));
        }
        Ok(Self { reader, manifest, bytes })
    }

    /// Reads all of it; what comes back is everything there is.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn verify(mut self) -> Result<Contents, Error> {
        let mut counts = self.counts();
        while let Some((table, _)) = next(&mut self.reader, &self.manifest)? {
            counts[usize::from(table)].rows += 1;
        }
        Ok(Contents { manifest: self.manifest, counts, bytes: self.bytes })
    }

    /// Brings an empty database to the backup's schema and writes all its rows, at once or not at all. The caller seals
    /// the root of trust afterwards; without it no server takes the rows. For a restore that was cut short before that,
    /// [`Onto::CutShort`] leaves a database as it is that holds exactly these rows.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn restore(
        path: &Path,
        recovery: &Recovery,
        db: &Db,
        onto: Onto,
    ) -> Result<(Self, Vec<Count>), Error> {
        let targets = Self::open(path, recovery)?.migrate(db)?;
        let (path, recovery) = (path.to_owned(), recovery.clone());
        // The engine may run this again, and then the backup is read from its beginning.
        db.write_blocking(move |tx| {
            let mut backup = Self::open(&path, &recovery)?;
            let counts = match (occupied(tx, &targets)?, onto) {
                (None, _) => backup.fill(tx, &targets)?,
                (Some(table), Onto::CutShort) => backup.compare(tx, &targets, &table)?,
                (Some(table), Onto::Empty) => return Err(Error::NotEmpty { table }),
            };
            Ok((backup, counts))
        })
    }

    fn fill(&mut self, tx: &mut Tx<'_>, targets: &[Table]) -> Result<Vec<Count>, Error> {
        let mut counts = self.counts();
        while let Some((table, row)) = next(&mut self.reader, &self.manifest)? {
            let table = usize::from(table);
            targets[table].insert(tx, &row)?;
            counts[table].rows += 1;
        }
        Ok(counts)
    }

    /// Whether the database holds the rows of the backup and no others, and nothing of a trail: a server that ran has
    /// left one.
    fn compare(
        &mut self,
        tx: &mut Tx<'_>,
        targets: &[Table],
        table: &str,
    ) -> Result<Vec<Count>, Error> {
        let not_empty = || Error::NotEmpty { table: table.to_owned() };
        let mut trail = tables(events::MIGRATIONS)?;
        trail.retain(|table| self.manifest.left_out.contains(&table.name));
        if occupied(tx, &trail)?.is_some() {
            return Err(not_empty());
        }
        let mut there = HashSet::new();
        for (number, table) in (0..).zip(targets) {
            let mut last: Option<Vec<Param>> = None;
            loop {
                let page = table.page(tx, last.as_deref())?;
                there.extend(page.iter().map(|row| digest_of(number, row)));
                match page.into_iter().next_back() {
                    Some(row) => last = Some(row),
                    None => break,
                }
            }
        }
        let mut counts = self.counts();
        while let Some((table, row)) = next(&mut self.reader, &self.manifest)? {
            if !there.remove(&digest_of(table, &row)) {
                return Err(not_empty());
            }
            counts[usize::from(table)].rows += 1;
        }
        if there.is_empty() { Ok(counts) } else { Err(not_empty()) }
    }

    /// The root of trust, to be sealed anew.
    pub fn reader(&self) -> &BackupReader<impl Read> {
        &self.reader
    }

    /// Brings the database to the backup's schema; returns its tables in the backup's order.
    fn migrate(&self, db: &Db) -> Result<Vec<Table>, Error> {
        let (all, ..) = migrations();
        let Manifest { migrations: applied, tables: entries, .. } = &self.manifest;
        let known = |name: &String| all.iter().any(|migration| migration.name == name);
        if let Some(name) = applied.iter().find(|name| !known(name)) {
            let problem = format!("it has the migration {name}; upgrade");
            return Err(Error::Foreign { problem });
        }
        let applied: Vec<Migration> = all
            .into_iter()
            .filter(|migration| applied.iter().any(|name| name == migration.name))
            .collect();
        db.migrate_blocking(&applied)?;
        let schema = tables(&applied)?;
        let target = |entry: &TableEntry| {
            let table = schema.iter().find(|table| table.name == entry.name);
            let table = table.filter(|table| table.columns == entry.columns);
            table.cloned().ok_or_else(|| Error::Foreign {
                problem: format!("its table {} is another one", entry.name),
            })
        };
        entries.iter().map(target).collect()
    }

    fn counts(&self) -> Vec<Count> {
        let tables = self.manifest.tables.iter();
        tables.map(|table| Count { table: table.name.clone(), rows: 0 }).collect()
    }
}

/// The first of these tables that has rows.
fn occupied(tx: &mut Tx<'_>, tables: &[Table]) -> Result<Option<String>, Error> {
    for table in tables {
        if !table.is_empty(tx)? {
            return Ok(Some(table.name.clone()));
        }
    }
    Ok(None)
}

/// Names a row of a table by its content.
fn digest_of(table: u16, row: &[Param]) -> [u8; 32] {
    let hash = digest(&SHA256, &encode(&Entry::Row(table, row.to_vec())));
    hash.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// The next row; `None` when the backup has ended where it says it does.
fn next(
    reader: &mut BackupReader<impl Read>,
    manifest: &Manifest,
) -> Result<Option<(u16, Vec<Param>)>, Error> {
    let foreign = |problem: &str| Error::Foreign { problem: problem.to_owned() };
    let record = reader.record()?.ok_or_else(|| foreign("it has no end"))?;
    match decode(&record).ok_or_else(|| foreign("a record is malformed"))? {
        Entry::Row(table, row) => {
            let entry = manifest.tables.get(usize::from(table));
            if entry.is_none_or(|entry| entry.columns.len() != row.len()) {
                return Err(foreign("a row has other columns than its table"));
            }
            Ok(Some((table, row)))
        }
        Entry::End(_) => match reader.record()? {
            None => Ok(None),
            Some(_) => Err(foreign("something follows its end")),
        },
    }
}

/// `R`, table u16, then each column: `N`, `I` i64, or `T` and `B` with a length u32 before their bytes. `E`, rows u64.
fn encode(entry: &Entry) -> Vec<u8> {
    let mut bytes = Vec::new();
    let text = |kind: u8, value: &[u8], bytes: &mut Vec<u8>| {
        bytes.push(kind);
        let length = u32::try_from(value.len()).expect("a column is short");
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(value);
    };
    match entry {
        Entry::Row(table, row) => {
            bytes.push(b'R');
            bytes.extend_from_slice(&table.to_be_bytes());
            for value in row {
                match value {
                    Param::Null => bytes.push(b'N'),
                    Param::Int(number) => {
                        bytes.push(b'I');
                        bytes.extend_from_slice(&number.to_be_bytes());
                    }
                    Param::Text(value) => text(b'T', value.as_bytes(), &mut bytes),
                    Param::Bytes(value) => text(b'B', value, &mut bytes),
                }
            }
        }
        Entry::End(rows) => {
            bytes.push(b'E');
            bytes.extend_from_slice(&rows.to_be_bytes());
        }
    }
    bytes
}

fn decode(bytes: &[u8]) -> Option<Entry> {
    let (kind, mut rest) = bytes.split_first()?;
    if *kind == b'E' {
        return Some(Entry::End(u64::from_be_bytes(rest.try_into().ok()?)));
    }
    if *kind != b'R' {
        return None;
    }
    let (table, values) = rest.split_first_chunk::<2>()?;
    rest = values;
    let mut row = Vec::new();
    while let Some((kind, after)) = rest.split_first() {
        rest = after;
        row.push(match kind {
            b'N' => Param::Null,
            b'I' => {
                let (number, after) = rest.split_first_chunk::<8>()?;
                rest = after;
                Param::Int(i64::from_be_bytes(*number))
            }
            b'T' | b'B' => {
                let (length, after) = rest.split_first_chunk::<4>()?;
                let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
                let (value, after) = after.split_at_checked(length)?;
                rest = after;
                match kind {
                    b'T' => Param::Text(String::from_utf8(value.to_vec()).ok()?),
                    _ => Param::Bytes(value.to_vec()),
                }
            }
            _ => return None,
        });
    }
    Some(Entry::Row(u16::from_be_bytes(*table), row))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kms::create_key::CreateKey;
    use crate::ops::kms::encrypt::Encrypt;
    use crate::testing::{account, bench, run};
    use base::SeededRng;
    use meta::testing::engines;
    use serde_json::json;

    #[test]
    fn every_migration_is_understood_and_only_the_trail_is_left_out() {
        let (_, kept, out) = migrations();
        for table in ["kms_keys", "kms_materials", "kms_grants", "iam_access_keys", "ebs_volumes"] {
            assert!(kept.iter().any(|kept| kept.name == table), "{table}");
        }
        assert!(out.iter().all(|table| table.name.starts_with("event")), "{out:?}");
    }

    #[test]
    fn records_come_back() {
        let row = vec![
            Param::Null,
            Param::Int(-5),
            Param::Text("é".to_owned()),
            Param::Bytes(vec![0, 1]),
        ];
        let bytes = encode(&Entry::Row(300, row.clone()));
        match decode(&bytes) {
            Some(Entry::Row(300, again)) => assert_eq!(again, row),
            other => panic!("{other:?}"),
        }
        for length in 0..bytes.len() {
            // Shorter texts may be rows with fewer columns, which their table refuses.
            if let Some(Entry::Row(_, again)) = decode(&bytes[..length]) {
                assert!(again.len() < row.len());
            }
        }
    }

    /// More than two pages, under names that languages and bytes put in different orders.
    async fn add_users(bench: &crate::testing::Bench) {
        let identity = bench.world.identity.clone();
        let added = bench.world.db.write(move |tx| {
            let tags = identity::tag::Tags::new();
            for number in 0..1_100 {
                let between = ["_", "-", ".", "=", "@", ",", "", "Z", "a"][number % 9];
                let name = format!("u{between}{}", number / 9);
                identity.create_user(tx, &account(1), &name, None, None, &tags)?;
            }
            Ok::<_, identity::Error>(())
        });
        added.await.expect("new users");
    }

    #[tokio::test]
    async fn all_rows_but_the_trail_are_restored() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        let created = run::<CreateKey>(&call, json!({})).await.expect("allowed");
        let id = &created["KeyMetadata"]["KeyId"];
        run::<Encrypt>(&call, json!({"KeyId": id, "Plaintext": "eA=="})).await.expect("allowed");
        add_users(&bench).await;
        let dir = tempfile::tempdir().expect("a directory");
        let key = dir.path().join("recovery.key");
        kms::seal::make_key(&key, &SeededRng::new(9)).expect("a file");
        let recovery = Recovery::KeyFile(key);
        let making = Making {
            db: bench.world.db.clone(),
            root: bench.world.seal.clone(),
            rng: bench.world.rng.clone(),
            now: bench.world.clock.now(),
            recovery: recovery.clone(),
        };
        let target = dir.path().join("backup");
        let made = create(making.clone(), &target).await.expect("a backup");
        let keys = made.counts.iter().find(|count| count.table == "kms_keys");
        assert_eq!(keys.map(|count| count.rows), Some(1));
        // A backup is not written over, and leaves nothing else.
        assert!(create(making.clone(), &target).await.is_err());
        assert!(!dir.path().join("backup.partial").exists());

        for db in engines(&[]) {
            let name = db.name;
            let again = dir.path().join(name);
            restored_on(&db, &bench, (&target, &recovery), &made).await;
            let from = Making { db: Db::clone(&db), ..making.clone() };
            let once_more = create(from, &again).await.expect("a backup");
            assert_eq!(once_more.counts, made.counts, "{name}");
            // And from there back into an embedded one.
            let back = Db::memory().expect("a database");
            restored_on(&back, &bench, (&again, &recovery), &made).await;
        }
    }

    /// A backup is whole, and restored into an empty database is what it was made from.
    async fn restored_on(
        db: &Db,
        bench: &crate::testing::Bench,
        (target, recovery): (&Path, &Recovery),
        made: &Contents,
    ) {
        let (db, target, recovery) = (db.clone(), target.to_owned(), recovery.clone());
        let counts = made.counts.clone();
        let restored = tokio::task::spawn_blocking(move || {
            let verified = Backup::open(&target, &recovery).and_then(Backup::verify);
            assert_eq!(verified.expect("whole").counts, counts);
            let restore = |from: &Path, db: &Db, onto| {
                let restored = Backup::restore(from, &recovery, db, onto);
                restored.map(|(_, counts)| counts)
            };
            // One that fails at its last rows leaves none, and the next succeeds.
            let cut = target.with_extension("cut");
            let bytes = std::fs::read(&target).expect("a file");
            std::fs::write(&cut, &bytes[..bytes.len() - 100]).expect("a file");
            assert!(matches!(restore(&cut, &db, Onto::Empty), Err(Error::Envelope(_))));
            let (_, kept, _) = migrations();
            let left = db.read_blocking(move |tx| occupied(tx, &kept)).expect("readable");
            assert_eq!(left, None);
            assert_eq!(restore(&target, &db, Onto::Empty).expect("empty"), counts);
            let occupied = |outcome| assert!(matches!(outcome, Err(Error::NotEmpty { .. })));
            occupied(restore(&target, &db, Onto::Empty));
            // One that ended before the seal is done again; rows that are others are left alone.
            assert_eq!(restore(&target, &db, Onto::CutShort).expect("the same rows"), counts);
            let other = Db::memory().expect("a database");
            restore(&target, &other, Onto::Empty).expect("empty");
            for sql in [
                "UPDATE kms_keys SET description = 'changed'",
                "UPDATE kms_keys SET description = ''",
                "DELETE FROM iam_entities WHERE name = 'u_0'",
            ] {
                other.write_blocking(move |tx| tx.execute(sql, &[]).map(drop)).expect("a change");
                let again = restore(&target, &other, Onto::CutShort);
                match sql.ends_with("= ''") {
                    true => assert_eq!(again.expect("as they were"), counts),
                    false => occupied(again),
                }
            }
            db
        });
        let db = restored.await.expect("no panic");
        let (_, kept, _) = migrations();
        for table in kept {
            assert_eq!(
                all(&bench.world.db, &table).await,
                all(&db, &table).await,
                "{}",
                table.name
            );
        }
    }

    /// The rows of a table, in an order that no database decides.
    async fn all(db: &Db, table: &Table) -> Vec<String> {
        let table = table.clone();
        let rows = db.read(move |tx| {
            let mut all: Vec<Vec<Param>> = Vec::new();
            loop {
                match table.page(tx, all.last().map(Vec::as_slice))? {
                    page if page.is_empty() => return Ok::<_, meta::Error>(all),
                    page => all.extend(page),
                }
            }
        });
        let mut rows: Vec<String> =
            rows.await.expect("rows").iter().map(|row| format!("{row:?}")).collect();
        rows.sort();
        rows
    }

    fuzz::target!(
        /// A record that is understood is written again as it stands.
        records_are_written_as_they_are_read,
        vec![
            encode(&Entry::Row(
                300,
                vec![Param::Null, Param::Int(-5), Param::Text("é".to_owned()), Param::Bytes(vec![0])],
            )),
            encode(&Entry::End(7)),
        ],
        |bytes: &[u8]| {
            if let Some(entry) = decode(bytes) {
                assert_eq!(encode(&entry), bytes);
            }
        }
    );
}
