//! The restart policy of one container, and its rules.

use k8s_openapi::api::core::v1 as core;

use super::report::Report;
use super::tree::Path;
use crate::spec::{RestartAction, RestartPolicy, RestartRule};

/// As an API server's.
const RULES_MOST: usize = 20;
const CODES_MOST: usize = 255;

pub(super) const POLICIES: [(&str, RestartPolicy); 3] = [
    ("Always", RestartPolicy::Always),
    ("OnFailure", RestartPolicy::OnFailure),
    ("Never", RestartPolicy::Never),
];

pub(super) fn lower(
    r: &mut Report<'_>,
    path: &Path,
    c: &core::Container,
) -> (Option<RestartPolicy>, Vec<RestartRule>) {
    let policy_path = path.key("restartPolicy");
    let written = c.restart_policy.as_deref().filter(|s| !s.is_empty());
    let policy = r.choice(&policy_path, written, &POLICIES);
    let rules = c.restart_policy_rules.as_deref().unwrap_or_default();
    let path = path.key("restartPolicyRules");
    if !rules.is_empty() && written.is_none() {
        r.required(&policy_path, "must be set where restartPolicyRules are");
    }
    if rules.len() > RULES_MOST {
        let message = format!(
            "Too many: {}: must have at most {RULES_MOST} items",
            rules.len()
        );
        r.problem(&path, message);
    }
    let rules = rules.iter().enumerate();
    let rules = rules.filter_map(|(i, one)| rule(r, &path.index(i), one));
    (policy, rules.collect())
}

fn rule(r: &mut Report<'_>, path: &Path, rule: &core::ContainerRestartRule) -> Option<RestartRule> {
    let actions = [
        ("Restart", RestartAction::Restart),
        ("RestartAllContainers", RestartAction::RestartAllContainers),
    ];
    let action_path = path.key("action");
    let action = match rule.action.as_str() {
        "" => {
            r.required(&action_path, "");
            None
        }
        action => r.choice(&action_path, Some(action), &actions),
    };
    let path = path.key("exitCodes");
    let Some(exit) = &rule.exit_codes else {
        r.required(&path, "");
        return None;
    };
    let operator_path = path.key("operator");
    let operators = [("In", true), ("NotIn", false)];
    let within = match exit.operator.as_str() {
        "" => {
            r.required(&operator_path, "");
            None
        }
        operator => r.choice(&operator_path, Some(operator), &operators),
    };
    let codes = exit.values.clone().unwrap_or_default();
    let path = path.key("values");
    if codes.is_empty() {
        r.required(&path, "must have at least one exit code");
    }
    if codes.len() > CODES_MOST {
        let message = format!(
            "Too many: {}: must have at most {CODES_MOST} items",
            codes.len()
        );
        r.problem(&path, message);
    }
    for (i, code) in codes
        .iter()
        .enumerate()
        .filter(|(_, c)| !(0..=255).contains(*c))
    {
        let why = "must be between 0 and 255, inclusive";
        r.invalid_number(&path.index(i), (*code).into(), why);
    }
    Some(RestartRule {
        action: action?,
        codes,
        within: within?,
    })
}
