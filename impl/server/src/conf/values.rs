//! The kinds of values.

use std::time::Duration;

use super::{ConfError, Key};
use crate::Address;

/// No time is longer than some thirty years.
const SECONDS_MAX: Duration = Duration::from_secs(1_000_000_000);
const TOO_LONG: &str = "a number of seconds, at most 1000000000";

/// So many seconds as a time. None if it is no time, or too long.
pub(super) fn seconds(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok().filter(|time| *time <= SECONDS_MAX)
}

/// A number without what Python allows in one: `1_000`.
fn python_number(text: &str) -> Option<String> {
    let is_between = |(n, _): (usize, &str)| {
        let is_digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
        is_digit(n.checked_sub(1).and_then(|before| text.as_bytes().get(before)))
            && is_digit(text.as_bytes().get(n + 1))
    };
    text.match_indices('_').all(is_between).then(|| text.replace('_', ""))
}

impl Key {
    pub(super) fn wrong(&self, wanted: &str) -> ConfError {
        let Key { name, value, place } = self;
        ConfError { place: place.clone(), why: format!("{name} is {wanted}, and not {value:?}") }
    }

    /// Yes or no.
    pub(super) fn boolean(&self) -> Result<bool, ConfError> {
        match self.value.to_lowercase().as_str() {
            "yes" | "true" | "on" => Ok(true),
            "no" | "false" | "off" => Ok(false),
            _ => Err(self.wrong("yes, true, on, no, false or off")),
        }
    }

    /// A whole number.
    pub(super) fn integer(&self) -> Result<u64, ConfError> {
        python_number(&self.value).and_then(|digits| digits.parse().ok()).ok_or_else(|| self.wrong("a whole number"))
    }

    /// A whole number of seconds.
    pub(super) fn whole_seconds(&self) -> Result<Duration, ConfError> {
        let seconds = self.integer()?;
        Some(Duration::from_secs(seconds)).filter(|time| *time <= SECONDS_MAX).ok_or_else(|| self.wrong(TOO_LONG))
    }

    /// A number of seconds.
    pub(super) fn seconds(&self) -> Result<Duration, ConfError> {
        let number = python_number(&self.value).and_then(|number| number.parse().ok());
        number.and_then(seconds).ok_or_else(|| self.wrong(TOO_LONG))
    }

    /// A number of bytes: digits, and perhaps KB, MB or GB.
    pub(super) fn bytes(&self) -> Result<u64, ConfError> {
        let value = self.value.to_lowercase();
        let (digits, unit) = value.split_at(value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len()));
        let unit = match unit.trim_start() {
            "" => Some(1),
            "kb" => Some(1 << 10),
            "mb" => Some(1 << 20),
            "gb" => Some(1 << 30),
            _ => None,
        };
        let bytes = unit.and_then(|unit: u64| digits.parse::<u64>().ok()?.checked_mul(unit));
        bytes.ok_or_else(|| self.wrong("a number of bytes, or one with KB, MB or GB"))
    }

    /// Where a server listens: see [`address`].
    pub(super) fn address(&self) -> Result<Address, ConfError> {
        address(&self.value).ok_or_else(|| self.wrong(ADDRESS))
    }
}

pub(super) const ADDRESS: &str = "PORT, HOST:PORT, [IPV6]:PORT or a path with a slash";

impl Address {
    /// An address as ZEO's configuration has it: a path with a slash, a port, or a host and a port. A port alone is one
    /// at all addresses of the machine.
    pub fn parse(text: &str) -> Option<Address> {
        address(text)
    }
}

fn address(value: &str) -> Option<Address> {
    if value.contains('/') {
        return Some(Address::Unix(value.into()));
    }
    // As Python reads numbers: with blanks around.
    let port = |text: &str| text.trim().parse::<u16>().ok();
    if let Some(port) = port(value) {
        return Some(Address::Tcp(format!(":{port}")));
    }
    // A host without a port: ZEO takes any free one then, which no client would find.
    let (host, number) = value.rsplit_once(':')?;
    let is_host = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
    Some(Address::Tcp(format!("{}:{}", host.to_lowercase(), port(number)?))).filter(|_| is_host)
}
