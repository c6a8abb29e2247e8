//! The three ways to a target, and sets of them.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign, Sub};

/// The way a message took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Path {
    /// sendfd(2), on a kernel that has it.
    Syscall = 1,
    /// The sender fetched the sending end of the target's inbox with pidfd_getfd(2).
    Pidfd = 2,
    /// The sender connected to the inbox's abstract address.
    Name = 4,
}

impl Path {
    /// All of them, in the order in which they are tried.
    pub const ALL: [Path; 3] = [Path::Syscall, Path::Pidfd, Path::Name];

    /// `"syscall"`, `"pidfd"` or `"name"`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Path::Syscall => "syscall",
            Path::Pidfd => "pidfd",
            Path::Name => "name",
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The ways a caller allows. Empty means all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Paths(u32);

impl Paths {
    /// [`Path::Syscall`]
    pub const SYSCALL: Paths = Paths(Path::Syscall as u32);
    /// [`Path::Pidfd`]
    pub const PIDFD: Paths = Paths(Path::Pidfd as u32);
    /// [`Path::Name`]
    pub const NAME: Paths = Paths(Path::Name as u32);

    /// None of them.
    #[must_use]
    pub const fn empty() -> Self {
        Paths(0)
    }

    /// All of them.
    #[must_use]
    pub const fn all() -> Self {
        Paths(Self::SYSCALL.0 | Self::PIDFD.0 | Self::NAME.0)
    }

    /// The paths of a mask as C writes it; `None` if a bit stands for none.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Option<Self> {
        if bits & !Self::all().0 == 0 {
            Some(Paths(bits))
        } else {
            None
        }
    }

    /// The mask as C writes it.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `paths` are among these.
    #[must_use]
    pub fn contains(self, paths: impl Into<Paths>) -> bool {
        let paths = paths.into();
        self.0 & paths.0 == paths.0
    }

    /// Reads a list of their names, separated by commas. `None` if one of them is no path.
    pub(crate) fn parse(list: &str) -> Option<Paths> {
        list.split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .map(|word| Path::ALL.into_iter().find(|path| path.as_str() == word))
            .collect()
    }
}

impl From<Path> for Paths {
    fn from(path: Path) -> Self {
        Paths(path as u32)
    }
}

impl BitOr for Paths {
    type Output = Paths;

    fn bitor(self, other: Paths) -> Paths {
        Paths(self.0 | other.0)
    }
}

impl BitOrAssign for Paths {
    fn bitor_assign(&mut self, other: Paths) {
        self.0 |= other.0;
    }
}

impl BitAnd for Paths {
    type Output = Paths;

    fn bitand(self, other: Paths) -> Paths {
        Paths(self.0 & other.0)
    }
}

/// Those of the first that are not among the second.
impl Sub for Paths {
    type Output = Paths;

    fn sub(self, other: Paths) -> Paths {
        Paths(self.0 & !other.0)
    }
}

impl<P: Into<Paths>> FromIterator<P> for Paths {
    fn from_iter<I: IntoIterator<Item = P>>(paths: I) -> Self {
        paths
            .into_iter()
            .fold(Paths::empty(), |all, path| all | path.into())
    }
}

impl fmt::Display for Paths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for path in Path::ALL {
            if self.contains(path) {
                write!(f, "{separator}{path}")?;
                separator = ", ";
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        assert_eq!(
            Paths::parse("pidfd, name"),
            Some(Paths::PIDFD | Paths::NAME)
        );
        assert_eq!(Paths::parse("syscall"), Some(Paths::SYSCALL));
        assert_eq!(Paths::parse("pidfd,nmae"), None);
        assert_eq!(Paths::parse(" , "), Some(Paths::empty()));
    }

    #[test]
    fn the_numbers_are_those_of_the_c_header() {
        assert_eq!(Paths::all().bits(), 1 | 2 | 4);
        assert_eq!(Paths::all().to_string(), "syscall, pidfd, name");
        assert_eq!(Paths::from_bits(7), Some(Paths::all()));
        assert_eq!(Paths::from_bits(8), None);
    }

    #[test]
    fn sets() {
        let some = Paths::PIDFD | Paths::NAME;
        assert!(some.contains(Path::Pidfd) && !some.contains(Path::Syscall));
        assert!(!some.contains(Paths::all()) && Paths::all().contains(some));
        assert_eq!(some - Paths::PIDFD, Paths::NAME);
        assert_eq!(some & Paths::PIDFD, Paths::PIDFD);
        assert!(Paths::default().is_empty());
    }
}
