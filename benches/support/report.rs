//! Figures with goals, and what they are made of.

use std::process::ExitCode;

/// Figures, and how many of them miss their goals.
pub struct Report {
    pub is_quick: bool,
    missed: usize,
}

impl Report {
    /// Quick where `cargo bench` has not started this, or `-- --quick` says so.
    pub fn new(words: &[&str]) -> Self {
        Self { is_quick: words.contains(&"--quick") || !words.contains(&"--bench"), missed: 0 }
    }

    /// A figure; `None` where it has no goal.
    pub fn line(&mut self, what: &str, figure: &str, goal: Option<(&str, bool)>) {
        let goal = goal.filter(|_| !self.is_quick);
        let said = match goal {
            None => String::new(),
            Some((goal, true)) => format!("goal {goal}"),
            Some((goal, false)) => format!("goal {goal}: MISSED"),
        };
        self.missed += usize::from(goal.is_some_and(|(_, is_met)| !is_met));
        println!("{what:<58} {figure:<40} {said}");
    }

    /// Whether all goals are met.
    pub fn end(self) -> ExitCode {
        if self.missed == 0 {
            return ExitCode::SUCCESS;
        }
        println!("\n{} figures are off", self.missed);
        ExitCode::FAILURE
    }
}

pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    share(values, 0.5)
}

/// The value that this share of them does not exceed.
pub fn share(values: impl IntoIterator<Item = f64>, share: f64) -> f64 {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let at = (values.len() as f64 * share) as usize;
    values[at.min(values.len() - 1)]
}
