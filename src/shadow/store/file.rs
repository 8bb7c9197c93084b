//! The file in which the store outlives the server.
//!
//! Owns its form: a line that says what it is, of which server, how long and with which checksum, and then
//! JSON. Must never raise, and never believe a file that is not whole: it is set aside and the store begins
//! empty.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use pgrx::prelude::*;
use serde::{Deserialize, Serialize};

use super::line::Line;
use super::seen::{self, Seen};
use super::{lines_where, memory, put};

/// Below the data directory, where the server is at home.
const PATH: &str = "pg_stat/pg_tenancy_shadow";
/// Is there when a server starts from a base backup for the first time.
const BACKUP_LABEL: &str = "backup_label";
const WHAT: &str = "pg_tenancy shadow 1";
/// Larger than any file of ours.
const LONGEST: u64 = 2 << 30;

#[derive(Serialize, Deserialize)]
struct Contents {
    lines: Vec<Line>,
    seen: Vec<Seen>,
}

/// Why a file is not read.
#[derive(Debug)]
enum Refused {
    Missing,
    Unreadable(io::Error),
    /// Not whole, or not a file of this extension.
    Damaged(&'static str),
    /// Of another server: of a database cluster that is not this one, or of the primary.
    Foreign,
}

fn encode(contents: &Contents, server: u64) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(contents)?;
    let mut text = format!(
        "{WHAT} {server} {} {}\n",
        body.len(),
        crc32fast::hash(&body)
    )
    .into_bytes();
    text.extend(body);
    Ok(text)
}

fn decode(text: &[u8], server: u64) -> Result<Contents, Refused> {
    let end = text
        .iter()
        .take(200)
        .position(|byte| *byte == b'\n')
        .ok_or(Refused::Damaged("it has no first line"))?;
    let head = std::str::from_utf8(&text[..end])
        .ok()
        .and_then(|head| head.strip_prefix(WHAT))
        .ok_or(Refused::Damaged("it is not a file of this version"))?;
    let numbers: Option<Vec<u64>> = head
        .split_ascii_whitespace()
        .map(|word| word.parse().ok())
        .collect();
    let Some([of_server, length, checksum]) = numbers.as_deref() else {
        return Err(Refused::Damaged("its first line does not parse"));
    };
    let body = &text[end + 1..];
    if body.len() as u64 != *length {
        return Err(Refused::Damaged("it is not as long as it says"));
    }
    if u64::from(crc32fast::hash(body)) != *checksum {
        return Err(Refused::Damaged("its checksum is wrong"));
    }
    if *of_server != server {
        return Err(Refused::Foreign);
    }
    serde_json::from_slice(body).map_err(|_| Refused::Damaged("it does not parse"))
}

fn read(server: u64) -> Result<Contents, Refused> {
    // In a base backup the file is the other server's, whose identifier is the same.
    let is_from_backup = Path::new(BACKUP_LABEL).exists();
    match fs::metadata(PATH) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Refused::Missing),
        Err(error) => return Err(Refused::Unreadable(error)),
        Ok(found) if !found.is_file() || found.len() > LONGEST => {
            return Err(Refused::Damaged("it is not a file of this version"));
        }
        Ok(_) if is_from_backup => return Err(Refused::Foreign),
        Ok(_) => {}
    }
    decode(&fs::read(PATH).map_err(Refused::Unreadable)?, server)
}

/// The old file stays as it is until the new one is whole and on disk.
fn replace(text: &[u8]) -> io::Result<()> {
    let new = format!("{PATH}.tmp");
    let written = File::create(&new).and_then(|mut file| {
        file.write_all(text)?;
        file.sync_all()
    });
    if let Err(error) = written {
        let _ = fs::remove_file(&new);
        return Err(error);
    }
    fs::rename(&new, PATH)?;
    Path::new(PATH)
        .parent()
        .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn server() -> u64 {
    // SAFETY: a plain read; the control file was read long before.
    unsafe { pg_sys::GetSystemIdentifier() }
}

/// Fills the empty store with what an earlier server wrote.
pub fn read_in() {
    let told = match read(server()) {
        Ok(contents) => {
            let too_many = memory::change(|mut store| put(&mut store, &contents.lines));
            for seen in &contents.seen {
                seen::put(seen);
            }
            if too_many.unwrap_or_default() == 0 {
                return;
            }
            for line in contents.lines {
                seen::count(
                    seen::key_in(line.database, line.relation),
                    seen::Count::Overflowed,
                );
            }
            "pg_tenancy.shadow_entries is smaller than what was recorded: part of it is lost"
                .to_owned()
        }
        Err(Refused::Missing) => return,
        Err(Refused::Unreadable(error)) => format!("{PATH} cannot be read: {error}"),
        Err(Refused::Damaged(why)) => {
            let _ = fs::rename(PATH, format!("{PATH}.damaged"));
            format!("{PATH} is damaged, {why}: it was renamed to {PATH}.damaged")
        }
        Err(Refused::Foreign) => {
            let _ = fs::rename(PATH, format!("{PATH}.foreign"));
            format!("{PATH} is of another server: it was renamed to {PATH}.foreign")
        }
    };
    log!("pg_tenancy: what shadow mode had recorded was not read in: {told}");
}

/// Writes what is in the store; whether that could be done.
pub fn write_out() -> bool {
    let contents = Contents {
        lines: lines_where(|_| true),
        seen: seen::all(),
    };
    match encode(&contents, server()).and_then(|text| replace(&text)) {
        Ok(()) => true,
        Err(error) => {
            log!(
                "pg_tenancy: what shadow mode has recorded could not be written to {PATH}: {error}"
            );
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents() -> Contents {
        Contents {
            lines: Vec::new(),
            seen: vec![Seen {
                key: 5 << 32 | 6,
                statements: 7,
                ..Seen::default()
            }],
        }
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        let text = encode(&contents(), 9).expect("plain data");
        let read = decode(&text, 9).expect("as it was written");
        assert_eq!(read.seen, contents().seen);
    }

    #[test]
    fn another_servers_is_not_believed() {
        let text = encode(&contents(), 9).expect("plain data");
        assert!(matches!(decode(&text, 8), Err(Refused::Foreign)));
    }

    #[test]
    fn no_change_goes_unnoticed() {
        let text = encode(&contents(), 9).expect("plain data");
        for length in 0..text.len() {
            assert!(decode(&text[..length], 9).is_err(), "cut to {length}");
        }
        for index in 0..text.len() {
            for bit in 0..8 {
                let mut changed = text.clone();
                changed[index] ^= 1 << bit;
                if let Ok(read) = decode(&changed, 9) {
                    assert_eq!(read.seen, contents().seen, "byte {index}, bit {bit}");
                }
            }
        }
    }
}
