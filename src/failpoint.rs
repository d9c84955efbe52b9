//! Named points of a call's life at which a test can end the process, panic, fail a step, or hold it up.
//!
//! Only in builds with debug assertions, which releases do not have: there `failpoint!` is nothing and `fails_at!` is `false`
//! (`tests/tidy.rs` sees to that). `LOOPERS_FAILPOINTS` arms points: `NAME=ACTION`, more of them after `;`, with `ACTION` one of
//! `kill` (ends the process at once, nothing is unwound or written), `panic`, `fail`, `sleep:MILLISECONDS`. `NAME=ACTION@3` acts
//! at the third time, `NAME=ACTION@*` each time; otherwise each acts once. `LOOPERS_FAILPOINTS=file:PATH` reads them from a file, anew whenever its text changes.

/// A point at which nothing happens, unless a test has armed it.
macro_rules! failpoint {
    ($name:literal) => {
        #[cfg(debug_assertions)]
        let _ = $crate::failpoint::acts($name);
    };
}

/// True when a test wants the step at this point to fail.
macro_rules! fails_at {
    ($name:literal) => {{
        #[cfg(debug_assertions)]
        let fails = $crate::failpoint::acts($name);
        #[cfg(not(debug_assertions))]
        let fails = false;
        fails
    }};
}

#[cfg(debug_assertions)]
pub use armed::acts;

#[cfg(debug_assertions)]
mod armed {
    use std::path::PathBuf;
    use std::sync::{Mutex, OnceLock, PoisonError};
    use std::time::Duration;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Action {
        Kill,
        Panic,
        Fail,
        Sleep(u64),
    }

    #[derive(Debug)]
    struct Point {
        name: String,
        action: Action,
        /// Acts when this is 1; each hit takes one away. `None` acts at each.
        hits: Option<u64>,
    }

    #[derive(Default)]
    struct Points {
        file: Option<PathBuf>,
        text: String,
        points: Vec<Point>,
    }

    /// Does what was ordered for the point; true when its step shall fail.
    pub fn acts(name: &str) -> bool {
        static POINTS: OnceLock<Option<Mutex<Points>>> = OnceLock::new();
        let Some(points) = POINTS.get_or_init(from_environment) else { return false };
        let Some(action) = points.lock().unwrap_or_else(PoisonError::into_inner).hit(name) else { return false };
        log::warn!("failpoint {name}: {action:?}");
        match action {
            Action::Kill => std::process::abort(),
            Action::Panic => std::panic::panic_any(format!("failpoint {name}")),
            Action::Fail => true,
            Action::Sleep(ms) => {
                std::thread::sleep(Duration::from_millis(ms));
                false
            }
        }
    }

    fn from_environment() -> Option<Mutex<Points>> {
        let text = std::env::var("LOOPERS_FAILPOINTS").ok()?;
        let points = match text.strip_prefix("file:") {
            Some(path) => Points { file: Some(path.into()), ..Points::default() },
            None => Points { points: parse(&text), ..Points::default() },
        };
        Some(Mutex::new(points))
    }

    impl Points {
        fn hit(&mut self, name: &str) -> Option<Action> {
            if let Some(file) = &self.file {
                let text = std::fs::read_to_string(file).unwrap_or_default();
                if text != self.text {
                    self.points = parse(&text);
                    self.text = text;
                }
            }
            let point = self.points.iter_mut().find(|point| point.name == name && point.hits != Some(0))?;
            point.hits = point.hits.map(|hits| hits - 1);
            point.hits.is_none_or(|hits| hits == 0).then_some(point.action)
        }
    }

    /// What cannot be read is told on stderr and left out: the test that ordered it then fails.
    fn parse(text: &str) -> Vec<Point> {
        let mut points = Vec::new();
        for order in text.split(';').map(str::trim).filter(|order| !order.is_empty()) {
            match point(order) {
                Some(point) => points.push(point),
                None => log::error!("failpoint `{order}` is not NAME=kill|panic|fail|sleep:MS[@HIT]"),
            }
        }
        points
    }

    fn point(order: &str) -> Option<Point> {
        let (name, rest) = order.split_once('=')?;
        let (action, hits) = rest.split_once('@').unwrap_or((rest, "1"));
        let action = match action {
            "kill" => Action::Kill,
            "panic" => Action::Panic,
            "fail" => Action::Fail,
            other => Action::Sleep(other.strip_prefix("sleep:")?.parse().ok()?),
        };
        let hits = if hits == "*" { None } else { Some(hits.parse().ok()?) };
        Some(Point { name: name.into(), action, hits })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_point_acts_at_its_hit() {
            let mut points = Points { points: parse("a=kill; b=sleep:5@2;;c=fail@*"), ..Points::default() };
            assert_eq!(points.hit("other"), None);
            assert_eq!((points.hit("a"), points.hit("a")), (Some(Action::Kill), None));
            assert_eq!((points.hit("b"), points.hit("b"), points.hit("b")), (None, Some(Action::Sleep(5)), None));
            assert_eq!((points.hit("c"), points.hit("c")), (Some(Action::Fail), Some(Action::Fail)));
            assert!(["a", "a=", "a=die", "a=kill@x", "a=sleep:"].iter().all(|text| parse(text).is_empty()));
        }
    }
}
