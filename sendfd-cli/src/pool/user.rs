//! Users by name or number, as /etc/passwd and /etc/group have them.

use crate::exit::{Failure, Result};

#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// All groups that the user is in.
    pub(crate) groups: Vec<u32>,
}

impl User {
    pub(crate) fn find(text: &str) -> Result<Self> {
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let found = users.lines().find_map(|line| {
            let mut words = line.split(':');
            let (name, uid, gid) = (words.next()?, words.nth(1)?, words.next()?);
            (name == text || uid == text).then_some((name, uid.parse().ok()?, gid.parse().ok()?))
        });
        let (name, uid, gid) = match (found, text.parse()) {
            (Some(found), _) => found,
            // A number without an entry stands for itself, with the group of the same number.
            (None, Ok(number)) => ("", number, number),
            (None, Err(_)) => {
                return Err(Failure::usage(format!(
                    "there is no user {text:?} in /etc/passwd"
                )));
            }
        };
        let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
        let member_of = groups.lines().filter_map(|line| {
            let mut words = line.split(':').skip(2);
            let (group, members) = (words.next()?, words.next()?);
            members
                .split(',')
                .any(|member| !name.is_empty() && member == name)
                .then_some(group.parse().ok()?)
        });
        let groups = std::iter::once(gid).chain(member_of).collect();
        Ok(User { uid, gid, groups })
    }
}
