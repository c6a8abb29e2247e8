//! Whether a target will accept what this process sends: as its receiver will decide, in its own user
//! namespace, without regard to capabilities, which it cannot see.

use rustix::process::{geteuid, test_kill_process};

use crate::credentials::{OVERFLOW, extents, maps_everybody};
use crate::error::Cause;
use crate::process::{self, Seen, read_file, told};
use crate::sys::Namespace;

/// How a target knows this process's effective user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// As root, or as one of the users that the target is: it accepts what this process sends.
    Admitted,
    /// As another user, by this number. It accepts what this process sends if it has named that one.
    Another(u32),
    /// As nobody in particular. Also where its user namespace is above that of this process, which cannot
    /// see there who it is.
    Nobody,
}

/// How `target` knows this process's effective user.
pub(crate) fn standing(target: &Seen<'_>) -> Result<Standing, Cause> {
    let own = geteuid().as_raw();
    let (mut here, mut there) = ([0; 1024], [0; 1024]);
    let here = told(read_file("/proc/self/uid_map", &mut here))?;
    let there = told(target.read_proc("uid_map", &mut there))?;
    let (Some(users), Some(here), Some(there)) = (target.users, here, there) else {
        // /proc is absent or hides the processes of others.
        let may_signal =
            process::check(target.pid()).is_ok_and(|pid| test_kill_process(pid).is_ok());
        return Ok(standing_of(own.into(), may_signal));
    };
    let is_one_of_its = own == users.real || own == users.saved;
    let map = Map(there);
    let is_same = is_same_namespace(target, here, there);
    let number = if is_same {
        Some(own.into())
    } else {
        map.inside(own)
    };
    // In another namespace the overflow user stands for everybody who has no number here.
    let is_own = is_same || own != OVERFLOW;
    Ok(match number {
        Some(0) => Standing::Admitted,
        Some(number) if is_own && is_somebody(number, there) => standing_of(number, is_one_of_its),
        None if is_own && is_one_of_its && map.is_of_an_ancestor() => Standing::Admitted,
        _ => Standing::Nobody,
    })
}

/// Where `number` is this process's user.
fn standing_of(number: u64, is_admitted: bool) -> Standing {
    match u32::try_from(number) {
        _ if is_admitted => Standing::Admitted,
        Ok(number) => Standing::Another(number),
        Err(_) => Standing::Nobody,
    }
}

fn is_same_namespace(target: &Seen<'_>, here: &[u8], there: &[u8]) -> bool {
    let own = rustix::fs::stat(c"/proc/self/ns/user").map(|stat| stat.st_ino);
    match (own, target.namespace(Namespace::User)) {
        (Ok(own), Some(other)) => own == other,
        // Not told of other users' processes. Relative to the namespaces above each, the maps of two
        // namespaces are equal only if they are one, or if both change nothing.
        _ => here == there,
    }
}

/// Whether a number means one user, in a namespace with this map. The receiver cannot tell one who bears the number
/// of those that have none from them.
fn is_somebody(number: u64, map: &[u8]) -> bool {
    number != u64::from(OVERFLOW) || maps_everybody(map)
}

/// The /proc/PID/uid_map of a process in another namespace, as this process reads it: its numbers, and
/// those of this process's namespace.
struct Map<'a>(&'a [u8]);

/// Stands for a user without a number in this process's namespace.
const NO_NUMBER: u64 = u32::MAX as u64;

impl Map<'_> {
    /// A user of this process's namespace as numbered in that one.
    fn inside(&self, user: u32) -> Option<u64> {
        let user = u64::from(user);
        extents(self.0)
            .filter(|[_, outside, _]| *outside != NO_NUMBER)
            .find(|[_, outside, count]| (*outside..outside + count).contains(&user))
            .map(|[inside, outside, _]| inside + (user - outside))
    }

    /// Whether it knows more users than this process's namespace does: all users of a namespace have
    /// numbers in those above.
    fn is_of_an_ancestor(&self) -> bool {
        extents(self.0).any(|[_, outside, _]| outside == NO_NUMBER)
    }
}

#[cfg(fuzzing)]
pub(crate) fn fuzz(map: &[u8]) {
    for user in [0, 1000, OVERFLOW, u32::MAX] {
        is_somebody(user.into(), map);
        Map(map).inside(user);
    }
    Map(map).is_of_an_ancestor();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_of_a_namespace_below() {
        let map = Map(b"         0       1000          1\n         1     100000      65536\n");
        assert_eq!(map.inside(1000), Some(0));
        assert_eq!(map.inside(100_005), Some(6));
        assert_eq!(map.inside(0), None);
        assert!(!map.is_of_an_ancestor());
    }

    #[test]
    fn users_of_a_namespace_above() {
        // The whole of it, read in a namespace that has no number for its root.
        let map = Map(b"         0 4294967295 4294967295\n");
        assert_eq!(map.inside(0), None);
        assert_eq!(map.inside(u32::MAX), None);
        assert!(map.is_of_an_ancestor());
    }

    #[test]
    fn nobody_is_somebody_where_all_have_numbers() {
        let nobody = u64::from(OVERFLOW);
        assert!(is_somebody(nobody, b"0 0 4294967295\n"));
        assert!(!is_somebody(nobody, b"65534 1000 1\n"));
        assert!(!is_somebody(nobody, b""));
        assert!(is_somebody(7, b""));
    }

    #[test]
    fn this_process_admits_itself() {
        let own = process::Process::open(process::own_pid()).expect("this process");
        let seen = own.look().expect("seen");
        assert_eq!(standing(&seen), Ok(Standing::Admitted));
    }
}
