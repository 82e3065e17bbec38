//! The time of day in the machine's time zone, as strftime(3) writes it.

use std::ffi::CString;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Room for what one conversion writes; none of today's locales comes near.
const TEXT_BYTES_MAX: usize = 256;

/// A moment, told in the machine's time zone.
#[derive(Debug, Clone, Copy)]
pub struct LocalTime {
    broken_down: libc::tm,
    /// Whole seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds of the current second.
    pub nanoseconds: u32,
}

impl LocalTime {
    /// Now.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let since = since.unwrap_or(Duration::ZERO);
        Self::of(
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            since.subsec_nanos(),
        )
    }

    /// The moment so many seconds and nanoseconds after 1970 began (UTC).
    pub fn of(seconds: i64, nanoseconds: u32) -> Self {
        // SAFETY: all fields of a tm may be zero, the pointer too.
        let mut broken_down: libc::tm = unsafe { std::mem::zeroed() };
        // SAFETY: both point to values of ours; a year out of range leaves the zeros as they are.
        unsafe { libc::localtime_r(&raw const seconds, &raw mut broken_down) };
        Self {
            broken_down,
            seconds,
            nanoseconds,
        }
    }

    /// What strftime writes for `%` and this letter.
    pub fn conversion(&self, letter: u8) -> Vec<u8> {
        self.written(&[b'%', letter])
    }

    /// Date, time and distance from UTC: `2016-08-10T09:47:38+0100`.
    pub fn iso(&self) -> String {
        self.text(b"%FT%T%z")
    }

    /// As [`LocalTime::iso`], with microseconds.
    pub fn iso_micros(&self) -> String {
        let micros = self.nanoseconds / 1_000;
        format!("{}.{micros:06}{}", self.text(b"%FT%T"), self.text(b"%z"))
    }

    fn text(&self, format: &[u8]) -> String {
        String::from_utf8_lossy(&self.written(format)).into_owned()
    }

    fn written(&self, format: &[u8]) -> Vec<u8> {
        let format = CString::new(format).expect("a format has no zero byte");
        let mut text = vec![0_u8; TEXT_BYTES_MAX];
        // SAFETY: strftime writes at most the length that it is told, and the format ends with zero.
        let length = unsafe {
            libc::strftime(
                text.as_mut_ptr().cast(),
                text.len(),
                format.as_ptr(),
                &raw const self.broken_down,
            )
        };
        text.truncate(length);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_with_its_distance_from_utc() {
        let moment = LocalTime::of(1_795_410_480, 175_999);
        assert_eq!(moment.conversion(b's'), b"1795410480");
        assert_eq!(moment.iso().len(), "2016-08-10T09:47:38+0100".len());
        let micros = moment.iso_micros();
        assert_eq!(micros.replace(".000175", ""), moment.iso());
    }
}
