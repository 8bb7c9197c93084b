//! What a document looks like.
//!
//! Pure. Must show registered rows only in a context with a tenant.

use super::definition::{Shape, TENANT, USER};
use super::jsonb::Json;
use crate::context::model::{Membership, Resolved};

/// What was read for a registered key.
pub struct Part {
    pub key: String,
    pub shape: Shape,
    /// The container; `None` where there is no row, or no context to read for.
    pub container: Option<Vec<u8>>,
}

/// The document of a context.
pub fn document(resolved: &Resolved, parts: Vec<Part>) -> Json {
    let id = |id: Option<String>| match id {
        Some(id) => Json::Object(vec![("id".to_owned(), Json::Text(id))]),
        None => Json::Null,
    };
    let text = |text: Option<&str>| text.map_or(Json::Null, |text| Json::Text(text.to_owned()));
    let membership = |membership: &Membership| {
        Json::Object(vec![
            (
                "tenant_id".to_owned(),
                Json::Text(membership.tenant.to_string()),
            ),
            (
                "role".to_owned(),
                text(membership.roles.first().map(AsRef::as_ref)),
            ),
        ])
    };
    let memberships = resolved.memberships.iter().map(membership).collect();
    let mut pairs = vec![
        (
            USER.to_owned(),
            id(resolved.user.as_deref().map(str::to_owned)),
        ),
        (
            TENANT.to_owned(),
            id(resolved.tenant().map(ToString::to_string)),
        ),
        ("role".to_owned(), text(resolved.role())),
        ("memberships".to_owned(), Json::Array(memberships)),
    ];
    for part in parts {
        let value = match (part.container, part.shape) {
            (Some(container), _) => Json::Container(container),
            (None, Shape::Array) => Json::Array(Vec::new()),
            (None, Shape::Object) => Json::Null,
        };
        match pairs.iter_mut().find(|(key, _)| *key == part.key) {
            // The user and the tenant keep their id where no row is registered with it.
            Some((_, own)) if value != Json::Null => *own = value,
            Some(_) => {}
            None => pairs.push((part.key, value)),
        }
    }
    Json::Object(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::model::Missing;

    fn part(key: &str, shape: Shape, container: Option<Vec<u8>>) -> Part {
        Part {
            key: key.into(),
            shape,
            container,
        }
    }

    fn value(document: &Json, wanted: &str) -> Json {
        let Json::Object(pairs) = document else {
            panic!("not an object")
        };
        let found = pairs.iter().find(|(key, _)| key == wanted);
        found.expect("the key is there").1.clone()
    }

    #[test]
    fn keys_without_rows_are_null_or_empty() {
        let nobody = Resolved::missing(Missing::NothingSet);
        let parts = vec![
            part("config", Shape::Object, None),
            part("apps", Shape::Array, None),
            part(USER, Shape::Object, None),
        ];
        let document = document(&nobody, parts);
        assert_eq!(value(&document, "config"), Json::Null);
        assert_eq!(value(&document, "apps"), Json::Array(Vec::new()));
        assert_eq!(value(&document, USER), Json::Null);
    }

    #[test]
    fn the_user_is_known_with_and_without_a_registered_row() {
        let somebody = Resolved {
            user: Some("u".into()),
            ..Resolved::missing(Missing::NoMembership)
        };
        let id = Json::Object(vec![("id".into(), Json::Text("u".into()))]);
        let without = document(&somebody, vec![part(USER, Shape::Object, None)]);
        assert_eq!(value(&without, USER), id);
        let row = vec![1, 2, 3, 4];
        let with = document(
            &somebody,
            vec![part(USER, Shape::Object, Some(row.clone()))],
        );
        assert_eq!(value(&with, USER), Json::Container(row));
    }
}
