//! Checks of what only a scheduler or another controller reads. Nothing here has an effect on
//! one machine, but a manifest that the API server refuses is refused, so that it is not found
//! out on the day when it meets a cluster (ValidatePodSpec, in its order).

use std::collections::{BTreeMap, HashSet};

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::names;
use super::report::Report;
use super::tree::Path;

pub(super) fn check(r: &mut Report<'_>, path: &Path, s: &core::PodSpec) {
    labels(r, &path.key("nodeSelector"), s.node_selector.as_ref());
    if let Some(affinity) = &s.affinity {
        check_affinity(r, &path.key("affinity"), affinity);
    }
    gates(r, path, s);
    let spread = s.topology_spread_constraints.as_deref();
    topology_spread(
        r,
        &path.key("topologySpreadConstraints"),
        spread.unwrap_or_default(),
    );
    for (field, name) in [
        ("serviceAccountName", &s.service_account_name),
        ("serviceAccount", &s.service_account),
        ("nodeName", &s.node_name),
        ("priorityClassName", &s.priority_class_name),
    ] {
        if let Some(name) = name.as_deref().filter(|n| !n.is_empty()) {
            r.check(&path.key(field), name, names::dns_subdomain(name));
        }
    }
    let tolerations = s.tolerations.iter().flatten().enumerate();
    for (i, t) in tolerations {
        toleration(r, &path.key("tolerations").index(i), t);
    }
    one_of(
        r,
        &path.key("preemptionPolicy"),
        s.preemption_policy.as_deref(),
        &["Never", "PreemptLowerPriority"],
    );
}

/// A choice whose outcome is of no interest.
fn one_of(r: &mut Report<'_>, path: &Path, value: Option<&str>, choices: &[&str]) {
    if let Some(value) = value.filter(|v| !choices.contains(v)) {
        r.unknown_value(path, value, choices);
    }
}

fn labels(r: &mut Report<'_>, path: &Path, labels: Option<&BTreeMap<String, String>>) {
    for (key, value) in labels.into_iter().flatten() {
        let path = path.key(key);
        r.check(&path, key, names::qualified_name(key));
        r.check(&path, value, names::label_value(value));
    }
}

fn gates(r: &mut Report<'_>, path: &Path, s: &core::PodSpec) {
    for (i, gate) in s.readiness_gates.iter().flatten().enumerate() {
        let path = path.key("readinessGates").index(i).key("conditionType");
        let kind = &gate.condition_type;
        r.check(&path, kind, names::qualified_name(kind));
    }
    let scheduling = s.scheduling_gates.as_deref().unwrap_or_default();
    let mut seen = HashSet::new();
    for (i, gate) in scheduling.iter().enumerate() {
        let path = path.key("schedulingGates").index(i).key("name");
        r.check(&path, &gate.name, names::qualified_name(&gate.name));
        if !seen.insert(&gate.name) {
            r.duplicate(&path, &gate.name);
        }
    }
    if s.node_name.as_deref().is_some_and(|n| !n.is_empty()) && !scheduling.is_empty() {
        r.forbidden(
            &path.key("nodeName"),
            "cannot be set until all schedulingGates have been cleared",
        );
    }
}

fn toleration(r: &mut Report<'_>, path: &Path, t: &core::Toleration) {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (key, operator, value) = (text(&t.key), text(&t.operator), text(&t.value));
    let (operator_path, value_path) = (path.key("operator"), path.key("value"));
    if !key.is_empty() {
        r.check(&path.key("key"), &key, names::qualified_name(&key));
    } else if operator != "Exists" {
        r.invalid(
            &operator_path,
            &operator,
            "operator must be Exists when `key` is empty, which means \"match all values and all \
             keys\"",
        );
    }
    let effect = text(&t.effect);
    if t.toleration_seconds.is_some() && effect != "NoExecute" {
        let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        r.invalid(&path.key("effect"), &effect, why);
    }
    match operator.as_str() {
        "" | "Equal" => r.check(&value_path, &value, names::label_value(&value)),
        "Exists" if !value.is_empty() => {
            let why = "value must be empty when `operator` is 'Exists'";
            r.invalid(&value_path, &value, why);
        }
        "Exists" => {}
        // Numbers are compared (TaintTolerationComparisonOperators).
        "Lt" | "Gt" if value.parse::<i64>().is_ok_and(|n| n.to_string() == value) => {}
        "Lt" | "Gt" => r.invalid(&value_path, &value, "must be a decimal integer"),
        _ => r.unknown_value(&operator_path, &operator, &["Equal", "Exists", "Lt", "Gt"]),
    }
    let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    let effect = Some(effect.as_str()).filter(|e| !e.is_empty());
    one_of(r, &path.key("effect"), effect, &effects);
}

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

