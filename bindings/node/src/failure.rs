//! An error of the core as a plain value.

use napi_derive::napi;

/// What went wrong.
#[napi(object, object_from_js = false)]
pub struct Failure {
    /// Negative, as Node counts them.
    pub errno: i32,
    /// What was attempted and why it failed.
    pub message: String,
    /// What a person can do.
    pub hint: Option<&'static str>,
}

impl From<sendfd_core::Error> for Failure {
    fn from(error: sendfd_core::Error) -> Self {
        Failure {
            errno: -error.raw_os_error(),
            message: error.to_string(),
            hint: error.hint(),
        }
    }
}
