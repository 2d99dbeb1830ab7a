//! When people are about: seasons, weekdays and hours.

/// Microseconds.
pub(crate) const SECOND: i64 = 1_000_000;
pub(crate) const DAY: i64 = 86_400 * SECOND;

/// Monday to Sunday, by the share of baskets in a year of groceries (Complete Journey), relative to their mean.
const WEEKDAYS: [f64; 7] = [0.966, 0.945, 0.917, 0.945, 0.945, 1.113, 1.162];
/// Hours of the day, relative to their mean: little at night, most in the evening.
const HOURS: [f64; 24] = [
    0.30, 0.16, 0.10, 0.08, 0.10, 0.20, 0.45, 0.75, 0.95, 1.10, 1.20, 1.25, 1.35, 1.25, 1.15, 1.15, 1.20, 1.30, 1.50,
    1.75, 1.90, 1.80, 1.30, 0.76,
];
/// The last weeks of November and the weeks before Christmas.
const HOLIDAYS: f64 = 1.5;
/// No intensity is higher than this.
const MOST: f64 = 1.162 * 1.90 * HOLIDAYS * 1.1;

/// The day's number of a date `YYYY-MM-DD`, in the proleptic Gregorian calendar (Hinnant, "chrono-compatible low-level date
/// algorithms", 2013).
pub(crate) fn days_since_1970(date: &str) -> Option<i64> {
    let mut parts = date.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let is_date = date.len() == 10 && (1..=12).contains(&month) && (1..=days_of(year, month)).contains(&day);
    (is_date && parts.next().is_none()).then(|| {
        let shifted = if month <= 2 { year - 1 } else { year };
        let (era, year_of_era) = (shifted.div_euclid(400), shifted.rem_euclid(400));
        let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
    })
}

fn days_of(year: i64, month: i64) -> i64 {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// How likely it is that a visit which could begin at this time does: thinning of a Poisson process (Lewis & Shedler 1979).
pub(crate) fn acceptance(time: i64) -> f64 {
    let day = time.div_euclid(DAY);
    let hour = time.rem_euclid(DAY) / (3_600 * SECOND);
    // 1 January 1970 was a Thursday.
    let weekday = (day + 3).rem_euclid(7) as usize;
    let day_of_year = (day as f64).rem_euclid(365.2425);
    let year = 1.0 + 0.1 * libm::cos(2.0 * std::f64::consts::PI * (day_of_year - 345.0) / 365.2425);
    let holidays = if (325.0..358.0).contains(&day_of_year) { HOLIDAYS } else { 1.0 };
    WEEKDAYS[weekday] * HOURS[hour as usize] * year * holidays / MOST
}

/// What a rate has to be multiplied by so that the times which are accepted come at that rate in an ordinary week.
pub(crate) const CANDIDATES: f64 = MOST;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_have_their_numbers() {
        assert_eq!(days_since_1970("1970-01-01"), Some(0));
        assert_eq!(days_since_1970("2000-03-01"), Some(11_017));
        assert_eq!(days_since_1970("2025-01-01"), Some(20_089));
        for wrong in ["2025-02-29", "2025-13-01", "2025-1-1", "x", "2025-01-01-"] {
            assert_eq!(days_since_1970(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_ordinary_week_has_the_mean_intensity() {
        let start = days_since_1970("2025-03-10").expect("a date") * DAY;
        let hours = (0..7 * 24).map(|hour| acceptance(start + hour * 3_600 * SECOND) * CANDIDATES);
        let mean = hours.sum::<f64>() / (7.0 * 24.0);
        assert!((mean - 1.0).abs() < 0.05, "{mean}");
    }
}
