//! What a value can be.

use super::{ConfError, Key};
use crate::Address;

impl Key {
    fn wrong(&self, wanted: &str) -> ConfError {
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
        self.value.parse().map_err(|_| self.wrong("a whole number"))
    }

    /// A number of seconds.
    pub(super) fn seconds(&self) -> Result<f64, ConfError> {
        let number = self.value.parse().ok().filter(|seconds: &f64| seconds.is_finite() && *seconds >= 0.0);
        number.ok_or_else(|| self.wrong("a number of seconds"))
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

    /// Where a server listens: a path with a slash, a port, or a host and a port.
    pub(super) fn address(&self) -> Result<Address, ConfError> {
        let value = self.value.as_str();
        if value.contains('/') {
            return Ok(Address::Unix(value.into()));
        }
        let port = |text: &str| text.parse::<u16>().ok();
        if let Some(port) = port(value) {
            // All addresses, of both kinds.
            return Ok(Address::Tcp(format!("[::]:{port}")));
        }
        match value.rsplit_once(':') {
            Some((host, number)) => match (host, port(number)) {
                ("", Some(port)) => Ok(Address::Tcp(format!("[::]:{port}"))),
                (host, Some(port)) if !host.contains(':') || host.starts_with('[') => {
                    Ok(Address::Tcp(format!("{}:{port}", host.to_lowercase())))
                }
                _ => Err(self.wrong("PORT, HOST:PORT, [IPV6]:PORT or a path with a slash")),
            },
            // ZEO takes any free port then, which no client would find.
            None => Err(self.wrong("PORT, HOST:PORT, [IPV6]:PORT or a path with a slash")),
        }
    }
}
