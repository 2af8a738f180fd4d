//! What follows the end of a container: the restart policy of its Pod, its own, and rules
//! by exit code ("Pod Lifecycle", "Container restart rules").

use serde::{Deserialize, Serialize};

use super::{Container, RestartPolicy, Spec};

/// What a rule of a container says; the first one that fits its exit code decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RestartRule {
    pub action: RestartAction,
    pub codes: Vec<i32>,
    /// It fits the exit codes that are in `codes`, or those that are not.
    pub within: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RestartAction {
    Restart,
    /// All containers of the Pod, from the first init container on.
    RestartAllContainers,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterExit {
    /// It stays ended.
    Stays,
    Restarts,
    RestartsAll,
}

impl RestartRule {
    fn fits(&self, exit_code: i32) -> bool {
        self.codes.contains(&exit_code) == self.within
    }
}

impl Spec {
    /// Whether a container that has ended with this exit code runs again.
    pub(crate) fn restarts(&self, c: &Container, exit_code: i32) -> bool {
        self.after_exit(c, exit_code) != AfterExit::Stays
    }

    /// What follows when a container ends with this exit code.
    pub(crate) fn after_exit(&self, c: &Container, exit_code: i32) -> AfterExit {
        if let Some(rule) = c.restart_rules.iter().find(|r| r.fits(exit_code)) {
            return match rule.action {
                RestartAction::Restart => AfterExit::Restarts,
                RestartAction::RestartAllContainers => AfterExit::RestartsAll,
            };
        }
        let is_init = self.init_containers.iter().any(|i| i.name == c.name);
        let restarts = match c.restart_policy.unwrap_or(self.restart_policy) {
            _ if c.sidecar => true,
            // "Always" means "on failure" to an init container, which ends to succeed.
            RestartPolicy::Always => !is_init || exit_code != 0,
            RestartPolicy::OnFailure => exit_code != 0,
            RestartPolicy::Never => false,
        };
        match restarts {
            true => AfterExit::Restarts,
            false => AfterExit::Stays,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_come_before_the_policy_of_the_container_and_that_before_the_pods() {
        use AfterExit::*;
        let rule = |action, codes: &[i32], within| RestartRule {
            action,
            codes: codes.to_vec(),
            within,
        };
        let spec = Spec {
            restart_policy: RestartPolicy::Never,
            ..Spec::default()
        };
        let mut c = Container::default();
        assert_eq!(spec.after_exit(&c, 1), Stays);
        c.restart_policy = Some(RestartPolicy::OnFailure);
        assert_eq!(spec.after_exit(&c, 1), Restarts);
        assert_eq!(spec.after_exit(&c, 0), Stays);
        c.restart_policy = Some(RestartPolicy::Never);
        c.restart_rules = vec![
            rule(RestartAction::Restart, &[42, 43], true),
            rule(RestartAction::RestartAllContainers, &[42, 88], true),
            rule(RestartAction::Restart, &[0, 1, 88], false),
        ];
        let follows = [0, 1, 42, 43, 88, 137].map(|code| spec.after_exit(&c, code));
        assert_eq!(
            follows,
            [Stays, Stays, Restarts, Restarts, RestartsAll, Restarts]
        );
    }
}
