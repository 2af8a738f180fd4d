//! A Pod or another object, for verbs that take both.

use crate::pod::client::View;
use crate::spec::Object;

#[derive(Clone, Debug)]
pub(crate) enum Item {
    Pod(Box<View>),
    Object(Box<Object>),
}

impl Item {
    /// As manifests write it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Item::Pod(_) => "Pod",
            Item::Object(object) => object.kind.kind(),
        }
    }

    /// As errors write it.
    pub(crate) fn plural(&self) -> &'static str {
        match self {
            Item::Pod(_) => "pods",
            Item::Object(object) => object.kind.plural(),
        }
    }

    /// Empty for one that is in none.
    pub(crate) fn namespace(&self) -> &str {
        match self {
            Item::Pod(view) => &view.pod.namespace,
            Item::Object(object) => &object.namespace,
        }
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Item::Pod(view) => &view.pod.name,
            Item::Object(object) => &object.name,
        }
    }

    /// Empty for a namespace that is there because something is in it.
    pub(crate) fn uid(&self) -> &str {
        match self {
            Item::Pod(view) => &view.pod.uid,
            Item::Object(object) => &object.uid,
        }
    }
}
