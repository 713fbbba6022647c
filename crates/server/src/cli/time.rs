//! Times as people write them.
//!
//! Guarantees: UTC; every number of microseconds has a form. Not here: clocks.

/// `2026-11-23 18:08:02.123456+00`, for microseconds since 1970 in UTC.
pub(super) fn utc(micros: u64) -> String {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{fraction:06}+00")
}

/// `20261123180802`, for the names of files.
pub(super) fn stamp(micros: u64) -> String {
    let seconds = micros / 1_000_000;
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}")
}

/// Year, month and day, so many days behind 1970-01-01, by the Gregorian calendar.
const fn date(days: u64) -> (u64, u64, u64) {
    // Counted from 0000-03-01, so that a leap day ends its year; an era is 400 years.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + carry, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_that_calendars_trip_over_are_right() {
        let at = |seconds: u64| utc(seconds * 1_000_000);
        assert_eq!(at(0), "1970-01-01 00:00:00.000000+00");
        assert_eq!(at(951_782_400), "2000-02-29 00:00:00.000000+00");
        assert_eq!(at(1_709_251_199), "2024-02-29 23:59:59.000000+00");
        assert_eq!(at(4_107_542_400), "2100-03-01 00:00:00.000000+00");
        assert_eq!(stamp(1_709_251_199_000_000), "20240229235959");
    }

    #[test]
    fn no_number_brings_it_down() {
        assert!(!utc(u64::MAX).is_empty());
    }
}
