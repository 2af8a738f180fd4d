//! The events of Pods: the existing ones, and then those that are new or were seen again.

use std::collections::BTreeMap;

use crate::pod::client::View;
use crate::pod::state::Event;

/// An event and the Pod that it is about.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Listed {
    pub namespace: String,
    pub pod: String,
    pub uid: String,
    pub event: Event,
}

/// Which events are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    All,
    Normal,
    Warnings,
}

impl Wanted {
    fn includes(self, event: &Event) -> bool {
        match self {
            Wanted::All => true,
            Wanted::Normal => !event.warning,
            Wanted::Warnings => event.warning,
        }
    }
}

/// Whose events are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum About {
    AllPods,
    /// Of this name.
    Pod(String),
    /// An object that is no Pod: there are no events of these.
    Another,
}

impl About {
    fn includes(&self, pod: &str) -> bool {
        match self {
            About::AllPods => true,
            About::Pod(name) => name == pod,
            About::Another => false,
        }
    }
}

/// What a caller has been told of so far.
#[derive(Debug)]
pub(crate) struct Events {
    about: About,
    wanted: Wanted,
    /// By the Pod's UID: its events as they were when it was looked at last. A record
    /// bounds how many these are.
    told: BTreeMap<String, Vec<Event>>,
}

impl Events {
    pub(crate) fn new(about: About, wanted: Wanted) -> Self {
        Events {
            about,
            wanted,
            told: BTreeMap::new(),
        }
    }

    /// Events of these Pods that no call before has returned as they are now, in the order
    /// in which they were seen last.
    pub(crate) fn news<'v>(&mut self, views: impl IntoIterator<Item = &'v View>) -> Vec<Listed> {
        let mut news = vec![];
        for view in views {
            let pod = &view.pod;
            if !self.about.includes(&pod.name) {
                continue;
            }
            let events = view.state.as_ref().map_or(&[][..], |s| &s.events);
            let told = self.told.insert(pod.uid.clone(), events.to_vec());
            let told = told.unwrap_or_default();
            let new = events.iter().filter(|e| !told.contains(e));
            news.extend(new.filter(|e| self.wanted.includes(e)).map(|event| Listed {
                namespace: pod.namespace.clone(),
                pod: pod.name.clone(),
                uid: pod.uid.clone(),
                event: event.clone(),
            }));
        }
        news.sort_by_key(|l| l.event.last);
        news
    }

    /// The Pod is gone.
    pub(crate) fn forget(&mut self, uid: &str) {
        self.told.remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::pod::reason::Reason;
    use crate::pod::state::State;
    use crate::spec::{Pod, Spec};

    fn event(reason: Reason, first: i64, last: i64, count: u32) -> Event {
        let at = |s| Timestamp::from_second(s).unwrap();
        Event {
            warning: reason == Reason::Failed,
            reason,
            message: "m".into(),
            first: at(first),
            last: at(last),
            count,
        }
    }

    fn view(name: &str, events: &[Event]) -> View {
        View {
            pod: Pod {
                version: Pod::VERSION,
                uid: format!("uid-{name}"),
                namespace: "ns".into(),
                name: name.into(),
                labels: BTreeMap::new(),
                annotations: BTreeMap::new(),
                created: Timestamp::UNIX_EPOCH,
                spec: Spec::default(),
                applied: None,
                manifest: json!({}),
            },
            state: Some(State {
                events: events.to_vec(),
                ..State::default()
            }),
            unattended: None,
        }
    }

    fn names(listed: &[Listed]) -> Vec<String> {
        let name = |l: &Listed| format!("{} {} {}", l.pod, l.event.reason, l.event.count);
        listed.iter().map(name).collect()
    }

    #[test]
    fn what_is_new_or_was_seen_again_comes_in_the_order_of_time() {
        let mut events = Events::new(About::AllPods, Wanted::All);
        let (pulled, failed) = (
            event(Reason::Pulled, 1, 5, 2),
            event(Reason::Failed, 3, 3, 1),
        );
        let a = view("a", &[pulled.clone(), event(Reason::Started, 2, 2, 1)]);
        let b = view("b", std::slice::from_ref(&failed));
        let all = ["a Started 1", "b Failed 1", "a Pulled 2"];
        assert_eq!(names(&events.news([&a, &b])), all);
        assert_eq!(events.news([&a, &b]), []);
        let grown = view(
            "a",
            &[
                event(Reason::Pulled, 1, 6, 3),
                event(Reason::Killing, 7, 7, 1),
            ],
        );
        let news = ["a Pulled 3", "a Killing 1"];
        assert_eq!(names(&events.news([&grown, &b])), news);
        // Another Pod of the name, or one that is told of from the beginning.
        events.forget("uid-b");
        assert_eq!(names(&events.news([&grown, &b])), ["b Failed 1"]);
    }

    #[test]
    fn only_what_is_asked_for() {
        let events = [
            event(Reason::Pulled, 1, 1, 1),
            event(Reason::Failed, 2, 2, 1),
        ];
        let (a, b) = (view("a", &events), view("b", &events));
        let of = |about, wanted| names(&Events::new(about, wanted).news([&a, &b]));
        let pod = |name: &str| About::Pod(name.to_owned());
        assert_eq!(of(pod("b"), Wanted::All), ["b Pulled 1", "b Failed 1"]);
        let warnings = of(About::AllPods, Wanted::Warnings);
        assert_eq!(warnings, ["a Failed 1", "b Failed 1"]);
        assert_eq!(of(pod("a"), Wanted::Normal), ["a Pulled 1"]);
        assert!(of(pod("c"), Wanted::All).is_empty());
        assert!(of(About::Another, Wanted::All).is_empty());
        let mut none = view("a", &[]);
        none.state = None;
        assert!(
            Events::new(About::AllPods, Wanted::All)
                .news([&none])
                .is_empty()
        );
    }
}
