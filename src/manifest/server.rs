//! What every kind of object has of the API server: fields that it wrote, which nobody reads
//! here, and the namespace.

use super::report::Report;
use super::tree::{Node, Path, quote};

/// The object without what a server wrote: it may be of a newer version than the types
/// known here, and nobody reads it.
pub(super) fn without_status(object: &Node) -> Node {
    let mut object = object.clone();
    object.take("status");
    if let Some(meta) = object.get_mut("metadata") {
        for field in ["managedFields", "creationTimestamp", "deletionTimestamp"] {
            meta.take(field);
        }
    }
    object
}

/// The namespace of the command line and the one in the manifest.
pub(super) fn check_namespace(r: &mut Report<'_>, wanted: Option<&str>, given: Option<&str>) {
    if let (Some(wanted), Some(given)) = (wanted, given)
        && wanted != given
    {
        r.problem(
            &Path::default().keys("metadata.namespace"),
            format!(
                "the namespace from the provided object {} does not match the namespace {}; \
                 you must pass '--namespace={given}' to perform this operation",
                quote(given),
                quote(wanted)
            ),
        );
    }
}
