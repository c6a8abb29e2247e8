//! Times on the command line: `5`, `5s`, `250ms`, `2m`, `forever`.

use std::str::FromStr;
use std::time::Duration;

use sendfd_core::Wait;

/// How long to wait; 0 is not at all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeout(pub(crate) Wait);

impl FromStr for Timeout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "forever" {
            return Ok(Timeout(Wait::Forever));
        }
        let time = duration(text)?;
        Ok(Timeout(if time.is_zero() {
            Wait::Never
        } else {
            Wait::For(time)
        }))
    }
}

/// A time without `forever`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let unit = text.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
    let number: f64 = text[..text.len() - unit.len()].parse().unwrap_or(-1.0);
    let scale = match unit {
        "" | "s" => 1.0,
        "ms" => 0.001,
        "m" => 60.0,
        "h" => 3600.0,
        _ => -1.0,
    };
    Duration::try_from_secs_f64(number * scale)
        .ok()
        .filter(|_| number >= 0.0 && scale > 0.0)
        .ok_or_else(|| "a time is a number of seconds, or has a unit: 5, 250ms, 2m, 1h".to_owned())
}
