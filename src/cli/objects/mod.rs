//! What the verbs print of the objects that carob keeps beside Pods. The data of a Secret is
//! in nothing but `-o yaml`, `json`, `jsonpath` and `custom-columns`.

pub(super) mod create;
pub(super) mod describe;
pub(super) mod get;
pub(super) mod made;
pub(super) mod rows;
