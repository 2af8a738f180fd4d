//! What `carob explain` shows: the API's own types, fields and descriptions, from the
//! schemas that k8s-openapi has of them, in one compressed file that the program contains.
//! `src/manifest/api.rs` reads it.
//!
//! k8s-openapi is built a second time for this, for the machine that builds: only there with
//! the schemas, so that nothing but the file becomes part of the program.

use std::io::Write;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, PersistentVolumeClaim, Pod, Secret};
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// The values that a field may have, sorted: k8s-openapi's schemas leave them out.
const VALUES: &[(&str, &str, &[&str])] = &[
    ("AppArmorProfile", "type", PROFILES),
    (
        "AzureDiskVolumeSource",
        "cachingMode",
        &["None", "ReadOnly", "ReadWrite"],
    ),
    (
        "AzureDiskVolumeSource",
        "kind",
        &["Dedicated", "Managed", "Shared"],
    ),
    ("Container", "imagePullPolicy", PULL),
    ("Container", "restartPolicy", RESTART),
    ("Container", "terminationMessagePolicy", MESSAGE),
    ("ContainerPort", "protocol", &["SCTP", "TCP", "UDP"]),
    (
        "ContainerResizePolicy",
        "restartPolicy",
        &["NotRequired", "RestartContainer"],
    ),
    (
        "ContainerRestartRule",
        "action",
        &["Restart", "RestartAllContainers"],
    ),
    (
        "ContainerRestartRuleOnExitCodes",
        "operator",
        &["In", "NotIn"],
    ),
    (
        "EmptyDirVolumeSource",
        "medium",
        &["", "HugePages", "Memory"],
    ),
    ("EphemeralContainer", "imagePullPolicy", PULL),
    ("EphemeralContainer", "restartPolicy", RESTART),
    ("EphemeralContainer", "terminationMessagePolicy", MESSAGE),
    ("GRPCAction", "mode", &["Plaintext", "TLS"]),
    ("HTTPGetAction", "protocol", &["HTTP1", "HTTP2"]),
    ("HTTPGetAction", "scheme", &["HTTP", "HTTPS"]),
    (
        "HostPathVolumeSource",
        "type",
        &[
            "",
            "BlockDevice",
            "CharDevice",
            "Directory",
            "DirectoryOrCreate",
            "File",
            "FileOrCreate",
            "Socket",
        ],
    ),
    ("ImageVolumeSource", "pullPolicy", PULL),
    (
        "NodeSelectorRequirement",
        "operator",
        &["DoesNotExist", "Exists", "Gt", "In", "Lt", "NotIn"],
    ),
    (
        "PersistentVolumeClaimSpec",
        "volumeMode",
        &["Block", "Filesystem"],
    ),
    ("PodOS", "name", &["linux", "windows"]),
    (
        "PodSecurityContext",
        "fsGroupChangePolicy",
        &["Always", "OnRootMismatch"],
    ),
    (
        "PodSecurityContext",
        "seLinuxChangePolicy",
        &["MountOption", "Recursive"],
    ),
    (
        "PodSecurityContext",
        "supplementalGroupsPolicy",
        &["Merge", "Strict"],
    ),
    (
        "PodSpec",
        "dnsPolicy",
        &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"],
    ),
    (
        "PodSpec",
        "preemptionPolicy",
        &["Never", "PreemptLowerPriority"],
    ),
    ("PodSpec", "restartPolicy", RESTART),
    (
        "PodStatus",
        "phase",
        &["Failed", "Pending", "Running", "Succeeded", "Unknown"],
    ),
    (
        "PodStatus",
        "qosClass",
        &["BestEffort", "Burstable", "Guaranteed"],
    ),
    ("SeccompProfile", "type", PROFILES),
    ("SecurityContext", "procMount", &["Default", "Unmasked"]),
    (
        "Toleration",
        "effect",
        &["NoExecute", "NoSchedule", "PreferNoSchedule"],
    ),
    ("TopologySpreadConstraint", "nodeAffinityPolicy", HONOR),
    ("TopologySpreadConstraint", "nodeTaintsPolicy", HONOR),
    (
        "TopologySpreadConstraint",
        "whenUnsatisfiable",
        &["DoNotSchedule", "ScheduleAnyway"],
    ),
    (
        "VolumeMount",
        "mountPropagation",
        &["Bidirectional", "HostToContainer", "None"],
    ),
    (
        "VolumeMount",
        "recursiveReadOnly",
        &["Disabled", "Enabled", "IfPossible"],
    ),
];
const PROFILES: &[&str] = &["Localhost", "RuntimeDefault", "Unconfined"];
const PULL: &[&str] = &["Always", "IfNotPresent", "Never"];
const RESTART: &[&str] = &["Always", "Never", "OnFailure"];
const MESSAGE: &[&str] = &["FallbackToLogsOnError", "File"];
const HONOR: &[&str] = &["Honor", "Ignore"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let mut schemas = SchemaGenerator::default();
    // A kind more is a line more.
    let kinds = [
        kind::<Pod>(&mut schemas, &["po"]),
        kind::<ConfigMap>(&mut schemas, &["cm"]),
        kind::<Secret>(&mut schemas, &[]),
        kind::<PersistentVolumeClaim>(&mut schemas, &["pvc"]),
        kind::<Namespace>(&mut schemas, &["ns"]),
    ];
    let types: Map<String, Value> = schemas
        .definitions()
        .iter()
        .map(|(name, schema)| (short(name).to_owned(), type_of(name, schema)))
        .collect();
    for (of_type, field, _) in VALUES {
        let known = &types[&format!("{CORE}{of_type}")]["fields"][field];
        assert!(
            known.is_object(),
            "build.rs: {of_type} has no field {field}"
        );
    }
    let api = json!({ "kinds": kinds, "types": types }).to_string();
    let mut file = DeflateEncoder::new(Vec::new(), Compression::best());
    file.write_all(api.as_bytes()).unwrap();
    let dir = std::env::var_os("OUT_DIR").unwrap();
    let path = std::path::Path::new(&dir).join("api.json.deflate");
    std::fs::write(path, file.finish().unwrap()).unwrap();
}

