//! Names of the objects that protecting a table makes.
//!
//! Pure: owns how a name is shortened to what Postgres can hold. A name depends on the table's name
//! alone, so that a script written on one server fits another. Must never ask the catalog.

use super::model::Command;

/// The bytes that a name can have (`NAMEDATALEN - 1`).
const LIMIT: usize = 63;

/// `<table>_tenant_isolation_<command>`.
pub fn isolation(table: &str, command: Command) -> String {
    fit(table, &format!("_tenant_isolation_{}", command.suffix()))
}

/// `<table>_tenant_access`, with the command where it is not for all.
pub fn access(table: &str, command: Command) -> String {
    match command {
        Command::All => fit(table, "_tenant_access"),
        one => fit(table, &format!("_tenant_access_{}", one.suffix())),
    }
}

/// The policy that closes a table when the extension is dropped under it.
pub fn closed(table: &str) -> String {
    fit(table, "_tenancy_closed")
}

/// The index that leads with the tenant column.
pub fn index(table: &str) -> String {
    fit(table, "_tenant_idx")
}

/// The trigger that keeps a row with its tenant.
pub fn trigger(table: &str) -> String {
    fit(table, "_tenant_immutable")
}

/// The check that a script adds for a while on the way to NOT NULL.
pub fn not_null_check(table: &str) -> String {
    fit(table, "_tenant_not_null")
}

/// The unique key of a parent over the tenant and `columns`.
pub fn unique_key(table: &str, columns: &[String]) -> String {
    fit(&format!("{table}_{}", columns.join("_")), "_tenant_key")
}

/// The foreign key that carries the tenant next to the key named `original`.
pub fn foreign_key(original: &str) -> String {
    fit(original, "_tenant")
}

/// The policy that looks at the parent where the key named `original` cannot carry the tenant.
pub fn sight(original: &str, command: Command) -> String {
    fit(original, &format!("_tenant_sight_{}", command.suffix()))
}

/// The index that a script builds to take the place of the unique key named `original`.
pub fn rewritten(original: &str) -> String {
    fit(original, "_tenant_new")
}

/// Another name for the same object, where the first is taken by something else.
pub fn alternative(name: &str, salt: &str) -> String {
    let hash = hash(&format!("{salt}.{name}"));
    format!("{}_{hash:08x}", prefix(name, LIMIT - 9))
}

/// `stem` and `suffix`, the stem shortened and told apart by a hash where both do not fit.
fn fit(stem: &str, suffix: &str) -> String {
    if stem.len() + suffix.len() <= LIMIT {
        return format!("{stem}{suffix}");
    }
    let room = LIMIT - suffix.len() - 9;
    format!("{}_{:08x}{suffix}", prefix(stem, room), hash(stem))
}

/// At most `room` bytes of `text`, no character cut in two.
fn prefix(text: &str, room: usize) -> &str {
    let end = (0..=room.min(text.len()))
        .rev()
        .find(|&i| text.is_char_boundary(i))
        .unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

/// FNV-1a folded to 32 bits: the same on every platform and for ever, which the standard library's
/// hashes do not promise.
fn hash(text: &str) -> u32 {
    let wide = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
    });
    (wide >> 32) as u32 ^ wide as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn short_names_are_the_contract() {
        assert_eq!(
            isolation("orders", Command::Select),
            "orders_tenant_isolation_select"
        );
        assert_eq!(access("orders", Command::All), "orders_tenant_access");
        assert_eq!(
            access("orders", Command::Delete),
            "orders_tenant_access_delete"
        );
        let longest = "t".repeat(39);
        assert_eq!(
            isolation(&longest, Command::Insert),
            format!("{longest}_tenant_isolation_insert")
        );
    }

    #[test]
    fn long_names_fit_and_differ() {
        let mut seen = HashSet::new();
        for table in [
            "t".repeat(63),
            format!("{}x", "t".repeat(62)),
            "é".repeat(31),
            "日".repeat(21),
        ] {
            for command in Command::EACH {
                for name in [isolation(&table, command), access(&table, command)] {
                    assert!(name.len() <= 63, "{name}");
                    assert!(seen.insert(name.clone()), "twice: {name}");
                }
            }
            for name in [
                closed(&table),
                index(&table),
                trigger(&table),
                not_null_check(&table),
            ] {
                assert!(name.len() <= 63 && seen.insert(name));
            }
        }
    }

    #[test]
    fn the_hash_never_changes() {
        // Scripts that were written by an earlier version name objects of today.
        assert_eq!(hash("orders"), hash("orders"));
        assert_eq!(hash(""), 0xcbf2_9ce4 ^ 0x8422_2325);
    }

    #[test]
    fn an_alternative_is_another_name() {
        let name = index("orders");
        assert_ne!(alternative(&name, "public"), name);
        assert!(alternative(&"é".repeat(31), "s").len() <= 63);
    }
}