fn check_affinity(r: &mut Report<'_>, path: &Path, a: &core::Affinity) {
    if let Some(node) = &a.node_affinity {
        node_affinity(r, &path.key("nodeAffinity"), node);
    }
    if let Some(pods) = &a.pod_affinity {
        let required = &pods.required_during_scheduling_ignored_during_execution;
        let preferred = &pods.preferred_during_scheduling_ignored_during_execution;
        pod_affinity(r, &path.key("podAffinity"), required, preferred);
    }
    if let Some(pods) = &a.pod_anti_affinity {
        let required = &pods.required_during_scheduling_ignored_during_execution;
        let preferred = &pods.preferred_during_scheduling_ignored_during_execution;
        pod_affinity(r, &path.key("podAntiAffinity"), required, preferred);
    }
}

fn weight(r: &mut Report<'_>, path: &Path, weight: i32) {
    if !(1..=100).contains(&weight) {
        r.invalid_number(path, weight.into(), "must be in the range 1-100");
    }
}

fn node_affinity(r: &mut Report<'_>, path: &Path, a: &core::NodeAffinity) {
    if let Some(required) = &a.required_during_scheduling_ignored_during_execution {
        let path = path.key(REQUIRED).key("nodeSelectorTerms");
        if required.node_selector_terms.is_empty() {
            r.required(&path, "must have at least one node selector term");
        }
        for (i, term) in required.node_selector_terms.iter().enumerate() {
            node_selector_term(r, &path.index(i), term, true);
        }
    }
    let preferred = &a.preferred_during_scheduling_ignored_during_execution;
    for (i, term) in preferred.iter().flatten().enumerate() {
        let path = path.key(PREFERRED).index(i);
        weight(r, &path.key("weight"), term.weight);
        // The API server leaves the values of a preference alone.
        node_selector_term(r, &path.key("preference"), &term.preference, false);
    }
}

fn node_selector_term(
    r: &mut Report<'_>,
    path: &Path,
    term: &core::NodeSelectorTerm,
    check_values: bool,
) {
    for (i, e) in term.match_expressions.iter().flatten().enumerate() {
        let path = path.key("matchExpressions").index(i);
        let values = e.values.as_deref().unwrap_or_default();
        if matches!(e.operator.as_str(), "Gt" | "Lt") {
            if values.len() != 1 {
                let hint = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                r.required(&path.key("values"), hint);
            }
        } else {
            set_operator(r, &path, &e.operator, values);
        }
        r.check(&path.key("key"), &e.key, names::qualified_name(&e.key));
        if check_values {
            label_values(r, &path.key("values"), values);
        }
    }
    for (i, e) in term.match_fields.iter().flatten().enumerate() {
        let path = path.key("matchFields").index(i);
        let values = e.values.as_deref().unwrap_or_default();
        match e.operator.as_str() {
            "In" | "NotIn" if values.len() == 1 => {}
            "In" | "NotIn" => r.required(
                &path.key("values"),
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
            ),
            other => r.invalid(&path.key("operator"), other, NO_OPERATOR),
        }
        if e.key != "metadata.name" {
            let why = "not a valid field selector key: the only one is metadata.name";
            r.invalid(&path.key("key"), &e.key, why);
            continue;
        }
        for (i, value) in values.iter().enumerate() {
            let path = path.key("values").index(i);
            r.check(&path, value, names::dns_subdomain(value));
        }
    }
}

const NO_OPERATOR: &str = "not a valid selector operator";

/// `In` and its like, of nodes' and of Pods' labels.
fn set_operator(r: &mut Report<'_>, path: &Path, operator: &str, values: &[String]) {
    match operator {
        "In" | "NotIn" if values.is_empty() => r.required(
            &path.key("values"),
            "must be specified when `operator` is 'In' or 'NotIn'",
        ),
        "Exists" | "DoesNotExist" if !values.is_empty() => r.forbidden(
            &path.key("values"),
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        ),
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => r.invalid(&path.key("operator"), other, NO_OPERATOR),
    }
}

fn label_values(r: &mut Report<'_>, path: &Path, values: &[String]) {
    for (i, value) in values.iter().enumerate() {
        r.check(&path.index(i), value, names::label_value(value));
    }
}

fn pod_affinity(
    r: &mut Report<'_>,
    path: &Path,
    required: &Option<Vec<core::PodAffinityTerm>>,
    preferred: &Option<Vec<core::WeightedPodAffinityTerm>>,
) {
    for (i, term) in required.iter().flatten().enumerate() {
        pod_affinity_term(r, &path.key(REQUIRED).index(i), term);
    }
    for (i, term) in preferred.iter().flatten().enumerate() {
        let path = path.key(PREFERRED).index(i);
        weight(r, &path.key("weight"), term.weight);
        pod_affinity_term(r, &path.key("podAffinityTerm"), &term.pod_affinity_term);
    }
}

