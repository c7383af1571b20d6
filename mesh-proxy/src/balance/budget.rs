//! The retry budget: retries are a share of the requests, so that they cannot multiply an outage.
//!
//! A bucket of tokens: each request pays in a part of one, time pays in some for quiet services, a retry takes one.
//! Pure: time is a parameter.

use std::time::{Duration, Instant};

/// How much may be retried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BudgetPolicy {
    /// Retries for each request, 0.2 is one in five.
    pub(crate) ratio: f64,
    /// Retries a second that are always possible.
    pub(crate) min_per_second: u32,
}

/// What is unused for longer is lost: yesterday's calm is no licence for today's storm.
const WINDOW: Duration = Duration::from_secs(10);

/// The budget of one service on one worker.
#[derive(Debug, Clone)]
pub(crate) struct RetryBudget {
    policy: BudgetPolicy,
    tokens: f64,
    refilled: Instant,
    /// Requests a second, roughly; bounds what may be saved up.
    rate: f64,
}

impl RetryBudget {
    /// Starts with one second's worth of the minimum.
    pub(crate) fn new(policy: BudgetPolicy, now: Instant) -> Self {
        Self { policy, tokens: f64::from(policy.min_per_second), refilled: now, rate: 0.0 }
    }

    /// A new request (not a retry) came.
    pub(crate) fn deposit(&mut self, now: Instant) {
        self.refill(now);
        self.rate += 1.0 / WINDOW.as_secs_f64();
        self.tokens = (self.tokens + self.policy.ratio).min(self.most());
    }

    /// Whether one more retry is within the budget; takes it if so.
    pub(crate) fn withdraw(&mut self, now: Instant) -> bool {
        self.refill(now);
        let allowed = self.tokens >= 1.0;
        if allowed {
            self.tokens -= 1.0;
        }
        allowed
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.refilled = now;
        self.rate *= (-elapsed / WINDOW.as_secs_f64()).exp();
        let paid = elapsed * f64::from(self.policy.min_per_second);
        self.tokens = (self.tokens + paid).min(self.most());
    }

    fn most(&self) -> f64 {
        let floor = f64::from(self.policy.min_per_second);
        floor + self.policy.ratio * self.rate * WINDOW.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: BudgetPolicy = BudgetPolicy { ratio: 0.2, min_per_second: 3 };

    #[test]
    fn a_quiet_service_has_its_minimum_and_no_more() {
        let now = Instant::now();
        let mut budget = RetryBudget::new(POLICY, now);
        assert_eq!((0..10).filter(|_| budget.withdraw(now)).count(), 3);
        let later = now + Duration::from_secs(3600);
        assert_eq!((0..10).filter(|_| budget.withdraw(later)).count(), 3);
    }

    #[test]
    fn under_load_one_request_in_five_may_be_retried() {
        let mut now = Instant::now();
        let mut budget = RetryBudget::new(BudgetPolicy { min_per_second: 0, ..POLICY }, now);
        let mut retried = 0;
        for _ in 0..10_000 {
            now += Duration::from_millis(1);
            budget.deposit(now);
            // Every attempt fails: each asks for a retry.
            retried += u32::from(budget.withdraw(now));
        }
        assert!((1_900..=2_000).contains(&retried), "{retried}");
    }

    #[test]
    fn calm_saves_up_no_more_than_the_window() {
        let mut now = Instant::now();
        let mut budget = RetryBudget::new(BudgetPolicy { min_per_second: 0, ..POLICY }, now);
        for _ in 0..100_000 {
            now += Duration::from_millis(1);
            budget.deposit(now);
        }
        let burst = (0..100_000).filter(|_| budget.withdraw(now)).count();
        assert!((1_500..=2_100).contains(&burst), "{burst}");
    }
}
