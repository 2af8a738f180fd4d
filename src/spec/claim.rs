//! What a PersistentVolumeClaim asks for: a directory, or a size that holds.

use serde_json::{Value, json};

use super::quantity::Quantity;
use super::{Object, ObjectKind};

/// The class of claims whose size holds. Claims of all others are directories.
const LOOP_CLASS: &str = "carob-loop";

/// What a claim is on this machine. It does not change: class and volumeMode are immutable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClaimForm {
    /// A directory of the machine's filesystem, whose size is shown and not bounded.
    Directory,
    /// A filesystem of its own, in a file of the size that is asked for.
    Filesystem,
    /// A file of that size, which containers have as a block device.
    Block,
}

impl ClaimForm {
    /// Of the `spec` of a claim.
    pub(crate) fn of(class: Option<&str>, mode: Option<&str>) -> Self {
        match (mode, class) {
            (Some("Block"), _) => ClaimForm::Block,
            (_, Some(LOOP_CLASS)) => ClaimForm::Filesystem,
            _ => ClaimForm::Directory,
        }
    }

    /// Whether its size holds.
    pub(crate) fn is_sized(self) -> bool {
        self != ClaimForm::Directory
    }

    /// As `volumeMode` has it.
    pub(crate) fn mode(self) -> &'static str {
        match self {
            ClaimForm::Block => "Block",
            ClaimForm::Directory | ClaimForm::Filesystem => "Filesystem",
        }
    }
}

/// Of a claim.
impl Object {
    pub(crate) fn claim_form(&self) -> ClaimForm {
        let spec = &self.manifest["spec"];
        let text = |field: &str| spec[field].as_str();
        ClaimForm::of(text("storageClassName"), text("volumeMode"))
    }

    /// The size that is asked for, as it is written.
    pub(crate) fn requested(&self) -> &str {
        let requests = &self.manifest["spec"]["resources"]["requests"];
        requests["storage"].as_str().unwrap_or_default()
    }

    pub(crate) fn requested_bytes(&self) -> u64 {
        bytes(self.requested())
    }

    /// The size that it has. While it is to be enlarged that is another than is asked for.
    pub(crate) fn capacity(&self) -> &str {
        self.capacity.as_deref().unwrap_or(self.requested())
    }

    /// The capacity that its successor `new` has to begin with: that of a directory is what
    /// is asked for.
    pub(crate) fn capacity_of(&self, new: &Object) -> Option<String> {
        let grows = new.requested_bytes() > self.requested_bytes();
        match grows
            && self.kind == ObjectKind::PersistentVolumeClaim
            && self.claim_form().is_sized()
        {
            true => Some(self.capacity().to_owned()),
            false => self.capacity.clone(),
        }
    }

    /// Why its successor may not ask for less (ValidatePersistentVolumeClaimUpdate of
    /// Kubernetes). What was asked for and has not come yet may be taken back.
    pub(crate) fn refuses_size_of(&self, new: &Object) -> Option<&'static str> {
        let asked = new.requested_bytes();
        let shrinks = asked < self.requested_bytes() && asked <= bytes(self.capacity());
        shrinks.then_some("Forbidden: field can not be less than status.capacity")
    }

    /// `status` of the v1 object.
    pub(super) fn claim_status(&self) -> Value {
        let spec = &self.manifest["spec"];
        let mut status = json!({
            "phase": "Bound",
            "accessModes": spec["accessModes"],
            "capacity": spec["resources"]["requests"],
        });
        if let Some(capacity) = &self.capacity {
            status["capacity"]["storage"] = capacity.clone().into();
            status["conditions"] = json!([{
                "type": "FileSystemResizePending",
                "status": "True",
                "message": "Waiting for user to (re-)start a pod to finish file system resize \
                            of volume on node.",
            }]);
        }
        status
    }
}

fn bytes(text: &str) -> u64 {
    Quantity::parse(text).map_or(0, Quantity::units)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(class: Value, mode: &str, storage: &str, capacity: Option<&str>) -> Object {
        let manifest = json!({"spec": {"storageClassName": class, "volumeMode": mode,
            "resources": {"requests": {"storage": storage}}}});
        Object {
            capacity: capacity.map(str::to_owned),
            ..Object::sample(ObjectKind::PersistentVolumeClaim, "c", manifest)
        }
    }

    #[test]
    fn the_form_of_a_claim() {
        for (class, mode, form) in [
            (Value::Null, "Filesystem", ClaimForm::Directory),
            ("standard".into(), "Filesystem", ClaimForm::Directory),
            (LOOP_CLASS.into(), "Filesystem", ClaimForm::Filesystem),
            (LOOP_CLASS.into(), "Block", ClaimForm::Block),
            (Value::Null, "Block", ClaimForm::Block),
        ] {
            let got = claim(class.clone(), mode, "1Gi", None).claim_form();
            assert_eq!(got, form, "{class} {mode}");
            assert_eq!(got.mode(), mode);
        }
    }

    #[test]
    fn sizes_that_follow_others() {
        // Asked for, capacity, asked for next; whether it is refused, the capacity then.
        for (old, capacity, new, refused, next) in [
            ("1Gi", None, "2Gi", false, Some("1Gi")),
            ("1Gi", None, "1024Mi", false, None),
            ("1Gi", None, "1023Mi", true, None),
            ("2Gi", Some("1Gi"), "1536Mi", false, Some("1Gi")),
            ("2Gi", Some("1Gi"), "3Gi", false, Some("1Gi")),
            ("2Gi", Some("1Gi"), "1Gi", true, Some("1Gi")),
            ("2Gi", Some("1Gi"), "512Mi", true, Some("1Gi")),
        ] {
            let class = || Value::from(LOOP_CLASS);
            let old = claim(class(), "Filesystem", old, capacity);
            let new = claim(class(), "Filesystem", new, None);
            let case = format!("{} {capacity:?} {}", old.requested(), new.requested());
            assert_eq!(old.refuses_size_of(&new).is_some(), refused, "{case}");
            assert_eq!(old.capacity_of(&new).as_deref(), next, "{case}");
        }
        let old = claim(Value::Null, "Filesystem", "1Gi", None);
        let larger = claim(Value::Null, "Filesystem", "2Gi", None);
        assert_eq!(old.capacity_of(&larger), None);
        assert!(larger.refuses_size_of(&old).is_some());
    }

    #[test]
    fn the_status_has_the_size_that_there_is() {
        let shown = claim(LOOP_CLASS.into(), "Filesystem", "2Gi", Some("1Gi")).claim_status();
        assert_eq!(shown["capacity"]["storage"], "1Gi");
        assert_eq!(shown["conditions"][0]["type"], "FileSystemResizePending");
        let shown = claim(LOOP_CLASS.into(), "Filesystem", "2Gi", None).claim_status();
        assert_eq!(shown["capacity"]["storage"], "2Gi");
        assert!(shown["conditions"].is_null());
    }
}