/// A kind by its names: that of the API, those on a command line.
fn kind<K: Resource + JsonSchema>(schemas: &mut SchemaGenerator, short_names: &[&str]) -> Value {
    schemas.subschema_for::<K>();
    let mut names = vec![K::KIND.to_lowercase(), K::URL_PATH_SEGMENT.to_owned()];
    names.extend(short_names.iter().map(|n| (*n).to_owned()));
    json!({
        "kind": K::KIND,
        "group": K::GROUP,
        "version": K::VERSION,
        "names": names,
        "type": short(&K::schema_name()),
    })
}

/// The name of a type without what all names have in common.
fn short(name: &str) -> &str {
    name.strip_prefix("io.k8s.").unwrap_or(name)
}

const CORE: &str = "api.core.v1.";

fn values(of_type: &str, field: &str) -> &'static [&'static str] {
    let rows = VALUES
        .iter()
        .filter(|(t, f, _)| of_type.strip_prefix(CORE) == Some(t) && field == *f);
    rows.map(|(_, _, values)| *values)
        .next()
        .unwrap_or_default()
}

fn type_of(of_type: &str, schema: &Value) -> Value {
    // A number or a string: Kubernetes gives it no type.
    let plain = schema["type"].as_str();
    let plain = plain.filter(|t| *t != "object" && !of_type.ends_with(".Quantity"));
    let required: Vec<&str> = schema["required"]
        .as_array()
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let properties = schema["properties"].as_object();
    // Of a kind k8s-openapi requires the metadata, which Kubernetes does not.
    let is_kind = properties.is_some_and(|p| p.contains_key("kind") && p.contains_key("metadata"));
    let fields: Map<String, Value> = properties
        .into_iter()
        .flatten()
        .map(|(name, field)| {
            let of = json!({
                "type": type_name(field),
                "required": required.contains(&name.as_str()) && !(is_kind && name == "metadata"),
                "description": field["description"].as_str().unwrap_or_default(),
                "values": values(short(of_type), name),
            });
            (name.clone(), of)
        })
        .collect();
    json!({
        "description": schema["description"].as_str().unwrap_or_default(),
        "plain": plain,
        "fields": fields,
    })
}

/// `string`, or a type's name, with `[]` or `map[string]` before it.
fn type_name(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        return short(reference.trim_start_matches("#/$defs/")).to_owned();
    }
    if schema["items"].is_object() {
        return format!("[]{}", type_name(&schema["items"]));
    }
    if schema["additionalProperties"].is_object() {
        return format!("map[string]{}", type_name(&schema["additionalProperties"]));
    }
    schema["type"].as_str().unwrap_or("Object").to_owned()
}
