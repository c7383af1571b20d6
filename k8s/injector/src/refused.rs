//! Why a pod is refused: everything that is wrong with it at once.

/// What is wrong with a pod; each problem names its field or annotation and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problems.join("; "))]
pub struct Refused {
    /// One sentence each.
    pub problems: Vec<String>,
}

impl Refused {
    /// One problem.
    pub fn because(problem: impl Into<String>) -> Self {
        Self { problems: vec![problem.into()] }
    }

    /// # Errors
    /// With the problems, where there are some.
    pub fn if_any(problems: Vec<String>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self { problems }) }
    }
}