fn pod_affinity_term(r: &mut Report<'_>, path: &Path, t: &core::PodAffinityTerm) {
    let selector = t.label_selector.as_ref();
    label_selector(r, &path.key("labelSelector"), selector);
    let of_namespaces = t.namespace_selector.as_ref();
    label_selector(r, &path.key("namespaceSelector"), of_namespaces);
    for (i, name) in t.namespaces.iter().flatten().enumerate() {
        let path = path.key("namespaces").index(i);
        r.check(&path, name, names::dns_label(name));
    }
    let (is, is_not) = (
        t.match_label_keys.as_deref().unwrap_or_default(),
        t.mismatch_label_keys.as_deref().unwrap_or_default(),
    );
    label_keys(r, &path.key("matchLabelKeys"), is, selector);
    label_keys(r, &path.key("mismatchLabelKeys"), is_not, selector);
    not_selected(r, &path.key("matchLabelKeys"), is, selector);
    for (i, key) in is.iter().enumerate().filter(|(_, k)| is_not.contains(k)) {
        let path = path.key("matchLabelKeys").index(i);
        r.invalid(
            &path,
            key,
            "exists in both matchLabelKeys and mismatchLabelKeys",
        );
    }
    topology_key(r, &path.key("topologyKey"), &t.topology_key);
    if !t.topology_key.is_empty() {
        let path = path.key("topologyKey");
        let syntax = names::qualified_name(&t.topology_key);
        r.check(&path, &t.topology_key, syntax);
    }
}

fn topology_key(r: &mut Report<'_>, path: &Path, key: &str) {
    if key.is_empty() {
        r.required(path, "can not be empty");
    }
}

fn label_selector(r: &mut Report<'_>, path: &Path, selector: Option<&LabelSelector>) {
    let Some(selector) = selector else { return };
    labels(r, &path.key("matchLabels"), selector.match_labels.as_ref());
    for (i, e) in selector.match_expressions.iter().flatten().enumerate() {
        let path = path.key("matchExpressions").index(i);
        let values = e.values.as_deref().unwrap_or_default();
        set_operator(r, &path, &e.operator, values);
        r.check(&path.key("key"), &e.key, names::qualified_name(&e.key));
        label_values(r, &path.key("values"), values);
    }
}

/// Keys whose values are taken from the Pod's own labels.
fn label_keys(r: &mut Report<'_>, path: &Path, keys: &[String], selector: Option<&LabelSelector>) {
    if !keys.is_empty() && selector.is_none() {
        r.forbidden(path, "must not be specified when labelSelector is not set");
    }
    for (i, key) in keys.iter().enumerate() {
        r.check(&path.index(i), key, names::qualified_name(key));
    }
}

fn not_selected(
    r: &mut Report<'_>,
    path: &Path,
    keys: &[String],
    selector: Option<&LabelSelector>,
) {
    let Some(selector) = selector else { return };
    let labels = selector.match_labels.iter().flatten().map(|(key, _)| key);
    let expressions = selector.match_expressions.iter().flatten().map(|e| &e.key);
    let selected: HashSet<&String> = labels.chain(expressions).collect();
    for (i, key) in keys
        .iter()
        .enumerate()
        .filter(|(_, k)| selected.contains(k))
    {
        let why = "exists in both matchLabelKeys and labelSelector";
        r.invalid(&path.index(i), key, why);
    }
}

fn topology_spread(r: &mut Report<'_>, path: &Path, list: &[core::TopologySpreadConstraint]) {
    let mut seen = HashSet::new();
    for (i, c) in list.iter().enumerate() {
        let path = path.index(i);
        if c.max_skew <= 0 {
            let value = c.max_skew.into();
            r.invalid_number(&path.key("maxSkew"), value, "must be greater than zero");
        }
        topology_key(r, &path.key("topologyKey"), &c.topology_key);
        let when = Some(c.when_unsatisfiable.as_str());
        let whens = ["DoNotSchedule", "ScheduleAnyway"];
        one_of(r, &path.key("whenUnsatisfiable"), when, &whens);
        if !seen.insert((&c.topology_key, &c.when_unsatisfiable)) {
            let pair = format!("{{{}, {}}}", c.topology_key, c.when_unsatisfiable);
            r.duplicate(&path.key("topologyKey"), &pair);
        }
        if let Some(least) = c.min_domains {
            let path = path.key("minDomains");
            if least <= 0 {
                r.invalid_number(&path, least.into(), "must be greater than zero");
            }
            if c.when_unsatisfiable != "DoNotSchedule" {
                let why = "can only use minDomains if whenUnsatisfiable=DoNotSchedule";
                r.invalid_number(&path, least.into(), why);
            }
        }
        for (field, policy) in [
            ("nodeAffinityPolicy", &c.node_affinity_policy),
            ("nodeTaintsPolicy", &c.node_taints_policy),
        ] {
            one_of(r, &path.key(field), policy.as_deref(), &["Honor", "Ignore"]);
        }
        let keys = c.match_label_keys.as_deref().unwrap_or_default();
        let selector = c.label_selector.as_ref();
        label_keys(r, &path.key("matchLabelKeys"), keys, selector);
        not_selected(r, &path.key("matchLabelKeys"), keys, selector);
        label_selector(r, &path.key("labelSelector"), selector);
    }
}
