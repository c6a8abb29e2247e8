//! Hand an open descriptor to another process by pid.
